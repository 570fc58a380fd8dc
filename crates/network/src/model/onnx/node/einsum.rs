/*! Einsum, as the transposes, reshapes, sums and matrix products that it is. */

use super::super::{ImportError, Importer};
use crate::model::graph::ValueId;
use crate::model::op::{Op, Reduction};
use crate::model::shape::Dim;
use candle_onnx::onnx as proto;

/// A tensor and the letter of each of its axes.
#[derive(Debug, Clone)]
struct Lettered {
    id: ValueId,
    letters: Vec<char>,
}

impl Importer<'_> {
    pub(super) fn einsum(&mut self, node: &proto::NodeProto) -> Result<(), ImportError> {
        let equation = self.text(node, "equation", "");
        let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let inputs = self.all_inputs(node)?;
        let (left, right) = match equation.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (equation.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != inputs.len() || terms.is_empty() {
            let what = format!("`{equation}` for {} inputs", inputs.len());
            return Err(self.fail(node, what));
        }
        let mut operands = Vec::new();
        for (term, &id) in terms.iter().zip(&inputs) {
            let letters = letters(term, self.shape(id).rank());
            let letters = letters.filter(|l| l.len() == self.shape(id).rank());
            let letters = letters.ok_or_else(|| {
                self.fail(node, format!("`{term}` for a tensor of {}", self.shape(id)))
            })?;
            let twice = (1..letters.len()).any(|i| letters[..i].contains(&letters[i]));
            if twice {
                return Err(self.fail(node, format!("the diagonal `{term}` is not supported")));
            }
            operands.push(Lettered { id, letters });
        }
        let wanted = match right {
            Some(term) => {
                let dots = operands.iter().flat_map(|o| &o.letters);
                let dots = dots.filter(|c| c.is_ascii_digit()).max();
                let dots = dots.map_or(0, |&c| c as usize - '0' as usize + 1);
                let letters = letters(term, term.replace("...", "").len() + dots);
                letters.ok_or_else(|| self.fail(node, format!("`{term}` is no result")))?
            }
            None => implied(&operands),
        };
        let mut so_far = operands.remove(0);
        for (i, next) in operands.iter().enumerate() {
            let later = operands[i + 1..].iter().flat_map(|o| o.letters.iter());
            let needed: Vec<char> = wanted.iter().chain(later).copied().collect();
            so_far = self.contracted(node, so_far, next.clone(), &needed)?;
        }
        let so_far = self.summed(node, so_far, &wanted)?;
        let y = self.arranged(node, &so_far, &wanted)?;
        if self.env.values().any(|&v| v == y) {
            self.env.insert(node.output[0].clone(), y);
        } else {
            self.name_output(node, 0, y);
        }
        Ok(())
    }

    /// Sums over the axes that nothing needs.
    fn summed(
        &mut self,
        node: &proto::NodeProto,
        x: Lettered,
        needed: &[char],
    ) -> Result<Lettered, ImportError> {
        let gone = |c: &char| !needed.contains(c);
        let axes: Vec<usize> = (0..x.letters.len())
            .filter(|&i| gone(&x.letters[i]))
            .collect();
        if axes.is_empty() {
            return Ok(x);
        }
        let op = Op::Reduce {
            kind: Reduction::Sum,
            axes,
            keep: false,
        };
        let id = self.main(node, op, vec![x.id])?;
        let letters = x.letters.into_iter().filter(|c| !gone(c)).collect();
        Ok(Lettered { id, letters })
    }

    /// The axes in the order of `wanted`, which has the same letters.
    fn arranged(
        &mut self,
        node: &proto::NodeProto,
        x: &Lettered,
        wanted: &[char],
    ) -> Result<ValueId, ImportError> {
        let place = |c: &char| x.letters.iter().position(|l| l == c);
        let perm: Option<Vec<usize>> = wanted.iter().map(place).collect();
        let perm = perm.filter(|p| p.len() == x.letters.len());
        let perm = perm.ok_or_else(|| self.fail(node, "asks for axes that no input has"))?;
        if perm.is_sorted() {
            return Ok(x.id);
        }
        self.aside(node, Op::Transpose { perm }, vec![x.id])
    }

    /// Two operands as one: summed over what they share and nothing else needs.
    fn contracted(
        &mut self,
        node: &proto::NodeProto,
        a: Lettered,
        b: Lettered,
        needed: &[char],
    ) -> Result<Lettered, ImportError> {
        let keep = |own: &Lettered, other: &Lettered| -> Vec<char> {
            let both = own.letters.iter().chain(&other.letters);
            let wanted = both.filter(|c| needed.contains(c) || other.letters.contains(c));
            wanted.copied().collect()
        };
        let (of_a, of_b) = (keep(&a, &b), keep(&b, &a));
        let a = self.summed(node, a, &of_a)?;
        let b = self.summed(node, b, &of_b)?;
        let in_b = |c: &&char| b.letters.contains(c);
        let shared: Vec<char> = a.letters.iter().filter(in_b).copied().collect();
        let (batch, inner): (Vec<char>, Vec<char>) =
            shared.iter().partition(|c| needed.contains(c));
        let own = |x: &Lettered| -> Vec<char> {
            let own = x.letters.iter().filter(|c| !shared.contains(c));
            own.copied().collect()
        };
        let (rows, columns) = (own(&a), own(&b));
        let extent = |importer: &Self, x: &Lettered, c: char| {
            let at = x.letters.iter().position(|&l| l == c);
            at.map_or(Dim::Fixed(1), |i| importer.shape(x.id).0[i])
        };
        let dims = |importer: &Self, x: &Lettered, letters: &[char]| -> Vec<Dim> {
            letters.iter().map(|&c| extent(importer, x, c)).collect()
        };
        let outer = dims(self, &a, &batch);
        let (row_dims, column_dims) = (dims(self, &a, &rows), dims(self, &b, &columns));
        let depth = self.product(node, &dims(self, &a, &inner))?;
        let (height, width) = (
            self.product(node, &row_dims)?,
            self.product(node, &column_dims)?,
        );
        let left = self.arranged(node, &a, &[&batch[..], &rows, &inner].concat())?;
        let left = self.seen_as(node, left, [&outer[..], &[height, depth]].concat())?;
        let right = self.arranged(node, &b, &[&batch[..], &inner, &columns].concat())?;
        let right = self.seen_as(node, right, [&outer[..], &[depth, width]].concat())?;
        let product = self.main(node, Op::MatMul, vec![left, right])?;
        let to = [&outer[..], &row_dims, &column_dims].concat();
        let id = self.seen_as(node, product, to)?;
        let letters = [&batch[..], &rows, &columns].concat();
        Ok(Lettered { id, letters })
    }
}

