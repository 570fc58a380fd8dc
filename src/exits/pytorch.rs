/*!
A head as PyTorch source: a module of the same structure, whose `state_dict` has the names and shapes
of the graph's constants, so that weights go over by name.
*/

mod network;

use super::layer::{Kind, Layer};
use super::{Head, Line, names, parse};
use crate::model::Graph;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Why a head can't be written as PyTorch source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PyTorchError {
    /// Its layers aren't there to be written.
    #[error("the head after `{after}` was stored without its layers; render its source again")]
    Stored {
        /// Layer after which the head stands.
        after: String,
    },
    /// A network from a file that holds what has no such form.
    #[error(
        "the network of `{file}` can't be written as PyTorch source because of {what}; export the head \
         as ONNX"
    )]
    Network {
        /// Path of the network's file.
        file: String,
        /// What stands in the way.
        what: String,
    },
}

/// Modules that PyTorch has no class for, each with the names of those it needs.
const HELPERS: &[(&str, &str)] = &[
    (
        "Residual",
        "class Residual(nn.Sequential):\n    def forward(self, x):\n        return x + super().forward(x)\n",
    ),
    (
        "Parallel",
        "class Parallel(nn.Module):\n    def __init__(self, branches, dim=None):\n        \
         super().__init__()\n        self.dim = dim\n        for i, branch in enumerate(branches):\n            \
         self.add_module(str(i), branch)\n\n    def forward(self, x):\n        \
         outs = [branch(x) for branch in self.children()]\n        \
         return sum(outs) if self.dim is None else torch.cat(outs, self.dim)\n",
    ),
    (
        "Mix",
        "class Mix(nn.Module):\n    def __init__(self, branches):\n        \
         super().__init__()\n        count = len(branches)\n        \
         self.weight = nn.Parameter(torch.full((count - 1, 1), 1 / count))\n        \
         for i, branch in enumerate(branches):\n            \
         self.add_module(str(i), branch)\n\n    def forward(self, x):\n        \
         *others, last = [branch(x) for branch in self.children()]\n        \
         return last + sum(a * (out - last) for a, out in zip(self.weight[:, 0], others))\n",
    ),
    (
        "Separable",
        "class Separable(nn.Sequential):\n    def __init__(self, depthwise, pointwise):\n        \
         super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise))\n",
    ),
    (
        "SqueezeExcite",
        "class SqueezeExcite(nn.Module):\n    def __init__(self, channels, hidden):\n        \
         super().__init__()\n        self.down = nn.Conv2d(channels, hidden, 1)\n        \
         self.up = nn.Conv2d(hidden, channels, 1)\n\n    def forward(self, x):\n        \
         gate = self.down(x.mean((2, 3), keepdim=True)).relu()\n        \
         return x * self.up(gate).sigmoid()\n",
    ),
    (
        "AttentionPool",
        "class AttentionPool(nn.Module):\n    def __init__(self, channels, heads):\n        \
         super().__init__()\n        self.heads = heads\n        \
         self.weight = nn.Parameter(torch.randn(channels, heads) * (2 / channels) ** 0.5)\n\n    \
         def forward(self, x):\n        if x.dim() == 4:\n            x = x.flatten(2).transpose(1, 2)\n        \
         n, t, c = x.shape\n        weights = (x @ self.weight).transpose(1, 2).softmax(2)\n        \
         values = x.reshape(n, t, self.heads, c // self.heads).transpose(1, 2)\n        \
         return (weights.unsqueeze(2) @ values).reshape(n, c)\n",
    ),
    (
        "TokenLinear",
        "class TokenLinear(nn.Module):\n    def __init__(self, features, out, bias=True):\n        \
         super().__init__()\n        \
         self.weight = nn.Parameter(torch.randn(features, out) * (2 / features) ** 0.5)\n        \
         self.bias = nn.Parameter(torch.zeros(out)) if bias else None\n\n    def forward(self, x):\n        \
         y = x @ self.weight\n        return y if self.bias is None else y + self.bias\n",
    ),
    (
        "GemPool",
        "class GemPool(nn.Module):\n    def __init__(self, power, epsilon):\n        \
         super().__init__()\n        self.epsilon = epsilon\n        \
         self.register_buffer(\"power\", torch.tensor(power))\n        \
         self.register_buffer(\"root\", torch.tensor(1 / power))\n\n    def forward(self, x):\n        \
         x = x.clamp(min=self.epsilon) ** self.power\n        \
         dims = (2, 3) if x.dim() == 4 else (1,)\n        \
         return (x if x.dim() == 2 else x.mean(dims)) ** self.root\n",
    ),
    (
        "GlobalPool",
        "class GlobalPool(nn.Module):\n    def __init__(self, largest):\n        \
         super().__init__()\n        self.largest = largest\n\n    def forward(self, x):\n        \
         dims = (2, 3) if x.dim() == 4 else (1,)\n        \
         return x.amax(dims) if self.largest else x.mean(dims)\n",
    ),
];

