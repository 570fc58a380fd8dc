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

/// ONNX Runtime takes such a file, and gives the same twice.
#[test]
fn an_output_that_is_named_twice_is_read_once_and_written_again() {
    let model = proto::ModelProto {
        opset_import: vec![proto::OperatorSetIdProto {
            domain: String::new(),
            version: 18,
        }],
        graph: Some(proto::GraphProto {
            node: vec![node("Relu", &["x"], "y"), node("Neg", &["y"], "z")],
            input: vec![input("x", &[2, 3])],
            output: vec![input("y", &[]), input("z", &[]), input("y", &[])],
            ..Default::default()
        }),
        ..Default::default()
    };
    let graph = import_bytes(&model.encode_to_vec(), "test.onnx").unwrap();
    assert_eq!(graph.outputs.len(), 2);
    let written = crate::model::export::to_onnx(&graph).unwrap();
    import_bytes(&written, "written.onnx").unwrap();
}

/// Files with bytes changed, dropped and doubled: whatever they say, importing and fusing them ends
/// in a graph or an error.
#[test]
fn damaged_files_never_panic() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/onnx-conformance/node"
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

/// A weight kept in a file of its own.
fn kept_apart(location: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): (&str, &str)| proto::StringStringEntryProto {
        key: key.into(),
        value: value.into(),
    };
    let mut external = vec![entry(("location", location))];
    external.extend(more.iter().copied().map(entry));
    let weight = proto::TensorProto {
        name: "w".into(),
        dims: vec![4],
        data_type: DataType::Float as i32,
        data_location: proto::tensor_proto::DataLocation::External as i32,
        external_data: external,
        ..Default::default()
    };
    let model = proto::ModelProto {
        opset_import: vec![proto::OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(proto::GraphProto {
            node: vec![node("Add", &["x", "w"], "y")],
            initializer: vec![weight],
            input: vec![input("x", &[0, 4])],
            output: vec![input("y", &[])],
            ..Default::default()
        }),
        ..Default::default()
    };
    model.encode_to_vec()
}

#[test]
fn data_kept_apart_is_read_as_far_as_the_tensor_needs_and_from_files_inside_alone() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    let bytes: Vec<u8> = (0..400).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(inside.join("w.bin"), &bytes).unwrap();
    std::fs::write(dir.path().join("out.bin"), &bytes).unwrap();
    std::os::unix::fs::symlink("../out.bin", inside.join("link.bin")).unwrap();
    std::os::unix::fs::symlink("w.bin", inside.join("near.bin")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(inside.join("pipe.bin"))
        .status();
    let import = |location: &str, more: &[(&str, &str)]| {
        let bytes = kept_apart(location, more);
        super::import(&bytes, "m.onnx", Some(&inside), &Settings::default())
            .map_err(|e| e.to_string())
    };
    let first = |graph: Graph| {
        let weights = graph.constants.values().find_map(|c| c.floats());
        weights.unwrap().to_vec()
    };
    // No length: the four that the tensor needs, not the file's four hundred.
    for location in ["w.bin", "./w.bin", "near.bin"] {
        let graph = import(location, &[("offset", "8")]).unwrap();
        assert_eq!(first(graph), [2.0, 3.0, 4.0, 5.0], "{location}");
    }
    for (location, why) in [("../out.bin", "outside"), ("link.bin", "outside")] {
        let error = import(location, &[]).unwrap_err();
        assert!(error.contains(why), "{location}: {error}");
    }
    if made.is_ok_and(|status| status.success()) {
        let error = import("pipe.bin", &[]).unwrap_err();
        assert!(error.contains("pipe"), "{error}");
    }
}

#[rstest]
#[case::too_new(Some(29), "too new")]
#[case::too_old(Some(6), "too old")]
#[case::none(None, "names no opset")]
fn opsets_that_are_not_known_are_refused(#[case] version: Option<i64>, #[case] why: &str) {
    let mut bytes = proto::ModelProto {
        graph: Some(proto::GraphProto {
            node: vec![node("Relu", &["x"], "y")],
            input: vec![input("x", &[0, 4])],
            output: vec![input("y", &[])],
            ..Default::default()
        }),
        ..Default::default()
    };
    let opset = version.map(|version| proto::OperatorSetIdProto {
        domain: String::new(),
        version,
    });
    bytes.opset_import = opset.into_iter().collect();
    let error = import_bytes(&bytes.encode_to_vec(), "m.onnx").unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
}

