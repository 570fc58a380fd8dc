use super::*;
use crate::backend::Compiled;
use crate::engine::{Engine, Options};
use crate::exits;
use crate::exits::{Dropout, Head, points, replica};
use crate::model::fuse::fuse;
use crate::model::layers::LayerTable;
use crate::model::zoo::ZooModel;
use crate::model::{Activation, Builder, Constant, Op, Shape};
use pretty_assertions::assert_eq;
use rstest::rstest;

mod recipe;
mod resume;
mod scores;

struct Toy(usize);

fn noise(i: usize) -> f32 {
    let v = (i as u32 ^ 77).wrapping_mul(2_654_435_761) >> 12;
    (v % 2001) as f32 / 1000.0 - 1.0
}

impl Samples for Toy {
    fn len(&self) -> usize {
        self.0
    }
    fn label(&self, index: usize) -> u16 {
        (index % 3) as u16
    }
    fn input(&self, index: usize, out: &mut [f32]) {
        for (i, v) in out.iter_mut().enumerate() {
            *v = noise(index * 1000 + i);
        }
    }
}

fn weights(n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| noise(i) * scale).collect()
}

fn classifier(b: &mut Builder, x: crate::model::ValueId, channels: usize) {
    let pooled = Shape::batched(&[channels, 1, 1]);
    let p = b.node("gap", Op::GlobalPool { average: true }, &[x], pooled, 0);
    let to = Shape::batched(&[channels]);
    let f = b.node("flat", Op::Reshape { to: to.0.clone() }, &[p], to, 0);
    let w = Constant::f32(&[3, channels], weights(3 * channels, 0.3));
    let w = b.constant("fc.weight", w);
    let c = b.constant("fc.bias", Constant::f32(&[3], vec![0.0; 3]));
    let op = Op::Gemm {
        trans_a: false,
        trans_b: true,
        alpha: 1.0,
        beta: 1.0,
        activation: Activation::NONE,
    };
    let y = b.node("logits", op, &[f, w, c], Shape::batched(&[3]), 0);
    b.output(y);
}

fn net() -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", Shape::batched(&[2, 6, 6]));
    let a = b.conv_with("a", x, weights(16 * 18, 0.4), 16, 3, 1, 1, Activation::RELU);
    let c = b.conv_with(
        "c",
        a,
        weights(16 * 144, 0.2),
        16,
        3,
        2,
        1,
        Activation::RELU,
    );
    classifier(&mut b, c, 16);
    b.finish()
}

fn head() -> Graph {
    let mut b = Builder::new("head");
    let x = b.input("x", Shape::batched(&[16, 6, 6]));
    classifier(&mut b, x, 16);
    b.finish()
}

fn hyper(epochs: usize) -> TrainingConfig {
    TrainingConfig {
        epochs,
        batch: 8,
        learning_rate: 1e-2,
        ..TrainingConfig::default()
    }
}

fn spec(graph: &Graph) -> HeadSpec<'_> {
    HeadSpec {
        name: "first".into(),
        value: "a".into(),
        graph,
        dropout: &[],
        recipe: HeadRecipe::default(),
    }
}

fn branch(graph: &Graph) -> Branch<'_> {
    Branch {
        head: spec(graph),
        weight: 1.0,
    }
}

/// A training, and the epochs it went through; it is stopped after epoch `stop`.
fn trained<R>(
    (data, hyper): (&dyn Samples, &TrainingConfig),
    saved: Option<&Path>,
    stop: usize,
    run: impl FnOnce(&Task<'_>, &mut dyn FnMut(Event)) -> Result<R, TrainError>,
) -> (Result<R, TrainError>, Vec<usize>) {
    let cancel = Cancel::new();
    let task = Task {
        data,
        hyper,
        judge: None,
        saved,
        cancel: &cancel,
    };
    let mut epochs = Vec::new();
    let result = run(&task, &mut |e| {
        if let Event::Epoch { epoch, .. } = e {
            epochs.push(epoch);
            if epoch == stop {
                cancel.cancel();
            }
        }
    });
    (result, epochs)
}

const MEMORY: CacheLimits = CacheLimits::memory(1 << 20);

#[test]
fn a_tiny_network_learns_its_samples_by_heart() {
    let mut last = 0.0;
    let cancel = Cancel::new();
    let hyper = hyper(60);
    let task = Task::new(&Toy(32), &hyper, &cancel);
    train_joint(&net(), 1.0, &[], &task, &mut |e| {
        if let Event::Epoch { scores, .. } = e {
            last = scores[0].2;
        }
    })
    .unwrap();
    assert_eq!(last, 1.0);
}

#[test]
fn joint_training_moves_backbone_and_head() {
    let (net, head) = (net(), head());
    let train = |weight| {
        let run = |task: &Task<'_>, on: &mut dyn FnMut(Event)| {
            let mut branch = branch(&head);
            branch.weight = weight;
            train_joint(&net, 0.0, &[branch], task, on)
        };
        trained((&Toy(16), &hyper(1)), None, 9, run).0.unwrap()
    };
    let changed = |a: &Graph, b: &Graph, name: &str| {
        let id = a.find(name).unwrap();
        a.constants[&id] != b.constants[&id]
    };
    let (learnt, heads) = train(1.0);
    assert!(changed(&net, &learnt, "a.weight"));
    assert!(changed(&head, &heads[0], "fc.weight"));
    // Nothing leads from the head's loss to the layers behind its cut; only the pull to zero does.
    let still = TrainingConfig {
        weight_decay: 0.0,
        ..hyper(1)
    };
    let run = |task: &Task<'_>, on: &mut dyn FnMut(Event)| {
        train_joint(&net, 0.0, &[branch(&head)], task, on)
    };
    let (learnt, _) = trained((&Toy(16), &still), None, 9, run).0.unwrap();
    assert!(changed(&net, &learnt, "a.weight"));
    assert!(!changed(&net, &learnt, "c.weight"));
}

