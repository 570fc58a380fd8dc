/*! Fully connected layers, and layers made of them that weigh channels or positions. */

use super::{HeadBuilder, Trouble, shape_text, trouble};
use crate::model::op::{Binary, Unary, Window};
use crate::model::{Activation, Dim, Op};

impl HeadBuilder<'_> {
    pub(super) fn linear(&mut self, out: usize, bias: bool) -> Result<(), Trouble> {
        let (tokens, features) = match self.sample[..] {
            [features] => (1, features),
            [tokens, features] => (tokens, features),
            _ => {
                let shape = shape_text(&self.sample);
                return trouble(
                    format!("Linear takes features, not {shape}"),
                    "put GlobalAvgPool or Flatten before it",
                );
            }
        };
        let params = features * out + if bias { out } else { 0 };
        if self.sample.len() == 1 {
            let mut inputs = vec![self.drawn("weight", &[out, features], features)?];
            if bias {
                inputs.push(self.filled("bias", &[out], 0.0));
            }
            let op = Op::Gemm {
                trans_a: false,
                trans_b: true,
                alpha: 1.0,
                beta: 1.0,
                activation: Activation::NONE,
            };
            self.counted("", op, &inputs, params)?;
        } else {
            let weight = self.drawn("weight", &[features, out], features)?;
            self.counted(".matmul", Op::MatMul, &[weight], features * out)?;
            if bias {
                let shift = self.filled("bias", &[out], 0.0);
                let op = Op::Binary(Binary::Add, Activation::NONE);
                self.counted("", op, &[shift], out)?;
            }
        }
        self.macs += (tokens * features) as u64 * out as u64;
        Ok(())
    }

    /// Squeeze-and-excite (Hu et al. 2018): each channel times a factor that all channels' means
    /// decide on.
    pub(super) fn squeeze_excite(&mut self, reduction: usize) -> Result<(), Trouble> {
        let [channels, _, _] = self.image("SqueezeExcite")?;
        let hidden = (channels / reduction).max(1);
        let x = self.at;
        let name = self.name.clone();
        self.push(".squeeze", Op::GlobalPool { average: true }, &[])?;
        let point = || Window::square(1, 1, 0);
        self.name = format!("{name}.down");
        self.conv(hidden, point(), 1, true)?;
        self.push(".relu", Op::Unary(Unary::Relu), &[])?;
        self.name = format!("{name}.up");
        self.conv(channels, point(), 1, true)?;
        self.push(".sigmoid", Op::Unary(Unary::Sigmoid), &[])?;
        self.name = name;
        let gate = std::mem::replace(&mut self.at, x);
        self.push("", Op::Binary(Binary::Mul, Activation::NONE), &[gate])
    }

    /// A mean over positions, weighed by a softmax of one learnt direction a head; each head has its
    /// share of the channels.
    pub(super) fn attention_pool(&mut self, heads: usize) -> Result<(), Trouble> {
        let (tokens, channels) = match self.sample[..] {
            [c, h, w] => {
                let to = vec![Dim::Batch(1), Dim::Fixed(c), Dim::Fixed(h * w)];
                self.push(".flat", Op::Reshape { to }, &[])?;
                let perm = vec![0, 2, 1];
                self.push(".tokens", Op::Transpose { perm }, &[])?;
                (h * w, c)
            }
            [t, c] => (t, c),
            _ => return Ok(()),
        };
        if channels % heads != 0 {
            let message = format!("{channels} channels can't be shared by {heads} heads");
            return trouble(message, "take a divisor of the channels");
        }
        let x = self.at;
        let weight = self.drawn("weight", &[channels, heads], channels)?;
        self.counted(".scores", Op::MatMul, &[weight], channels * heads)?;
        let perm = vec![0, 2, 1];
        self.push(".turned", Op::Transpose { perm }, &[])?;
        let softmax = Op::Softmax {
            axis: 2,
            flatten: false,
            log: false,
        };
        self.push(".weights", softmax, &[])?;
        let fixed = |dims: &[usize]| {
            let dims = dims.iter().map(|&n| Dim::Fixed(n));
            std::iter::once(Dim::Batch(1)).chain(dims).collect()
        };
        let mut values = x;
        if heads > 1 {
            let each = channels / heads;
            let to = fixed(&[heads, 1, tokens]);
            self.push(".each", Op::Reshape { to }, &[])?;
            let weights = std::mem::replace(&mut self.at, x);
            let to = fixed(&[tokens, heads, each]);
            self.push(".split", Op::Reshape { to }, &[])?;
            let perm = vec![0, 2, 1, 3];
            self.push(".values", Op::Transpose { perm }, &[])?;
            values = std::mem::replace(&mut self.at, weights);
        }
        self.push(".sum", Op::MatMul, &[values])?;
        self.macs += (tokens * channels) as u64 * (heads as u64 + 1);
        let to = fixed(&[channels]);
        self.push("", Op::Reshape { to }, &[])
    }
}
