/*!
The layer table: the rows a user knows of a fused graph, what each costs, and where the network may
be cut.

A *layer* is a node that does the work (a convolution, a pool, a sum of two branches, …) with the
element-wise nodes that follow it and touch nothing else. A *cut* is a place between two layers
crossed by exactly one live tensor. What may live here: grouping nodes to layers (`group`), counting
(`cost`), liveness (`live`) and names fit for people (`name`).

*Split memory* is a property of the network: its parameters as the file holds them, in F32, plus the
largest set of activations alive at once over the layers, the input included, at batch 1.
*/

mod cost;
mod group;
mod live;
mod name;

use super::{DType, Dim, Graph, Shape, ValueId};
use std::collections::HashMap;
use std::ops::Range;

/// A split leaves at least one part in this many of the network's MACs on each side, and an exit
/// point has as much behind it.
const MAC_SHARE: u64 = 100;

/// One row of the table: a layer as the user knows it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// Unique in the table; from the file, with the exporter's path marks tidied away.
    pub name: String,
    /// Short label such as `conv 3×3/2`.
    pub op: String,
    /// The graph nodes it stands for.
    pub nodes: Range<usize>,
    /// What the next layers read of it (its first output, where it has several).
    pub output: ValueId,
    /// Name of that value in the graph.
    pub value: String,
    /// Shape of that value.
    pub shape: Shape,
    /// Parameters as the file holds them.
    pub params: usize,
    /// The same in bytes, as F32.
    pub param_bytes: usize,
    /// Multiply-accumulates for one sample, of convolutions and matrix products.
    pub macs: u64,
    /// Bytes of the output at batch 1.
    pub activation_bytes: usize,
    /// Split memory of the network up to and including this layer.
    pub prefix_memory_bytes: usize,
    /// MACs up to and including this layer.
    pub prefix_macs: u64,
    /// Parameters up to and including this layer.
    pub prefix_params: usize,
    /// Whether exactly one live tensor, its output, crosses the place behind it.
    pub is_cut: bool,
    /// Whether a split may stand behind it.
    pub split_legal: bool,
    /// Whether an exit may stand behind it.
    pub exit_legal: bool,
    /// Why no split or no exit may stand here, for the user; `None` where both may.
    pub why_not: Option<String>,
}

/// All layers of a network, and its totals.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerTable {
    /// Name of the network.
    pub network: String,
    /// In the order they run.
    pub layers: Vec<Layer>,
    /// Parameters of the whole, as the file holds them.
    pub params: usize,
    /// MACs of the whole for one sample.
    pub macs: u64,
    /// Split memory of the whole.
    pub memory_bytes: usize,
    /// Shape of the network's input.
    pub input: Shape,
    /// Answers the network chooses between: elements of its output for one sample.
    pub classes: usize,
}

/// Why there is no layer table, or no such layer.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum LayerError {
    /// A classifier takes one tensor.
    #[error(
        "`{network}` takes {count} inputs ({names}); only a network with one can be split: give the \
         others a number (--fix NAME=NUMBER, or `fixed` in the session's OnnxWith)"
    )]
    Inputs {
        /// Network's name, from its file or the zoo.
        network: String,
        /// Inputs or outputs there are, two or more.
        count: usize,
        /// Names of all of them, separated by commas.
        names: String,
    },
    /// A classifier gives one tensor.
    #[error(
        "`{network}` gives {count} outputs ({names}); only a network with one can be split: say which is \
         the classifier's (--classifier NAME, or `classifier` in the session's OnnxWith)"
    )]
    Outputs {
        /// Network's name, from its file or the zoo.
        network: String,
        /// Inputs or outputs there are, two or more.
        count: usize,
        /// Names of all of them, separated by commas.
        names: String,
    },
    /// Nothing to compute, or an output that doesn't depend on the input.
    #[error("the output of `{network}` doesn't depend on its input: there are no layers")]
    Empty {
        /// Network's name, from its file or the zoo.
        network: String,
    },
    /// No layer of this name.
    #[error("`{network}` has no layer named `{name}`{}", hint(.nearest))]
    Unknown {
        /// Network's name, from its file or the zoo.
        network: String,
        /// What was asked for.
        name: String,
        /// The layer whose name is nearest to it, if any is near.
        nearest: Option<String>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None => "; `edgelesspart layers` lists them".to_string(),
    }
}

