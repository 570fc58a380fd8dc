//! The engine and ONNX Runtime in turn, in one process, on the networks of the paper: the ratio of
//! medians, and how far apart the outputs are.
//!
//! `ORT_DYLIB_PATH=…/libonnxruntime.so.VERSION cargo bench --features ort --bench onnxruntime --
//! [ROUNDS] [THREADS]`; the library is in the `capi` folder of PyPI's onnxruntime wheel. The
//! networks are those of `model::zoo`, whose weights are drawn: they don't matter here.

use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::model::zoo::ZooModel;
use edgelesspart::model::{export, fuse::fuse};
use ort::session::Session;
use ort::value::TensorRef;
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

fn compare(
    name: &str,
    size: usize,
    batch: usize,
    rounds: usize,
    threads: usize,
) -> Result<(), Box<dyn Error>> {
    let graph = name.parse::<ZooModel>()?.build((3, size, size), 10, 1)?;
    let bytes = export::to_onnx(&graph)?;
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut theirs = Session::builder()?
        .with_intra_threads(threads)
        .map_err(|e| text(&e))?
        .commit_from_memory(&bytes)?;
    drop(bytes);
    let ours = Engine::new(fuse(&graph), &Options { threads })?;
    let input: Vec<f32> = (0..batch * 3 * size * size)
        .map(|i| (i as f32 * 0.731).sin())
        .collect();
    let shape = [batch, 3, size, size];
    let cancel = Cancel::new();
    let (mut a, mut b) = (vec![], vec![]);
    let (mut wanted, mut found) = (vec![], vec![]);
    for _ in 0..rounds {
        burst(&mut a, || {
            let outputs =
                theirs.run(ort::inputs![TensorRef::from_array_view((shape, &*input))?])?;
            wanted = outputs[0].try_extract_tensor::<f32>()?.1.to_vec();
            Ok(())
        })?;
        burst(&mut b, || {
            found = ours.run_f32(batch, &[&input], &cancel)?.remove(0);
            Ok(())
        })?;
    }
    for times in [&mut a, &mut b] {
        times.sort_by(f64::total_cmp);
    }
    let (theirs, ours) = (a[a.len() / 2], b[b.len() / 2]);
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let apart = wanted.iter().zip(&found).map(|(w, f)| (w - f).abs());
    println!(
        "{name:12} {size:3}×{size:<3} batch {batch:2}: ONNX Runtime {theirs:8.3}  engine {ours:8.3}  \
         ratio {:.2} (best {:.2})  apart {:.1e}",
        ours / theirs,
        b[0] / a[0],
        apart.fold(0.0, f32::max) / largest
    );
    Ok(())
}
