use super::super::{ImportError, import_bytes};
use super::*;
use candle_onnx::onnx as proto;
use prost::Message;

/// Every operator of ONNX up to opset 28, as its own schemas list them.
const NAMES: &str = include_str!("names.txt");

/// Whether the importer knows an op at all, whatever it thinks of a node without inputs.
fn known(op: &str) -> bool {
    let node = proto::NodeProto {
        op_type: op.into(),
        output: vec!["y".into()],
        ..Default::default()
    };
    let model = proto::ModelProto {
        opset_import: vec![proto::OperatorSetIdProto {
            domain: String::new(),
            version: 22,
        }],
        graph: Some(proto::GraphProto {
            node: vec![node],
            output: vec![proto::ValueInfoProto {
                name: "y".into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let imported = import_bytes(&model.encode_to_vec(), "one.onnx");
    !matches!(imported, Err(ImportError::UnknownOp { .. }))
}

/// The table as docs/operators.md has it.
fn table() -> String {
    let mut text = String::from(
        "# Operators of ONNX\n\n\
         What a file may hold: opsets 7 to 28, and of ONNX's operators those marked `in`. The table is \
         written by a test from the importer itself (`UPDATE_DOCS=1 cargo test operators`).\n\n\
         | operator | | if not, why |\n|---|---|---|\n",
    );
    for name in NAMES.lines() {
        let row = match known(name) {
            true => match PARTLY.iter().find(|(op, _)| *op == name) {
                Some((_, what)) => format!("| {name} | in | {what} |\n"),
                None => format!("| {name} | in | |\n"),
            },
            false => format!("| {name} | out | {} |\n", why_not(name).unwrap_or("?")),
        };
        text.push_str(&row);
    }
    text
}

#[test]
fn every_operator_is_in_or_left_out_for_a_reason() {
    for name in NAMES.lines() {
        assert_ne!(known(name), why_not(name).is_some(), "{name}");
    }
    assert!(LEFT_OUT.is_sorted() && PARTLY.is_sorted());
    assert!(PARTLY.iter().all(|(name, _)| known(name)));
    assert!(
        LEFT_OUT
            .iter()
            .all(|(name, _)| NAMES.lines().any(|n| n == *name))
    );
}

#[test]
fn the_table_in_the_docs_is_what_the_importer_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operators.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
        std::fs::write(path, table()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == table(),
        "write it anew: UPDATE_DOCS=1 cargo test operators"
    );
}
