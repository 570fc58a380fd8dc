/*!
A part in one graph that stops by itself: behind each exit an `If` on whether its confidence is above the
threshold, with everything behind the exit inside the branch that is taken when it isn't. One sample at
a time, since a condition holds for all of a batch.

```text
segment 0 → head 0 → logits ÷ temperature → confidence > threshold_0 ?
    yes: logits, confidence, exit 0, no tensor
    no:  segment 1 → head 1 → … ?
             yes: logits, confidence, exit 1, no tensor
             no:  … the final classifier, or the latest logits and the tensor to send on
```

A runtime that plans for both branches at once, as TensorRT does, gains nothing by it.
*/

use super::DeployError;
use super::compose::{Names, Piece, branch, ends, int};
use crate::model::export::{encode, port_proto};
use crate::model::{Constant, DType, Data, Dim, Shape, Value};
use crate::predict::Confidence;
use crate::runtime::manifest::{Progressive, Tensor, ThresholdInput};
use crate::runtime::parts::{Part, PartError, Segment, SegmentExit};
use candle_onnx::onnx as proto;
use std::sync::Arc;

/// Name of the file that stops by itself.
const FILE: &str = "progressive.onnx";

/// The names of a part's results, as they stand in one of the nested graphs.
#[derive(Debug, Clone)]
struct Results {
    logits: String,
    confidence: String,
    exit: String,
    /// In a part that sends a tensor on.
    tensor: Option<String>,
}

/// What is said of the latest classifier.
#[derive(Debug, Clone)]
struct Said {
    logits: String,
    confidence: String,
}

struct Builder<'a> {
    part: &'a Part,
    names: Names,
    /// The inputs of the exits, in order.
    thresholds: Vec<String>,
    exits: usize,
}

/// The part as an ONNX file that stops by itself, and what the manifest says of it; `None` where it has
/// no exit, its exits look at those before them, or its file holds for another number of samples than one.
pub(super) fn progressive(part: &Part) -> Result<Option<(Vec<u8>, Progressive)>, DeployError> {
    let exits: Vec<&SegmentExit> = part
        .segments
        .iter()
        .filter_map(|s| s.exit.as_ref())
        .collect();
    let Some(first) = part.segments.first() else {
        return Err(PartError::Damaged("the part has no segment".to_string()).into());
    };
    let input = ends(&first.graph)?.0;
    let alone = !part.settings.confidence.looks_back();
    if exits.is_empty() || !alone || input.shape.at(1).first() != Some(&1) {
        return Ok(None);
    }
    let mut names = Names::default();
    let input_name = names.fresh(&input.name);
    let thresholds = (0..exits.len())
        .map(|i| names.fresh(&format!("threshold_{i}")))
        .collect();
    let results = Results {
        logits: names.fresh("logits"),
        confidence: names.fresh("confidence"),
        exit: names.fresh("exit"),
        tensor: (!part.ends_network).then(|| names.fresh("tensor")),
    };
    let mut builder = Builder {
        part,
        names,
        thresholds,
        exits: exits.len(),
    };
    let mut whole = builder.behind(&part.segments, 0, &input_name, None, &results)?;
    let mut inputs = vec![port_proto(&one_sample(input, input_name))];
    let mut said = Vec::new();
    for (name, exit) in builder.thresholds.iter().zip(&exits) {
        let default = rounded_down(exit.threshold);
        let value = Value {
            name: name.clone(),
            dtype: DType::F32,
            shape: Shape::fixed(&[]),
        };
        inputs.push(port_proto(&value));
        // An input with an initializer of its name may be left out.
        whole.constant(name, &floats(&[], vec![default]));
        said.push(ThresholdInput {
            name: name.clone(),
            default,
        });
    }
    let outputs = builder.ports(&results)?;
    let bytes = encode(builder.graph(part.network.clone(), inputs, whole, &outputs))?;
    let progressive = Progressive {
        file: FILE.to_string(),
        thresholds: said,
        outputs: outputs.iter().map(Tensor::of).collect(),
    };
    Ok(Some((bytes, progressive)))
}

