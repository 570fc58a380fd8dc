/*!
Integers known before running. Shape arithmetic of an export (`Shape → Gather → Concat → Reshape`)
is carried out here at import, with the batch as a symbol, so that none of it is left in the graph.
*/

use super::{ImportError, Importer, attributes::attribute};
use crate::model::constant::{Constant, DType, Data};
use crate::model::graph::ValueId;
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

/// Tensors longer than this are data, not shapes.
const MAX_INTS: usize = 4096;

/// `batch · N + fixed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int {
    pub batch: i64,
    pub fixed: i64,
}

impl std::fmt::Display for Int {
    /// `2N + 1`, the batch being N.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.batch, self.fixed) {
            (0, n) => write!(f, "{n}"),
            (1, 0) => write!(f, "N"),
            (k, 0) => write!(f, "{k}N"),
            (k, n) if n < 0 => write!(f, "{k}N - {}", n.unsigned_abs()),
            (k, n) => write!(f, "{k}N + {n}"),
        }
    }
}

impl Int {
    pub(super) fn new(fixed: i64) -> Self {
        Int { batch: 0, fixed }
    }

    fn of(dim: Dim) -> Self {
        match dim {
            Dim::Fixed(n) => Int::new(n as i64),
            Dim::Batch(k) => Int {
                batch: k as i64,
                fixed: 0,
            },
        }
    }

    /// The number, if it doesn't depend on the batch.
    pub(super) fn known(self) -> Option<i64> {
        (self.batch == 0).then_some(self.fixed)
    }

    /// As an extent, if it is one.
    pub(super) fn dim(self) -> Option<Dim> {
        match (self.batch, self.fixed) {
            (0, n) => usize::try_from(n).ok().map(Dim::Fixed),
            (k, 0) => usize::try_from(k).ok().map(Dim::Batch),
            _ => None,
        }
    }

    fn times(self, other: Int) -> Option<Int> {
        let (by, other) = match (self.known(), other.known()) {
            (Some(by), _) => (by, other),
            (None, Some(by)) => (by, self),
            (None, None) => return None,
        };
        Some(Int {
            batch: other.batch.checked_mul(by)?,
            fixed: other.fixed.checked_mul(by)?,
        })
    }

    fn over(self, other: Int) -> Option<Int> {
        let by = other.known().filter(|&b| b != 0)?;
        match self.batch {
            0 => Some(Int::new(self.fixed.checked_div(by)?)),
            k if k % by == 0 && self.fixed % by == 0 => Some(Int {
                batch: k / by,
                fixed: self.fixed / by,
            }),
            _ => None,
        }
    }
}

/// A scalar (no extents) or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ints {
    pub shape: Vec<usize>,
    pub values: Vec<Int>,
}

impl Ints {
    fn list(values: Vec<Int>) -> Self {
        Ints {
            shape: vec![values.len()],
            values,
        }
    }
}

