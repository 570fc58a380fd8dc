/*!
A part in one graph: its segments one after the other, each exit's logits as an output behind the part's
own, which comes first: who knows of no exits reads the first. A runtime computes all of it, whichever
output it is asked for.
*/

use super::DeployError;
use super::compose::{Names, Piece, ends};
use crate::model::Value;
use crate::model::export::{encode, port_proto};
use crate::runtime::manifest::{Flat, Tensor};
use crate::runtime::parts::{Part, PartError};
use candle_onnx::onnx as proto;

/// Name of the file that holds all of a part.
const FILE: &str = "part.onnx";

/// The part as one ONNX file, and what the manifest says of it.
pub(super) fn flat(part: &Part) -> Result<(Vec<u8>, Flat), DeployError> {
    let (Some(first), Some(last)) = (part.segments.first(), part.segments.last()) else {
        return Err(PartError::Damaged("the part has no segment".to_string()).into());
    };
    let (input, output) = (ends(&first.graph)?.0, ends(&last.graph)?.1);
    let mut names = Names::default();
    let mut at = names.fresh(&input.name);
    let mut all = Piece::default();
    let mut outputs = Vec::new();
    for segment in &part.segments {
        let (piece, to) = names.segment(&segment.graph, &at)?;
        all.extend(piece);
        at = to;
        if let Some(exit) = &segment.exit {
            let number = outputs.len();
            let logits = names.fresh(&format!("exit_{number}_logits"));
            all.extend(names.head(&exit.head, number, &at, &logits)?);
            outputs.push(Value {
                name: logits,
                ..ends(&exit.head)?.1.clone()
            });
        }
    }
    let own = Value {
        name: at,
        ..output.clone()
    };
    outputs.insert(0, own);
    let bytes = encode(proto::GraphProto {
        name: part.network.clone(),
        node: all.nodes,
        initializer: all.initializers,
        input: vec![port_proto(input)],
        output: outputs.iter().map(port_proto).collect(),
        ..Default::default()
    })?;
    let flat = Flat {
        file: FILE.to_string(),
        outputs: outputs.iter().map(Tensor::of).collect(),
    };
    Ok((bytes, flat))
}
