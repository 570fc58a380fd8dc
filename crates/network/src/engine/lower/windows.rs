/*! Convolutions and pools over images. */

use super::{Action, Lowering, image};
use crate::engine::kernels::loops::{Fold, PANEL, Plane, WinogradTile};
use crate::engine::kernels::step::{
    Conv, ConvOperands, ConvParts, Convolution, Pixels, Sweep, Winograd,
};
use crate::engine::weights::Packing;
use crate::model::op::{PoolKind, Window};
use crate::model::{DType, Node, ValueId};
use std::sync::Arc;

/// Places of a kernel, row and column, that meet the input somewhere; the others see padding alone.
fn taps_within(plane: &Plane) -> Vec<(usize, usize)> {
    let reaches = |axis: usize, k: usize| {
        (0..plane.output[axis]).any(|o| {
            let (first, end) = plane.taps(axis, o);
            (first..end).contains(&k)
        })
    };
    let [height, width] = plane.kernel;
    (0..height)
        .filter(|&ky| reaches(0, ky))
        .flat_map(|ky| (0..width).map(move |kx| (ky, kx)))
        .filter(|&(_, kx)| reaches(1, kx))
        .collect()
}

/// A bias of groups of `wide` channels, each group padded to whole panels.
fn in_panels(bias: &[f32], wide: usize) -> Vec<f32> {
    let padded = wide.next_multiple_of(PANEL);
    let mut panels = vec![0.0; bias.len() / wide * padded];
    for (to, from) in panels.chunks_exact_mut(padded).zip(bias.chunks_exact(wide)) {
        to[..wide].copy_from_slice(from);
    }
    panels
}

/// What the step of a convolution is called.
fn kernel_name(
    tile: Option<WinogradTile>,
    rows: bool,
    groups: usize,
    kernel: [usize; 2],
) -> &'static str {
    match (tile, rows, groups > 1, kernel) {
        (Some(WinogradTile::Two), ..) => "convolution by F(2x2, 3x3)",
        (Some(WinogradTile::Four), ..) => "convolution by F(4x4, 3x3)",
        (_, true, ..) => "convolution by rows",
        (_, _, true, _) => "grouped convolution",
        (.., [1, 1]) => "convolution 1x1",
        _ => "convolution",
    }
}

