/*!
Typed layers → a graph, shape by shape. What a layer can't take is found here, before any node is
made of it.
*/

use super::diagnostic::Finding;
use super::layer::{Kind, Layer};
use super::{Dropout, ExitPoint};
use crate::model::op::{Binary, PoolKind, Reduction, Unary, Window};
use crate::model::{Activation, Builder, Constant, Dim, Graph, Op, Shape, ValueId, infer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

/// The most parameters a head may have: 1 GiB of floats.
const MAX_PARAMS: usize = 1 << 28;

pub(super) struct Built {
    pub graph: Graph,
    pub params: usize,
    pub macs: u64,
    pub dropout: Vec<Dropout>,
}

/// Builds the layers for a point, weights drawn after He et al. (2015) from `seed`. The span of the
/// list's end serves findings about the whole.
pub(super) fn build(
    layers: &[Layer],
    point: &ExitPoint,
    seed: u64,
    end: (usize, usize),
) -> Result<Built, Finding> {
    let mut builder = Builder::new("head");
    let x = builder.input("x", Shape::batched(&point.sample));
    let mut head = HeadBuilder {
        builder,
        at: x,
        sample: point.sample.clone(),
        rng: ChaCha8Rng::seed_from_u64(seed),
        params: 0,
        macs: 0,
        dropout: Vec::new(),
        name: String::new(),
    };
    for (i, layer) in layers.iter().enumerate() {
        head.name = format!("{}_{}", layer.spec.name.to_lowercase(), i + 1);
        head.layer(layer).map_err(|(message, help)| {
            let finding = Finding::new(layer.span, message);
            match help {
                Some(help) => finding.help(help),
                None => finding,
            }
        })?;
    }
    let classes = point.classes;
    if head.sample != [classes] {
        let shape = shape_text(&head.sample);
        let message = format!("the head gives {shape} a sample, not {classes} classes");
        let help = match head.sample.len() {
            1 => "end the list with Linear(classes)",
            _ => "end the list with GlobalAvgPool, Linear(classes)",
        };
        let span = layers.last().map_or(end, |l| l.span);
        return Err(Finding::new(span, message).help(help));
    }
    if head.at == x {
        head.push("identity", Op::Identity, &[])
            .map_err(|t| Finding::new(end, t.0))?;
    }
    let (at, params, macs, mut dropout) = (head.at, head.params, head.macs, head.dropout);
    head.builder.output(at);
    let mut graph = head.builder.finish();
    let last = std::mem::replace(&mut graph.values[at.0 as usize].name, "logits".to_string());
    for d in dropout.iter_mut().filter(|d| d.value == last) {
        d.value = "logits".to_string();
    }
    Ok(Built {
        graph,
        params,
        macs,
        dropout,
    })
}

/// A message and a way out.
type Trouble = (String, Option<String>);

fn trouble<T>(message: impl Into<String>, help: &str) -> Result<T, Trouble> {
    Err((message.into(), Some(help.to_string())))
}

/// `64×8×8`.
pub(super) fn shape_text(sample: &[usize]) -> String {
    let dims: Vec<String> = sample.iter().map(usize::to_string).collect();
    dims.join("×")
}

struct HeadBuilder {
    builder: Builder,
    at: ValueId,
    /// Extents of one sample of the value at `at`.
    sample: Vec<usize>,
    rng: ChaCha8Rng,
    params: usize,
    macs: u64,
    dropout: Vec<Dropout>,
    name: String,
}

impl HeadBuilder {
    fn layer(&mut self, layer: &Layer) -> Result<(), Trouble> {
        let name = layer.spec.name;
        let square =
            |l: &Layer| Window::square(l.whole("kernel"), l.whole("stride"), l.whole("pad"));
        match layer.spec.kind {
            Kind::Conv2d => {
                self.image(name)?;
                let (out, window) = (layer.whole("out"), square(layer));
                self.conv(out, window, 1, layer.flag("bias"), "")
            }
            Kind::DepthwiseConv2d => {
                let [c, _, _] = self.image(name)?;
                self.conv(c, square(layer), c, layer.flag("bias"), "")
            }
            Kind::SeparableConv2d => {
                let [c, _, _] = self.image(name)?;
                self.conv(c, square(layer), c, false, ".depthwise")?;
                let (out, point) = (layer.whole("out"), Window::square(1, 1, 0));
                self.conv(out, point, 1, layer.flag("bias"), ".pointwise")
            }
            Kind::BatchNorm2d => {
                let [c, _, _] = self.image(name)?;
                let parts = [("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)];
                let inputs: Vec<ValueId> = parts
                    .iter()
                    .map(|(part, v)| self.filled(part, &[c], *v))
                    .collect();
                let epsilon = layer.real("epsilon");
                self.counted("", Op::BatchNorm { epsilon }, &inputs, 2 * c)
            }
            Kind::LayerNorm => {
                // Tokens are normalised one by one, everything else as a whole.
                let axis = if self.sample.len() == 2 { 2 } else { 1 };
                let over = self.sample[axis - 1..].to_vec();
                let inputs = [
                    self.filled("weight", &over, 1.0),
                    self.filled("bias", &over, 0.0),
                ];
                let params = 2 * over.iter().product::<usize>();
                let epsilon = layer.real("epsilon");
                self.counted("", Op::LayerNorm { axis, epsilon }, &inputs, params)
            }
            Kind::Relu => self.push("", Op::Unary(Unary::Relu), &[]),
            Kind::Relu6 => {
                let (low, high) = (0.0, 6.0);
                self.push("", Op::Unary(Unary::Clip { low, high }), &[])
            }
            Kind::LeakyRelu => {
                let alpha = layer.real("slope");
                self.push("", Op::Unary(Unary::LeakyRelu { alpha }), &[])
            }
            Kind::Gelu => self.push("", Op::Unary(Unary::Gelu { tanh: false }), &[]),
            Kind::Silu => self.push("", Op::Unary(Unary::Silu), &[]),
            Kind::HardSwish => self.push("", Op::Unary(Unary::HardSwish), &[]),
            Kind::Sigmoid => self.push("", Op::Unary(Unary::Sigmoid), &[]),
            Kind::Tanh => self.push("", Op::Unary(Unary::Tanh), &[]),
            Kind::MaxPool2d => self.pool(name, PoolKind::Max, square(layer)),
            Kind::AvgPool2d => {
                let count_include_pad = true;
                let kind = PoolKind::Average { count_include_pad };
                self.pool(name, kind, square(layer))
            }
            Kind::AdaptiveAvgPool2d => self.adaptive(name, layer.whole("out")),
            Kind::GlobalAvgPool => self.global(true),
            Kind::GlobalMaxPool => self.global(false),
            Kind::Flatten => self.flatten(),
            Kind::Linear => self.linear(layer.whole("out"), layer.flag("bias")),
            Kind::Dropout => {
                let value = self.builder.name(self.at).to_string();
                let rate = layer.real("rate");
                self.dropout.push(Dropout { value, rate });
                Ok(())
            }
        }
    }

    fn image(&self, name: &str) -> Result<[usize; 3], Trouble> {
        match self.sample[..] {
            [c, h, w] => Ok([c, h, w]),
            _ => trouble(
                format!(
                    "{name} takes channels×height×width, not {}",
                    shape_text(&self.sample)
                ),
                "put it before the pooling, or leave it out",
            ),
        }
    }

    /// Appends a node that reads the current value and `more`, and makes it the current one.
    fn push(&mut self, suffix: &str, op: Op, more: &[ValueId]) -> Result<(), Trouble> {
        self.counted(suffix, op, more, 0)
    }

    fn counted(
        &mut self,
        suffix: &str,
        op: Op,
        more: &[ValueId],
        params: usize,
    ) -> Result<(), Trouble> {
        let mut inputs = vec![self.at];
        inputs.extend(more);
        let operands: Vec<_> = inputs
            .iter()
            .map(|&v| (self.builder.shape(v).clone(), crate::model::DType::F32))
            .collect();
        let operands: Vec<_> = operands.iter().map(|(s, t)| (s, *t)).collect();
        let outputs = infer(&op, &operands).map_err(|e| (e.to_string(), None))?;
        let Some((shape, _)) = outputs.into_iter().next() else {
            return Err(("gives nothing".to_string(), None));
        };
        let Some(sample) = shape.sample() else {
            return Err((format!("gives {shape}, which has no fixed extents"), None));
        };
        let name = format!("{}{suffix}", self.name);
        self.at = self.builder.node(&name, op, &inputs, shape, params);
        self.sample = sample;
        self.params += params;
        Ok(())
    }

    fn filled(&mut self, part: &str, shape: &[usize], value: f32) -> ValueId {
        let data = vec![value; shape.iter().product()];
        let name = format!("{}.{part}", self.name);
        self.builder.constant(&name, Constant::f32(shape, data))
    }

    /// He's initialisation: normal, variance 2 / fan-in.
    fn drawn(&mut self, part: &str, shape: &[usize], fan_in: usize) -> Result<ValueId, Trouble> {
        let count = shape.iter().try_fold(1usize, |a, &n| a.checked_mul(n));
        let Some(count) = count.filter(|n| n + self.params <= MAX_PARAMS) else {
            let text = shape_text(shape);
            return trouble(
                format!("the weights would be {text}: a head may have {MAX_PARAMS} parameters"),
                "pool first, or take fewer outputs",
            );
        };
        let deviation = (2.0 / fan_in.max(1) as f32).sqrt();
        let normal = Normal::new(0.0, deviation).map_err(|e| (e.to_string(), None))?;
        let data = (0..count).map(|_| normal.sample(&mut self.rng)).collect();
        let name = format!("{}.{part}", self.name);
        Ok(self.builder.constant(&name, Constant::f32(shape, data)))
    }

    fn fits(&self, window: &Window) -> Result<(), Trouble> {
        let fits = (0..2).all(|axis| {
            let extent = self.sample[axis + 1];
            window.output(axis, extent).is_some_and(|n| n > 0)
        });
        if fits {
            return Ok(());
        }
        let (kernel, shape) = (window.kernel[0], shape_text(&self.sample));
        trouble(
            format!("a window of {kernel}×{kernel} doesn't fit {shape}"),
            "take a smaller kernel, pad, or ask `{% if height >= … %}` first",
        )
    }

    fn conv(
        &mut self,
        out: usize,
        window: Window,
        groups: usize,
        bias: bool,
        suffix: &str,
    ) -> Result<(), Trouble> {
        self.fits(&window)?;
        let (cin, kernel) = (self.sample[0] / groups, window.kernel[0]);
        let fan_in = cin * kernel * kernel;
        let shape = [out, cin, kernel, kernel];
        let mut inputs = vec![self.drawn(&format!("weight{suffix}"), &shape, fan_in)?];
        if bias {
            inputs.push(self.filled(&format!("bias{suffix}"), &[out], 0.0));
        }
        let op = Op::Conv {
            window,
            groups,
            bias,
            residual: false,
            activation: Activation::NONE,
        };
        let params = out * fan_in + if bias { out } else { 0 };
        self.counted(suffix, op, &inputs, params)?;
        let positions = self.sample[1] * self.sample[2];
        self.macs += (positions * out) as u64 * fan_in as u64;
        Ok(())
    }

    fn pool(&mut self, name: &str, kind: PoolKind, window: Window) -> Result<(), Trouble> {
        self.image(name)?;
        self.fits(&window)?;
        if 2 * window.pads[0].0 > window.kernel[0] {
            return trouble(
                format!("a pad of {} is more than half the window", window.pads[0].0),
                "pad at most half of the kernel",
            );
        }
        let op = Op::Pool {
            kind,
            window,
            extra: vec![0; 2],
            column_major: false,
        };
        self.push("", op, &[])
    }

    fn adaptive(&mut self, name: &str, out: usize) -> Result<(), Trouble> {
        let [_, h, w] = self.image(name)?;
        if h % out != 0 || w % out != 0 {
            let shape = shape_text(&self.sample);
            return trouble(
                format!("{shape} can't be divided into {out}×{out} equal windows"),
                "take a divisor of height and width, or AvgPool2d(kernel: …, stride: …)",
            );
        }
        let mut window = Window::square(h / out, h / out, 0);
        window.kernel[1] = w / out;
        window.strides[1] = w / out;
        let kind = PoolKind::Average {
            count_include_pad: true,
        };
        self.pool(name, kind, window)
    }

    fn global(&mut self, average: bool) -> Result<(), Trouble> {
        match self.sample[..] {
            [_, _, _] => {
                self.push(".pool", Op::GlobalPool { average }, &[])?;
                self.flatten()
            }
            [_, _] => {
                let kind = if average {
                    Reduction::Mean
                } else {
                    Reduction::Max
                };
                let (axes, keep) = (vec![1], false);
                self.push("", Op::Reduce { kind, axes, keep }, &[])
            }
            _ => Ok(()),
        }
    }

    fn flatten(&mut self) -> Result<(), Trouble> {
        if self.sample.len() == 1 {
            return Ok(());
        }
        let to = vec![Dim::Batch(1), Dim::Fixed(self.sample.iter().product())];
        self.push("", Op::Reshape { to }, &[])
    }

    fn linear(&mut self, out: usize, bias: bool) -> Result<(), Trouble> {
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
}
