/*!
Lowering: which step runs each node, in which form each tensor is kept, and how long each slot of
the arena is in use.

A tensor is *plain* (row-major in the graph's own axis order) or *pixels* (channels innermost), or
both where steps of both kinds read it. Which kernel runs a node depends on the node, its extents
and its constants alone, so that a piece of a network computes what the whole does, bit for bit.
*/

use super::general::{self, Info, Work};
use super::kernels::loops::{Fold, PANEL, Plane};
use super::kernels::step::{Conv, ConvParts, Packed, Pixels, Sweep};
use super::weights::{Packing, packed};
use crate::model::op::{PoolKind, Window};
use crate::model::{Constant, DType, Data, Graph, Node, Op, ValueId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where a plain tensor is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Constant(Constant),
    /// The caller's n-th input.
    Input(usize),
    Slot(usize),
}

/// What a step does.
pub(crate) enum Action {
    General {
        work: Work,
        reads: Vec<Place>,
        writes: Vec<usize>,
    },
    Conv {
        conv: Box<Conv>,
        x: Pixels,
        residual: Option<Pixels>,
        y: Pixels,
    },
    Sweep {
        sweep: Sweep,
        x: Pixels,
        y: Pixels,
    },
    ToPixels {
        from: Place,
        extents: (usize, usize),
        to: Pixels,
        pad: (usize, usize),
    },
    FromPixels {
        from: Pixels,
        to: usize,
    },
    Copy {
        from: Pixels,
        to: Pixels,
    },
}

/// One step of a program.
pub(crate) struct Step {
    pub node: String,
    pub kernel: &'static str,
    pub action: Action,
}

/// A piece of the arena and the steps in which it is in use.
#[derive(Debug)]
pub(crate) struct Slot {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Where an output of the graph is.
#[derive(Debug)]
pub(crate) enum Output {
    Plain(Place),
    Pixels(Pixels),
}

#[derive(Default, Clone)]
struct Forms {
    plain: Option<Place>,
    pixels: Option<Pixels>,
}

/// The program before its slots are placed.
pub(crate) struct Lowered {
    pub steps: Vec<Step>,
    pub slots: Vec<Slot>,
    pub outputs: Vec<Output>,
    pub weights: Vec<Arc<Packed>>,
}

struct Lowering<'a> {
    graph: &'a Graph,
    batch: usize,
    steps: Vec<Step>,
    slots: Vec<Slot>,
    forms: HashMap<ValueId, Forms>,
    /// Tensors written straight into their slice of a concat: into which, from which channel on.
    roots: HashMap<ValueId, (ValueId, usize)>,
    weights: Vec<Arc<Packed>>,
}

/// Samples, rows, columns and channels of a tensor that can be kept as pixels.
fn image(dims: &[usize]) -> Option<[usize; 4]> {
    match *dims {
        [n, c] => Some([n, 1, 1, c]),
        [n, c, w] => Some([n, 1, w, c]),
        [n, c, h, w] => Some([n, h, w, c]),
        _ => None,
    }
}

/// Lowers `graph` at `batch`. The error names the node and what is not supported.
pub(crate) fn lower(graph: &Graph, batch: usize) -> Result<Lowered, (String, String)> {
    let mut l = Lowering {
        graph,
        batch,
        steps: vec![],
        slots: vec![],
        forms: HashMap::new(),
        roots: HashMap::new(),
        weights: vec![],
    };
    for (at, &id) in graph.inputs.iter().enumerate() {
        l.forms.entry(id).or_default().plain = Some(Place::Input(at));
    }
    for (&id, constant) in &graph.constants {
        if super::program::constant_bytes(&constant.data).len() == l.info(id).bytes() {
            l.forms.entry(id).or_default().plain = Some(Place::Constant(constant.clone()));
        }
    }
    l.find_roots();
    for node in &graph.nodes {
        l.node(node).map_err(|what| (node.name.clone(), what))?;
    }
    let mut outputs = vec![];
    for &id in &graph.outputs {
        let forms = l.forms.get(&id).cloned().unwrap_or_default();
        let end = l.steps.len();
        outputs.push(match (forms.plain, forms.pixels) {
            (Some(place), _) => {
                if let Place::Slot(slot) = place {
                    l.slots[slot].last = end;
                }
                Output::Plain(place)
            }
            (None, Some(t)) => {
                l.slots[t.slot].last = end;
                Output::Pixels(t)
            }
            (None, None) => {
                let name = graph.value(id).name.clone();
                return Err((name, "an output that nothing produces".to_string()));
            }
        });
    }
    Ok(Lowered {
        steps: l.steps,
        slots: l.slots,
        outputs,
        weights: l.weights,
    })
}