impl Importer<'_> {
    /// The integers behind a value, if they are known.
    pub(super) fn ints(&self, id: ValueId) -> Option<Ints> {
        if let Some(ints) = self.ints.get(&id) {
            return Some(ints.clone());
        }
        let constant = self.graph.constants.get(&id)?;
        if constant.len() > MAX_INTS {
            return None;
        }
        let values: Vec<i64> = match &constant.data {
            Data::I64(v) => v.to_vec(),
            Data::I32(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Data::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
            _ => return None,
        };
        let values = values.into_iter().map(Int::new).collect();
        Some(Ints {
            shape: constant.shape.clone(),
            values,
        })
    }

    /// The integers of a node's input that must not depend on the batch. `None` if it is absent.
    pub(super) fn known_ints(
        &self,
        node: &proto::NodeProto,
        at: usize,
    ) -> Result<Option<Vec<i64>>, ImportError> {
        let Some(name) = node.input.get(at).filter(|n| !n.is_empty()) else {
            return Ok(None);
        };
        let ints = self.ints(self.env[name]);
        let known = ints.and_then(|i| i.values.into_iter().map(Int::known).collect());
        known
            .map(Some)
            .ok_or_else(|| self.unknown_input(node, name, "integers"))
    }

    /// Carries out a node whose result is integers known now. `false` if it isn't such a node.
    pub(super) fn fold_ints(&mut self, node: &proto::NodeProto) -> Result<bool, ImportError> {
        let Some(result) = self.folded(node)? else {
            return Ok(false);
        };
        let Some(output) = node.output.first() else {
            return Ok(false);
        };
        let boolean = matches!(node.op_type.as_str(), "Equal" | "Not" | "Greater" | "Less");
        let known: Option<Vec<i64>> = result.values.iter().map(|i| i.known()).collect();
        let id = match known {
            Some(v) if boolean => {
                let data = Data::Bool(std::sync::Arc::new(v.iter().map(|&x| x as u8).collect()));
                self.constant(
                    output,
                    Constant {
                        shape: result.shape.clone(),
                        data,
                    },
                )
            }
            Some(v) => self.constant(output, Constant::i64(&result.shape, v)),
            None => {
                let dims = crate::model::Shape::fixed(&result.shape);
                self.value(output, DType::I64, dims)
            }
        };
        self.ints.insert(id, result);
        self.env.insert(output.clone(), id);
        Ok(true)
    }

    /// Extents of a value (`Shape`), or their product (`Size`).
    fn measured(&self, node: &proto::NodeProto, dims: &[Int]) -> Option<Ints> {
        if node.op_type == "Size" {
            let all = dims.iter().try_fold(Int::new(1), |n, &d| n.times(d))?;
            return Some(Ints {
                shape: vec![],
                values: vec![all],
            });
        }
        let rank = dims.len() as i64;
        let clamp = |i: i64| {
            let from_front = if i < 0 { i.saturating_add(rank) } else { i };
            from_front.clamp(0, rank) as usize
        };
        let start = clamp(self.int(node, "start", 0));
        let end = clamp(self.int(node, "end", i64::MAX));
        Some(Ints::list(dims.get(start..end).unwrap_or(&[]).to_vec()))
    }

    fn folded(&self, node: &proto::NodeProto) -> Result<Option<Ints>, ImportError> {
        let op = node.op_type.as_str();
        if op == "Shape" || op == "Size" {
            let x = self.input_id(node, 0)?;
            let dims: Vec<Int> = self.shape(x).0.iter().map(|&d| Int::of(d)).collect();
            return Ok(self.measured(node, &dims));
        }
        let inputs: Option<Vec<Ints>> = node
            .input
            .iter()
            .filter(|n| !n.is_empty())
            .map(|n| self.ints(self.env[n]))
            .collect();
        let Some(inputs) = inputs.filter(|i| !i.is_empty()) else {
            return Ok(None);
        };
        let x = &inputs[0];
        let reshaped = |shape: Vec<usize>| Ints {
            shape,
            values: x.values.clone(),
        };
        Ok(match op {
            "Identity" => Some(x.clone()),
            "Cast" => {
                let to = super::tensor::dtype(self.int(node, "to", 0) as i32);
                matches!(to, Some(DType::I64 | DType::I32)).then(|| x.clone())
            }
            "Squeeze" => Some(reshaped(
                x.shape.iter().copied().filter(|&d| d != 1).collect(),
            )),
            "Unsqueeze" if x.shape.is_empty() => Some(reshaped(vec![1])),
            "Reshape" if inputs.len() == 2 => match inputs[1].values.len() {
                0 if x.values.len() == 1 => Some(reshaped(vec![])),
                1 => Some(reshaped(vec![x.values.len()])),
                _ => None,
            },
            "Concat" if inputs.iter().all(|i| i.shape.len() == 1) => Some(Ints::list(
                inputs
                    .iter()
                    .flat_map(|i| i.values.iter().copied())
                    .collect(),
            )),
            "Gather" if inputs.len() == 2 && x.shape.len() == 1 => self.gathered(node, &inputs)?,
            "Slice" => self.sliced(node, x)?,
            // The sign is the dividend's then.
            "Mod" if self.int(node, "fmod", 0) != 0 => None,
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Equal" | "Greater" | "Less"
                if inputs.len() == 2 =>
            {
                pairwise(op, x, &inputs[1])
            }
            "Where" if inputs.len() == 3 => choose(&inputs),
            "ReduceProd" | "ReduceSum" if x.shape.len() == 1 => {
                let (start, sum) = if op == "ReduceSum" {
                    (0, true)
                } else {
                    (1, false)
                };
                let all = x
                    .values
                    .iter()
                    .try_fold(Int::new(start), |a, &b| match sum {
                        true => plus(a, b, 1),
                        false => a.times(b),
                    });
                let shape = if self.int(node, "keepdims", 1) == 1 {
                    vec![1]
                } else {
                    vec![]
                };
                all.map(|n| Ints {
                    shape,
                    values: vec![n],
                })
            }
            "Range" if inputs.len() == 3 => range(&inputs),
            "ConstantOfShape" => self.filled(node, x),
            _ => None,
        })
    }

    fn gathered(
        &self,
        node: &proto::NodeProto,
        inputs: &[Ints],
    ) -> Result<Option<Ints>, ImportError> {
        let (x, indices) = (&inputs[0].values, &inputs[1]);
        let mut values = Vec::new();
        for index in &indices.values {
            let Some(i) = index.known() else {
                return Ok(None);
            };
            let i = if i < 0 {
                i.saturating_add(x.len() as i64)
            } else {
                i
            };
            let found = usize::try_from(i).ok().and_then(|i| x.get(i));
            let found = found.ok_or_else(|| {
                self.fail(
                    node,
                    format!("index {i} is out of range, there are {}", x.len()),
                )
            })?;
            values.push(*found);
        }
        Ok(Some(Ints {
            shape: indices.shape.clone(),
            values,
        }))
    }

    /// The part of a list or a table that a slice keeps.
    fn sliced(&self, node: &proto::NodeProto, x: &Ints) -> Result<Option<Ints>, ImportError> {
        let dims: Vec<Dim> = x.shape.iter().map(|&n| Dim::Fixed(n)).collect();
        let ranges = self.slice_ranges(node, &dims)?;
        let mut kept = x.clone();
        let mut inner = x.values.len();
        let mut outer = 1;
        for (range, extent) in ranges.iter().zip(&x.shape) {
            inner /= (*extent).max(1);
            let Some(range) = range else {
                outer *= extent;
                continue;
            };
            let at = |i: usize| (range.start as i64 + range.step * i as i64) as usize;
            kept.values = (0..outer)
                .flat_map(|o| (0..range.count).map(move |i| (o * extent + at(i)) * inner))
                .flat_map(|start| kept.values[start..start + inner].iter().copied())
                .collect();
            outer *= range.count;
        }
        kept.shape = ranges
            .iter()
            .zip(&x.shape)
            .map(|(range, &extent)| range.as_ref().map_or(extent, |r| r.count))
            .collect();
        Ok(Some(kept))
    }

    fn filled(&self, node: &proto::NodeProto, shape: &Ints) -> Option<Ints> {
        let value = attribute(node, "value")?.t.clone()?;
        let value = self.tensor(value).ok()?;
        let Data::I64(v) = &value.data else {
            return None;
        };
        let extents: Vec<usize> = shape
            .values
            .iter()
            .map(|i| i.known().and_then(|n| usize::try_from(n).ok()))
            .collect::<Option<_>>()?;
        let count = extents.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let value = Int::new(*v.first()?);
        (count <= MAX_INTS).then(|| Ints {
            shape: extents,
            values: vec![value; count],
        })
    }
}

