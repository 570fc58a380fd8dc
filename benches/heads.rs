//! Trains a replica head at every exit point of a network over a folder of images, says how long that
//! takes and how many test images each gets right; `scripts/check-heads` holds those against PyTorch.
//!
//! `cargo bench --bench heads -- NETWORK.onnx IMAGES [OUT]`, the folder of images having `train` and
//! `test`. Preprocessing is that of `sessions/cifar10-resnet20.ron`. With OUT, the pooled features, the
//! labels and the heads' first weights are written there as .npy files, and the results as JSON.

use edgelesspart::backend::Compiled;
use edgelesspart::data::{Calibration, Fit, LoadOptions, LoadedData, Preprocessing, Set, Source};
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::exits;
use edgelesspart::exits::Head;
use edgelesspart::model::onnx::import_file;
use edgelesspart::model::{Graph, LayerTable, fuse};
use edgelesspart::run::samples::Images;
use edgelesspart::train::{
    CacheLimits, Event, HeadSpec, Samples, Task, TrainingConfig, forward_scores, train_heads,
};
use serde_json::json;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

const EPOCHS: usize = 15;
const BATCH: usize = 128;
const SEED: u64 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let args: Vec<&str> = args.into_iter().filter(|a| *a != "--bench").collect();
    let (&[network, images], out) = (args.get(..2).unwrap_or_default(), args.get(2)) else {
        println!(
            "skipped: say which with `cargo bench --bench heads -- NETWORK.onnx IMAGES [OUT]`"
        );
        return Ok(());
    };
    heads(Path::new(network), Path::new(images), out.map(Path::new))
}

fn heads(network: &Path, images: &Path, out: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let fused = fuse(&import_file(network)?);
    let table = LayerTable::new(&fused)?;
    let source = exits::replica(&fused)?;
    let points = exits::points(&table, &fused).into_iter();
    let heads = points.map(|p| exits::head(&source, &p, "edge", SEED));
    let heads = heads.collect::<Result<Vec<Head>, _>>()?;
    let cancel = Cancel::new();
    let input = table.input.sample().ok_or("images are wanted")?;
    let load = LoadOptions {
        input: [input[0], input[1], input[2]],
        fit: Fit::Stretch,
        classes: Some(table.classes),
        outputs: Vec::new(),
        output_names: Vec::new(),
        // One image, so that as good as all are left to test.
        calibration: Calibration::FromTest(1),
        train: None,
        test: None,
        seed: SEED,
    };
    let folder = Source::ImageFolder(images.to_owned());
    let data = LoadedData::load(&folder, &load, &mut |_| {}, &cancel)?;
    let pixels = Preprocessing {
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        ..Preprocessing::default()
    };
    let (train, test) = (
        Images::new(&data, Set::Train, &pixels)?,
        Images::new(&data, Set::Test, &pixels)?,
    );
    if let Some(out) = out {
        std::fs::create_dir_all(out)?;
        for (name, samples) in [("train", &train), ("test", &test)] {
            dump(out, name, &fused, &heads, samples)?;
        }
    }
    let hyper = TrainingConfig::for_heads(EPOCHS, BATCH, SEED);
    let task = Task::new(&train, &hyper, &cancel);
    let limits = CacheLimits::memory(1 << 30);
    let specs: Vec<HeadSpec> = heads.iter().map(HeadSpec::from).collect();
    let (start, mut epochs) = (Instant::now(), 0.0);
    let trained = train_heads(&fused, &specs, &task, &limits, &mut |event| {
        if let Event::Epoch { seconds, .. } = event {
            epochs += seconds;
        }
    })?;
    let whole = start.elapsed().as_secs_f64();
    println!(
        "{} heads, {EPOCHS} epochs over {} images: {epochs:.1} s, with the features {whole:.1} s",
        heads.len(),
        train.len()
    );
    let pairs: Vec<(&str, &Graph)> = heads
        .iter()
        .map(|h| h.point.value.as_str())
        .zip(&trained)
        .collect();
    let scores = forward_scores(&fused, &pairs, &test, &cancel, &mut |_| {})?;
    let names = heads.iter().map(|h| h.point.after.as_str());
    let mut results = Vec::new();
    for (name, scores) in names.chain(["the network"]).zip(&scores) {
        let accuracy = right(scores, table.classes, &test);
        println!("{name:24} {:.2} %", 100.0 * accuracy);
        results.push(json!({"after": name, "accuracy": accuracy}));
    }
    if let Some(out) = out {
        let results = json!({
            "epochs": EPOCHS, "batch": BATCH, "seconds": epochs, "heads": results,
            "learning_rate": hyper.learning_rate, "weight_decay": hyper.weight_decay,
        });
        std::fs::write(out.join("results.json"), results.to_string())?;
    }
    Ok(())
}