impl Lowering<'_> {
    /// The window over images as a plane, if it is one.
    pub(super) fn plane(&self, node: &Node, window: &Window) -> Option<Plane> {
        let (x, y) = (self.info(node.inputs[0]), self.info(node.outputs[0]));
        if x.dtype != DType::F32 || x.dims.contains(&0) || y.dims.contains(&0) {
            return None;
        }
        if !(3..=4).contains(&x.dims.len()) {
            return None;
        }
        let ([_, h, w, _], [_, oh, ow, _]) = (image(&x.dims)?, image(&y.dims)?);
        let two = |of: &[usize], missing: usize| match *of {
            [w] => Some([missing, w]),
            [h, w] => Some([h, w]),
            _ => None,
        };
        let before: Vec<usize> = window.pads.iter().map(|p| p.0).collect();
        Some(Plane {
            input: [h, w],
            output: [oh, ow],
            kernel: two(&window.kernel, 1)?,
            stride: two(&window.strides, 1)?,
            dilation: two(&window.dilations, 1)?,
            pad: two(&before, 0)?,
        })
    }

    /// The plane, weights and biases of a convolution that the kernels cover.
    pub(super) fn conv_parts(
        &self,
        node: &Node,
        window: &Window,
        groups: usize,
        bias: bool,
        residual: bool,
    ) -> Option<(Plane, Arc<Vec<f32>>, Vec<f32>)> {
        let inputs = 2 + usize::from(bias) + usize::from(residual);
        if node.inputs.len() != inputs || self.is_constant(node.inputs[0]) {
            return None;
        }
        let plane = self.plane(node, window)?;
        let weight = self.floats(node.inputs[1])?.clone();
        let channels = self.info(node.outputs[0]).dims[1];
        let bias = match bias {
            true => self.floats(node.inputs[2])?.to_vec(),
            false => vec![0.0; channels],
        };
        (groups > 0 && channels.is_multiple_of(groups)).then_some((plane, weight, bias))
    }

    /// A convolution of each channel alone, as a sweep over the image.
    fn depthwise(
        &mut self,
        node: &Node,
        plane: Plane,
        (weight, bias): (Arc<Vec<f32>>, Vec<f32>),
        (low, high): (f32, f32),
    ) -> Result<(), String> {
        let [input, output] = [node.inputs[0], node.outputs[0]];
        let channels = self.info(output).dims[1];
        let taps = plane.kernel[0] * plane.kernel[1];
        let packing = Packing::Depthwise { channels, taps };
        let packed = self.packed(node.inputs[1], weight, packing)?;
        let x = self.pixels(&node.name, input)?;
        let y = self.output_pixels(output)?;
        let sweep = Sweep {
            plane,
            fold: Fold::Weigh { low, high },
            packed: Some((packed, Arc::new(bias))),
        };
        self.push(&node.name, "depthwise", Action::Sweep { sweep, x, y });
        Ok(())
    }

    pub(super) fn conv(
        &mut self,
        node: &Node,
        window: &Window,
        groups: usize,
        bias: bool,
        residual: bool,
        clamp: (f32, f32),
    ) -> Result<bool, String> {
        let parts = self.conv_parts(node, window, groups, bias, residual);
        let Some((mut plane, weight, bias)) = parts else {
            return Ok(false);
        };
        let [input, output] = [node.inputs[0], node.outputs[0]];
        let cin = self.info(input).dims[1];
        let channels = self.info(output).dims[1];
        let samples = self.info(input).dims[0];
        let deep = cin / groups;
        if groups > 1 && groups == cin && channels == cin && !residual {
            self.depthwise(node, plane, (weight, bias), clamp)?;
            return Ok(true);
        }
        let kernel = plane.kernel;
        // Few channels: a kernel row is one contiguous run over neighbouring pixels.
        let rows = groups == 1 && deep <= 4 && kernel[1] > 1 && plane.dilation[1] == 1;
        let x;
        let taps: Vec<(usize, usize)>;
        if rows {
            x = self.bordered(node, input, window, &mut plane)?;
            taps = (0..kernel[0]).map(|ky| (ky, 0)).collect();
        } else {
            x = self.pixels(&node.name, input)?;
            taps = taps_within(&plane);
        }
        let tile = Winograd::tile(&plane, groups, deep, channels);
        let packing = match tile {
            Some(tile) => Packing::Winograd {
                tile,
                channels,
                deep,
            },
            None => Packing::Panels {
                groups,
                channels,
                deep,
                kernel,
                taps: taps.clone(),
                rows,
            },
        };
        let packed = self.packed(node.inputs[1], weight, packing)?;
        let wide = channels / groups;
        let last = node.inputs.last().copied().filter(|_| residual);
        let added = last.map(|id| self.pixels(&node.name, id)).transpose()?;
        let y = self.output_pixels(output)?;
        let parts = ConvParts {
            plane,
            samples,
            taps,
            run: if rows { kernel[1] * deep } else { deep },
            groups,
            channels: wide,
            packed,
            bias: Arc::new(in_panels(&bias, wide)),
            clamp,
        };
        let kernel = kernel_name(tile, rows, groups, kernel);
        let conv = match tile {
            Some(tile) => Convolution::Products(Winograd::new(tile, parts)),
            None => Convolution::Rows(Conv::new(parts)),
        };
        let action = Action::Conv {
            conv: Box::new(conv),
            operands: ConvOperands {
                x,
                residual: added,
                y,
            },
        };
        self.push(&node.name, kernel, action);
        Ok(true)
    }

    /// `input` as pixels with the window's padding around, for which `plane` is then adjusted.
    pub(super) fn bordered(
        &mut self,
        node: &Node,
        input: ValueId,
        window: &Window,
        plane: &mut Plane,
    ) -> Result<Pixels, String> {
        let [samples, height, width, channels] =
            image(&self.info(input).dims).ok_or("not an image")?;
        let after: Vec<usize> = window.pads.iter().map(|p| p.1).collect();
        let after = match *after {
            [w] => [0, w],
            [h, w] => [h, w],
            _ => return Err("a window over other than one or two axes".to_string()),
        };
        let from = self.plain(&node.name, input)?;
        let to = self.new_pixels([
            samples,
            height + plane.pad[0] + after[0],
            width + plane.pad[1] + after[1],
            channels,
        ]);
        let pad = (plane.pad[0], plane.pad[1]);
        let extents = (height, width);
        let action = Action::ToPixels {
            from,
            extents,
            to,
            pad,
        };
        self.push(&node.name, "to pixels", action);
        plane.input = [to.height, to.width];
        plane.pad = [0, 0];
        Ok(to)
    }

    pub(super) fn pool_plane(
        &self,
        node: &Node,
        kind: PoolKind,
        window: &Window,
        extra: &[usize],
    ) -> Option<(Plane, Fold)> {
        if node.outputs.len() > 1 || self.is_constant(node.inputs[0]) {
            return None;
        }
        let plane = self.plane(node, window)?;
        // A window wholly in the padding has no mean; the general path knows what it gives.
        let empty = |axis: usize| {
            (0..plane.output[axis]).any(|o| {
                let (first, end) = plane.taps(axis, o);
                first == end
            })
        };
        if empty(0) || empty(1) {
            return None;
        }
        let fold = match kind {
            PoolKind::Max => Fold::Max,
            PoolKind::Average {
                count_include_pad: false,
            } => Fold::Mean,
            PoolKind::Average {
                count_include_pad: true,
            } if extra.iter().all(|&e| e == 0) => {
                Fold::MeanOf((plane.kernel[0] * plane.kernel[1]) as f32)
            }
            PoolKind::Average { .. } => return None,
        };
        Some((plane, fold))
    }

    pub(super) fn global_plane(&self, node: &Node) -> Option<Plane> {
        let x = self.info(node.inputs[0]);
        if x.dtype != DType::F32 || x.dims.contains(&0) || !(3..=4).contains(&x.dims.len()) {
            return None;
        }
        if self.is_constant(node.inputs[0]) {
            return None;
        }
        let [_, h, w, _] = image(&x.dims)?;
        Some(Plane {
            input: [h, w],
            output: [1, 1],
            kernel: [h, w],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
        })
    }

    pub(super) fn sweep(
        &mut self,
        node: &Node,
        plane: Plane,
        fold: Fold,
        kernel: &'static str,
    ) -> Result<bool, String> {
        let x = self.pixels(&node.name, node.inputs[0])?;
        let y = self.output_pixels(node.outputs[0])?;
        let packed = None;
        let sweep = Sweep {
            plane,
            fold,
            packed,
        };
        self.push(&node.name, kernel, Action::Sweep { sweep, x, y });
        Ok(true)
    }
}