fn plus(a: Int, b: Int, sign: i64) -> Option<Int> {
    Some(Int {
        batch: a.batch.checked_add(sign.checked_mul(b.batch)?)?,
        fixed: a.fixed.checked_add(sign.checked_mul(b.fixed)?)?,
    })
}

/// Element by element, a single one against all of the other.
fn pairwise(op: &str, a: &Ints, b: &Ints) -> Option<Ints> {
    let rank = |x: &Ints| (x.values.len(), x.shape.len());
    let (long, n) = if rank(a) >= rank(b) {
        (a, a.values.len())
    } else {
        (b, b.values.len())
    };
    let at = |x: &Ints, i: usize| match x.values.len() {
        1 => Some(x.values[0]),
        // A column against a row would broadcast to a table.
        _ if x.shape == long.shape => Some(x.values[i]),
        _ => None,
    };
    let truth = |t: bool| Int::new(i64::from(t));
    let values = (0..n).map(|i| {
        let (a, b) = (at(a, i)?, at(b, i)?);
        match op {
            "Add" => plus(a, b, 1),
            "Sub" => plus(a, b, -1),
            "Mul" => a.times(b),
            "Div" => a.over(b),
            "Mod" => {
                let (a, b) = (a.known()?, b.known().filter(|&b| b != 0)?);
                let rest = a.checked_rem(b)?;
                // The sign is the divisor's.
                let other_sign = rest != 0 && (rest < 0) != (b < 0);
                Some(Int::new(if other_sign { rest + b } else { rest }))
            }
            // A multiple of the batch is never the -1 that exports compare an extent with.
            "Equal" => Some(truth(a == b)),
            "Greater" => Some(truth(a.known()? > b.known()?)),
            "Less" => Some(truth(a.known()? < b.known()?)),
            _ => None,
        }
    });
    Some(Ints {
        shape: long.shape.clone(),
        values: values.collect::<Option<_>>()?,
    })
}

fn choose(inputs: &[Ints]) -> Option<Ints> {
    let longest = inputs.iter().max_by_key(|i| i.values.len())?;
    let n = longest.values.len();
    let at = |x: &Ints, i: usize| match x.values.len() {
        1 => Some(x.values[0]),
        _ if x.shape == longest.shape => Some(x.values[i]),
        _ => None,
    };
    let values = (0..n).map(|i| {
        let condition = at(&inputs[0], i)?.known()? != 0;
        at(&inputs[if condition { 1 } else { 2 }], i)
    });
    Some(Ints {
        shape: longest.shape.clone(),
        values: values.collect::<Option<_>>()?,
    })
}

fn range(inputs: &[Ints]) -> Option<Ints> {
    let one = |i: usize| inputs[i].values.first()?.known();
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    if step == 0 {
        return None;
    }
    let mut values = Vec::new();
    let mut x = start;
    while (step > 0 && x < limit) || (step < 0 && x > limit) {
        if values.len() == MAX_INTS {
            return None;
        }
        values.push(Int::new(x));
        x = x.checked_add(step)?;
    }
    Some(Ints::list(values))
}