impl Builder<'_> {
    /// What runs from `segments` on, which read `at`; `number` counts the exits before.
    fn behind(
        &mut self,
        segments: &[Segment],
        number: usize,
        at: &str,
        latest: Option<&Said>,
        to: &Results,
    ) -> Result<Piece, DeployError> {
        let Some((segment, behind)) = segments.split_first() else {
            return self.end(at, latest, to);
        };
        let (mut piece, end) = self.names.segment(&segment.graph, at)?;
        let Some(exit) = &segment.exit else {
            piece.extend(self.behind(behind, number, &end, latest, to)?);
            return Ok(piece);
        };
        let exit_name = format!("exit_{number}");
        let said = self.said(&mut piece, number, exit, &end)?;
        let above = self.names.fresh(&format!("{exit_name}/above"));
        let threshold = self.thresholds[number].clone();
        piece.node(
            "Greater",
            &[&said.confidence, &threshold],
            &[&above],
            vec![],
        );
        // Of one sample: a condition is a scalar.
        let taken = self.names.fresh(&format!("{exit_name}/taken"));
        let axes = self.ints(&mut piece, &exit_name, vec![0]);
        piece.node("Squeeze", &[&above, &axes], &[&taken], vec![]);
        let yes = self.stop(number, &said)?;
        let inner = self.results(&format!("behind_{number}"));
        let no = self.behind(behind, number + 1, &end, Some(&said), &inner)?;
        let ports = self.ports(&inner)?;
        let no = self.graph(format!("behind exit {number}"), vec![], no, &ports);
        let branches = vec![branch("then_branch", yes), branch("else_branch", no)];
        piece.node("If", &[&taken], &to.names(), branches);
        if let Some(node) = piece.nodes.last_mut() {
            // Not like its output, which may be called like a node of the network.
            node.name = format!("{exit_name}/if");
        }
        Ok(piece)
    }

    /// The branch of an exit that is taken.
    fn stop(&mut self, number: usize, said: &Said) -> Result<proto::GraphProto, DeployError> {
        let own = self.results(&format!("stop_{number}"));
        let mut piece = Piece::default();
        piece.node("Identity", &[&said.logits], &[&own.logits], vec![]);
        piece.node("Identity", &[&said.confidence], &[&own.confidence], vec![]);
        self.number(&mut piece, number, &own.exit);
        let mut ports = self.ports(&own)?;
        if let (Some(name), Some(port)) = (&own.tensor, ports.last_mut()) {
            // Nothing is sent on: a tensor of no samples.
            port.shape.0[0] = Dim::Fixed(0);
            let none = self.names.fresh(&format!("{name}/none"));
            piece.constant(&none, &floats(&port.shape.at(0), vec![]));
            piece.node("Identity", &[&none], &[name], vec![]);
        }
        Ok(self.graph(format!("exit {number} is taken"), vec![], piece, &ports))
    }

    /// What is behind the last exit: the final classifier's answer, or the latest one's and the tensor.
    fn end(&mut self, at: &str, latest: Option<&Said>, to: &Results) -> Result<Piece, DeployError> {
        let mut piece = Piece::default();
        self.number(&mut piece, self.exits, &to.exit);
        match (&to.tensor, latest) {
            (Some(tensor), Some(latest)) => {
                piece.node("Identity", &[&latest.logits], &[&to.logits], vec![]);
                piece.node("Identity", &[&latest.confidence], &[&to.confidence], vec![]);
                piece.node("Identity", &[at], &[tensor], vec![]);
            }
            _ => {
                let mut scores = at.to_string();
                if self.part.final_is_probabilities {
                    // Of which softmax makes the probabilities again.
                    let least = self.names.fresh("final/least");
                    piece.constant(&least, &floats(&[], vec![f32::MIN_POSITIVE]));
                    let some = self.names.fresh("final/some");
                    piece.node("Max", &[&scores, &least], &[&some], vec![]);
                    scores = self.names.fresh("final/logarithms");
                    piece.node("Log", &[&some], &[&scores], vec![]);
                }
                let row = self.ints(&mut piece, "final", vec![1, self.part.classes as i64]);
                piece.node("Reshape", &[&scores, &row], &[&to.logits], vec![]);
                self.measure(&mut piece, "final", &to.logits, &to.confidence);
            }
        }
        Ok(piece)
    }

    /// An exit's logits over its temperature, and how confident they are.
    fn said(
        &mut self,
        piece: &mut Piece,
        number: usize,
        exit: &SegmentExit,
        at: &str,
    ) -> Result<Said, DeployError> {
        let name = format!("exit_{number}");
        let raw = self.names.fresh(&format!("{name}/raw"));
        piece.extend(self.names.head(&exit.head, number, at, &raw)?);
        let temperature = self.names.fresh(&format!("{name}/temperature"));
        piece.constant(&temperature, &floats(&[], vec![exit.temperature]));
        let said = Said {
            logits: self.names.fresh(&format!("{name}/logits")),
            confidence: self.names.fresh(&format!("{name}/confidence")),
        };
        piece.node("Div", &[&raw, &temperature], &[&said.logits], vec![]);
        self.measure(piece, &name, &said.logits, &said.confidence);
        Ok(said)
    }

    /// The confidence of logits `[1, classes]` by the part's measure, `[1]`; as
    /// [`crate::predict::policy::decide`] has it.
    fn measure(&mut self, piece: &mut Piece, name: &str, logits: &str, confidence: &str) {
        let mut value = |what: &str| self.names.fresh(&format!("{name}/{what}"));
        if self.part.classes == 1 {
            let sure = value("sure");
            piece.constant(&sure, &floats(&[1], vec![1.0]));
            piece.node("Identity", &[&sure], &[confidence], vec![]);
            return;
        }
        let probabilities = value("probabilities");
        let last = || vec![int("axis", -1)];
        piece.node("Softmax", &[logits], &[&probabilities], last());
        let axes = value("axes");
        piece.constant(&axes, &Constant::i64(&[1], vec![1]));
        match self.part.settings.confidence {
            // Of those that look back only the final classifier's is asked for here.
            Confidence::MaxProbability | Confidence::Patience | Confidence::Learned => {
                let flat = vec![int("keepdims", 0)];
                piece.node("ReduceMax", &[&probabilities, &axes], &[confidence], flat);
            }
            Confidence::Margin => {
                let (two, best, which) = (value("two"), value("best"), value("which"));
                piece.constant(&two, &Constant::i64(&[1], vec![2]));
                piece.node("TopK", &[&probabilities, &two], &[&best, &which], last());
                let pick = |piece: &mut Piece, index: i64, at: &str, to: &str| {
                    piece.constant(at, &Constant::i64(&[], vec![index]));
                    piece.node("Gather", &[&best, at], &[to], vec![int("axis", 1)]);
                };
                let (first, second) = (value("first"), value("second"));
                pick(piece, 0, &value("zero"), &first);
                pick(piece, 1, &value("one"), &second);
                piece.node("Sub", &[&first, &second], &[confidence], vec![]);
            }
            Confidence::Entropy => {
                let (logs, products, sum) = (value("logarithms"), value("products"), value("sum"));
                piece.node("LogSoftmax", &[logits], &[&logs], last());
                piece.node("Mul", &[&probabilities, &logs], &[&products], vec![]);
                let flat = vec![int("keepdims", 0)];
                piece.node("ReduceSum", &[&products, &axes], &[&sum], flat);
                let (most, share, rest) = (value("most"), value("share"), value("rest"));
                let nats = (self.part.classes as f64).ln() as f32;
                piece.constant(&most, &floats(&[], vec![nats]));
                piece.node("Div", &[&sum, &most], &[&share], vec![]);
                let (zero, one) = (value("zero"), value("one"));
                piece.constant(&zero, &floats(&[], vec![0.0]));
                piece.constant(&one, &floats(&[], vec![1.0]));
                piece.node("Add", &[&share, &one], &[&rest], vec![]);
                piece.node("Clip", &[&rest, &zero, &one], &[confidence], vec![]);
            }
        }
    }

    /// The number of an exit as the value `to`.
    fn number(&mut self, piece: &mut Piece, number: usize, to: &str) {
        let name = self.names.fresh(&format!("{to}/number"));
        piece.constant(&name, &Constant::i64(&[1], vec![number as i64]));
        piece.node("Identity", &[&name], &[to], vec![]);
    }

    fn ints(&mut self, piece: &mut Piece, name: &str, values: Vec<i64>) -> String {
        let name = self.names.fresh(&format!("{name}/numbers"));
        piece.constant(&name, &Constant::i64(&[values.len()], values));
        name
    }

    /// Names for the results of a branch.
    fn results(&mut self, branch: &str) -> Results {
        let mut fresh = |what: &str| self.names.fresh(&format!("{branch}/{what}"));
        Results {
            logits: fresh("logits"),
            confidence: fresh("confidence"),
            exit: fresh("exit"),
            tensor: (!self.part.ends_network).then(|| fresh("tensor")),
        }
    }

    /// What the results are, in the order in which graphs give them.
    fn ports(&self, results: &Results) -> Result<Vec<Value>, DeployError> {
        let value = |name: &String, dtype, shape| Value {
            name: name.clone(),
            dtype,
            shape,
        };
        let mut ports = vec![
            value(
                &results.logits,
                DType::F32,
                Shape::fixed(&[1, self.part.classes]),
            ),
            value(&results.confidence, DType::F32, Shape::fixed(&[1])),
            value(&results.exit, DType::I64, Shape::fixed(&[1])),
        ];
        if let (Some(name), Some(last)) = (&results.tensor, self.part.segments.last()) {
            let sent = ends(&last.graph)?.1;
            let mut shape = sent.shape.clone();
            let samples = shape.0.first_mut().ok_or_else(|| {
                PartError::Damaged(format!("`{}` is a scalar: it holds no samples", sent.name))
            })?;
            // One where it goes on, none where it has left.
            *samples = Dim::Batch(1);
            ports.push(value(name, DType::F32, shape));
        }
        Ok(ports)
    }

    fn graph(
        &self,
        name: String,
        input: Vec<proto::ValueInfoProto>,
        piece: Piece,
        outputs: &[Value],
    ) -> proto::GraphProto {
        proto::GraphProto {
            name,
            node: piece.nodes,
            initializer: piece.initializers,
            input,
            output: outputs.iter().map(port_proto).collect(),
            ..Default::default()
        }
    }
}