fn right(scores: &[f32], classes: usize, samples: &dyn Samples) -> f64 {
    let rows = scores.chunks_exact(classes).enumerate();
    let hits = rows.filter(|(i, row)| {
        let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        best == Some(usize::from(samples.label(*i)))
    });
    hits.count() as f64 / samples.len() as f64
}

/// The means over positions at each exit point, the labels, and (once) the heads' first weights.
fn dump(
    out: &Path,
    name: &str,
    fused: &Graph,
    heads: &[Head],
    samples: &dyn Samples,
) -> Result<(), Box<dyn Error>> {
    let cuts = heads.iter().map(|h| fused.find(&h.point.value));
    let cuts = cuts.collect::<Result<Vec<_>, _>>()?;
    let engine = Engine::new(fused.subgraph(&fused.inputs, &cuts)?, &Options::default())?;
    let size: usize = fused.value(fused.inputs[0]).shape.elements(1);
    let mut features = vec![Vec::new(); heads.len()];
    let indices: Vec<usize> = (0..samples.len()).collect();
    for chunk in indices.chunks(64) {
        let mut input = vec![0.0; chunk.len() * size];
        for (row, &i) in input.chunks_exact_mut(size).zip(chunk) {
            samples.input(i, row);
        }
        let tensors = engine.run_f32(chunk.len(), &[&input], &Cancel::new())?;
        for ((all, tensor), head) in features.iter_mut().zip(&tensors).zip(heads) {
            let plane: usize = head.point.sample[1..].iter().product();
            let means = tensor.chunks_exact(plane);
            all.extend(means.map(|p| p.iter().sum::<f32>() / plane as f32));
        }
    }
    for (i, (features, head)) in features.iter().zip(heads).enumerate() {
        let shape = [samples.len(), head.point.sample[0]];
        npy(&out.join(format!("{name}-{i}.npy")), &shape, features)?;
        for (constant, values) in head.weights() {
            let part = constant.rsplit('.').next().unwrap_or_default();
            let file = out.join(format!("{part}-{i}.npy"));
            npy(&file, &values.shape, values.floats().unwrap_or_default())?;
        }
    }
    let labels: Vec<f32> = (0..samples.len())
        .map(|i| f32::from(samples.label(i)))
        .collect();
    npy(
        &out.join(format!("{name}-labels.npy")),
        &[labels.len()],
        &labels,
    )
}

/// Writes NumPy's format, version 1.
fn npy(file: &Path, shape: &[usize], values: &[f32]) -> Result<(), Box<dyn Error>> {
    let shape: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let about = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}",
        shape.join(" ")
    );
    let padded = (10 + about.len() + 1).next_multiple_of(64) - 10;
    let mut file = std::io::BufWriter::new(std::fs::File::create(file)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&u16::try_from(padded)?.to_le_bytes())?;
    writeln!(file, "{about:width$}", width = padded - 1)?;
    file.write_all(bytemuck::cast_slice(values))?;
    Ok(file.flush()?)
}
