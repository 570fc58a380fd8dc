/*!
What a classifier ends in. Exits, thresholds and confidence want a score per class; files also end in the
class itself (ArgMax), in a probability for each class by itself (Sigmoid), or in one number for two classes.
*/

use super::constant::{Constant, DType, Data};
use super::graph::{Graph, GraphError, Node, Value, ValueId};
use super::op::{Activation, Binary, Op, Unary};
use super::shape::{Dim, Shape};
use std::collections::HashMap;

/// The classifier with a score per class as its output `[N, classes]`, and in `ending` what became of the
/// file's own end: an ArgMax and a Sigmoid at the end give way to what enters them, whose order is the same,
/// and one number is the score of the second class against 0, so that softmax gives what Sigmoid did.
/// Unchanged where the end is neither.
///
/// # Errors
/// None for a graph whose output depends on its inputs.
pub(super) fn with_scores(graph: Graph) -> Result<Graph, GraphError> {
    let &[output] = &graph.outputs[..] else {
        return Ok(graph);
    };
    let producers = graph.producers();
    let (at, told) = match scores(&graph, &producers, output) {
        Some(found) => found,
        None => return Ok(graph),
    };
    let single = graph.value(at).shape.0.get(1) == Some(&Dim::Fixed(1));
    let mut graph = match at == output {
        true => graph,
        false => graph.subgraph(&graph.inputs, &[at])?,
    };
    let mut told: Vec<&str> = told.into_iter().collect();
    if single {
        let score = graph.outputs[0];
        let both = match by_weights(&mut graph, score) {
            Some(both) => both,
            None => beside_zero(&mut graph, score),
        };
        graph.outputs = vec![both];
        told.push("its one number tells two classes apart: it is the score of class 1, and 0 that of class 0");
    }
    if !told.is_empty() {
        graph.ending = Some(told.join("; "));
    }
    Ok(graph)
}

/// The value `[N, classes]` that holds the scores, and what stood behind it. `None` if there is nothing to
/// change.
fn scores(
    graph: &Graph,
    producers: &HashMap<ValueId, usize>,
    output: ValueId,
) -> Option<(ValueId, Option<&'static str>)> {
    // Columns of a tensor of floats `[N, columns]`; 0 of another.
    let columns = |v: ValueId| match (graph.value(v).dtype, &graph.value(v).shape.0[..]) {
        (DType::F32, &[_, Dim::Fixed(n)]) => n,
        _ => 0,
    };
    let (mut at, mut sigmoid) = (output, false);
    // The last tensor of that form.
    let mut found = None;
    loop {
        found = found.or((columns(at) > 0).then_some(at));
        let node = producers.get(&at).map(|&i| &graph.nodes[i]);
        let from = node.and_then(|node| Some((&node.op, *node.inputs.first()?)));
        match from {
            Some((
                Op::ArgMax {
                    axis: 1,
                    min: false,
                    ..
                },
                from,
            )) if columns(from) > 0 => {
                return Some((
                    from,
                    Some("it ends in ArgMax: the scores before it are taken"),
                ));
            }
            Some((Op::Unary(Unary::Sigmoid), from)) if !sigmoid => {
                (sigmoid, found, at) = (true, None, from);
            }
            Some((Op::Identity | Op::Reshape { .. } | Op::Cast { .. }, from)) => at = from,
            _ => break,
        }
    }
    let found = found?;
    let told = "it ends in Sigmoid: the numbers before it, whose order is the same, are taken";
    (sigmoid || columns(found) == 1).then_some((found, sigmoid.then_some(told)))
}

/// A second column of zeros by the classifier's own weights, so that it still is a linear layer.
fn by_weights(graph: &mut Graph, score: ValueId) -> Option<ValueId> {
    let producer = *graph.producers().get(&score)?;
    let node = &graph.nodes[producer];
    let Op::Gemm {
        trans_b,
        activation: Activation::NONE,
        ..
    } = node.op
    else {
        return None;
    };
    let floats = |id: &ValueId| match &graph.constants.get(id)?.data {
        Data::F32(v) => Some(v.to_vec()),
        _ => None,
    };
    let weights = floats(node.inputs.get(1)?)?;
    let depth = weights.len();
    let (shape, both) = match trans_b {
        true => ([2, depth], [vec![0.0; depth], weights].concat()),
        false => ([depth, 2], weights.iter().flat_map(|&w| [0.0, w]).collect()),
    };
    let bias = match node.inputs.get(2) {
        Some(c) => Some(floats(c).filter(|c| c.len() == 1)?[0]),
        None => None,
    };
    let weights = constant(graph, "weights", score, Constant::f32(&shape, both));
    let bias = bias.map(|c| constant(graph, "bias", score, Constant::f32(&[2], vec![0.0, c])));
    let both = columns(graph, score);
    let node = &mut graph.nodes[producer];
    node.inputs.truncate(1);
    node.inputs.push(weights);
    node.inputs.extend(bias);
    node.outputs = vec![both];
    Some(both)
}

/// A column of zeros before the score.
fn beside_zero(graph: &mut Graph, score: ValueId) -> ValueId {
    let zero = constant(graph, "zero", score, Constant::f32(&[], vec![0.0]));
    let none = value(graph, "none", score, graph.value(score).shape.clone());
    let both = columns(graph, score);
    let nodes = [
        (
            Op::Binary(Binary::Mul, Activation::NONE),
            vec![score, zero],
            none,
        ),
        (Op::Concat { axis: 1 }, vec![none, score], both),
    ];
    for (op, inputs, output) in nodes {
        graph.nodes.push(Node {
            name: graph.value(output).name.clone(),
            op,
            inputs,
            outputs: vec![output],
            params: 0,
        });
    }
    both
}

fn columns(graph: &mut Graph, score: ValueId) -> ValueId {
    let rows = graph.value(score).shape.0[0];
    value(graph, "both", score, Shape(vec![rows, Dim::Fixed(2)]))
}

fn constant(graph: &mut Graph, what: &str, of: ValueId, constant: Constant) -> ValueId {
    let id = value(graph, what, of, Shape::fixed(&constant.shape));
    graph.constants.insert(id, constant);
    id
}

/// A value of floats named after another, by a name that is free.
fn value(graph: &mut Graph, what: &str, of: ValueId, shape: Shape) -> ValueId {
    let mut name = format!("{}/{what}", graph.value(of).name);
    while graph.values.iter().any(|v| v.name == name) {
        name.push('_');
    }
    let id = ValueId(graph.values.len() as u32);
    graph.values.push(Value {
        name,
        dtype: DType::F32,
        shape,
    });
    id
}
