/*!
What a training pass remembers, and the way back over it.

A tape of our own rather than candle's: candle adds every gradient to a tensor of zeros, keeps all
intermediate results to the end, and can't be stopped half way. Here a gradient is handed on in its
buffer, a step is forgotten once it is behind us, and a stop is looked for between steps. Ops that
have no backward of ours run as *islands*, single candle ops differentiated by candle.
*/

use super::conv::Conv;
use super::linear::Linear;
use super::norm::{Affine, BatchNorm};
use super::pool::Pool;
use super::tensor::{add, mask, with};
use crate::engine::{Cancel, EngineError};
use crate::model::{Activation, ValueId};
use candle_core::{Result, Tensor, Var, bail};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Gradients by value: of the parameters, and of the inputs if asked for.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<ValueId, Vec<f32>>);

impl Gradients {
    /// The gradient of a value; none where the loss doesn't depend on it.
    pub fn get(&self, id: ValueId) -> Option<&[f32]> {
        self.0.get(&id).map(Vec::as_slice)
    }

    /// Takes the gradient of a value out.
    pub fn take(&mut self, id: ValueId) -> Option<Vec<f32>> {
        self.0.remove(&id)
    }

    /// Adds to the gradient of a value.
    pub fn add(&mut self, id: ValueId, gradient: Vec<f32>) {
        match self.0.entry(id) {
            std::collections::btree_map::Entry::Occupied(mut sum) => add(sum.get_mut(), &gradient),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(gradient);
            }
        }
    }
}

/// A step forward, with what its backward needs.
#[derive(Debug)]
pub(super) enum Step {
    /// `x, w` or `x, w, bias`; `y` where there is a clamp.
    Conv {
        conv: Conv,
        x: Tensor,
        w: Tensor,
        y: Option<Tensor>,
    },
    /// Batch norm by the batch's own statistics, of `x, scale, shift`.
    Norm {
        norm: BatchNorm,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
    },
    /// `x` times a fixed factor a channel.
    Affine { affine: Affine, y: Option<Tensor> },
    /// A sum of two equal shapes, and its clamp.
    Sum {
        activation: Activation,
        y: Option<Tensor>,
    },
    /// Clamp that no other step holds; its output says where it passed.
    Clamp { activation: Activation, y: Tensor },
    /// Maximum or mean over windows of `x`.
    Pool { pool: Pool, x: Tensor },
    /// The mean of each plane of so many elements.
    Mean { plane: usize },
    /// The same elements in another shape.
    View,
    /// Each element times what it was kept with.
    Dropout { factors: Vec<f32> },
    /// `x, w` or `x, w, bias`.
    Linear {
        linear: Linear,
        x: Tensor,
        w: Tensor,
    },
    /// Inputs joined along an axis: their extents from that axis on, multiplied.
    Concat { runs: Vec<usize> },
    /// One op that candle differentiates, between two tensors cut off its graph.
    Island { ins: Vec<Tensor>, outs: Vec<Tensor> },
}

impl Step {
    /// Gradients of the wanted inputs, from those of the outputs.
    fn backward(
        self,
        mut grads: Vec<Option<Vec<f32>>>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        if let Step::Island { ins, outs } = self {
            return island(&ins, &outs, grads, wanted);
        }
        let Some(mut grad) = grads.pop().flatten() else {
            bail!("a step has one output")
        };
        Ok(match self {
            Step::Conv { conv, x, w, y } => {
                if let Some(y) = &y {
                    with(y, |y| {
                        mask(&mut grad, y, conv.activation);
                        Ok(())
                    })?;
                }
                conv.backward(&x, &w, &grad, wanted)?
            }
            Step::Norm {
                norm,
                x,
                scale,
                shift,
            } => norm.backward(&x, &scale, &shift, grad)?,
            Step::Affine { affine, y } => vec![Some(affine.backward(grad, y.as_ref())?)],
            Step::Sum { activation, y } => {
                if let Some(y) = &y {
                    with(y, |y| {
                        mask(&mut grad, y, activation);
                        Ok(())
                    })?;
                }
                match (wanted[0], wanted[1]) {
                    (true, true) => vec![Some(grad.clone()), Some(grad)],
                    (true, false) => vec![Some(grad), None],
                    _ => vec![None, Some(grad)],
                }
            }
            Step::Clamp { activation, y } => {
                with(&y, |y| {
                    mask(&mut grad, y, activation);
                    Ok(())
                })?;
                vec![Some(grad)]
            }
            Step::Pool { pool, x } => vec![Some(pool.backward(&x, &grad)?)],
            Step::Mean { plane } => {
                let mut dx = vec![0.0; grad.len() * plane];
                let share = 1.0 / plane as f32;
                for (dx, g) in dx.chunks_exact_mut(plane).zip(&grad) {
                    dx.fill(g * share);
                }
                vec![Some(dx)]
            }
            Step::View => vec![Some(grad)],
            Step::Dropout { factors } => {
                grad.iter_mut().zip(&factors).for_each(|(g, f)| *g *= f);
                vec![Some(grad)]
            }
            Step::Linear { linear, x, w } => linear.backward(&x, &w, &grad, wanted)?,
            Step::Concat { runs } => {
                let whole: usize = runs.iter().sum();
                let mut start = 0;
                let part = |(&run, &wanted): (&usize, &bool)| {
                    let from = start;
                    start += run;
                    wanted.then(|| {
                        let rows = grad.chunks_exact(whole);
                        rows.flat_map(|row| &row[from..from + run])
                            .copied()
                            .collect()
                    })
                };
                runs.iter().zip(wanted).map(part).collect()
            }
            Step::Island { .. } => Vec::new(),
        })
    }
}