/// The letters of a term; the axes of `...` are digits, counted from the last.
fn letters(term: &str, rank: usize) -> Option<Vec<char>> {
    let plain = term.replace("...", "");
    if !plain.chars().all(|c| c.is_ascii_alphabetic()) {
        return None;
    }
    let more = rank.checked_sub(plain.len()).filter(|&n| n < 10)?;
    let mut found = Vec::new();
    match term.split_once("...") {
        Some((before, after)) => {
            found.extend(before.chars());
            found.extend((0..more).rev().map(|i| (b'0' + i as u8) as char));
            found.extend(after.chars());
        }
        None => found.extend(term.chars()),
    }
    Some(found)
}

/// The result of an equation that names none: the axes of `...`, then every letter that stands once,
/// in order of the alphabet.
fn implied(operands: &[Lettered]) -> Vec<char> {
    let all: Vec<char> = operands.iter().flat_map(|o| o.letters.clone()).collect();
    let mut dots: Vec<char> = all.iter().copied().filter(char::is_ascii_digit).collect();
    dots.sort_unstable_by(|a, b| b.cmp(a));
    dots.dedup();
    let mut once: Vec<char> = all
        .iter()
        .copied()
        .filter(|c| c.is_ascii_alphabetic() && all.iter().filter(|d| *d == c).count() == 1)
        .collect();
    once.sort_unstable();
    dots.extend(once);
    dots
}