#[test]
fn heads_learn_the_same_from_memory_disk_and_fresh_features() {
    let folder = tempfile::tempdir().unwrap();
    let (net, head, data, hyper) = (net(), head(), Toy(20), hyper(3));
    let cancel = Cancel::new();
    let task = Task::new(&data, &hyper, &cancel);
    let run = |memory_bytes: u64, folder: Option<&Path>| {
        let mut fresh = None;
        let limits = CacheLimits {
            memory_bytes,
            folder: folder.map(Path::to_path_buf),
            ..MEMORY
        };
        let heads = train_heads(&net, &[spec(&head)], &task, &limits, &mut |e| {
            if let Event::NoCache { bytes, bound, .. } = e {
                fresh = Some((bytes, bound));
            }
        });
        (heads.unwrap().remove(0), fresh)
    };
    // The cache holds 16 pooled floats a sample, not the 16·6·6 at the cut.
    let need = 20 * 16 * 4;
    let (cached, fresh) = run(need, None);
    assert_eq!(fresh, None);
    let (spilled, fresh) = run(need - 1, Some(folder.path()));
    assert_eq!(fresh, None);
    assert_eq!(spilled, cached);
    let (recomputed, fresh) = run(need - 1, None);
    assert_eq!(fresh, Some((need, need - 1)));
    let id = head.find("fc.weight").unwrap();
    let floats = |g: &Graph| g.constants[&id].floats().unwrap().to_vec();
    assert_ne!(floats(&cached), floats(&head));
    for (a, b) in floats(&cached).iter().zip(floats(&recomputed)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_stop_is_heard_while_features_are_made() {
    let (net, head, hyper) = (net(), head(), hyper(3));
    let cancel = Cancel::new();
    let task = Task::new(&Toy(200), &hyper, &cancel);
    let mut done = 0;
    let stopped = train_heads(&net, &[spec(&head)], &task, &MEMORY, &mut |e| {
        if let Event::Features { done: so_far, .. } = e {
            done = so_far;
            cancel.cancel();
        }
    });
    assert!(matches!(
        stopped,
        Err(TrainError::Engine(EngineError::Cancelled))
    ));
    assert!(done < 200);
}

/// Every network built in learns four samples by a few steps, pools and all.
#[rstest]
#[case::resnet8(ZooModel::ResNet { depth: 8, width: 8 }, 0.05)]
#[case::resnet20(ZooModel::ResNet { depth: 20, width: 4 }, 0.05)]
#[case::mobilenet(ZooModel::MobileNetV2 { width: 0.25 }, 0.01)]
#[case::resnet50(ZooModel::ResNet50, 0.005)]
#[case::inception(ZooModel::InceptionV3, 0.01)]
fn zoo_networks_learn(#[case] model: ZooModel, #[case] learning_rate: f64) {
    let size = model.least_input();
    let graph = model.build((3, size, size), 10, 1).unwrap();
    let hyper = TrainingConfig {
        learning_rate,
        flip: false,
        shift: 0,
        ..TrainingConfig::for_backbone(6, 4, 1)
    };
    let cancel = Cancel::new();
    let task = Task::new(&Toy(4), &hyper, &cancel);
    let mut losses = Vec::new();
    train_joint(&graph, 1.0, &[], &task, &mut |e| {
        if let Event::Epoch { scores, .. } = e {
            losses.push(scores[0].1);
        }
    })
    .unwrap();
    // Norms over four samples at maps of a single pixel jump: the least loss tells.
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least < 0.7 * losses[0], "{losses:?}");
}

/// A fused network, without batch norms but with residual convolutions, is fine-tuned as a whole.
#[test]
fn a_fused_network_is_fine_tuned() {
    let model = ZooModel::ResNet { depth: 8, width: 8 };
    let graph = fuse(&model.build((3, 16, 16), 10, 1).unwrap());
    let residual = |op: &Op| matches!(op, Op::Conv { residual: true, .. });
    assert!(graph.nodes.iter().any(|n| residual(&n.op)));
    let mut losses = Vec::new();
    let hyper = TrainingConfig {
        flip: false,
        shift: 0,
        ..TrainingConfig::for_joint(8, 128, 1)
    };
    let (tuned, _) = trained((&Toy(8), &hyper), None, 9, |task, _| {
        train_joint(&graph, 1.0, &[], task, &mut |e| {
            if let Event::Epoch { scores, .. } = e {
                losses.push(scores[0].1);
            }
        })
    })
    .0
    .unwrap();
    assert!(losses[7] < 0.9 * losses[0], "{losses:?}");
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    assert!(
        tuned
            .constants
            .keys()
            .any(|id| tuned.constants[id] != graph.constants[id])
    );
}
