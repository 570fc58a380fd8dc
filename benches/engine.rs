//! Times whole networks: best and median milliseconds of a run after warm-up.
//!
//! `cargo bench --bench engine` runs the networks under `../shared/models/torchvision`;
//! `cargo bench --bench engine -- MODEL.onnx BATCH THREADS RUNS [steps]` one network, with the best
//! time of each step if asked. `scripts/compare-onnxruntime` sets it against ONNX Runtime.

use edgelesspart::backend::Compiled;
use edgelesspart::device::memory::resident;
use edgelesspart::engine::{Cancel, Engine, Options, TensorMut, TensorRef};
use edgelesspart::model::{fuse::fused, onnx::import_file};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [model, batch, threads, runs, rest @ ..] = args.as_slice() {
        let steps = rest.iter().any(|a| a == "steps");
        return time(
            Path::new(model),
            batch.parse()?,
            threads.parse()?,
            runs.parse()?,
            steps,
        );
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/torchvision");
    for name in ["mobilenetv2_32", "resnet50_32", "inceptionv3_75"] {
        let model = folder.join(format!("{name}.onnx"));
        if !model.is_file() {
            println!("skipped: no {}", model.display());
            continue;
        }
        for (batch, runs) in [(1, 60), (32, 15)] {
            time(&model, batch, 2, runs, false)?;
        }
    }
    Ok(())
}

fn time(
    model: &Path,
    batch: usize,
    threads: usize,
    runs: usize,
    steps: bool,
) -> Result<(), Box<dyn Error>> {
    let engine = Engine::new(fused(import_file(model)?), &Options { threads })?;
    let loading = resident().ok();
    let len = engine.inputs()[0].elements(batch);
    let input: Vec<f32> = (0..len).map(|i| (i as f32 * 0.731).sin()).collect();
    let cancel = Cancel::new();
    for _ in 0..3 {
        engine.run_f32(batch, &[&input], &cancel)?;
    }
    let mut times = vec![];
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        engine.run_f32(batch, &[&input], &cancel)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let memory = engine.memory(batch)?;
    println!(
        "{} batch {batch} threads {threads}: best {:.3} median {:.3} ms, weights {:.1} MB, arena {:.1} MB",
        model.file_stem().unwrap_or_default().to_string_lossy(),
        times[0],
        times[times.len() / 2],
        memory.weight_bytes as f64 / 1e6,
        memory.arena_bytes as f64 / 1e6
    );
    if let Some(loading) = loading {
        let file = std::fs::metadata(model)?.len() as f64;
        println!(
            "at most {:.2} times the file in memory while loading",
            loading.peak_bytes as f64 / file
        );
    }
    if steps {
        let kernels = engine.steps(batch)?;
        let mut best = vec![f64::INFINITY; kernels.len()];
        let mut output = vec![0.0; engine.outputs()[0].elements(batch)];
        let mut times = vec![];
        for _ in 0..runs.max(1) {
            let inputs = [TensorRef::F32(&input)];
            let mut outputs = [TensorMut::F32(&mut output)];
            engine.run_timed(batch, &inputs, &mut outputs, &cancel, &mut times)?;
            for (best, time) in best.iter_mut().zip(&times) {
                *best = best.min(time.as_secs_f64() * 1e3);
            }
        }
        for (step, best) in kernels.iter().zip(&best) {
            println!("{best:8.4}  {:20} {}", step.kernel, step.node);
        }
        println!("{:8.4}  in all", best.iter().sum::<f64>());
        cost_of_timing(&engine, batch, &input, runs)?;
    }
    Ok(())
}

/// What timing the steps costs: timed and untimed runs in turn.
fn cost_of_timing(
    engine: &Engine,
    batch: usize,
    input: &[f32],
    runs: usize,
) -> Result<(), Box<dyn Error>> {
    let mut output = vec![0.0; engine.outputs()[0].elements(batch)];
    let (cancel, mut steps) = (Cancel::new(), vec![]);
    let (mut plain, mut timed, mut sums) = (vec![], vec![], vec![]);
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        engine.run_into(batch, &[input], &mut [&mut output], &cancel)?;
        plain.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let inputs = [TensorRef::F32(input)];
        let mut outputs = [TensorMut::F32(&mut output)];
        engine.run_timed(batch, &inputs, &mut outputs, &cancel, &mut steps)?;
        timed.push(start.elapsed().as_secs_f64() * 1e3);
        sums.push(steps.iter().sum::<std::time::Duration>().as_secs_f64() * 1e3);
    }
    for times in [&mut plain, &mut timed, &mut sums] {
        times.sort_by(f64::total_cmp);
    }
    let middle = runs.max(1) / 2;
    println!(
        "timed / untimed: best {:.4}, median {:.4}; sum of steps / untimed: best {:.4}, median {:.4}",
        timed[0] / plain[0],
        timed[middle] / plain[middle],
        sums[0] / plain[0],
        sums[middle] / plain[middle]
    );
    Ok(())
}