impl Lowering<'_> {
    fn info(&self, id: ValueId) -> Info {
        let value = self.graph.value(id);
        Info {
            dims: value.shape.at(self.batch),
            dtype: value.dtype,
        }
    }

    fn floats(&self, id: ValueId) -> Option<&Arc<Vec<f32>>> {
        match &self.graph.constants.get(&id)?.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Whether a fast step writes the node's output as pixels, with any distance between them.
    fn writes_pixels(&self, node: &Node) -> bool {
        match &node.op {
            Op::Conv {
                window,
                groups,
                bias,
                residual,
                ..
            } => self
                .conv_parts(node, window, *groups, *bias, *residual)
                .is_some(),
            Op::Pool {
                kind,
                window,
                extra,
                ..
            } => self.pool_plane(node, *kind, window, extra).is_some(),
            Op::GlobalPool { .. } => self.global_plane(node).is_some(),
            Op::Concat { axis } => self.joins(node, *axis),
            _ => false,
        }
    }

    /// A concat of the channels of images.
    fn joins(&self, node: &Node, axis: usize) -> bool {
        let all = node.inputs.iter().chain(&node.outputs);
        let image = |&id: &ValueId| {
            let info = self.info(id);
            info.dims.len() == 4
                && info.dtype == DType::F32
                && !info.dims.contains(&0)
                && !self.graph.constants.contains_key(&id)
        };
        axis == 1 && all.clone().all(image)
    }

    /// Gives every tensor that ends in one concat only, once, and whose producer can write there,
    /// its slice.
    fn find_roots(&mut self) {
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

    fn slot(&mut self, bytes: usize) -> usize {
        let now = self.steps.len();
        self.slots.push(Slot {
            bytes,
            first: now,
            last: now,
        });
        self.slots.len() - 1
    }

    fn push(&mut self, node: &str, kernel: &'static str, action: Action) {
        let now = self.steps.len();
        let mut used = vec![];
        let place = |place: &Place, used: &mut Vec<usize>| {
            if let Place::Slot(slot) = place {
                used.push(*slot);
            }
        };
        match &action {
            Action::General { reads, writes, .. } => {
                reads.iter().for_each(|p| place(p, &mut used));
                used.extend(writes);
            }
            Action::Conv { x, residual, y, .. } => {
                used.extend([x.slot, y.slot]);
                used.extend(residual.map(|r| r.slot));
            }
            Action::Sweep { x, y, .. } => used.extend([x.slot, y.slot]),
            Action::ToPixels { from, to, .. } => {
                place(from, &mut used);
                used.push(to.slot);
            }
            Action::FromPixels { from, to } => used.extend([from.slot, *to]),
            Action::Copy { from, to } => used.extend([from.slot, to.slot]),
        }
        for slot in used {
            self.slots[slot].last = now;
        }
        self.steps.push(Step {
            node: node.to_string(),
            kernel,
            action,
        });
    }

    fn new_pixels(&mut self, [samples, height, width, channels]: [usize; 4]) -> Pixels {
        Pixels {
            slot: self.slot(samples * height * width * channels * 4),
            offset: 0,
            stride: channels,
            samples,
            height,
            width,
            channels,
        }
    }

    /// Where a fast step writes `id`: its slice of a concat, or a slot of its own.
    fn output_pixels(&mut self, id: ValueId) -> Result<Pixels, String> {
        if let Some(t) = self.forms.get(&id).and_then(|f| f.pixels) {
            return Ok(t);
        }
        let shape = image(&self.info(id).dims).ok_or("not an image")?;
        let t = match self.roots.get(&id).copied() {
            Some((parent, channel)) => {
                let whole = self.output_pixels(parent)?;
                Pixels {
                    offset: whole.offset + channel,
                    channels: shape[3],
                    ..whole
                }
            }
            None => self.new_pixels(shape),
        };
        self.forms.entry(id).or_default().pixels = Some(t);
        Ok(t)
    }

    fn pixels(&mut self, node: &str, id: ValueId) -> Result<Pixels, String> {
        let forms = self.forms.get(&id).cloned().unwrap_or_default();
        if let Some(t) = forms.pixels {
            return Ok(t);
        }
        let shape = image(&self.info(id).dims).ok_or("not an image")?;
        let [samples, height, width, channels] = shape;
        let from = forms.plain.ok_or_else(|| self.missing(id))?;
        let same = height * width == 1 || channels == 1;
        let t = match from {
            Place::Slot(slot) if same => Pixels {
                slot,
                offset: 0,
                stride: channels,
                samples,
                height,
                width,
                channels,
            },
            from => {
                let to = self.new_pixels(shape);
                let extents = (height, width);
                let pad = (0, 0);
                self.push(
                    node,
                    "to pixels",
                    Action::ToPixels {
                        from,
                        extents,
                        to,
                        pad,
                    },
                );
                to
            }
        };
        self.forms.entry(id).or_default().pixels = Some(t);
        Ok(t)
    }

    fn missing(&self, id: ValueId) -> String {
        let name = &self.graph.value(id).name;
        format!("reading `{name}`, which nothing before it produces,")
    }

    fn plain(&mut self, node: &str, id: ValueId) -> Result<Place, String> {
        let forms = self.forms.get(&id).cloned().unwrap_or_default();
        if let Some(place) = forms.plain {
            return Ok(place);
        }
        let from = forms.pixels.ok_or_else(|| self.missing(id))?;
        let same = from.positions() == 1 || from.channels == 1;
        let place = if same && from.dense() && from.offset == 0 {
            Place::Slot(from.slot)
        } else {
            let to = self.slot(from.len() * 4);
            self.push(node, "from pixels", Action::FromPixels { from, to });
            Place::Slot(to)
        };
        self.forms.entry(id).or_default().plain = Some(place.clone());
        Ok(place)
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        let infos = |ids: &[ValueId]| ids.iter().map(|&id| self.info(id)).collect::<Vec<_>>();
        let (ins, outs) = (infos(&node.inputs), infos(&node.outputs));
        // The general path knows what each op means and refuses what isn't that: what it refuses,
        // nothing runs.
        let work = general::compile(&node.op, &ins, &outs)
            .map_err(|what| format!("{}: {what}", op_name(&node.op)))?;
        let fast = match &node.op {
            Op::Conv {
                window,
                groups,
                bias,
                residual,
                activation,
            } => {
                let clamp = (activation.low, activation.high);
                self.conv(node, window, *groups, *bias, *residual, clamp)?
            }
            Op::Pool {
                kind,
                window,
                extra,
                ..
            } => match self.pool_plane(node, *kind, window, extra) {
                Some((plane, fold)) => self.sweep(node, plane, fold, "pool")?,
                None => false,
            },
            Op::GlobalPool { average } => match self.global_plane(node) {
                Some(plane) => {
                    let fold = if *average { Fold::Mean } else { Fold::Max };
                    self.sweep(node, plane, fold, "global pool")?
                }
                None => false,
            },
            Op::Concat { axis } if self.joins(node, *axis) => self.concat(node)?,
            Op::Gemm { .. } | Op::MatMul => self.product(node)?,
            Op::Unary(_) | Op::Binary(..) => self.elementwise(node)?,
            Op::Reshape { .. } | Op::Identity => self.alias(node)?,
            _ => false,
        };
        if fast {
            return Ok(());
        }
        let mut reads = vec![];
        for &id in &node.inputs {
            reads.push(self.plain(&node.name, id)?);
        }
        let mut writes = vec![];
        for (&id, info) in node.outputs.iter().zip(&outs) {
            let slot = self.slot(info.bytes());
            self.forms.entry(id).or_default().plain = Some(Place::Slot(slot));
            writes.push(slot);
        }
        let action = Action::General {
            work,
            reads,
            writes,
        };
        self.push(&node.name, "general", action);
        Ok(())
    }

    /// The window over images as a plane, if it is one.
    fn plane(&self, node: &Node, window: &Window) -> Option<Plane> {
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
    fn conv_parts(
        &self,
        node: &Node,
        window: &Window,
        groups: usize,
        bias: bool,
        residual: bool,
    ) -> Option<(Plane, Arc<Vec<f32>>, Vec<f32>)> {
        let inputs = 2 + usize::from(bias) + usize::from(residual);
        if node.inputs.len() != inputs || self.graph.constants.contains_key(&node.inputs[0]) {
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

    fn conv(
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
        let (low, high) = clamp;
        if groups > 1 && groups == cin && channels == cin && !residual {
            let taps = plane.kernel[0] * plane.kernel[1];
            let packed = packed(&weight, Packing::Depthwise { channels, taps });
            self.weights.push(packed.clone());
            let x = self.pixels(&node.name, input)?;
            let y = self.output_pixels(output)?;
            let sweep = Sweep {
                plane,
                fold: Fold::Weigh { low, high },
                packed: Some((packed, Arc::new(bias))),
            };
            self.push(&node.name, "depthwise", Action::Sweep { sweep, x, y });
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
            let reaches = |axis: usize, k: usize| {
                (0..plane.output[axis]).any(|o| {
                    let (first, end) = plane.taps(axis, o);
                    (first..end).contains(&k)
                })
            };
            taps = (0..kernel[0])
                .filter(|&ky| reaches(0, ky))
                .flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx)))
                .filter(|&(_, kx)| reaches(1, kx))
                .collect();
        }
        let packing = Packing::Panels {
            groups,
            channels,
            deep,
            kernel,
            taps: taps.clone(),
            rows,
        };
        let packed = packed(&weight, packing);
        self.weights.push(packed.clone());
        let wide = channels / groups;
        let mut bias_panels = vec![0.0; wide.next_multiple_of(PANEL) * groups];
        for (to, from) in bias_panels
            .chunks_exact_mut(wide.next_multiple_of(PANEL))
            .zip(bias.chunks_exact(wide))
        {
            to[..wide].copy_from_slice(from);
        }
        let added = match residual {
            true => Some(self.pixels(&node.name, node.inputs[node.inputs.len() - 1])?),
            false => None,
        };
        let y = self.output_pixels(output)?;
        let conv = Conv::new(ConvParts {
            plane,
            samples,
            taps,
            run: if rows { kernel[1] * deep } else { deep },
            groups,
            channels: wide,
            packed,
            bias: Arc::new(bias_panels),
            clamp,
        });
        let kernel = match (rows, groups > 1, kernel) {
            (true, ..) => "convolution by rows",
            (_, true, _) => "grouped convolution",
            (.., [1, 1]) => "convolution 1x1",
            _ => "convolution",
        };
        let action = Action::Conv {
            conv: Box::new(conv),
            x,
            residual: added,
            y,
        };
        self.push(&node.name, kernel, action);
        Ok(true)
    }

    /// `input` as pixels with the window's padding around, for which `plane` is then adjusted.
    fn bordered(
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

    fn pool_plane(
        &self,
        node: &Node,
        kind: PoolKind,
        window: &Window,
        extra: &[usize],
    ) -> Option<(Plane, Fold)> {
        if node.outputs.len() > 1 || self.graph.constants.contains_key(&node.inputs[0]) {
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
            } if extra.iter().all(|&e| e == 0) => Fold::MeanOf(plane.kernel[0] * plane.kernel[1]),
            PoolKind::Average { .. } => return None,
        };
        Some((plane, fold))
    }

    fn global_plane(&self, node: &Node) -> Option<Plane> {
        let x = self.info(node.inputs[0]);
        if x.dtype != DType::F32 || x.dims.contains(&0) || !(3..=4).contains(&x.dims.len()) {
            return None;
        }
        if self.graph.constants.contains_key(&node.inputs[0]) {
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

    fn sweep(
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

    fn concat(&mut self, node: &Node) -> Result<bool, String> {
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

    /// A product with a constant matrix, as a convolution over rows.
    fn product(&mut self, node: &Node) -> Result<bool, String> {
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let (x, y) = (self.info(a), self.info(node.outputs[0]));
        let (Some(weight), Some(&deep)) = (self.floats(b).cloned(), x.dims.last()) else {
            return Ok(false);
        };
        let weight_dims = self.info(b).dims;
        let ([_, _], false) = (
            weight_dims.as_slice(),
            self.graph.constants.contains_key(&a),
        ) else {
            return Ok(false);
        };
        let Some(&channels) = y.dims.last() else {
            return Ok(false);
        };
        if x.dtype != DType::F32 || x.dims.len() < 2 || x.dims.contains(&0) || channels == 0 {
            return Ok(false);
        }
        let mut bias = vec![0.0; channels.next_multiple_of(PANEL)];
        let (mut transposed, mut clamp) = (false, (f32::NEG_INFINITY, f32::INFINITY));
        if let Op::Gemm {
            trans_a,
            trans_b,
            alpha,
            beta,
            activation,
        } = &node.op
        {
            if *trans_a || *alpha != 1.0 {
                return Ok(false);
            }
            transposed = *trans_b;
            clamp = (activation.low, activation.high);
            if let Some(&c) = node.inputs.get(2) {
                let dims = self.info(c).dims;
                let row = dims == [channels] || dims == [1, channels];
                let Some(c) = self.floats(c).filter(|_| row && *beta == 1.0) else {
                    return Ok(false);
                };
                bias[..channels].copy_from_slice(c);
            }
        }
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
        let packed = packed(&weight, packing);
        self.weights.push(packed.clone());
        let rows = x.len() / deep;
        let place = self.plain(&node.name, a)?;
        let as_rows = |slot, channels| Pixels {
            slot,
            offset: 0,
            stride: channels,
            samples: rows,
            height: 1,
            width: 1,
            channels,
        };
        let x = match place {
            Place::Slot(slot) => as_rows(slot, deep),
            from => {
                let to = as_rows(self.slot(x.bytes()), deep);
                let (extents, pad) = ((1, 1), (0, 0));
                self.push(
                    &node.name,
                    "to pixels",
                    Action::ToPixels {
                        from,
                        extents,
                        to,
                        pad,
                    },
                );
                to
            }
        };
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
            conv: Box::new(conv),
            x,
            residual: None,
            y: as_rows(slot, channels),
        };
        self.push(&node.name, "product", action);
        Ok(true)
    }

    /// Element by element over pixels where an operand is kept so: the numbers are the same in
    /// either order.
    fn elementwise(&mut self, node: &Node) -> Result<bool, String> {
        let graph = self.graph;
        let kept = |id: &ValueId| self.forms.get(id).is_some_and(|f| f.pixels.is_some());
        let out = self.info(node.outputs[0]);
        if !node.inputs.iter().any(kept) || out.dims.len() != 4 || out.dims.contains(&0) {
            return Ok(false);
        }
        let turned = |dims: &[usize]| vec![dims[0], dims[2], dims[3], dims[1]];
        let mut infos = vec![];
        for &id in &node.inputs {
            let info = self.info(id);
            let constant = graph.constants.contains_key(&id);
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
            infos.push(Info { dims, ..info });
        }
        if out.dtype != DType::F32 {
            return Ok(false);
        }
        let y = Info {
            dims: turned(&out.dims),
            dtype: out.dtype,
        };
        let work = general::compile(&node.op, &infos, std::slice::from_ref(&y))?;
        let mut reads = vec![];
        for &id in &node.inputs {
            if let Some(constant) = graph.constants.get(&id) {
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
    fn alias(&mut self, node: &Node) -> Result<bool, String> {
        let place = self.plain(&node.name, node.inputs[0])?;
        self.forms.entry(node.outputs[0]).or_default().plain = Some(place);
        Ok(true)
    }
}

/// The op's name without its settings.
fn op_name(op: &Op) -> String {
    let text = format!("{op:?}");
    let end = text.find([' ', '{', '(']).unwrap_or(text.len());
    text[..end].to_string()
}