/// Lets candle differentiate one op.
fn island(
    ins: &[Tensor],
    outs: &[Tensor],
    grads: Vec<Option<Vec<f32>>>,
    wanted: &[bool],
) -> Result<Vec<Option<Vec<f32>>>> {
    let mut loss: Option<Tensor> = None;
    for (out, grad) in outs.iter().zip(grads) {
        let Some(grad) = grad else { continue };
        let grad = Tensor::from_vec(grad, out.shape(), out.device())?;
        let part = (out * grad)?.sum_all()?;
        loss = Some(match loss {
            Some(loss) => (loss + part)?,
            None => part,
        });
    }
    let Some(loss) = loss else {
        return Ok(vec![None; ins.len()]);
    };
    let found = loss.backward()?;
    let gradient = |(x, &wanted): (&Tensor, &bool)| match found.get(x).filter(|_| wanted) {
        Some(g) => g.flatten_all()?.to_vec1::<f32>().map(Some),
        None => Ok(None),
    };
    ins.iter().zip(wanted).map(gradient).collect()
}

/// Inputs of an island: those to differentiate by as variables.
pub(super) fn variables(ins: &[Tensor], wanted: &[bool]) -> Result<Vec<Tensor>> {
    let each = |(x, &wanted): (&Tensor, &bool)| match wanted {
        true => Ok(Var::from_tensor(x)?.into_inner()),
        false => Ok(x.clone()),
    };
    ins.iter().zip(wanted).map(each).collect()
}

#[derive(Debug)]
struct Record {
    step: Step,
    /// Of the node it comes from.
    name: String,
    inputs: Vec<ValueId>,
    wanted: Vec<bool>,
    outputs: Vec<ValueId>,
}

/// The steps of one pass forward.
#[derive(Debug, Default)]
pub struct Tape {
    records: Vec<Record>,
}

impl Tape {
    /// Remembers a step of the node `name`. One that replaces a value has it as input and output.
    pub(super) fn push(
        &mut self,
        name: &str,
        step: Step,
        inputs: &[ValueId],
        wanted: &[bool],
        outputs: &[ValueId],
    ) {
        self.records.push(Record {
            step,
            name: name.to_string(),
            inputs: inputs.to_vec(),
            wanted: wanted.to_vec(),
            outputs: outputs.to_vec(),
        });
    }

    /// From the gradients of some values (of the loss by them) to those of the parameters.
    ///
    /// # Errors
    /// When stopped through `cancel`, and where candle refuses a gradient.
    pub fn backward(
        self,
        seeds: Vec<(ValueId, Vec<f32>)>,
        cancel: &Cancel,
    ) -> std::result::Result<Gradients, EngineError> {
        let mut grads = Gradients::default();
        for (id, seed) in seeds {
            grads.add(id, seed);
        }
        for record in self.records.into_iter().rev() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let outs: Vec<_> = record.outputs.iter().map(|&o| grads.take(o)).collect();
            if outs.iter().all(Option::is_none) {
                continue;
            }
            let ins = record.step.backward(outs, &record.wanted);
            let ins = ins.map_err(|e| EngineError::Run {
                node: record.name,
                what: e.to_string(),
            })?;
            for ((&id, grad), wanted) in record.inputs.iter().zip(ins).zip(&record.wanted) {
                if let Some(grad) = grad.filter(|_| *wanted) {
                    grads.add(id, grad);
                }
            }
        }
        Ok(grads)
    }
}

/// The mean of each plane.
pub(super) fn means(x: &[f32], plane: usize) -> Vec<f32> {
    let share = 1.0 / plane as f32;
    let planes = x.par_chunks(plane).with_min_len(256);
    planes.map(|x| x.iter().sum::<f32>() * share).collect()
}