impl Results {
    fn names(&self) -> Vec<&str> {
        let first = [&self.logits, &self.confidence, &self.exit];
        let all = first.into_iter().chain(&self.tensor);
        all.map(String::as_str).collect()
    }
}

/// A value as it is for one sample.
fn one_sample(value: &Value, name: String) -> Value {
    Value {
        name,
        dtype: value.dtype,
        shape: Shape::fixed(&value.shape.at(1)),
    }
}

fn floats(shape: &[usize], values: Vec<f32>) -> Constant {
    Constant {
        shape: shape.to_vec(),
        data: Data::F32(Arc::new(values)),
    }
}

/// The largest single-precision number that is no larger: a confidence in single precision is above
/// the one where it is above the other.
fn rounded_down(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) > threshold {
        near.next_down()
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    use super::rounded_down;
    use rstest::rstest;

    #[rstest]
    #[case(0.8, false)] // 0.8 in single precision is above 0.8
    #[case(0.7, true)] // 0.7 in single precision is below it
    #[case(0.5, true)]
    #[case(1.0, true)]
    #[case(0.0, true)]
    fn a_rounded_threshold_decides_the_same(#[case] threshold: f64, #[case] nearest: bool) {
        let single = rounded_down(threshold);
        assert_eq!(single == threshold as f32, nearest);
        for confidence in [single.next_down(), single, single.next_up()] {
            let exactly = crate::predict::policy::leaves(confidence, threshold);
            assert_eq!(confidence > single, exactly, "{confidence} {threshold}");
        }
    }
}
