use super::*;
use crate::engine::Cancel;
use crate::model::{Activation, Builder, Constant, Graph, Op, Shape};

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

fn hyper(epochs: usize) -> Hyper {
    Hyper {
        epochs,
        batch: 8,
        learning_rate: 1e-2,
        ..Hyper::default()
    }
}

fn spec(graph: &Graph) -> [HeadSpec<'_>; 1] {
    [HeadSpec {
        name: "first".into(),
        value: "a".into(),
        graph,
    }]
}

#[test]
fn a_tiny_network_learns_its_samples_by_heart() {
    let mut last = 0.0;
    let mut see = |e| {
        if let Event::Epoch { scores, .. } = e {
            last = scores[0].2;
        }
    };
    let cancel = Cancel::new();
    train_joint(
        &net(),
        1.0,
        &[],
        &Toy(32),
        &hyper(60),
        None,
        &cancel,
        &mut see,
    )
    .unwrap();
    assert_eq!(last, 1.0);
}

#[test]
fn joint_training_moves_backbone_and_head() {
    let head = head();
    let branch = [Branch {
        name: "first".into(),
        value: "a".into(),
        graph: &head,
        weight: 1.0,
    }];
    let cancel = Cancel::new();
    let net = net();
    let (trained, heads) = train_joint(
        &net,
        0.0,
        &branch,
        &Toy(16),
        &hyper(1),
        None,
        &cancel,
        &mut |_| {},
    )
    .unwrap();
    let changed = |a: &Graph, b: &Graph, name: &str| {
        let id = a.find(name).unwrap();
        a.constants[&id] != b.constants[&id]
    };
    assert!(changed(&net, &trained, "a.weight"));
    assert!(changed(&head, &heads[0], "fc.weight"));
}

#[test]
fn a_killed_training_resumes_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    let (net, data) = (net(), Toy(20));
    let run = |saved: Option<&std::path::Path>, stop: usize| {
        let cancel = Cancel::new();
        let mut epochs = Vec::new();
        let result = train_joint(&net, 1.0, &[], &data, &hyper(4), saved, &cancel, &mut |e| {
            if let Event::Epoch { epoch, .. } = e {
                epochs.push(epoch);
                if epoch == stop {
                    cancel.cancel();
                }
            }
        });
        (result, epochs)
    };
    let whole = run(None, 9).0.unwrap().0;
    assert!(run(Some(&path), 2).0.is_err());
    let (resumed, epochs) = run(Some(&path), 9);
    assert_eq!(epochs, [3, 4]);
    assert_eq!(resumed.unwrap().0, whole);
}

#[test]
fn heads_on_cached_features_equal_heads_on_fresh_ones() {
    let (net, head, data) = (net(), head(), Toy(20));
    let run = |bytes: usize| {
        let mut fresh = false;
        let mut see = |e| fresh |= matches!(e, Event::NoCache { .. });
        let cancel = Cancel::new();
        let heads = train_heads(
            &net,
            &spec(&head),
            &data,
            &hyper(3),
            bytes,
            None,
            &cancel,
            &mut see,
        );
        (heads.unwrap().remove(0), fresh)
    };
    // The cache holds 16 pooled floats a sample, not the 16·6·6 at the cut.
    let (cached, fresh) = run(20 * 16 * 4);
    assert!(!fresh);
    let (recomputed, fresh) = run(20 * 16 * 4 - 1);
    assert!(fresh);
    let id = head.find("fc.weight").unwrap();
    let floats = |g: &Graph| g.constants[&id].floats().unwrap().to_vec();
    assert_ne!(floats(&cached), floats(&head));
    for (a, b) in floats(&cached).iter().zip(floats(&recomputed)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}