/// The source of a module `Head`.
pub(super) fn source(head: &Head) -> Result<String, PyTorchError> {
    let stored = || PyTorchError::Stored {
        after: head.point.after.clone(),
    };
    let layers = parse::parse(&head.rendered, &names(&head.point)).map_err(|_| stored())?;
    let mut writer = Writer {
        lines: head.lines.iter(),
        helpers: BTreeSet::new(),
        graph: &head.graph,
        networks: Vec::new(),
        refused: None,
    };
    let body = writer.sequence(&layers, 2, "");
    if let Some(refused) = writer.refused {
        return Err(refused);
    }
    let Some(body) = body else {
        return Err(stored());
    };
    let mut text = format!(
        "# The exit classifier after `{}`, for inputs of N×{}.\nfrom collections import OrderedDict\n\n\
         import torch\nfrom torch import nn\n{}\n\n",
        head.point.after.replace(['\n', '\r'], " "),
        super::build::shape_text(&head.point.sample),
        match writer.networks.is_empty() {
            true => "",
            false => "from torch.nn import functional as F\n",
        }
    );
    if !writer.networks.is_empty() {
        let _ = write!(text, "{}\n\n{}\n\n", network::PLACE, network::AT);
    }
    for (name, helper) in HELPERS {
        if writer.helpers.contains(name) {
            let _ = writeln!(text, "{helper}\n");
        }
    }
    for network in &writer.networks {
        let _ = writeln!(text, "{network}\n");
    }
    let _ = write!(
        text,
        "class Head(nn.Sequential):\n    def __init__(self):\n        super().__init__({body})\n"
    );
    Ok(text)
}

struct Writer<'a> {
    /// Of the layers in the order they were built.
    lines: std::slice::Iter<'a, Line>,
    helpers: BTreeSet<&'static str>,
    graph: &'a Graph,
    /// The classes of networks from files.
    networks: Vec<String>,
    refused: Option<PyTorchError>,
}

