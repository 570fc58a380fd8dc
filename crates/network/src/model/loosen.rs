/*!
Loosening the batch: from a graph whose file fixes the batch to one that runs at any.

Each value that depends on the input is kept for all samples at once, *packed*: what one sample has
of it, one sample behind the other along the first axis. Reshapes keep that order whatever extents
they name, convolutions and norms don't look across the first axis, and so most ops stay as they
are. An op that works on the first axis of what a sample has works on the value *apart*, `[N, …]`,
with its axes moved by one. No op ever sees two samples at once: the result for a sample is the file's.

Where the file's batch is larger than 1, the axis that counts its samples is followed from the input
through every reshape and transpose, and an op that works along that axis is refused.
*/

use super::constant::{Constant, Data};
use super::graph::{Graph, Node, Value, ValueId};
use super::infer::{Operand, infer};
use super::op::{Op, SliceRange};
use super::shape::{Dim, Shape};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where the samples of a file's batch are counted: `extent = outer · batch · inner` on `axis`.
/// Without a meaning where the batch is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    axis: usize,
    outer: usize,
}

/// A value that depends on the input.
#[derive(Debug, Clone)]
struct Varying {
    /// Extents of one sample.
    dims: Vec<usize>,
    place: Place,
    /// `[N·d0, d1, …]`; `[N]` of a scalar.
    packed: Option<ValueId>,
    /// `[N, d0, d1, …]`.
    apart: Option<ValueId>,
}

/// What a value of the old graph is in the new one.
#[derive(Debug, Clone)]
enum Form {
    /// The same for every sample.
    Shared(ValueId),
    Varying(Varying),
}

/// A node of the new graph, and how its outputs hold the samples.
struct Step {
    op: Op,
    inputs: Vec<ValueId>,
    apart: bool,
    place: Place,
}

type Found<T> = Result<T, String>;

/// The graph with a symbolic batch in the place of the first extent of its inputs.
///
/// # Errors
/// Names the node that stands in the way, and why.
pub(super) fn loosen(graph: &Graph) -> Found<Graph> {
    let batch = fixed_batch(graph).ok_or("its inputs don't start with one fixed batch")?;
    let names = graph.values.iter().map(|v| v.name.clone());
    let mut work = Loosener {
        from: graph,
        batch,
        names: names
            .chain(graph.nodes.iter().map(|n| n.name.clone()))
            .collect(),
        to: Graph {
            name: graph.name.clone(),
            other_outputs: graph.other_outputs.clone(),
            own_exits: Arc::clone(&graph.own_exits),
            class_names: graph.class_names.clone(),
            ending: graph.ending.clone(),
            ..Graph::default()
        },
        forms: HashMap::new(),
    };
    for (&id, constant) in &graph.constants {
        let shared = work.copy(id);
        work.to.constants.insert(shared, constant.clone());
    }
    for &input in &graph.inputs {
        let place = Place { axis: 0, outer: 1 };
        let dims = work.sample(input, place)?;
        let id = work.value(&graph.value(input).name, input, packed(&dims));
        work.to.inputs.push(id);
        let form = Varying {
            dims,
            place,
            packed: Some(id),
            apart: None,
        };
        work.forms.insert(input, Form::Varying(form));
    }
    for node in &graph.nodes {
        work.node(node)
            .map_err(|why| format!("node `{}`: {why}", node.name))?;
    }
    for &output in &graph.outputs {
        let id = work.output(output)?;
        work.to.outputs.push(id);
    }
    let whole = &work.to;
    whole
        .subgraph(&whole.inputs, &whole.outputs)
        .map_err(|e| e.to_string())
}

/// The first extent that all inputs share, where none of them depends on the batch yet.
pub(super) fn fixed_batch(graph: &Graph) -> Option<usize> {
    let first = |&v: &ValueId| {
        let shape = &graph.value(v).shape;
        let fixed = shape.0.iter().all(|d| d.fixed().is_some());
        let dim = shape.0.first().filter(|_| fixed && shape.rank() > 1)?;
        dim.fixed().filter(|&n| n > 0)
    };
    let batch = graph.inputs.first().and_then(first)?;
    let all = graph.inputs.iter().all(|v| first(v) == Some(batch));
    all.then_some(batch)
}

