/*! What stands between convolutions: concats, products with weights, element-wise ops, reshapes. */

use super::{Action, Lowering, Place};
use crate::engine::general::{self, TensorInfo};
use crate::engine::kernels::loops::{PANEL, Plane};
use crate::engine::kernels::step::{Conv, ConvOperands, ConvParts, Convolution, Pixels};
use crate::engine::weights::Packing;
use crate::model::{DType, Node, Op, ValueId};
use std::collections::HashSet;
use std::sync::Arc;

/// The product's second factor transposed, the clamp behind it, and the bias, padded to whole panels.
struct Terms {
    transposed: bool,
    clamp: (f32, f32),
    bias: Vec<f32>,
}

/// Rows of channels as samples of one pixel each.
fn row_pixels(slot: usize, rows: usize, channels: usize) -> Pixels {
    Pixels {
        slot,
        offset: 0,
        stride: channels,
        samples: rows,
        height: 1,
        width: 1,
        channels,
    }
}

impl Lowering<'_> {
    /// A concat of the channels of images.
    pub(super) fn joins(&self, node: &Node, axis: usize) -> bool {
        let all = node.inputs.iter().chain(&node.outputs);
        let image = |&id: &ValueId| {
            let info = self.info(id);
            info.dims.len() == 4
                && info.dtype == DType::F32
                && !info.dims.contains(&0)
                && !self.is_constant(id)
        };
        axis == 1 && all.clone().all(image)
    }

    /// Gives every tensor that ends in one concat only, once, and whose producer can write there,
    /// its slice.
    pub(super) fn find_roots(&mut self) {
        let graph = self.graph;
        let fast: HashSet<ValueId> = graph
            .nodes
            .iter()
            .filter(|node| self.writes_pixels(node))
            .flat_map(|node| node.outputs.iter().copied())
            .collect();
        for node in &graph.nodes {
            let Op::Concat { axis } = node.op else {
                continue;
            };
            if !self.joins(node, axis) {
                continue;
            }
            let mut channel = 0;
            for &id in &node.inputs {
                let free = fast.contains(&id) && !self.roots.contains_key(&id);
                if free {
                    self.roots.insert(id, (node.outputs[0], channel));
                }
                channel += self.info(id).dims[1];
            }
        }
    }

    pub(super) fn concat(&mut self, node: &Node) -> Result<bool, String> {
        let out = node.outputs[0];
        let whole = self.output_pixels(out)?;
        let mut channel = 0;
        for (at, &id) in node.inputs.iter().enumerate() {
            let channels = self.info(id).dims[1];
            let to = Pixels {
                offset: whole.offset + channel,
                channels,
                ..whole
            };
            // Written there already, unless another concat has it or it stands here twice.
            let in_place = self.roots.get(&id) == Some(&(out, channel))
                && node.inputs.iter().position(|&i| i == id) == Some(at);
            if !in_place {
                let from = self.pixels(&node.name, id)?;
                self.push(&node.name, "copy", Action::Copy { from, to });
            }
            channel += channels;
        }
        Ok(true)
    }

    /// What a product adds and does beside the two factors; `None` where a row of panels can't do it.
    fn terms(&self, node: &Node, channels: usize) -> Option<Terms> {
        let mut bias = vec![0.0; channels.next_multiple_of(PANEL)];
        let Op::Gemm {
            trans_a,
            trans_b,
            alpha,
            beta,
            activation,
        } = &node.op
        else {
            return Some(Terms {
                transposed: false,
                clamp: (f32::NEG_INFINITY, f32::INFINITY),
                bias,
            });
        };
        if *trans_a || *alpha != 1.0 {
            return None;
        }
        if let Some(&c) = node.inputs.get(2) {
            let dims = self.info(c).dims;
            let row = dims == [channels] || dims == [1, channels];
            let c = self.floats(c).filter(|_| row && *beta == 1.0)?;
            bias[..channels].copy_from_slice(c);
        }
        Some(Terms {
            transposed: *trans_b,
            clamp: (activation.low, activation.high),
            bias,
        })
    }

    /// A tensor of rows as pixels of `deep` channels, copied where it lies elsewhere than in a slot.
    fn as_rows(&mut self, name: &str, from: Place, rows: usize, deep: usize) -> Pixels {
        let from = match from {
            Place::Slot(slot) => return row_pixels(slot, rows, deep),
            elsewhere => elsewhere,
        };
        let to = row_pixels(self.slot(rows * deep * size_of::<f32>()), rows, deep);
        let action = Action::ToPixels {
            from,
            extents: (1, 1),
            to,
            pad: (0, 0),
        };
        self.push(name, "to pixels", action);
        to
    }

    /// A product with a constant matrix, as a convolution over rows.
    pub(super) fn product(&mut self, node: &Node) -> Result<bool, String> {
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let (x, y) = (self.info(a), self.info(node.outputs[0]));
        let (Some(weight), Some(&deep)) = (self.floats(b).cloned(), x.dims.last()) else {
            return Ok(false);
        };
        let weight_dims = self.info(b).dims;
        let ([_, _], false) = (weight_dims.as_slice(), self.is_constant(a)) else {
            return Ok(false);
        };
        let Some(&channels) = y.dims.last() else {
            return Ok(false);
        };
        if x.dtype != DType::F32 || x.dims.len() < 2 || x.dims.contains(&0) || channels == 0 {
            return Ok(false);
        }
        let Some(Terms {
            transposed,
            clamp,
            bias,
        }) = self.terms(node, channels)
        else {
            return Ok(false);
        };
        let packing = if transposed {
            Packing::Panels {
                groups: 1,
                channels,
                deep,
                kernel: [1, 1],
                taps: vec![(0, 0)],
                rows: false,
            }
        } else {
            Packing::Columns { channels, deep }
        };
        let packed = self.packed(b, weight, packing)?;
        let rows = x.len() / deep;
        let from = self.plain(&node.name, a)?;
        let x = self.as_rows(&node.name, from, rows, deep);
        let slot = self.slot(y.bytes());
        self.forms.entry(node.outputs[0]).or_default().plain = Some(Place::Slot(slot));
        let conv = Conv::new(ConvParts {
            plane: Plane {
                input: [1, 1],
                output: [1, 1],
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
            },
            samples: rows,
            taps: vec![(0, 0)],
            run: deep,
            groups: 1,
            channels,
            packed,
            bias: Arc::new(bias),
            clamp,
        });
        let action = Action::Conv {
            conv: Box::new(Convolution::Rows(conv)),
            operands: ConvOperands {
                x,
                residual: None,
                y: row_pixels(slot, rows, channels),
            },
        };
        self.push(&node.name, "product", action);
        Ok(true)
    }

    /// Element by element over pixels where an operand is kept so: the numbers are the same in
    /// either order.
    pub(super) fn elementwise(&mut self, node: &Node) -> Result<bool, String> {
        let kept = |id: &ValueId| self.forms.get(id).is_some_and(|f| f.pixels.is_some());
        let out = self.info(node.outputs[0]);
        if !node.inputs.iter().any(kept) || out.dims.len() != 4 || out.dims.contains(&0) {
            return Ok(false);
        }
        let turned = |dims: &[usize]| vec![dims[0], dims[2], dims[3], dims[1]];
        let mut infos = vec![];
        for &id in &node.inputs {
            let info = self.info(id);
            let constant = self.is_constant(id);
            let lead = 4usize.saturating_sub(info.dims.len());
            let dims = [&vec![1; lead][..], &info.dims].concat();
            let flat = dims.len() == 4 && [dims[0], dims[2], dims[3]] == [1; 3];
            if info.dtype != DType::F32 || dims.len() != 4 || (constant && !flat) {
                return Ok(false);
            }
            if !constant && lead > 0 {
                return Ok(false);
            }
            let dims = turned(&dims);
            infos.push(TensorInfo { dims, ..info });
        }
        if out.dtype != DType::F32 {
            return Ok(false);
        }
        let y = TensorInfo {
            dims: turned(&out.dims),
            dtype: out.dtype,
        };
        let work = general::compile(&node.op, &infos, std::slice::from_ref(&y))?;
        let mut reads = vec![];
        for &id in &node.inputs {
            if let Some(constant) = self.constants.get(&id) {
                reads.push(Place::Constant(constant.clone()));
                continue;
            }
            let mut t = self.pixels(&node.name, id)?;
            if !t.dense() || t.offset != 0 {
                let to = self.new_pixels([t.samples, t.height, t.width, t.channels]);
                self.push(&node.name, "copy", Action::Copy { from: t, to });
                t = to;
            }
            reads.push(Place::Slot(t.slot));
        }
        let y = self.output_pixels(node.outputs[0])?;
        let writes = vec![y.slot];
        let action = Action::General {
            work,
            reads,
            writes,
        };
        self.push(&node.name, "general on pixels", action);
        Ok(true)
    }

    /// The same elements in the same order: the same slot.
    pub(super) fn alias(&mut self, node: &Node) -> Result<bool, String> {
        let place = self.plain(&node.name, node.inputs[0])?;
        self.forms.entry(node.outputs[0]).or_default().plain = Some(place);
        Ok(true)
    }
}
