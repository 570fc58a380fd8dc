/*! Networks from ONNX files as layers of a head. */

use super::{HeadBuilder, MAX_PARAMS, Trouble, shape_text, trouble};
use crate::exits::diagnostic::Finding;
use crate::exits::layer::Layer;
use crate::model::op::Binary;
use crate::model::{
    DType, Dim, Graph, LayerTable, Node, Op, ValueId, ends_in_softmax, fuse, without_softmax,
};
use std::collections::BTreeMap;

impl HeadBuilder<'_> {
    /// The network of the layer's file, its weights as the file has them.
    pub(super) fn network(&mut self, layer: &Layer) -> Result<(), Trouble> {
        let file = layer.text("file");
        let bytes = self.library.file(file).map_err(|why| {
            let help = "name an ONNX file, relative to the source".to_string();
            (format!("`{file}` can't be read: {why}"), Some(help))
        })?;
        let imported = crate::model::onnx::import_bytes(&bytes, file);
        let mut graph = imported.map_err(|e| (e.to_string(), None))?;
        if ends_in_softmax(&graph) {
            graph = without_softmax(&graph);
            let message = format!("the softmax at the end of `{file}` is left out");
            let finding = Finding::new(layer.span, message);
            self.warnings
                .push(finding.help("heads give logits; softmax is applied once, behind them"));
        }
        let trainable = layer.flag("trainable");
        // Batch norms that are kept can be folded away; trained ones need their batches.
        let fused = fuse(&graph);
        let table = LayerTable::new(&fused).map_err(|e| (format!("`{file}`: {e}"), None))?;
        if !trainable {
            graph = fused;
        }
        let output = self.fits_network(file, &graph)?;
        let params: usize = graph.nodes.iter().map(|n| n.params).sum();
        if params.saturating_add(self.params) > MAX_PARAMS {
            let message = format!("`{file}` has {params} parameters: a head may have {MAX_PARAMS}");
            return trouble(message, "take a smaller network");
        }
        self.graft(&graph, trainable)?;
        self.sample = output;
        self.params += params;
        self.macs += table.macs;
        self.files.push(bytes);
        Ok(())
    }

    /// The extents of a sample of its output, if the network takes what is there.
    fn fits_network(&self, file: &str, graph: &Graph) -> Result<Vec<usize>, Trouble> {
        let ([input], [output]) = (graph.inputs.as_slice(), graph.outputs.as_slice()) else {
            let message = format!("`{file}` has several inputs or outputs");
            return trouble(message, "a head takes one tensor and gives one");
        };
        let (input, output) = (graph.value(*input), graph.value(*output));
        let batched = |shape: &crate::model::Shape| shape.0.first() == Some(&Dim::Batch(1));
        let takes = input
            .shape
            .sample()
            .filter(|_| batched(&input.shape) && input.dtype == DType::F32);
        if takes.as_ref() != Some(&self.sample) {
            let (shape, here) = (&input.shape, shape_text(&self.sample));
            let message = format!("`{file}` takes {shape}, not N×{here}");
            return trouble(
                message,
                "ask `{% if channels == … %}` first, or bring the features to that shape",
            );
        }
        let gives = output.shape.sample();
        match gives.filter(|_| batched(&output.shape) && output.dtype == DType::F32) {
            Some(sample) => Ok(sample),
            None => {
                let message = format!("`{file}` gives {}", output.shape);
                trouble(message, "a head gives numbers, a row per sample")
            }
        }
    }

    /// FieldKind the network's nodes over. Weights to keep go through an `Identity`, behind which
    /// training doesn't look for parameters, and which fusion takes away.
    fn graft(&mut self, graph: &Graph, trainable: bool) -> Result<(), Trouble> {
        let mut known: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let path = self.name.clone();
        known.extend(graph.inputs.iter().map(|&input| (input, self.at)));
        let mut kept: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for node in &graph.nodes {
            let weighs = matches!(
                node.op,
                Op::Conv { .. }
                    | Op::Gemm { .. }
                    | Op::MatMul
                    | Op::LayerNorm { .. }
                    | Op::InstanceNorm { .. }
                    | Op::BatchNorm { .. }
                    | Op::Binary(Binary::Add | Binary::PRelu, _)
            );
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &input in &node.inputs {
                let value = graph.value(input);
                let name = format!("{path}.{}", value.name);
                let constant = graph.constants.get(&input);
                let id = match (known.get(&input), constant) {
                    (Some(&id), _) => id,
                    (None, Some(constant)) => {
                        let id = self.builder.constant(&name, constant.clone());
                        known.insert(input, id);
                        id
                    }
                    (None, None) => {
                        return Err((format!("`{}` is read before it is there", value.name), None));
                    }
                };
                let keep = !trainable && weighs && constant.is_some_and(|c| c.floats().is_some());
                inputs.push(match (keep, kept.get(&input)) {
                    (false, _) => id,
                    (true, Some(&id)) => id,
                    (true, None) => {
                        let shape = value.shape.clone();
                        let name = format!("{name}.kept");
                        let id = self.builder.node(&name, Op::Identity, &[id], shape, 0);
                        kept.insert(input, id);
                        id
                    }
                });
            }
            let mut outputs = Vec::with_capacity(node.outputs.len());
            for &output in &node.outputs {
                let value = graph.value(output);
                let name = format!("{path}.{}", value.name);
                let id = self.builder.value(&name, value.dtype, value.shape.clone());
                known.insert(output, id);
                outputs.push(id);
            }
            self.builder.append(Node {
                name: format!("{path}.{}", node.name),
                op: node.op.clone(),
                inputs,
                outputs,
                params: node.params,
            });
        }
        let end = graph.outputs.first().and_then(|o| known.get(o));
        self.at = *end.ok_or_else(|| ("gives nothing".to_string(), None))?;
        Ok(())
    }
}