fn packed(dims: &[usize]) -> Vec<Dim> {
    match dims {
        [] => vec![Dim::Batch(1)],
        [first, rest @ ..] => {
            let rest = rest.iter().map(|&n| Dim::Fixed(n));
            std::iter::once(Dim::Batch(*first)).chain(rest).collect()
        }
    }
}

/// `[N, d0, d1, …]`, with axes of 1 behind the batch up to `rank` extents a sample.
fn apart(dims: &[usize], rank: usize) -> Vec<Dim> {
    let missing = vec![Dim::Fixed(1); rank.saturating_sub(dims.len())];
    let own = dims.iter().map(|&n| Dim::Fixed(n));
    std::iter::once(Dim::Batch(1))
        .chain(missing)
        .chain(own)
        .collect()
}

struct Loosener<'a> {
    from: &'a Graph,
    batch: usize,
    to: Graph,
    forms: HashMap<ValueId, Form>,
    names: HashSet<String>,
}

impl Loosener<'_> {
    /// Extents of a value of the file.
    fn dims(&self, v: ValueId) -> Vec<usize> {
        self.from.value(v).shape.at(1)
    }

    /// Extents that one sample has of a value.
    fn sample(&self, v: ValueId, place: Place) -> Found<Vec<usize>> {
        let mut dims = self.dims(v);
        if let Some(extent) = dims.get_mut(place.axis) {
            if *extent % (self.batch * place.outer) != 0 {
                return Err(format!("axis {} doesn't hold the samples", place.axis));
            }
            *extent /= self.batch;
        }
        Ok(dims)
    }

    fn value(&mut self, name: &str, like: ValueId, dims: Vec<Dim>) -> ValueId {
        let id = ValueId(self.to.values.len() as u32);
        self.to.values.push(Value {
            name: name.to_string(),
            dtype: self.from.value(like).dtype,
            shape: Shape(dims),
        });
        id
    }

    /// A value as the file has it.
    fn copy(&mut self, v: ValueId) -> ValueId {
        let value = self.from.value(v).clone();
        let id = self.value(&value.name, v, value.shape.0);
        self.forms.insert(v, Form::Shared(id));
        id
    }

    fn fresh(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut n = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        name
    }

    fn varying(&self, v: ValueId) -> Option<&Varying> {
        match self.forms.get(&v) {
            Some(Form::Varying(form)) => Some(form),
            _ => None,
        }
    }

    /// The value as it is for every sample.
    fn shared(&self, v: ValueId) -> Found<ValueId> {
        match self.forms.get(&v) {
            Some(Form::Shared(id)) => Ok(*id),
            _ => Err(format!(
                "`{}` depends on the input",
                self.from.value(v).name
            )),
        }
    }

    fn need(&self, v: ValueId) -> Found<Varying> {
        let form = self.varying(v).cloned();
        form.ok_or_else(|| format!("`{}` is the same for every sample", self.from.value(v).name))
    }

    /// Appends a node beside those of the file. A reshape of a reshape is one reshape.
    fn reshaped(&mut self, v: ValueId, from: ValueId, to: Vec<Dim>) -> ValueId {
        let mut source = from;
        let made = self
            .to
            .nodes
            .iter()
            .rev()
            .find(|n| n.outputs.contains(&from));
        if let Some(Node {
            op: Op::Reshape { .. },
            inputs,
            ..
        }) = made
        {
            source = inputs[0];
        }
        if self.to.value(source).shape.0 == to {
            return source;
        }
        let wanted = format!("{}/reshape", self.from.value(v).name);
        let name = self.fresh(wanted);
        let output = self.value(&name, v, to.clone());
        self.to.nodes.push(Node {
            name,
            op: Op::Reshape { to },
            inputs: vec![source],
            outputs: vec![output],
            params: 0,
        });
        output
    }

    /// A value that depends on the input, packed.
    fn packed(&mut self, v: ValueId) -> Found<ValueId> {
        let form = self.need(v)?;
        if let Some(id) = form.packed {
            return Ok(id);
        }
        let from = form.apart.ok_or("a value without a form")?;
        let id = self.reshaped(v, from, packed(&form.dims));
        if let Some(Form::Varying(form)) = self.forms.get_mut(&v) {
            form.packed = Some(id);
        }
        Ok(id)
    }

    /// A value that depends on the input, apart, with `rank` axes a sample.
    fn apart(&mut self, v: ValueId, rank: usize) -> Found<ValueId> {
        let form = self.need(v)?;
        if rank <= form.dims.len()
            && let Some(id) = form.apart
        {
            return Ok(id);
        }
        let from = form.packed.or(form.apart).ok_or("a value without a form")?;
        let id = self.reshaped(v, from, apart(&form.dims, rank));
        if rank <= form.dims.len()
            && let Some(Form::Varying(form)) = self.forms.get_mut(&v)
        {
            form.apart = Some(id);
        }
        Ok(id)
    }

    /// Refuses to work along the axis that counts the samples.
    fn spare(&self, form: &Varying, axis: usize) -> Found<()> {
        match self.batch > 1 && form.place.axis == axis {
            true => Err("works along the axis that counts the samples".to_string()),
            false => Ok(()),
        }
    }

    fn node(&mut self, node: &Node) -> Found<()> {
        if node.inputs.iter().all(|&v| self.varying(v).is_none()) {
            let inputs = node.inputs.iter().map(|&v| self.shared(v));
            let inputs = inputs.collect::<Found<Vec<_>>>()?;
            let outputs = node.outputs.iter().map(|&v| self.copy(v)).collect();
            self.to.nodes.push(Node {
                inputs,
                outputs,
                ..node.clone()
            });
            return Ok(());
        }
        let step = self.step(node)?;
        let operands: Vec<Operand> = step
            .inputs
            .iter()
            .map(|&v| (&self.to.value(v).shape, self.to.value(v).dtype))
            .collect();
        let inferred = infer(&step.op, &operands).map_err(|e| e.to_string())?;
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for (&v, (shape, _)) in node.outputs.iter().zip(inferred) {
            let dims = self.sample(v, step.place)?;
            let wanted = match step.apart {
                true => apart(&dims, 0),
                false => packed(&dims),
            };
            if shape.0 != wanted {
                return Err(format!("gives {shape}, not {}", Shape(wanted)));
            }
            let name = self.from.value(v).name.clone();
            let id = self.value(&name, v, shape.0);
            let (packed, apart) = match step.apart {
                true => (None, Some(id)),
                false => (Some(id), None),
            };
            let form = Varying {
                dims,
                place: step.place,
                packed,
                apart,
            };
            self.forms.insert(v, Form::Varying(form));
            outputs.push(id);
        }
        self.to.nodes.push(Node {
            name: node.name.clone(),
            op: step.op,
            inputs: step.inputs,
            outputs,
            params: node.params,
        });
        Ok(())
    }

    /// An output: the batch first, and behind it what one sample has.
    fn output(&mut self, v: ValueId) -> Found<ValueId> {
        let name = &self.from.value(v).name;
        let Some(form) = self.varying(v) else {
            return self.shared(v);
        };
        if self.batch > 1 && form.place != (Place { axis: 0, outer: 1 }) {
            return Err(format!(
                "the output `{name}` doesn't start with the samples"
            ));
        }
        let id = match form.dims.first() {
            Some(1) | None => self.packed(v)?,
            // One answer, without an axis for the batch.
            Some(_) if self.batch == 1 && form.dims.len() == 1 => self.apart(v, 0)?,
            Some(_) => {
                return Err(format!(
                    "the output `{name}` doesn't start with the samples"
                ));
            }
        };
        // A reshape at the end answers by the file's name.
        let name = name.clone();
        if self.to.value(id).name != name {
            for value in self.to.values.iter_mut().filter(|v| v.name == name) {
                value.name = format!("{name}/file");
            }
            self.to.values[id.0 as usize].name = name;
        }
        Ok(id)
    }

    /// What a node becomes that reads at least one value that depends on the input.
    fn step(&mut self, node: &Node) -> Found<Step> {
        match &node.op {
            Op::Unary(_) | Op::Cast { .. } | Op::Identity => self.same(node),
            Op::Binary(..) | Op::Where => self.broadcast(node),
            Op::Conv { .. }
            | Op::Pool { .. }
            | Op::GlobalPool { .. }
            | Op::BatchNorm { .. }
            | Op::InstanceNorm { .. }
            | Op::Lrn { .. }
            | Op::Resize { .. } => self.windowed(node),
            Op::Gemm { .. } => self.gemm(node),
            Op::MatMul => self.matmul(node),
            Op::Softmax { axis, flatten, log } => self.softmax(node, *axis, *flatten, *log),
            Op::LayerNorm { axis, epsilon } => {
                let (axis, epsilon) = (*axis, *epsilon);
                let axes = (axis..self.dims(node.inputs[0]).len()).collect();
                self.along(node, axes, &|by| Op::LayerNorm {
                    axis: axis + by,
                    epsilon,
                })
            }
            Op::Quantize { axis, to } => {
                let (axis, to) = (*axis, *to);
                let axes = self.scaled_axes(node, axis);
                self.along(node, axes, &|by| Op::Quantize {
                    axis: axis + by,
                    to,
                })
            }
            Op::Dequantize { axis } => {
                let axis = *axis;
                let axes = self.scaled_axes(node, axis);
                self.along(node, axes, &|by| Op::Dequantize { axis: axis + by })
            }
            Op::Split { axis, sizes } => {
                let axis = *axis;
                self.along(node, vec![axis], &|by| Op::Split {
                    axis: axis + by,
                    sizes: sizes.clone(),
                })
            }
            Op::Slice { ranges } => self.slice(node, ranges),
            Op::Pad { mode, pads, value } => {
                let axes = touched(pads, |&p| p != (0, 0));
                self.along(node, axes, &|by| Op::Pad {
                    mode: *mode,
                    pads: shifted(pads, (0, 0), by),
                    value: *value,
                })
            }
            Op::Tile { repeats } => {
                let axes = touched(repeats, |&r| r != 1);
                self.along(node, axes, &|by| Op::Tile {
                    repeats: shifted(repeats, 1, by),
                })
            }
            Op::Reduce { .. } | Op::ArgMax { .. } => self.reduce(node),
            Op::Reshape { to } => self.reshape(node, to),
            Op::Transpose { perm } => self.transpose(node, perm),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Gather { axis } => self.gather(node, *axis),
            Op::Expand { to } => self.expand(node, to),
        }
    }

    /// An op over the positions of each sample, whose own axes it needs as the file has them.
    fn windowed(&mut self, node: &Node) -> Found<Step> {
        if node.outputs.len() > 1 {
            return Err("counts its indices over the whole batch".to_string());
        }
        let form = self.need(node.inputs[0])?;
        (1..self.dims(node.inputs[0]).len()).try_for_each(|a| self.spare(&form, a))?;
        self.same(node)
    }

    fn softmax(&mut self, node: &Node, axis: usize, flatten: bool, log: bool) -> Found<Step> {
        let rank = self.dims(node.inputs[0]).len();
        let end = if flatten { rank } else { axis + 1 };
        self.along(node, (axis..end).collect(), &|by| Op::Softmax {
            axis: axis + by,
            flatten,
            log,
        })
    }

    fn slice(&mut self, node: &Node, ranges: &[Option<SliceRange>]) -> Found<Step> {
        let extents = self.dims(node.inputs[0]);
        let whole = |(r, &n): (&Option<SliceRange>, &usize)| {
            let r = r.as_ref();
            let r = r.filter(|r| (r.start, r.step, r.count) != (0, 1, n));
            r.copied()
        };
        let ranges: Vec<_> = ranges.iter().zip(&extents).map(whole).collect();
        let axes = touched(&ranges, |r| r.is_some());
        self.along(node, axes, &|by| Op::Slice {
            ranges: shifted(&ranges, None, by),
        })
    }

    /// The same op on packed values. All but the first input are the same for every sample.
    fn same(&mut self, node: &Node) -> Found<Step> {
        let place = self.need(node.inputs[0])?.place;
        let mut inputs = vec![self.packed(node.inputs[0])?];
        for &v in &node.inputs[1..] {
            inputs.push(self.shared(v)?);
        }
        Ok(Step {
            op: node.op.clone(),
            inputs,
            apart: false,
            place,
        })
    }

    /// An op that works along `axes` of its first input; `moved` gives it by how many axes the
    /// sample's come later.
    fn along(&mut self, node: &Node, axes: Vec<usize>, moved: &dyn Fn(usize) -> Op) -> Found<Step> {
        let form = self.need(node.inputs[0])?;
        axes.iter().try_for_each(|&a| self.spare(&form, a))?;
        let first = axes.contains(&0);
        let mut step = self.same(node)?;
        if first {
            step.inputs[0] = self.apart(node.inputs[0], 0)?;
            step.apart = true;
        }
        step.op = moved(usize::from(first));
        Ok(step)
    }

    /// The axis that scales are given for, if there are several.
    fn scaled_axes(&self, node: &Node, axis: usize) -> Vec<usize> {
        match self.from.value(node.inputs[1]).shape.elements(1) {
            1 => Vec::new(),
            _ => vec![axis],
        }
    }

    /// Where the samples are counted in a result of `rank` axes of broadcast operands.
    fn common_place(&self, inputs: &[ValueId], rank: usize) -> Found<Place> {
        let mut found: Option<Place> = None;
        for form in inputs.iter().filter_map(|&v| self.varying(v)) {
            let place = Place {
                axis: form.place.axis + rank - form.dims.len().min(rank),
                ..form.place
            };
            if self.batch > 1 && found.is_some_and(|f| f != place) {
                return Err("meets samples counted along different axes".to_string());
            }
            found = found.or(Some(place));
        }
        found.ok_or_else(|| "reads nothing that depends on the input".to_string())
    }

    fn broadcast(&mut self, node: &Node) -> Found<Step> {
        let rank = self.dims(node.outputs[0]).len();
        let place = self.common_place(&node.inputs, rank)?;
        let own = |form: &Varying| form.dims.len() == rank;
        let forms: Vec<&Varying> = node
            .inputs
            .iter()
            .filter_map(|&v| self.varying(v))
            .collect();
        let first = forms.first().and_then(|f| f.dims.first().copied());
        let alike = forms
            .iter()
            .all(|f| own(f) && f.dims.first().copied() == first);
        let mut shared = Vec::with_capacity(node.inputs.len());
        for &v in &node.inputs {
            shared.push(match self.varying(v) {
                Some(_) => None,
                None => Some(self.narrowed(v, place, rank)?),
            });
        }
        let low = shared.iter().flatten().all(|&id| {
            let shape = &self.to.value(id).shape;
            shape.rank() < rank || shape.0.first().is_none_or(|&d| d == Dim::Fixed(1))
        });
        let direct = alike && low;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (&v, shared) in node.inputs.iter().zip(&shared) {
            inputs.push(match shared {
                Some(id) => *id,
                None if direct => self.packed(v)?,
                None => self.apart(v, rank)?,
            });
        }
        Ok(Step {
            op: node.op.clone(),
            inputs,
            apart: !direct,
            place,
        })
    }

    /// A shared operand as it is for one sample: where it has as many entries along the axis of the
    /// samples, all of them must be the same.
    fn narrowed(&mut self, v: ValueId, place: Place, rank: usize) -> Found<ValueId> {
        let id = self.shared(v)?;
        let dims = self.dims(v);
        let axis = (place.axis + dims.len()).checked_sub(rank);
        let Some(axis) = axis.filter(|&a| self.batch > 1 && dims[a] != 1) else {
            return Ok(id);
        };
        let refuse = || {
            let name = &self.from.value(v).name;
            format!("`{name}` differs from sample to sample")
        };
        if dims[axis] != self.batch {
            return Err(refuse());
        }
        let mut one = dims.clone();
        one[axis] = 1;
        let to = one.iter().map(|&n| Dim::Fixed(n)).collect();
        let name = format!("{}/one", self.from.value(v).name);
        if let Some(constant) = self.from.constants.get(&v) {
            let constant = first_of_equal(constant, axis).ok_or_else(refuse)?;
            let name = self.fresh(name);
            let one = self.value(&name, v, to);
            self.to.constants.insert(one, constant);
            return Ok(one);
        }
        let made = self.to.nodes.iter().rev().find(|n| n.outputs.contains(&id));
        let source = match made {
            Some(Node {
                op: Op::Expand { .. },
                inputs,
                ..
            }) => inputs[0],
            _ => return Err(refuse()),
        };
        let from = &self.to.value(source).shape;
        let aligned = (axis + from.rank()).checked_sub(dims.len());
        if aligned.is_some_and(|a| from.0[a] != Dim::Fixed(1)) {
            return Err(refuse());
        }
        let name = self.fresh(name);
        let output = self.value(&name, v, Vec::clone(&to));
        self.to.nodes.push(Node {
            name,
            op: Op::Expand { to },
            inputs: vec![source],
            outputs: vec![output],
            params: 0,
        });
        Ok(output)
    }

    fn gemm(&mut self, node: &Node) -> Found<Step> {
        let Op::Gemm { trans_a, .. } = node.op else {
            return Err("is no product".to_string());
        };
        let form = self.need(node.inputs[0])?;
        self.spare(&form, 1)?;
        if trans_a {
            return Err("multiplies the input's columns".to_string());
        }
        if let Some(&c) = node.inputs.get(2) {
            let dims = self.dims(c);
            if dims.len() == 2 && dims[0] != 1 {
                return Err("adds something else to each row".to_string());
            }
        }
        self.same(node)
    }

    fn matmul(&mut self, node: &Node) -> Found<Step> {
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let (ra, rb) = (self.dims(a).len(), self.dims(b).len());
        let rank = ra.max(rb);
        let (va, vb) = (self.varying(a).cloned(), self.varying(b).cloned());
        if let Some(form) = &va {
            self.spare(form, ra - 1)?;
        }
        if let Some(form) = &vb {
            self.spare(form, rb.saturating_sub(2))?;
        }
        if (vb.is_some() && rb < 2) || (va.is_some() && ra < 2 && rb != 2) {
            return Err("multiplies a vector".to_string());
        }
        let place = self.common_place(&node.inputs, rank.max(2))?;
        let op = node.op.clone();
        let step = |inputs, apart| Step {
            op: op.clone(),
            inputs,
            apart,
            place,
        };
        match (va, vb) {
            // Rows times one matrix.
            (Some(_), None) if ra >= 2 && rb <= 2 => {
                let inputs = vec![self.packed(a)?, self.shared(b)?];
                Ok(Step {
                    place: self.need(a)?.place,
                    ..step(inputs, false)
                })
            }
            (Some(_), None) => Ok(step(vec![self.apart(a, rank)?, self.shared(b)?], true)),
            (None, Some(_)) if ra == 2 && rb >= 3 => {
                Ok(step(vec![self.shared(a)?, self.packed(b)?], false))
            }
            (None, Some(_)) => Ok(step(vec![self.shared(a)?, self.apart(b, rank)?], true)),
            (Some(x), Some(y)) if ra == rb && ra >= 3 && x.dims[0] == y.dims[0] => {
                Ok(step(vec![self.packed(a)?, self.packed(b)?], false))
            }
            _ => Ok(step(vec![self.apart(a, rank)?, self.apart(b, rank)?], true)),
        }
    }

    fn reduce(&mut self, node: &Node) -> Found<Step> {
        let (axes, keep) = match &node.op {
            Op::Reduce { axes, keep, .. } => (axes.clone(), *keep),
            Op::ArgMax { axis, keep, .. } => (vec![*axis], *keep),
            _ => return Err("is no reduction".to_string()),
        };
        let moved = |by: usize| match &node.op {
            Op::Reduce { kind, axes, keep } => Op::Reduce {
                kind: *kind,
                axes: axes.iter().map(|a| a + by).collect(),
                keep: *keep,
            },
            Op::ArgMax {
                axis,
                keep,
                last,
                min,
            } => Op::ArgMax {
                axis: axis + by,
                keep: *keep,
                last: *last,
                min: *min,
            },
            other => other.clone(),
        };
        let mut step = self.along(node, axes.clone(), &moved)?;
        if !keep {
            let gone = axes.iter().filter(|&&a| a < step.place.axis).count();
            step.place.axis -= gone;
        }
        Ok(step)
    }

    fn reshape(&mut self, node: &Node, to: &[Dim]) -> Found<Step> {
        let v = node.inputs[0];
        let form = self.need(v)?;
        let target: Vec<usize> = to.iter().map(|d| d.at(1)).collect();
        let place = match self.batch {
            1 => form.place,
            batch => {
                let before: usize = self.dims(v)[..form.place.axis].iter().product();
                moved_place(before * form.place.outer, batch, &target)
                    .ok_or("splits the axis that counts the samples")?
            }
        };
        let mut dims = target;
        if let Some(extent) = dims.get_mut(place.axis) {
            *extent /= self.batch;
        }
        // Either form of the value has the elements in the order the packed result wants.
        let from = form.packed.or(form.apart).ok_or("a value without a form")?;
        Ok(Step {
            op: Op::Reshape { to: packed(&dims) },
            inputs: vec![from],
            apart: false,
            place,
        })
    }

    fn transpose(&mut self, node: &Node, perm: &[usize]) -> Found<Step> {
        let v = node.inputs[0];
        let form = self.need(v)?;
        let axis = perm.iter().position(|&p| p == form.place.axis);
        let place = Place {
            axis: axis.unwrap_or(0),
            ..form.place
        };
        let solid: Vec<usize> = perm
            .iter()
            .copied()
            .filter(|&p| form.dims[p] != 1)
            .collect();
        if perm.first() != Some(&0) && solid.is_sorted() {
            // Only axes of 1 move, so the elements stay where they are.
            let dims: Vec<usize> = perm.iter().map(|&p| form.dims[p]).collect();
            let from = form.packed.or(form.apart).ok_or("a value without a form")?;
            return Ok(Step {
                op: Op::Reshape { to: packed(&dims) },
                inputs: vec![from],
                apart: false,
                place,
            });
        }
        if perm.first() == Some(&0) {
            let step = self.same(node)?;
            return Ok(Step { place, ..step });
        }
        let moved = std::iter::once(0).chain(perm.iter().map(|p| p + 1));
        Ok(Step {
            op: Op::Transpose {
                perm: moved.collect(),
            },
            inputs: vec![self.apart(v, 0)?],
            apart: true,
            place,
        })
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Found<Step> {
        let rank = self.dims(node.outputs[0]).len();
        let place = self.common_place(&node.inputs, rank)?;
        if self.batch > 1 && place.axis == axis {
            return Err("joins along the axis that counts the samples".to_string());
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &v in &node.inputs {
            if self.varying(v).is_some() {
                inputs.push(match axis {
                    0 => self.apart(v, 0)?,
                    _ => self.packed(v)?,
                });
                continue;
            }
            let one = self.narrowed(v, place, rank)?;
            inputs.push(self.repeated(v, one, axis == 0));
        }
        Ok(Step {
            op: Op::Concat {
                axis: if axis == 0 { 1 } else { axis },
            },
            inputs,
            apart: axis == 0,
            place,
        })
    }

    /// What all samples share, repeated for each: apart or packed.
    fn repeated(&mut self, v: ValueId, one: ValueId, is_apart: bool) -> ValueId {
        let dims = self.to.value(one).shape.at(1);
        // `[1, …]` broadcast to `[N, …]` is packed already.
        let at_once = !is_apart && dims.first() == Some(&1);
        let (source, to) = match at_once {
            true => (one, packed(&dims)),
            false => {
                let lead = std::iter::once(1).chain(dims.iter().copied());
                let lead = lead.map(Dim::Fixed).collect();
                (self.reshaped(v, one, lead), apart(&dims, 0))
            }
        };
        let name = self.fresh(format!("{}/each", self.from.value(v).name));
        let output = self.value(&name, v, to.clone());
        self.to.nodes.push(Node {
            name,
            op: Op::Expand { to },
            inputs: vec![source],
            outputs: vec![output],
            params: 0,
        });
        match is_apart || at_once {
            true => output,
            false => self.reshaped(v, output, packed(&dims)),
        }
    }

    fn gather(&mut self, node: &Node, axis: usize) -> Found<Step> {
        let (x, indices) = (node.inputs[0], node.inputs[1]);
        match (self.varying(x).cloned(), self.varying(indices).cloned()) {
            (Some(form), None) => {
                self.spare(&form, axis)?;
                let by = self.dims(indices).len();
                let mut step =
                    self.along(node, vec![axis], &|moved| Op::Gather { axis: axis + moved })?;
                if step.place.axis > axis {
                    step.place.axis = step.place.axis + by - 1;
                }
                Ok(step)
            }
            (None, Some(form)) if axis == 0 => Ok(Step {
                op: node.op.clone(),
                inputs: vec![self.shared(x)?, self.packed(indices)?],
                apart: false,
                place: form.place,
            }),
            _ => Err("picks by indices that depend on the input".to_string()),
        }
    }

    fn expand(&mut self, node: &Node, to: &[Dim]) -> Found<Step> {
        let v = node.inputs[0];
        let form = self.need(v)?;
        let place = self.common_place(&node.inputs, to.len())?;
        let mut dims: Vec<usize> = to.iter().map(|d| d.at(1)).collect();
        if let Some(extent) = dims.get_mut(place.axis) {
            *extent /= self.batch;
        }
        let direct = form.dims.len() == dims.len() && form.dims.first() == dims.first();
        let (to, input) = match direct {
            true => (packed(&dims), self.packed(v)?),
            false => (apart(&dims, 0), self.apart(v, dims.len())?),
        };
        Ok(Step {
            op: Op::Expand { to },
            inputs: vec![input],
            apart: !direct,
            place,
        })
    }
}

/// The axes for which something is set.
fn touched<T>(list: &[T], set: impl Fn(&T) -> bool) -> Vec<usize> {
    (0..list.len()).filter(|&i| set(&list[i])).collect()
}

/// A list of one entry an axis, with `by` entries for axes in front.
fn shifted<T: Clone>(list: &[T], neutral: T, by: usize) -> Vec<T> {
    let front = std::iter::repeat_n(neutral, by);
    front.chain(list.iter().cloned()).collect()
}

/// Where a batch with `before` elements in front of it stands among other extents.
fn moved_place(before: usize, batch: usize, dims: &[usize]) -> Option<Place> {
    let mut passed = 1usize;
    for (axis, &extent) in dims.iter().enumerate() {
        if passed == 0 || !before.is_multiple_of(passed) {
            return None;
        }
        let outer = before / passed;
        if extent > 0 && extent % (outer * batch) == 0 {
            return Some(Place { axis, outer });
        }
        passed = passed.checked_mul(extent)?;
    }
    None
}

/// The first entry along `axis`, if all entries are the same.
fn first_of_equal(constant: &Constant, axis: usize) -> Option<Constant> {
    let inner: usize = constant.shape[axis + 1..].iter().product();
    let block = inner * constant.shape[axis];
    fn kept<T: PartialEq + Copy>(data: &[T], block: usize, inner: usize) -> Option<Vec<T>> {
        let mut out = Vec::with_capacity(data.len());
        for block in data.chunks(block.max(1)) {
            let first = block.get(..inner)?;
            if block.chunks(inner.max(1)).any(|c| c != first) {
                return None;
            }
            out.extend_from_slice(first);
        }
        Some(out)
    }
    let data = match &constant.data {
        Data::F32(v) => Data::F32(kept(v, block, inner)?.into()),
        Data::I64(v) => Data::I64(kept(v, block, inner)?.into()),
        Data::I32(v) => Data::I32(kept(v, block, inner)?.into()),
        Data::U8(v) => Data::U8(kept(v, block, inner)?.into()),
        Data::I8(v) => Data::I8(kept(v, block, inner)?.into()),
        Data::Bool(v) => Data::Bool(kept(v, block, inner)?.into()),
    };
    let mut shape = constant.shape.clone();
    shape[axis] = 1;
    Some(Constant { shape, data })
}

#[cfg(test)]
mod tests;
