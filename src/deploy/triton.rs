/*!
A part as a model repository for NVIDIA's Triton Inference Server:

| model in the repository | what it is                                                               |
|-------------------------|--------------------------------------------------------------------------|
| `TIER`                  | the part: `model.py` over the segments, which stops at a confident exit; |
|                         | one ONNX file where it has no exit, or what it has `model.py` can't do   |
| `TIER-segment-0`, …     | a segment and the head behind it, in ONNX Runtime                        |
| `TIER-progressive`      | the part in one graph that stops by itself, one sample at a time         |

A segment and its head are one model, so that a sample passes Triton once for both.
*/

use super::DeployError;
use super::flat::flat;
use super::pbtxt::{Field, Message};
use super::progressive::progressive;
use super::serving::Serving;
use crate::runtime::manifest::{Extent, Manifest, OutputKind, PartFiles, Tensor};
use crate::runtime::parts::{Part, PartError};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Samples in one batch, at most, where the network takes any number.
pub(super) const BATCH: i64 = 32;
/// Runs the segments of a part.
const MODEL: &str = include_str!("../../assets/deploy/model.py");
const LABELS: &str = "labels.txt";

/// A repository's files, by their paths in it.
pub(super) type Files = Vec<(PathBuf, Vec<u8>)>;

/// The repository of a part whose tier is called `tier`, what the manifest says of the part, and why no model
/// of it stops early.
pub(super) fn repository(
    part: &Part,
    tier: &str,
    serving: &Serving,
) -> Result<(Files, Manifest, Option<&'static str>), DeployError> {
    let manifest = PartFiles::of(part)?.manifest;
    let mut repository = Repository {
        part,
        manifest: &manifest,
        tier,
        serving,
        files: Vec::new(),
    };
    let exits = manifest.segments.iter().any(|s| s.exit.is_some());
    let without = if !exits {
        Some("the part has no exit")
    } else if part.settings.confidence.looks_back() {
        Some("its exits look at what the exits before said, which Triton doesn't tell a model")
    } else if repository.samples().is_none() {
        Some("the network's file fixes another number of samples than one")
    } else {
        None
    };
    if without.is_some() {
        repository.flat()?;
    } else {
        repository.segments()?;
        repository.progressive()?;
    }
    Ok((repository.files, manifest, without))
}

struct Repository<'a> {
    part: &'a Part,
    manifest: &'a Manifest,
    tier: &'a str,
    serving: &'a Serving,
    files: Files,
}

/// How many samples a request to a model holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Samples {
    /// Any number; Triton makes batches of requests.
    Any,
    /// One.
    One,
}

/// A segment as `model.py` reads it.
#[derive(Serialize)]
struct SegmentParameter<'a> {
    model: String,
    input: &'a str,
    output: &'a str,
    logits: Option<&'a str>,
    temperature: f64,
}

