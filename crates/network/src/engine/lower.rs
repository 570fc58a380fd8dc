/*!
Lowering: which step runs each node, in which form each tensor is kept, and how long each slot of
the arena is in use.

A tensor is *plain* (row-major in the graph's own axis order) or *pixels* (channels innermost), or
both where steps of both kinds read it. Which kernel runs a node depends on the node, its extents
and its constants alone, so that a piece of a network computes what the whole does, bit for bit.

A constant is emptied as soon as every reader of it has its packed form: the weights of a network
are never held twice, unless somebody else holds them. Programs for other batch sizes find the packed
form by the constant's id, since nothing in a packing depends on the batch.
*/

mod others;
mod windows;

use super::general::{self, TensorInfo, Work};
use super::kernels::loops::Fold;
use super::kernels::step::{ConvOperands, Convolution, Packed, Pixels, Sweep};
use super::tensor::constant_bytes;
use super::weights::{self, Packing, Weights};
use crate::model::{Constant, Data, Graph, Node, Op, ValueId};
use std::collections::{BTreeMap, HashMap};
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
        conv: Box<Convolution>,
        operands: ConvOperands,
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

impl Step {
    /// Bytes of what is known beforehand and read by the step: weights and biases as its kernel
    /// keeps them, or constants.
    pub(crate) fn parameter_bytes(&self) -> usize {
        let constant = |place: &Place| match place {
            Place::Constant(c) => c.len() * c.dtype().bytes(),
            Place::Input(_) | Place::Slot(_) => 0,
        };
        match &self.action {
            Action::General { reads, .. } => reads.iter().map(constant).sum(),
            Action::Conv { conv, .. } => conv.parameter_bytes(),
            Action::Sweep { sweep, .. } => {
                let packed = sweep.packed.as_ref();
                packed.map_or(0, |(weights, bias)| 4 * (weights.floats + bias.len()))
            }
            Action::ToPixels { from, .. } => constant(from),
            Action::FromPixels { .. } | Action::Copy { .. } => 0,
        }
    }
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
    pub weights: Weights,
}

/// The constants of a graph, taken out of it.
pub(crate) type Constants = BTreeMap<ValueId, Constant>;

struct Lowering<'a> {
    /// Graph to lower; its constants are packed already.
    graph: &'a Graph,
    constants: &'a mut Constants,
    /// How many inputs read each constant, less those that have it packed.
    readers: HashMap<ValueId, usize>,
    /// What an earlier program has packed.
    known: &'a Weights,
    batch: usize,
    steps: Vec<Step>,
    slots: Vec<Slot>,
    forms: HashMap<ValueId, Forms>,
    /// Tensors written straight into their slice of a concat: into which, from which channel on.
    roots: HashMap<ValueId, (ValueId, usize)>,
    weights: Weights,
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

/// Lowers `graph`, whose constants are `constants`, at `batch`. Those that nothing but packed
/// weights was made of are left empty; a later lowering finds them in `known`. The error names the
/// node and what is not supported.
pub(crate) fn lower(
    graph: &Graph,
    constants: &mut Constants,
    batch: usize,
    known: &Weights,
) -> Result<Lowered, (String, String)> {
    let mut readers = HashMap::new();
    let read = graph.nodes.iter().flat_map(|n| &n.inputs);
    for id in read.chain(&graph.outputs) {
        *readers.entry(*id).or_default() += 1;
    }
    let mut l = Lowering {
        graph,
        constants,
        readers,
        known,
        batch,
        steps: vec![],
        slots: vec![],
        forms: HashMap::new(),
        roots: HashMap::new(),
        weights: Weights::new(),
    };
    for (at, &id) in graph.inputs.iter().enumerate() {
        l.forms.entry(id).or_default().plain = Some(Place::Input(at));
    }
    for (&id, constant) in &*l.constants {
        if constant_bytes(&constant.data).len() == l.info(id).bytes() {
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
    fn info(&self, id: ValueId) -> TensorInfo {
        TensorInfo::of(self.graph, id, self.batch)
    }

    fn floats(&self, id: ValueId) -> Option<&Arc<Vec<f32>>> {
        match &self.constants.get(&id)?.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    fn is_constant(&self, id: ValueId) -> bool {
        self.constants.contains_key(&id)
    }

    /// The constant `id`, packed; `source` are its elements, or none where an earlier program has
    /// them packed.
    fn packed(
        &mut self,
        id: ValueId,
        source: Arc<Vec<f32>>,
        packing: Packing,
    ) -> Result<Arc<Packed>, String> {
        let key = (id, packing);
        let found = self.weights.get(&key).or_else(|| self.known.get(&key));
        let packed = match found {
            Some(packed) => packed.clone(),
            None if source.len() == self.info(id).len() => weights::packed(&source, key.1.clone()),
            None => return Err("packing weights anew whose source was let go".to_string()),
        };
        self.weights.insert(key, packed.clone());
        if let Some(left) = self.readers.get_mut(&id) {
            *left -= 1;
            if *left == 0 {
                self.forms.remove(&id);
                if let Some(constant) = self.constants.get_mut(&id) {
                    constant.data = Data::F32(Arc::default());
                }
            }
        }
        Ok(packed)
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
            Action::Conv { operands, .. } => {
                used.extend([operands.x.slot, operands.y.slot]);
                used.extend(operands.residual.map(|r| r.slot));
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
}

/// The op's name without its settings.
fn op_name(op: &Op) -> String {
    let text = format!("{op:?}");
    let end = text.find([' ', '{', '(']).unwrap_or(text.len());
    text[..end].to_string()
}