impl Writer<'_> {
    /// The arguments of an `nn.Sequential` of named modules; `None` where lines and layers differ.
    fn sequence(&mut self, layers: &[Layer], depth: usize, prefix: &str) -> Option<String> {
        let inner = "    ".repeat(depth + 1);
        let mut text = "OrderedDict([\n".to_string();
        for (i, layer) in layers.iter().enumerate() {
            let name = format!("{}_{}", layer.spec.name.to_lowercase(), i + 1);
            let module = self.module(layer, depth + 1, &format!("{prefix}{name}"))?;
            let _ = writeln!(text, "{inner}(\"{name}\", {module}),");
        }
        let outer = "    ".repeat(depth);
        let _ = write!(text, "{outer}])");
        Some(text)
    }

    fn helper(&mut self, name: &'static str) -> &'static str {
        self.helpers.insert(name);
        name
    }

    fn module(&mut self, layer: &Layer, depth: usize, path: &str) -> Option<String> {
        let line = self.lines.next()?;
        let channels = line.input.first().copied()?;
        let flag = |name: &str| if layer.flag(name) { "True" } else { "False" };
        let window = || {
            let [kernel, stride, pad] = ["kernel", "stride", "pad"].map(|n| layer.whole(n));
            format!("{kernel}, stride={stride}, padding={pad}")
        };
        let epsilon = || format!("eps={:e}", layer.real("epsilon"));
        Some(match layer.spec.kind {
            Kind::Conv2d => {
                let (out, bias) = (layer.whole("out"), flag("bias"));
                format!("nn.Conv2d({channels}, {out}, {}, bias={bias})", window())
            }
            Kind::DepthwiseConv2d => format!(
                "nn.Conv2d({channels}, {channels}, {}, groups={channels}, bias={})",
                window(),
                flag("bias")
            ),
            Kind::SeparableConv2d => format!(
                "{}(nn.Conv2d({channels}, {channels}, {}, groups={channels}, bias=False), \
                 nn.Conv2d({channels}, {}, 1, bias={}))",
                self.helper("Separable"),
                window(),
                layer.whole("out"),
                flag("bias")
            ),
            Kind::BatchNorm1d => format!("nn.BatchNorm1d({channels}, {})", epsilon()),
            Kind::BatchNorm2d => format!("nn.BatchNorm2d({channels}, {})", epsilon()),
            Kind::LayerNorm => {
                let over = match line.input[..] {
                    [_, features] => vec![features],
                    _ => line.input.clone(),
                };
                format!("nn.LayerNorm({over:?}, {})", epsilon())
            }
            Kind::Relu => "nn.ReLU()".into(),
            Kind::Relu6 => "nn.ReLU6()".into(),
            Kind::LeakyRelu => format!("nn.LeakyReLU({})", layer.real("slope")),
            Kind::Gelu => "nn.GELU()".into(),
            Kind::Silu => "nn.SiLU()".into(),
            Kind::HardSwish => "nn.Hardswish()".into(),
            Kind::Sigmoid => "nn.Sigmoid()".into(),
            Kind::Tanh => "nn.Tanh()".into(),
            Kind::MaxPool2d => format!("nn.MaxPool2d({})", window()),
            Kind::AvgPool2d => format!("nn.AvgPool2d({})", window()),
            Kind::AdaptiveAvgPool2d => format!("nn.AdaptiveAvgPool2d({})", layer.whole("out")),
            Kind::GlobalAvgPool | Kind::GlobalMaxPool | Kind::AttentionPool | Kind::Flatten
                if line.input.len() == 1 =>
            {
                "nn.Identity()".into()
            }
            Kind::GlobalAvgPool => format!("{}(largest=False)", self.helper("GlobalPool")),
            Kind::GlobalMaxPool => format!("{}(largest=True)", self.helper("GlobalPool")),
            Kind::GemPool => {
                let (power, epsilon) = (layer.real("power"), layer.real("epsilon"));
                format!("{}({power}, {epsilon:e})", self.helper("GemPool"))
            }
            Kind::Flatten => "nn.Flatten()".into(),
            Kind::Linear => self.linear(layer, line)?,
            Kind::Dropout => format!("nn.Dropout({})", layer.real("rate")),
            Kind::SqueezeExcite => {
                let hidden = (channels / layer.whole("reduction").max(1)).max(1);
                format!("{}({channels}, {hidden})", self.helper("SqueezeExcite"))
            }
            Kind::AttentionPool => {
                let channels = match line.input[..] {
                    [_, features] => features,
                    _ => channels,
                };
                let heads = layer.whole("heads");
                format!("{}({channels}, {heads})", self.helper("AttentionPool"))
            }
            Kind::Residual => {
                let inner = self.branch(layer, depth, &format!("{path}."))?;
                format!("{}({inner})", self.helper("Residual"))
            }
            Kind::Repeat => self.repeat(layer, depth, path)?,
            Kind::Parallel => self.parallel(layer, line, depth, path)?,
            Kind::Onnx => self.network(layer, path),
        })
    }

    fn linear(&mut self, layer: &Layer, line: &Line) -> Option<String> {
        let class = match line.input.len() {
            1 => "nn.Linear",
            _ => self.helper("TokenLinear"),
        };
        let features = line.input.last()?;
        let bias = if layer.flag("bias") { "True" } else { "False" };
        let out = layer.whole("out");
        Some(format!("{class}({features}, {out}, bias={bias})"))
    }

    /// The only list in a layer, its modules named under `prefix`.
    fn branch(&mut self, layer: &Layer, depth: usize, prefix: &str) -> Option<String> {
        self.sequence(layer.branches().first()?, depth, prefix)
    }

    fn repeat(&mut self, layer: &Layer, depth: usize, path: &str) -> Option<String> {
        let mut all = Vec::new();
        for time in 0..layer.whole("times") {
            let inner = self.branch(layer, depth, &format!("{path}.{time}."))?;
            all.push(format!("nn.Sequential({inner})"));
        }
        Some(format!("nn.Sequential({})", all.join(", ")))
    }

    fn parallel(&mut self, layer: &Layer, line: &Line, depth: usize, path: &str) -> Option<String> {
        let mut all = Vec::new();
        for (i, branch) in layer.branches().iter().enumerate() {
            let inner = self.sequence(branch, depth, &format!("{path}.{i}."))?;
            all.push(format!("nn.Sequential({inner})"));
        }
        let (class, dim) = match (layer.whole("join"), line.output.len()) {
            (0, 2) => ("Parallel", ", dim=2"),
            (0, _) => ("Parallel", ", dim=1"),
            (1, _) => ("Parallel", ""),
            _ => ("Mix", ""),
        };
        let class = self.helper(class);
        Some(format!("{class}([{}]{dim})", all.join(", ")))
    }

    /// A network from a file, as a class of its own; a refusal is kept for [`source`] to tell.
    fn network(&mut self, layer: &Layer, path: &str) -> String {
        let class = format!("Onnx{}", self.networks.len() + 1);
        let (file, trainable) = (layer.text("file"), layer.flag("trainable"));
        match network::class(self.graph, path, &class, file, trainable) {
            Ok(text) => self.networks.push(text),
            Err(refused) => {
                self.refused.get_or_insert(refused);
            }
        }
        format!("{class}()")
    }
}
