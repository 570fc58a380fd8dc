/*!
Typed layers → a graph, shape by shape. What a layer can't take is found here, before any node is
made of it. Values and constants are named by the path of their layer (`residual_2.conv2d_1.weight`),
as the same modules name them in PyTorch.
*/

mod combine;
mod linear;
mod network;
mod windows;

use super::diagnostic::Finding;
use super::layer::{Kind, Layer};
use super::{Dropout, ExitPoint, Library, Line};
use crate::model::op::{PoolKind, Unary, Window};
use crate::model::{Builder, Constant, DType, Graph, Op, Shape, ValueId, infer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

/// The most parameters a head may have: 1 GiB of floats.
const MAX_PARAMS: usize = 1 << 28;
/// The most layers, repeated ones counted each time.
const MAX_LAYERS: usize = 1000;

pub(super) struct Built {
    pub graph: Graph,
    pub params: usize,
    pub macs: u64,
    pub dropout: Vec<Dropout>,
    pub lines: Vec<Line>,
    /// What is worth knowing, spans as in the layers.
    pub warnings: Vec<Finding>,
    /// The files of networks it took in: what the rendered text doesn't hold of the head.
    pub files: Vec<Vec<u8>>,
}

/// Builds the layers for a point, weights drawn after He et al. (2015) from `seed`. The span of the
/// list's end serves findings about the whole.
pub(super) fn build(
    layers: &[Layer],
    point: &ExitPoint,
    seed: u64,
    library: &Library,
    end: (usize, usize),
) -> Result<Built, Vec<Finding>> {
    let mut builder = Builder::new("head");
    let x = builder.input("x", Shape::batched(&point.sample));
    let mut head = HeadBuilder {
        builder,
        at: x,
        sample: point.sample.clone(),
        shared: None,
        rng: ChaCha8Rng::seed_from_u64(seed),
        params: 0,
        macs: 0,
        dropout: Vec::new(),
        name: String::new(),
        lines: Vec::new(),
        warnings: Vec::new(),
        library,
        files: Vec::new(),
    };
    head.chain(layers, "", 0)?;
    let classes = point.classes;
    if head.sample != [classes] {
        let shape = shape_text(&head.sample);
        let message = format!("the head gives {shape} per sample, not {classes} classes");
        let help = match head.sample.len() {
            1 => "end the list with Linear(classes)",
            _ => "end the list with GlobalAvgPool, Linear(classes)",
        };
        let span = layers.last().map_or(end, |l| l.span);
        return Err(vec![Finding::new(span, message).help(help)]);
    }
    if head.at == x {
        head.name = "identity".to_string();
        head.push("", Op::Identity, &[])
            .map_err(|t| vec![Finding::new(end, t.0)])?;
    }
    head.weigh(layers, point);
    head.builder.output(head.at);
    let mut graph = head.builder.finish();
    let last = std::mem::replace(
        &mut graph.values[head.at.0 as usize].name,
        "logits".to_string(),
    );
    let mut dropout = head.dropout;
    for d in dropout.iter_mut().filter(|d| d.value == last) {
        d.value = "logits".to_string();
    }
    Ok(Built {
        graph,
        params: head.params,
        macs: head.macs,
        dropout,
        lines: head.lines,
        warnings: head.warnings,
        files: head.files,
    })
}

/// A message and a way out.
type Trouble = (String, Option<String>);

fn trouble<T>(message: impl Into<String>, help: &str) -> Result<T, Trouble> {
    Err((message.into(), Some(help.to_string())))
}

fn placed(span: (usize, usize), (message, help): Trouble) -> Finding {
    let finding = Finding::new(span, message);
    match help {
        Some(help) => finding.help(help),
        None => finding,
    }
}

/// Writes a sample's extents as `64×8×8`.
pub(super) fn shape_text(sample: &[usize]) -> String {
    let dims: Vec<String> = sample.iter().map(usize::to_string).collect();
    dims.join("×")
}

struct HeadBuilder<'a> {
    builder: Builder,
    at: ValueId,
    /// Extents of one sample of the value at `at`.
    sample: Vec<usize>,
    /// A value that other branches read too.
    shared: Option<ValueId>,
    rng: ChaCha8Rng,
    params: usize,
    macs: u64,
    dropout: Vec<Dropout>,
    /// The path of the layer being built.
    name: String,
    lines: Vec<Line>,
    warnings: Vec<Finding>,
    library: &'a Library<'a>,
    files: Vec<Vec<u8>>,
}