impl LayerTable {
    /// The table of a fused graph with one input and one output.
    ///
    /// # Errors
    /// Where the graph has several inputs or outputs, or none of its nodes depend on the input.
    pub fn new(fused: &Graph) -> Result<LayerTable, LayerError> {
        let (input, output) = io_values(fused)?;
        let varying = live::varying(fused);
        if !varying[output.0 as usize] || fused.nodes.is_empty() {
            return Err(LayerError::Empty {
                network: fused.name.clone(),
            });
        }
        let groups = group::layers(fused, &varying);
        let crossings = live::crossings(fused, &groups, &varying);
        let anchors: Vec<&str> = groups
            .iter()
            .map(|g| fused.nodes[g.anchor].name.as_str())
            .collect();
        let names = name::unique(&anchors);
        let macs = fused.nodes.iter().map(|n| cost::macs(fused, n)).sum();
        let mut table = LayerTable {
            network: fused.name.clone(),
            layers: Vec::with_capacity(groups.len()),
            params: 0,
            macs,
            memory_bytes: 0,
            input: fused.value(input).shape.clone(),
            classes: fused.value(output).shape.elements(1),
        };
        let makers = makers(fused, &groups);
        let (mut peak_bytes, mut prefix_macs) = (0, 0);
        for ((group, crossing), name) in groups.iter().zip(&crossings).zip(&names) {
            let nodes = &fused.nodes[group.nodes.clone()];
            let params: usize = nodes.iter().map(|n| n.params).sum();
            let own_macs = nodes.iter().map(|n| cost::macs(fused, n)).sum();
            peak_bytes = peak_bytes.max(crossing.alive_bytes);
            prefix_macs += own_macs;
            table.params += params;
            table.memory_bytes = 4 * table.params + peak_bytes;
            let value = fused.value(group.output);
            let mut layer = Layer {
                name: name.clone(),
                op: cost::label(fused, &fused.nodes[group.anchor]),
                nodes: group.nodes.clone(),
                output: group.output,
                value: value.name.clone(),
                shape: value.shape.clone(),
                params,
                param_bytes: 4 * params,
                macs: own_macs,
                activation_bytes: live::bytes(fused, group.output),
                prefix_memory_bytes: table.memory_bytes,
                prefix_macs,
                prefix_params: table.params,
                is_cut: crossing.own && crossing.other_count == 0 && group.output != output,
                split_legal: false,
                exit_legal: false,
                why_not: None,
            };
            let others = crossing.others.iter();
            let others: Vec<&str> = others.map(|&v| called(fused, &makers, &names, v)).collect();
            judge(
                fused,
                &mut layer,
                (&others, crossing.other_count),
                output,
                macs,
            );
            table.layers.push(layer);
        }
        Ok(table)
    }

    /// The index of a layer, by its name, the name of its output, or its node's name in the file.
    ///
    /// # Errors
    /// Where there is none; the error names the nearest.
    pub fn find(&self, name: &str) -> Result<usize, LayerError> {
        let by = |same: &dyn Fn(&Layer) -> bool| self.layers.iter().position(same);
        let readings = name::readings(name);
        by(&|l| l.name == name)
            .or_else(|| by(&|l| l.value == name))
            .or_else(|| by(&|l| readings.contains(&l.name)))
            .ok_or_else(|| LayerError::Unknown {
                network: self.network.clone(),
                name: name.to_string(),
                nearest: name::nearest(name, self.layers.iter().map(|l| l.name.as_str())),
            })
    }

    /// The layer with this name, if the table has it.
    pub fn get(&self, name: &str) -> Option<&Layer> {
        self.find(name).ok().map(|i| &self.layers[i])
    }

    /// Indices of the layers a split may stand behind.
    pub fn splits(&self) -> impl Iterator<Item = usize> {
        let legal = |(i, l): (usize, &Layer)| l.split_legal.then_some(i);
        self.layers.iter().enumerate().filter_map(legal)
    }

    /// The commonest reason why no split may stand anywhere; `None` where one may.
    pub fn why_no_split(&self) -> Option<&str> {
        if self.splits().next().is_some() {
            return None;
        }
        let (_, inner) = self.layers.split_last()?;
        let reasons = || inner.iter().filter_map(|l| l.why_not.as_deref());
        let often = |why: &&str| reasons().filter(|w| w == why).count();
        // Of equal ones the earliest.
        let best = reasons().rev().max_by_key(often);
        Some(best.unwrap_or("it has a single layer"))
    }

    /// Indices of the layers an exit may stand behind.
    pub fn exit_points(&self) -> impl Iterator<Item = usize> {
        let legal = |(i, l): (usize, &Layer)| l.exit_legal.then_some(i);
        self.layers.iter().enumerate().filter_map(legal)
    }
}