impl Repository<'_> {
    /// What a request to a model over the segments holds; `None` where the network's file fixes another number
    /// of samples. A tensor is sent on, or not, sample by sample.
    fn samples(&self) -> Option<Samples> {
        let first = |tensor: &Tensor| tensor.shape.first().cloned();
        let segments = &self.manifest.segments;
        let input = segments.iter().map(|s| first(&s.input));
        let extents: Vec<Option<Extent>> = input
            .chain(segments.iter().map(|s| first(&s.output)))
            .collect();
        let any = Some(Extent::Samples("N".to_string()));
        if extents.iter().all(|e| *e == any) {
            let ends = self.manifest.output.kind != OutputKind::Tensor;
            return Some(if ends { Samples::Any } else { Samples::One });
        }
        let one = !matches!(extents.first(), Some(Some(Extent::Fixed(n))) if *n != 1);
        one.then_some(Samples::One)
    }

    /// The part in one ONNX file as the model of the tier.
    fn flat(&mut self) -> Result<(), DeployError> {
        let (bytes, said) = flat(self.part)?;
        let model = self.onnx(self.tier, &self.manifest.input, &said.outputs);
        let labelled = self.manifest.output.kind != OutputKind::Tensor;
        self.add(self.tier, model, "model.onnx", bytes, labelled);
        Ok(())
    }

    /// A model for each segment and its head, and the one that runs them.
    fn segments(&mut self) -> Result<(), DeployError> {
        let mut config = self.part_config();
        let (mut exits, mut segments) = (0, Vec::new());
        for (number, segment) in self.part.segments.iter().enumerate() {
            let entry = &self.manifest.segments[number];
            let name = format!("{}-segment-{number}", self.tier);
            let alone = Part {
                segments: vec![segment.clone()],
                ..self.part.clone()
            };
            let (bytes, said) = flat(&alone)?;
            let model = self.onnx(&name, &entry.input, &said.outputs);
            let parameter = SegmentParameter {
                model: name.clone(),
                input: &entry.input.name,
                output: &entry.output.name,
                logits: said.outputs.get(1).map(|logits| logits.name.as_str()),
                temperature: entry
                    .exit
                    .as_ref()
                    .map_or(1.0, |exit| f64::from(exit.temperature)),
            };
            config = config.parameter(&format!("segment_{number}"), json(&parameter)?);
            if let Some(exit) = &entry.exit {
                let threshold = exit.threshold.to_string();
                config = config.parameter(&format!("threshold_{exits}"), threshold);
                exits += 1;
            }
            segments.push((name, model, bytes));
        }
        let model = MODEL.as_bytes().to_vec();
        self.add(self.tier, config, "model.py", model, true);
        for (name, model, bytes) in segments {
            self.add(&name, model, "model.onnx", bytes, false);
        }
        Ok(())
    }

    /// The model over the segments, but for what it says of each.
    fn part_config(&self) -> Message {
        let (input, output) = (&self.manifest.input, &self.manifest.output);
        let samples = self.samples().unwrap_or(Samples::One);
        let batch = match samples {
            Samples::Any => vec![],
            Samples::One => vec![1],
        };
        let dims = |rest: Vec<i64>| [batch.clone(), rest].concat();
        let each = || input.shape.iter().skip(1).map(extent).collect();
        let scores = if output.kind == OutputKind::Tensor {
            "logits"
        } else {
            &output.tensor.name
        };
        let classes = self.manifest.classes as i64;
        let scores = port(scores, "float32", dims(vec![classes]));
        let scores = self.labelled(scores);
        // In batches Triton wants one extent at least besides the samples.
        let mut outputs = vec![
            scores,
            port("exit", "int32", vec![1]),
            port("confidence", "float32", vec![1]),
        ];
        let extents: Vec<i64> = output.tensor.shape.iter().skip(1).map(extent).collect();
        let last = match output.kind {
            OutputKind::Logits => "logits",
            OutputKind::Probabilities => "probabilities",
            OutputKind::Tensor => {
                let rest = [vec![-1], extents.clone()].concat();
                outputs.push(port(&output.tensor.name, "float32", rest));
                "tensor"
            }
        };
        let mut config = Message::default()
            .with("name", self.tier)
            .with("backend", "python");
        config = match samples {
            Samples::Any => config
                .with("max_batch_size", BATCH)
                .with("dynamic_batching", self.batching()),
            Samples::One => config.with("max_batch_size", 0),
        };
        // One for each segment: while a batch is at one, the next comes in.
        let instances = self.manifest.segments.len() as i64;
        let group = group(instances, false);
        let measure = format!("{:?}", self.manifest.confidence);
        config
            .with("input", port(&input.name, "float32", dims(each())))
            .with_all("output", outputs)
            .with("instance_group", group)
            .parameter("confidence", measure)
            .parameter("final", last)
            .parameter("extents", format!("{extents:?}"))
    }

    fn progressive(&mut self) -> Result<(), DeployError> {
        let Some((bytes, said)) = progressive(self.part)? else {
            return Ok(());
        };
        let name = format!("{}-progressive", self.tier);
        let mut shape: Vec<i64> = self.manifest.input.shape.iter().map(extent).collect();
        shape.iter_mut().take(1).for_each(|samples| *samples = 1);
        let outputs = said.outputs.iter().enumerate().map(|(number, tensor)| {
            let shape = tensor.shape.iter().map(extent).collect();
            let port = port(&tensor.name, &tensor.dtype, shape);
            match number {
                0 => self.labelled(port),
                _ => port,
            }
        });
        // Its thresholds may be left out, and ONNX Runtime's backend knows no input that may.
        let model = self
            .onnx_config(&name)
            .with("max_batch_size", 0)
            .with("input", port(&self.manifest.input.name, "float32", shape))
            .with_all("output", outputs.collect::<Vec<_>>());
        self.add(&name, model, "model.onnx", bytes, true);
        Ok(())
    }

    /// A model in ONNX Runtime with inputs and outputs as its file has them.
    fn onnx(&self, name: &str, input: &Tensor, outputs: &[Tensor]) -> Message {
        let any = Extent::Samples("N".to_string());
        let batched =
            |tensor: &Tensor| tensor.shape.first() == Some(&any) && tensor.shape.len() > 1;
        let batched = batched(input) && outputs.iter().all(batched);
        let port = |tensor: &Tensor| {
            let shape = tensor.shape.iter().skip(usize::from(batched));
            port(&tensor.name, &tensor.dtype, shape.map(extent).collect())
        };
        let config = self.onnx_config(name);
        let config = if batched {
            let batching = match name == self.tier {
                true => self.batching(),
                // Their samples come in batches already.
                false => Message::default(),
            };
            config
                .with("max_batch_size", BATCH)
                .with("dynamic_batching", batching)
        } else {
            config.with("max_batch_size", 0)
        };
        let mut ports: Vec<Message> = outputs.iter().map(port).collect();
        if name == self.tier && self.manifest.output.kind != OutputKind::Tensor {
            ports = ports.into_iter().map(|p| self.labelled(p)).collect();
        }
        config.with("input", port(input)).with_all("output", ports)
    }

    fn onnx_config(&self, name: &str) -> Message {
        let config = Message::default()
            .with("name", name)
            .with("backend", "onnxruntime")
            .with("instance_group", group(1, self.serving.gpu));
        if self.serving.gpu {
            return config;
        }
        let threads = self.serving.threads.max(1).to_string();
        config.parameter("intra_op_thread_count", threads)
    }

    fn batching(&self) -> Message {
        let wait = self.serving.queue_us();
        wait.map_or(Message::default(), |us| {
            Message::default().with("max_queue_delay_microseconds", us)
        })
    }

    fn labelled(&self, port: Message) -> Message {
        match self.manifest.labels.is_empty() {
            true => port,
            false => port.with("label_filename", LABELS),
        }
    }

    fn add(&mut self, name: &str, config: Message, file: &str, bytes: Vec<u8>, labels: bool) {
        let folder = Path::new(name);
        let text = config.text().into_bytes();
        self.files.push((folder.join("config.pbtxt"), text));
        self.files.push((folder.join("1").join(file), bytes));
        if labels && !self.manifest.labels.is_empty() {
            // One per line.
            let lines = self.manifest.labels.iter();
            let lines = lines.map(|label| label.replace(['\n', '\r'], " ") + "\n");
            let text: String = lines.collect();
            self.files.push((folder.join(LABELS), text.into_bytes()));
        }
    }
}

fn extent(extent: &Extent) -> i64 {
    match extent {
        Extent::Fixed(n) => *n as i64,
        Extent::Samples(_) => -1,
    }
}

fn port(name: &str, dtype: &str, dims: Vec<i64>) -> Message {
    let dtype = match dtype {
        "int64" => "TYPE_INT64",
        "int32" => "TYPE_INT32",
        _ => "TYPE_FP32",
    };
    Message::default()
        .with("name", name)
        .with("data_type", Field::Word(dtype))
        .with_all("dims", dims)
}

fn group(count: i64, gpu: bool) -> Message {
    let kind = match gpu {
        true => "KIND_GPU",
        false => "KIND_CPU",
    };
    Message::default()
        .with("count", count)
        .with("kind", Field::Word(kind))
}

fn json(value: &impl Serialize) -> Result<String, DeployError> {
    let text = serde_json::to_string(value).map_err(|e| PartError::Export {
        file: "config.pbtxt".to_string(),
        what: e.to_string(),
    })?;
    Ok(text)
}