fn attribute_ints(name: &str, ints: &[i64]) -> proto::AttributeProto {
    proto::AttributeProto {
        name: name.into(),
        ints: ints.to_vec(),
        ..Default::default()
    }
}

#[test]
fn windows_that_contradict_themselves_are_refused() {
    let mut conv = node("Conv", &["x", "w"], "y");
    conv.attribute.push(attribute_ints("kernel_shape", &[5, 5]));
    let weight = proto::TensorProto {
        name: "w".into(),
        dims: vec![2, 3, 3, 3],
        data_type: DataType::Float as i32,
        float_data: vec![0.0; 54],
        ..Default::default()
    };
    let error = import_nodes(&[0, 3, 8, 8], vec![conv], vec![weight]).unwrap_err();
    assert!(error.contains("kernel_shape is [5, 5]"), "{error}");
    let mut pool = node("MaxPool", &["x"], "y");
    pool.attribute.push(attribute_ints("kernel_shape", &[2, 2]));
    pool.attribute.push(attribute_ints("pads", &[2, 0, 0, 0]));
    let error = import_nodes(&[0, 3, 8, 8], vec![pool], vec![]).unwrap_err();
    assert!(error.contains("as large as its kernel"), "{error}");
}

#[test]
fn an_output_that_is_the_input_is_written_and_read_again() {
    let model = proto::ModelProto {
        opset_import: vec![proto::OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(proto::GraphProto {
            node: vec![node("Relu", &["x"], "x/output")],
            input: vec![input("x", &[0, 4])],
            output: ["x", "x/output"].map(|name| input(name, &[0, 4])).to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    // Found by fuzzing: it was written as a node that produces what is fed.
    let graph = import_bytes(&model.encode_to_vec(), "test.onnx").unwrap();
    let written = crate::model::export::to_onnx(&graph).unwrap();
    let again = import_bytes(&written, "written.onnx").unwrap();
    let names: Vec<&str> = again
        .outputs
        .iter()
        .map(|&id| again.value(id).name.as_str())
        .collect();
    assert_eq!(names, ["x/output2", "x/output"]);
    assert_eq!(again.inputs.len(), 1);
}

#[test]
fn a_loop_of_more_rounds_than_can_be_read_is_refused() {
    let truth = |name: &str| proto::TensorProto {
        data_type: DataType::Bool as i32,
        dims: vec![],
        int64_data: vec![],
        int32_data: vec![1],
        ..ints(name, &[])
    };
    let body = proto::GraphProto {
        node: vec![node("Identity", &["go"], "on"), node("Relu", &["a"], "b")],
        input: ["i", "go", "a"].map(|name| input(name, &[])).to_vec(),
        output: ["on", "b"].map(|name| input(name, &[])).to_vec(),
        ..Default::default()
    };
    let rounds = |count: i64| {
        let mut all = node("Loop", &["count", "first", "x"], "y");
        all.attribute = vec![proto::AttributeProto {
            name: "body".into(),
            g: Some(body.clone()),
            ..Default::default()
        }];
        import_nodes(
            &[0, 4],
            vec![all],
            vec![ints("count", &[count]), truth("first")],
        )
    };
    assert!(rounds(3).is_ok());
    // Found by fuzzing: a loop that only its number of rounds ends.
    let error = rounds(1 << 58).unwrap_err();
    assert!(error.contains("more than 32768 nodes"), "{error}");
}

#[test]
fn a_node_without_an_operator_and_one_that_is_left_out_say_so() {
    let error = import_nodes(&[0, 4], vec![node("", &["x"], "y")], vec![]).unwrap_err();
    assert!(error.contains("names no operator"), "{error}");
    let error = import_nodes(&[0, 4], vec![node("LSTM", &["x"], "y")], vec![]).unwrap_err();
    assert!(
        error.contains("recurrent") && error.contains("docs/operators.md"),
        "{error}"
    );
}