fn io_values(graph: &Graph) -> Result<(ValueId, ValueId), LayerError> {
    let names = |ids: &[ValueId]| {
        let names: Vec<&str> = ids.iter().map(|&v| graph.value(v).name.as_str()).collect();
        names.join(", ")
    };
    let &[input] = &graph.inputs[..] else {
        return Err(LayerError::Inputs {
            network: graph.name.clone(),
            count: graph.inputs.len(),
            names: names(&graph.inputs),
        });
    };
    let &[output] = &graph.outputs[..] else {
        return Err(LayerError::Outputs {
            network: graph.name.clone(),
            count: graph.outputs.len(),
            names: names(&graph.outputs),
        });
    };
    Ok((input, output))
}

/// The layer that makes each value.
fn makers(graph: &Graph, groups: &[group::Group]) -> HashMap<ValueId, usize> {
    let mut makers = HashMap::new();
    for (g, group) in groups.iter().enumerate() {
        let nodes = graph.nodes[group.nodes.clone()].iter();
        makers.extend(nodes.flat_map(|n| &n.outputs).map(|&v| (v, g)));
    }
    makers
}

/// What the user calls a tensor: the layer that makes it, or the network's input.
fn called<'a>(
    graph: &'a Graph,
    makers: &HashMap<ValueId, usize>,
    names: &'a [String],
    value: ValueId,
) -> &'a str {
    match makers.get(&value) {
        Some(&g) => &names[g],
        None => &graph.value(value).name,
    }
}

/// Settles whether a split and an exit may stand behind `layer`, and says why not.
/// `others` are what else is alive behind it: the first of them, and how many.
fn judge(
    graph: &Graph,
    layer: &mut Layer,
    others: (&[&str], usize),
    output: ValueId,
    total_macs: u64,
) {
    layer.why_not = if layer.output == output {
        Some("the end of the network".to_string())
    } else if !layer.is_cut {
        Some(crossed_by(others))
    } else if let Some(trouble) = unsendable(graph, layer.output) {
        Some(trouble)
    } else {
        let enough = |macs: u64| u128::from(macs) * u128::from(MAC_SHARE) >= total_macs.into();
        let before = total_macs > 0 && enough(layer.prefix_macs);
        let behind = total_macs > 0 && enough(total_macs - layer.prefix_macs);
        let headless = unreadable(&layer.shape);
        layer.split_legal = before && behind;
        layer.exit_legal = behind && headless.is_none();
        match (behind, before, headless) {
            (false, ..) => Some("less than 1 % of the MACs behind it".to_string()),
            (true, false, None) => {
                Some("no split: less than 1 % of the MACs before it".to_string())
            }
            (true, false, Some(trouble)) => Some(format!(
                "no split: less than 1 % of the MACs before it; no exit: {trouble}"
            )),
            (true, true, Some(trouble)) => Some(format!("no exit: {trouble}")),
            (true, true, None) => None,
        }
    };
}

/// Names the layers besides this one whose outputs cross the place behind it.
fn crossed_by((first, count): (&[&str], usize)) -> String {
    match (first, count) {
        ([], _) => "its output is never used".to_string(),
        ([one, ..], 1) => format!("the output of `{one}` is alive here too"),
        ([one, two, ..], 2) => format!("the outputs of `{one}` and `{two}` are alive here too"),
        ([one, ..], count) => {
            let more = count - 1;
            format!("the outputs of `{one}` and {more} other layers are alive here too")
        }
    }
}

/// Why a value can't be sent sample by sample, if it can't.
fn unsendable(graph: &Graph, value: ValueId) -> Option<String> {
    let value = graph.value(value);
    if value.dtype != DType::F32 {
        return Some(format!("the tensor is {:?}, not F32", value.dtype));
    }
    if value.shape.0.first() != Some(&Dim::Batch(1)) || value.shape.sample().is_none() {
        if let Some(why) = &graph.fixed_batch {
            return Some(why.clone());
        }
        return Some(format!("the batch isn't the first axis of {}", value.shape));
    }
    None
}

/// Why no head can read a tensor, if none can.
fn unreadable(shape: &Shape) -> Option<String> {
    let readable = (2..=4).contains(&shape.rank());
    (!readable).then(|| format!("a head reads N×C, N×T×C or N×C×H×W, not {shape}"))
}

#[cfg(test)]
mod tests;
