//! Times training: milliseconds a step of a backbone, seconds of a set of heads.
//!
//! `cargo bench --bench training` runs all; `-- resnet20`, `-- heads` only what has that in its name.

use edgelesspart::autograd::{Run, TrainableGraph};
use edgelesspart::engine::Cancel;
use edgelesspart::model::zoo::ZooModel;
use edgelesspart::model::{Activation, Builder, Constant, Graph, Op, Shape};
use edgelesspart::train::{
    CacheLimits, Event, HeadRecipe, HeadSpec, Samples, Task, TrainingConfig, train_heads,
    train_joint,
};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    for (name, depth) in [
        ("resnet8 3x32x32 batch 64", 8),
        ("resnet20 3x32x32 batch 64", 20),
    ] {
        if asked(name) {
            backbone(name, depth)?;
        }
    }
    let name = "heads 9 cuts 50000 samples 15 epochs";
    if asked(name) {
        heads(name)?;
    }
    Ok(())
}

/// Images of noise in ten classes.
struct Noise {
    count: usize,
}

impl Samples for Noise {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> u16 {
        (index % 10) as u16
    }

    fn input(&self, index: usize, out: &mut [f32]) {
        let mut state = index as u32 ^ 0x9e37_79b9;
        for v in out.iter_mut() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *v = (state >> 8) as f32 / (1 << 23) as f32 - 1.0 + (index % 10) as f32 * 0.05;
        }
    }
}

fn report(name: &str, what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!("{name}: {what} best {:.1} median {median:.1} ms", times[0]);
}

fn backbone(name: &str, depth: usize) -> Result<(), Box<dyn Error>> {
    let graph = ZooModel::ResNet { depth, width: 16 }.build((3, 32, 32), 10, 1)?;
    let net = TrainableGraph::new(&graph)?;
    let mut input = vec![0.0; 64 * 3 * 32 * 32];
    Noise { count: 1 }.input(0, &mut input);
    let device = net.device();
    let input = candle_core::Tensor::from_vec(input, (64, 3, 32, 32), &device)?;
    let cancel = Cancel::new();
    let (mut forward, mut both) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let start = Instant::now();
        let (y, tape) = net.record(
            std::slice::from_ref(&input),
            &graph.outputs,
            &Run::new(&cancel),
        )?;
        forward.push(start.elapsed().as_secs_f64() * 1e3);
        let seed = y[0].flatten_all()?.to_vec1()?;
        tape.backward(vec![(graph.outputs[0], seed)], &cancel)?;
        both.push(start.elapsed().as_secs_f64() * 1e3);
    }
    report(name, "forward", &mut forward);
    report(name, "forward and backward", &mut both);
    // Whole steps: augmentation, loss and optimizer too.
    let steps = 8;
    let hyper = TrainingConfig::for_backbone(4, 64, 1);
    let data = Noise { count: 64 * steps };
    let mut times = Vec::new();
    let mut see = |event| {
        if let Event::Epoch { seconds, .. } = event {
            times.push(seconds * 1e3 / steps as f64);
        }
    };
    let task = Task::new(&data, &hyper, &cancel);
    train_joint(&graph, 1.0, &[], &task, &mut see)?;
    report(name, "step", &mut times);
    Ok(())
}

/// Pooled features of nine cuts like resnet20's, at next to no cost for the backbone.
fn features() -> Graph {
    let mut b = Builder::new("features");
    let mut x = b.input("x", Shape::batched(&[16, 2, 2]));
    let mut channels = 16;
    for cut in 0..9 {
        let wide = [16, 32, 64][cut / 3];
        let weights = (0..wide * channels).map(|i| ((i * 7919) as f32).sin() * 0.4);
        let weights = weights.collect();
        x = b.conv_with(
            &format!("cut{cut}"),
            x,
            weights,
            wide,
            1,
            1,
            0,
            Activation::RELU,
        );
        channels = wide;
    }
    b.output(x);
    b.finish()
}

fn head(channels: usize) -> Graph {
    let mut b = Builder::new("head");
    let x = b.input("x", Shape::batched(&[channels, 2, 2]));
    let shape = Shape::batched(&[channels, 1, 1]);
    let p = b.node("pool", Op::GlobalPool { average: true }, &[x], shape, 0);
    let to = Shape::batched(&[channels]);
    let f = b.node("flatten", Op::Reshape { to: to.0.clone() }, &[p], to, 0);
    let weights = (0..10 * channels).map(|i| ((i * 31) as f32).sin() * 0.1);
    let w = Constant::f32(&[10, channels], weights.collect());
    let w = b.constant("weight", w);
    let c = b.constant("bias", Constant::f32(&[10], vec![0.0; 10]));
    let op = Op::Gemm {
        trans_a: false,
        trans_b: true,
        alpha: 1.0,
        beta: 1.0,
        activation: Activation::NONE,
    };
    let y = b.node("logits", op, &[f, w, c], Shape::batched(&[10]), 0);
    b.output(y);
    b.finish()
}

fn heads(name: &str) -> Result<(), Box<dyn Error>> {
    let backbone = features();
    let graphs: Vec<Graph> = (0..9).map(|cut| head([16, 32, 64][cut / 3])).collect();
    let specs: Vec<HeadSpec> = graphs
        .iter()
        .enumerate()
        .map(|(cut, graph)| HeadSpec {
            name: format!("cut{cut}"),
            value: format!("cut{cut}"),
            graph,
            dropout: &[],
            recipe: HeadRecipe::default(),
        })
        .collect();
    let hyper = TrainingConfig::for_heads(15, 256, 1);
    let start = Instant::now();
    let mut epochs = 0.0;
    let mut see = |event| {
        if let Event::Epoch { seconds, .. } = event {
            epochs += seconds;
        }
    };
    let data = Noise { count: 50_000 };
    let cancel = Cancel::new();
    let task = Task::new(&data, &hyper, &cancel);
    let limits = CacheLimits::memory(1 << 30);
    train_heads(&backbone, &specs, &task, &limits, &mut see)?;
    println!(
        "{name}: epochs {epochs:.1} s, with features {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
