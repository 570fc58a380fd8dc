//! The engine, ONNX Runtime, tract and rten in turn, in one process, on the networks of the paper: the
//! ratios of medians, and how far apart the outputs are.
//!
//! `ORT_DYLIB_PATH=…/libonnxruntime.so.VERSION cargo bench --package peers -- [ROUNDS] [THREADS]` (tract
//! has one thread); the library is in the `capi` folder of PyPI's onnxruntime wheel. The networks are those of `model::zoo`, whose weights are drawn: they don't matter here.

mod onnxruntime;
mod rten;
mod tract;
mod unpacked;

use edgelesspart::backend::Compiled;
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::model::zoo::ZooModel;
use edgelesspart::model::{export, fuse::fuse};
use std::error::Error;
use std::time::{Duration, Instant};

/// Network, small input, native input.
const NETWORKS: [(&str, usize, usize); 3] = [
    ("mobilenetv2", 32, 224),
    ("resnet50", 32, 224),
    ("inceptionv3", 75, 299),
];

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = std::env::args().skip(1).filter(|a| a != "--bench");
    let numbers: Vec<usize> = numbers.map(|a| a.parse()).collect::<Result<_, _>>()?;
    let rounds = numbers.first().copied().unwrap_or(5).max(1);
    let threads = numbers.get(1).copied().unwrap_or(2);
    onnxruntime::find()?;
    println!("{threads} threads, {rounds} rounds; milliseconds, medians of all runs");
    for (name, small, native) in NETWORKS {
        for (size, batch) in [(small, 1), (small, 32), (native, 1)] {
            compare(name, size, batch, rounds, threads)?;
        }
    }
    Ok(())
}

/// Runs `f` for about a third of a second, and at least thrice.
fn burst(
    times: &mut Vec<f64>,
    mut f: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    f()?;
    let start = Instant::now();
    let mut runs = 0;
    while runs < 3 || start.elapsed() < Duration::from_millis(300) {
        let one = Instant::now();
        f()?;
        times.push(one.elapsed().as_secs_f64() * 1e3);
        runs += 1;
    }
    // The other side's threads spin on for a while, and would take the cores from this one.
    std::thread::sleep(Duration::from_millis(60));
    Ok(())
}

/// Runs one engine on the input, and gives its output.
pub type Run<'a> = Box<dyn FnMut() -> Result<Vec<f32>, Box<dyn Error>> + 'a>;

fn compare(
    name: &str,
    size: usize,
    batch: usize,
    rounds: usize,
    threads: usize,
) -> Result<(), Box<dyn Error>> {
    let graph = name.parse::<ZooModel>()?.build((3, size, size), 10, 1)?;
    let bytes = export::to_onnx(&graph)?;
    let ours = Engine::new(fuse(&graph), &Options { threads })?;
    let input: Vec<f32> = (0..batch * 3 * size * size)
        .map(|i| (i as f32 * 0.731).sin())
        .collect();
    let shape = [batch, 3, size, size];
    let cancel = Cancel::new();
    let mut runs: Vec<(&str, Run)> = vec![
        (
            "engine",
            Box::new(|| Ok(ours.run_f32(batch, &[&input], &cancel)?.remove(0))),
        ),
        (
            "ONNX Runtime",
            onnxruntime::load(&bytes, shape, &input, threads)?,
        ),
        ("tract", tract::load(&bytes, shape, &input)?),
        ("rten", rten::load(&bytes, shape, &input, threads)?),
    ];
    drop(bytes);
    let mut times = vec![Vec::new(); runs.len()];
    let mut outputs = vec![Vec::new(); runs.len()];
    for _ in 0..rounds {
        for ((times, output), (_, run)) in times.iter_mut().zip(&mut outputs).zip(&mut runs) {
            burst(times, || {
                *output = run()?;
                Ok(())
            })?;
        }
    }
    times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
    let median = |i: usize| times[i][times[i].len() / 2];
    print!(
        "{name:12} {size:3}×{size:<3} batch {batch:2}: engine {:8.3}",
        median(0)
    );
    for (i, (peer, _)) in runs.iter().enumerate().skip(1) {
        let largest = outputs[i]
            .iter()
            .fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let apart = outputs[i]
            .iter()
            .zip(&outputs[0])
            .map(|(w, f)| (w - f).abs());
        print!(
            "  {peer} {:8.3} ratio {:.2} (best {:.2}) apart {:.1e}",
            median(i),
            median(0) / median(i),
            times[0][0] / times[i][0],
            apart.fold(0.0, f32::max) / largest
        );
    }
    println!();
    Ok(())
}