impl HeadBuilder<'_> {
    /// Layers one after the other, named under `prefix`.
    fn chain(&mut self, layers: &[Layer], prefix: &str, depth: usize) -> Result<(), Vec<Finding>> {
        for (i, layer) in layers.iter().enumerate() {
            if self.lines.len() >= MAX_LAYERS {
                let message = format!("more than {MAX_LAYERS} layers");
                let finding = Finding::new(layer.span, message);
                return Err(vec![finding.help("repeat fewer times")]);
            }
            self.name = format!("{prefix}{}_{}", layer.spec.name.to_lowercase(), i + 1);
            let at = self.lines.len();
            self.lines.push(Line {
                depth,
                text: layer.title(),
                input: self.sample.clone(),
                output: Vec::new(),
                params: self.params,
                macs: self.macs,
            });
            self.layer(layer, depth)?;
            let line = &mut self.lines[at];
            line.output = self.sample.clone();
            line.params = self.params - line.params;
            line.macs = self.macs - line.macs;
        }
        Ok(())
    }

    fn layer(&mut self, layer: &Layer, depth: usize) -> Result<(), Vec<Finding>> {
        match layer.spec.kind {
            Kind::Residual => self.residual(layer, depth),
            Kind::Parallel => self.parallel(layer, depth),
            Kind::Repeat => self.repeat(layer, depth),
            _ => {
                let built = self.simple(layer);
                built.map_err(|trouble| vec![placed(layer.span, trouble)])
            }
        }
    }

    /// Warns of a head that computes more than all of the network before it: no exit can win back
    /// what such a head costs.
    fn weigh(&mut self, layers: &[Layer], point: &ExitPoint) {
        if self.macs <= point.macs {
            return;
        }
        let own = self.lines.iter().filter(|l| l.depth == 0).zip(layers);
        let Some((line, layer)) = own.max_by_key(|(line, _)| line.macs) else {
            return;
        };
        let message = format!(
            "the head's {} multiply-accumulates are more than the {} of the whole network before \
             it, most of them in {}",
            self.macs, point.macs, line.text
        );
        let help = "pool first, take fewer channels, or ask `{% if depth > … %}`: such an exit \
                    costs more than it can save";
        let finding = Finding::new(layer.span, message).help(help);
        self.warnings.push(finding);
    }

    /// A layer that holds no others.
    fn simple(&mut self, layer: &Layer) -> Result<(), Trouble> {
        let name = layer.spec.name;
        let square =
            |l: &Layer| Window::square(l.whole("kernel"), l.whole("stride"), l.whole("pad"));
        match layer.spec.kind {
            Kind::Conv2d => {
                self.image(name)?;
                let (out, window) = (layer.whole("out"), square(layer));
                self.conv(out, window, 1, layer.flag("bias"))
            }
            Kind::DepthwiseConv2d => {
                let [c, _, _] = self.image(name)?;
                self.conv(c, square(layer), c, layer.flag("bias"))
            }
            Kind::SeparableConv2d => self.separable_conv(layer, square(layer)),
            Kind::BatchNorm2d => {
                let [c, _, _] = self.image(name)?;
                self.batch_norm(layer, c)
            }
            Kind::BatchNorm1d => {
                let &[c] = &self.sample[..] else {
                    return trouble(
                        format!("{name} takes features, not {}", shape_text(&self.sample)),
                        "put it behind the pooling, or write BatchNorm2d",
                    );
                };
                self.batch_norm(layer, c)
            }
            Kind::LayerNorm => self.layer_norm(layer.real("epsilon")),
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
            Kind::GemPool => self.gem(layer.real("power"), layer.real("epsilon")),
            Kind::Flatten => self.flatten(),
            Kind::Linear => self.linear(layer.whole("out"), layer.flag("bias")),
            Kind::SqueezeExcite => self.squeeze_excite(layer.whole("reduction")),
            Kind::AttentionPool => self.attention_pool(layer.whole("heads")),
            Kind::Onnx => self.network(layer),
            Kind::Residual | Kind::Parallel | Kind::Repeat => {
                Err((format!("{name} stands where no list may"), None))
            }
            Kind::Dropout => self.dropout(layer.real("rate")),
        }
    }

    /// Each channel alone, then a convolution of one position that mixes them.
    fn separable_conv(&mut self, layer: &Layer, window: Window) -> Result<(), Trouble> {
        let [c, _, _] = self.image(layer.spec.name)?;
        let (out, point) = (layer.whole("out"), Window::square(1, 1, 0));
        let path = self.name.clone();
        self.name = format!("{path}.depthwise");
        self.conv(c, window, c, false)?;
        self.name = format!("{path}.pointwise");
        self.conv(out, point, 1, layer.flag("bias"))
    }

    fn layer_norm(&mut self, epsilon: f32) -> Result<(), Trouble> {
        // Tokens are normalised one by one, everything else as a whole.
        let axis = if self.sample.len() == 2 { 2 } else { 1 };
        let over = self.sample[axis - 1..].to_vec();
        let inputs = [
            self.filled("weight", &over, 1.0),
            self.filled("bias", &over, 0.0),
        ];
        let params = 2 * over.iter().product::<usize>();
        self.counted("", Op::LayerNorm { axis, epsilon }, &inputs, params)
    }

    /// Drops shares of the current value in training.
    fn dropout(&mut self, rate: f32) -> Result<(), Trouble> {
        // What another branch reads must not be dropped for it.
        if self.shared == Some(self.at) {
            self.push("", Op::Identity, &[])?;
        }
        let value = self.builder.name(self.at).to_string();
        self.dropout.push(Dropout { value, rate });
        Ok(())
    }

    fn batch_norm(&mut self, layer: &Layer, channels: usize) -> Result<(), Trouble> {
        let parts = [
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ];
        let inputs: Vec<ValueId> = parts
            .iter()
            .map(|(part, v)| self.filled(part, &[channels], *v))
            .collect();
        let epsilon = layer.real("epsilon");
        self.counted("", Op::BatchNorm { epsilon }, &inputs, 2 * channels)
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
            .map(|&v| (self.builder.shape(v).clone(), DType::F32))
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
}
