/*! Layers that hold layers. */

use super::{HeadBuilder, placed, shape_text, trouble};
use crate::exits::diagnostic::Finding;
use crate::exits::layer::Layer;
use crate::model::op::Binary;
use crate::model::{Activation, Dim, Op, ValueId};

impl HeadBuilder<'_> {
    /// Builds a skip connection: `x + layers(x)`.
    pub(super) fn residual(&mut self, layer: &Layer, depth: usize) -> Result<(), Vec<Finding>> {
        let path = self.name.clone();
        let (x, sample) = (self.at, self.sample.clone());
        let around = self.shared.replace(x);
        for branch in layer.branches() {
            filled(layer, branch)?;
            self.chain(branch, &format!("{path}."), depth + 1)?;
        }
        self.shared = around;
        if self.sample != sample {
            let (before, after) = (shape_text(&sample), shape_text(&self.sample));
            let message = format!("the layers of a Residual turn {before} into {after}");
            let help = "keep the shape (pad: 1 beside kernel: 3), or take \
                        Parallel([[…], [Conv2d(…, kernel: 1)]], sum)";
            return Err(vec![Finding::new(layer.span, message).help(help)]);
        }
        self.name = path;
        let add = Op::Binary(Binary::Add, Activation::NONE);
        let added = self.push("", add, &[x]);
        added.map_err(|t| vec![placed(layer.span, t)])
    }

    /// The layers so many times, each time named by its number.
    pub(super) fn repeat(&mut self, layer: &Layer, depth: usize) -> Result<(), Vec<Finding>> {
        let path = self.name.clone();
        for time in 0..layer.whole("times") {
            for branch in layer.branches() {
                filled(layer, branch)?;
                self.chain(branch, &format!("{path}.{time}."), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Branches on the same input, joined. Findings of all branches come together.
    pub(super) fn parallel(&mut self, layer: &Layer, depth: usize) -> Result<(), Vec<Finding>> {
        let path = self.name.clone();
        let branches = layer.branches();
        if branches.len() < 2 {
            let message = format!("Parallel has {} branches", branches.len());
            let help = "give two or more: Parallel([[…], […]])";
            return Err(vec![Finding::new(layer.span, message).help(help)]);
        }
        let (x, sample) = (self.at, self.sample.clone());
        let around = self.shared.replace(x);
        let mut ends: Vec<(ValueId, Vec<usize>)> = Vec::new();
        let mut findings = Vec::new();
        for (i, branch) in branches.iter().enumerate() {
            (self.at, self.sample) = (x, sample.clone());
            match self.chain(branch, &format!("{path}.{i}."), depth + 1) {
                Ok(()) => ends.push((self.at, self.sample.clone())),
                Err(found) => findings.extend(found),
            }
        }
        self.shared = around;
        if !findings.is_empty() {
            return Err(findings);
        }
        self.name = path;
        let joined = match layer.whole("join") {
            0 => self.concat(&ends),
            1 => self.sum(&ends),
            _ => self.mix(&ends),
        };
        joined.map_err(|t| vec![placed(layer.span, t)])
    }

    fn concat(&mut self, ends: &[(ValueId, Vec<usize>)]) -> Result<(), super::Trouble> {
        let first = &ends[0].1;
        // Of tokens the channels come last.
        let axis = if first.len() == 2 { 1 } else { 0 };
        let fits = ends.iter().all(|(_, s)| {
            let rest =
                |s: &[usize]| [&s[..axis.min(s.len())], s.get(axis + 1..).unwrap_or(&[])].concat();
            s.len() == first.len() && rest(s) == rest(first)
        });
        if !fits {
            let message = format!("branches of {} can't be put side by side", shapes(ends));
            return trouble(
                message,
                "give all the same extents but for the channels, or GlobalAvgPool at the end of each",
            );
        }
        let inputs: Vec<ValueId> = ends.iter().map(|(v, _)| *v).collect();
        self.at = inputs[0];
        self.push("", Op::Concat { axis: axis + 1 }, &inputs[1..])
    }

    /// Refuses branches that differ in shape.
    fn alike(ends: &[(ValueId, Vec<usize>)], how: &str) -> Result<(), super::Trouble> {
        if ends.iter().any(|(_, s)| *s != ends[0].1) {
            let message = format!("branches of {} can't be {how}", shapes(ends));
            return trouble(message, "give all the same shape, or join them by `concat`");
        }
        Ok(())
    }

    /// Σ aᵢ · branchᵢ with learned shares a that add up to 1, all but the last of them being
    /// parameters: last + Σ aᵢ · (branchᵢ − last). Of two branches it is Lee, Gallagher and Tu's
    /// (2016) mixed pooling, if they are pools.
    fn mix(&mut self, ends: &[(ValueId, Vec<usize>)]) -> Result<(), super::Trouble> {
        Self::alike(ends, "mixed")?;
        let Some(((last, sample), others)) = ends.split_last() else {
            return Ok(());
        };
        let dims = |extents: &[usize]| {
            let extents = extents.iter().map(|&n| Dim::Fixed(n));
            std::iter::once(Dim::Batch(1)).chain(extents).collect()
        };
        let elements: usize = sample.iter().product();
        let mut columns = Vec::new();
        for (i, (branch, _)) in others.iter().enumerate() {
            self.at = *branch;
            let apart = Op::Binary(Binary::Sub, Activation::NONE);
            self.push(&format!(".apart{i}"), apart, &[*last])?;
            let to = dims(&[elements, 1]);
            self.push(&format!(".column{i}"), Op::Reshape { to }, &[])?;
            columns.push(self.at);
        }
        if columns.len() > 1 {
            self.at = columns[0];
            self.push(".columns", Op::Concat { axis: 2 }, &columns[1..])?;
        }
        let shares = self.filled("weight", &[columns.len(), 1], 1.0 / ends.len() as f32);
        self.counted(".mixed", Op::MatMul, &[shares], columns.len())?;
        self.macs += (elements * columns.len()) as u64;
        let to = dims(sample);
        self.push(".shaped", Op::Reshape { to }, &[])?;
        let add = Op::Binary(Binary::Add, Activation::NONE);
        self.push("", add, &[*last])
    }

    fn sum(&mut self, ends: &[(ValueId, Vec<usize>)]) -> Result<(), super::Trouble> {
        Self::alike(ends, "summed")?;
        self.at = ends[0].0;
        for (i, (value, _)) in ends.iter().enumerate().skip(1) {
            let last = i + 1 == ends.len();
            let suffix = if last {
                String::new()
            } else {
                format!(".sum{i}")
            };
            let add = Op::Binary(Binary::Add, Activation::NONE);
            self.push(&suffix, add, &[*value])?;
        }
        Ok(())
    }
}

fn shapes(ends: &[(ValueId, Vec<usize>)]) -> String {
    let shapes: Vec<String> = ends.iter().map(|(_, s)| shape_text(s)).collect();
    shapes.join(" and ")
}

fn filled(layer: &Layer, list: &[Layer]) -> Result<(), Vec<Finding>> {
    match list.is_empty() {
        true => {
            let message = format!("the list of {} is empty", layer.spec.name);
            Err(vec![
                Finding::new(layer.span, message).help("give it a layer, or leave it out"),
            ])
        }
        false => Ok(()),
    }
}
