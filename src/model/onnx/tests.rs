use super::*;
use proto::tensor_proto::DataType;
use rstest::rstest;

fn ints(name: &str, values: &[i64]) -> proto::TensorProto {
    proto::TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn input(name: &str, dims: &[i64]) -> proto::ValueInfoProto {
    use proto::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&n: &i64| Dimension {
        value: Some(Value::DimValue(n)),
        ..Default::default()
    };
    let tensor = proto::type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(proto::TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        }),
    };
    proto::ValueInfoProto {
        name: name.into(),
        r#type: Some(proto::TypeProto {
            value: Some(proto::type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> proto::NodeProto {
    proto::NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

fn attribute_int(name: &str, i: i64) -> proto::AttributeProto {
    proto::AttributeProto {
        name: name.into(),
        i,
        ..Default::default()
    }
}

fn import_nodes(
    dims: &[i64],
    nodes: Vec<proto::NodeProto>,
    initializers: Vec<proto::TensorProto>,
) -> Result<Graph, String> {
    let output = nodes.last().unwrap().output[0].clone();
    let model = proto::ModelProto {
        opset_import: vec![proto::OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(proto::GraphProto {
            node: nodes,
            initializer: initializers,
            input: vec![input("x", dims)],
            output: vec![input(&output, &[])],
            ..Default::default()
        }),
        ..Default::default()
    };
    import_bytes(&model.encode_to_vec(), "test.onnx").map_err(|e| e.to_string())
}

#[test]
fn shape_arithmetic_is_carried_out_with_the_batch() {
    let nodes = vec![
        node("Shape", &["x"], "s"),
        node("Gather", &["s", "zero"], "n"),
        node("Concat", &["n", "rest"], "to"),
        node("Reshape", &["x", "to"], "y"),
    ];
    let mut nodes = nodes;
    nodes[2].attribute.push(attribute_int("axis", 0));
    let graph = import_nodes(
        &[0, 4, 2, 3],
        nodes,
        vec![ints("zero", &[0]), ints("rest", &[-1])],
    );
    let graph = graph.unwrap();
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(graph.value(graph.outputs[0]).shape.to_string(), "N×24");
}

/// How exporters write a padding that is worked out from the extents: counted from the last axis, in
/// pairs, which are turned round.
#[test]
fn a_padding_worked_out_from_the_extents_is_known_at_import() {
    let mut nodes = vec![
        node("Shape", &["x"], "s"),
        node("Gather", &["s", "three"], "w"),
        node("Sub", &["zero", "w"], "negative"),
        node("Mod", &["negative", "seven"], "right"),
        node("Concat", &["zero", "right", "zero", "two"], "given"),
        node("Concat", &["given", "zeros"], "all"),
        node("Reshape", &["all", "pairs"], "table"),
        node(
            "Slice",
            &["table", "last", "first", "zero", "last"],
            "turned",
        ),
        node("Transpose", &["turned"], "columns"),
        node("Reshape", &["columns", "last"], "row"),
        node("Pad", &["x", "row"], "y"),
    ];
    nodes[4].attribute.push(attribute_int("axis", 0));
    nodes[5].attribute.push(attribute_int("axis", 0));
    let constants = vec![
        ints("zero", &[0]),
        ints("two", &[2]),
        ints("three", &[3]),
        ints("seven", &[7]),
        ints("zeros", &[0; 4]),
        ints("pairs", &[-1, 2]),
        ints("last", &[-1]),
        ints("first", &[-i64::MAX]),
    ];
    let graph = import_nodes(&[0, 4, 8, 10], nodes, constants).unwrap();
    // Ten columns lack four to the next multiple of seven.
    assert_eq!(graph.value(graph.outputs[0]).shape.to_string(), "N×4×10×14");
    assert_eq!(graph.nodes.len(), 1);
}

#[test]
fn rows_gathered_by_tuples_are_gathered_along_one_axis() {
    let table = proto::TensorProto {
        dims: vec![2, 1, 2],
        ..ints("at", &[1, 2, -1, 0])
    };
    let nodes = vec![node("GatherND", &["x", "at"], "y")];
    let graph = import_nodes(&[2, 3, 5], nodes, vec![table]).unwrap();
    assert_eq!(graph.value(graph.outputs[0]).shape.to_string(), "2×1×5");
    let known: Vec<_> = graph.constants.values().map(|c| c.data.clone()).collect();
    let rows = Constant::i64(&[2, 1], vec![5, 3]);
    assert!(known.contains(&rows.data), "{known:?}");
    let beyond = vec![node("GatherND", &["x", "at"], "y")];
    let error = import_nodes(&[2, 3, 5], beyond, vec![ints("at", &[0, 3])]).unwrap_err();
    assert!(error.contains("out of range"), "{error}");
}

#[test]
fn a_column_against_a_row_is_not_folded_element_by_element() {
    let table = |name: &str, dims: [i64; 2]| proto::TensorProto {
        dims: dims.to_vec(),
        ..ints(name, &[0, 1, 2])
    };
    let nodes = vec![
        node("Sub", &["column", "row"], "table"),
        node("Gather", &["x", "table"], "y"),
    ];
    let constants = vec![table("column", [3, 1]), table("row", [1, 3])];
    let graph = import_nodes(&[5], nodes, constants).unwrap();
    assert_eq!(graph.value(graph.outputs[0]).shape.to_string(), "3×3");
}

#[rstest]
#[case(vec![node("Sparkle", &["x"], "y")], "Sparkle")]
#[case(vec![node("Relu", &["z"], "y")], "`z`")]
#[case(vec![node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b")], "cycle")]
#[case(vec![node("Relu", &["x"], "y"), node("Relu", &["x"], "y")], "exists already")]
#[case(vec![node("Mod", &["x", "x"], "y")], "fmod")]
#[case(vec![node("Reshape", &["x", "huge"], "y")], "y")]
#[case(vec![node("Tile", &["x", "huge"], "y")], "y")]
#[case(vec![node("ConstantOfShape", &["huge"], "y")], "y")]
#[case(vec![node("Expand", &["x", "huge"], "y")], "y")]
fn broken_files_are_refused_by_name(#[case] nodes: Vec<proto::NodeProto>, #[case] told: &str) {
    let huge = ints("huge", &[i64::MAX / 2, 1 << 40]);
    let error = import_nodes(&[2, 3], nodes, vec![huge]).unwrap_err();
    assert!(
        error.contains("test.onnx") && error.contains(told),
        "{error}"
    );
}

/// Files with bytes changed, dropped and doubled: whatever they say, importing and fusing them ends
/// in a graph or an error.
#[test]
fn damaged_files_never_panic() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/onnx-conformance/node"
    );
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no folder {folder}");
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let mut imported = 0;
    for path in paths {
        let Ok(original) = std::fs::read(path.join("model.onnx")) else {
            continue;
        };
        for _ in 0..200 {
            let mut bytes = original.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] = next(256) as u8,
                    1 => bytes[at] ^= 1 << next(8),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, next(256) as u8),
                }
            }
            if let Ok(graph) = import_bytes(&bytes, "damaged.onnx") {
                crate::model::fuse(&graph);
                imported += 1;
            }
        }
    }
    assert!(imported > 100, "hardly anything got past the decoder");
}
