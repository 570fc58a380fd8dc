/*! What the networks share: a builder that draws weights and checks every shape. */

use super::ZooError;
use crate::model::op::{Activation, Binary, Op, PoolKind, Unary, Window};
use crate::model::{Builder, Constant, Graph, Shape, ValueId, infer};
use crate::model::{DType, Dim};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

type Made = Result<ValueId, ZooError>;

/// A network under construction.
pub(super) struct Net {
    builder: Builder,
    rng: ChaCha8Rng,
    pub(super) x: ValueId,
    pub(super) epsilon: f32,
}

/// A convolution's settings: kernel, stride, padding (height, width), groups.
#[derive(Clone, Copy)]
pub(super) struct Conv {
    pub(super) channels: usize,
    pub(super) kernel: (usize, usize),
    pub(super) stride: usize,
    pub(super) pad: (usize, usize),
    pub(super) groups: usize,
}

impl Conv {
    /// A square one that keeps the extents at stride 1.
    pub(super) fn same(channels: usize, kernel: usize, stride: usize) -> Self {
        let pad = kernel / 2;
        Conv {
            channels,
            kernel: (kernel, kernel),
            stride,
            pad: (pad, pad),
            groups: 1,
        }
    }
}

impl Net {
    pub(super) fn new(name: &str, (c, h, w): (usize, usize, usize), seed: u64) -> Self {
        let mut builder = Builder::new(name);
        let x = builder.input("input", Shape::batched(&[c, h, w]));
        Net {
            builder,
            rng: ChaCha8Rng::seed_from_u64(seed),
            x,
            epsilon: 1e-5,
        }
    }

    pub(super) fn finish(mut self) -> Graph {
        self.builder.output(self.x);
        self.builder.finish()
    }

    pub(super) fn channels(&self, x: ValueId) -> usize {
        self.builder.shape(x).0.get(1).map_or(0, |d| d.at(1))
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[ValueId], params: usize) -> Made {
        let shapes: Vec<Shape> = inputs
            .iter()
            .map(|&i| self.builder.shape(i).clone())
            .collect();
        let operands: Vec<_> = shapes.iter().map(|s| (s, DType::F32)).collect();
        let inferred = infer(&op, &operands).map_err(|source| ZooError::Shape {
            layer: name.to_string(),
            source,
        })?;
        let shape = inferred
            .into_iter()
            .next()
            .map(|(s, _)| s)
            .unwrap_or_default();
        Ok(self.builder.node(name, op, inputs, shape, params))
    }

    fn normal(&mut self, dims: &[usize], variance: f32) -> Constant {
        let deviation = variance.sqrt();
        let count = dims.iter().product();
        let draw = |_| {
            let z: f32 = StandardNormal.sample(&mut self.rng);
            z * deviation
        };
        Constant::f32(dims, (0..count).map(draw).collect())
    }

    /// A convolution without bias.
    pub(super) fn conv(&mut self, name: &str, x: ValueId, conv: Conv) -> Made {
        let (h, w) = conv.kernel;
        let dims = [conv.channels, self.channels(x) / conv.groups, h, w];
        let fan_out = conv.channels / conv.groups * h * w;
        let weight = self.normal(&dims, 2.0 / fan_out as f32);
        let params = weight.len();
        let weight = self.builder.constant(&format!("{name}.weight"), weight);
        let op = Op::Conv {
            window: Window {
                kernel: vec![h, w],
                strides: vec![conv.stride; 2],
                dilations: vec![1; 2],
                pads: vec![(conv.pad.0, conv.pad.0), (conv.pad.1, conv.pad.1)],
            },
            groups: conv.groups,
            bias: false,
            residual: false,
            activation: Activation::NONE,
        };
        self.push(name, op, &[x, weight], params)
    }

    pub(super) fn norm(&mut self, name: &str, x: ValueId) -> Made {
        self.scaled_norm(name, x, 1.0)
    }

    /// A batch norm that starts as a multiple of the identity.
    pub(super) fn scaled_norm(&mut self, name: &str, x: ValueId, scale: f32) -> Made {
        let c = self.channels(x);
        let mut inputs = vec![x];
        let starts = [
            ("weight", scale),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ];
        for (what, start) in starts {
            let constant = Constant::f32(&[c], vec![start; c]);
            inputs.push(self.builder.constant(&format!("{name}.{what}"), constant));
        }
        let epsilon = self.epsilon;
        self.push(name, Op::BatchNorm { epsilon }, &inputs, 2 * c)
    }

    pub(super) fn relu(&mut self, name: &str, x: ValueId) -> Made {
        self.push(name, Op::Unary(Unary::Relu), &[x], 0)
    }

    pub(super) fn relu6(&mut self, name: &str, x: ValueId) -> Made {
        let (low, high) = (0.0, 6.0);
        self.push(name, Op::Unary(Unary::Clip { low, high }), &[x], 0)
    }

    pub(super) fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> Made {
        self.push(name, Op::Binary(Binary::Add, Activation::NONE), &[a, b], 0)
    }

    pub(super) fn concat(&mut self, name: &str, parts: &[ValueId]) -> Made {
        self.push(name, Op::Concat { axis: 1 }, parts, 0)
    }

    pub(super) fn pool(
        &mut self,
        name: &str,
        x: ValueId,
        max: bool,
        stride: usize,
        pad: usize,
    ) -> Made {
        let kind = if max {
            PoolKind::Max
        } else {
            PoolKind::Average {
                count_include_pad: true,
            }
        };
        let op = Op::Pool {
            kind,
            window: Window::square(3, stride, pad),
            extra: vec![0; 2],
            column_major: false,
        };
        self.push(name, op, &[x], 0)
    }

    /// Global pooling, flatten and the linear classifier.
    pub(super) fn classify(&mut self, name: &str, x: ValueId, classes: usize) -> Made {
        let pooled = self.push("avgpool", Op::GlobalPool { average: true }, &[x], 0)?;
        let features = self.channels(pooled);
        let to = vec![Dim::Batch(1), Dim::Fixed(features)];
        let flat = self.push("flatten", Op::Reshape { to }, &[pooled], 0)?;
        let weight = self.normal(&[classes, features], 1.0 / features as f32);
        let weight = self.builder.constant(&format!("{name}.weight"), weight);
        let bias = Constant::f32(&[classes], vec![0.0; classes]);
        let bias = self.builder.constant(&format!("{name}.bias"), bias);
        let op = Op::Gemm {
            trans_a: false,
            trans_b: true,
            alpha: 1.0,
            beta: 1.0,
            activation: Activation::NONE,
        };
        self.push(name, op, &[flat, weight, bias], (features + 1) * classes)
    }
}
