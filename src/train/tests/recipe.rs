/*! Each setting of a recipe does what it says, to heads alone and together with the network. */

use super::*;
use pretty_assertions::assert_eq;

/// Three classes that a linear head can tell apart for the most part: the label is in the mean.
struct Shades {
    count: usize,
    /// One in so many labels is wrong.
    wrong: usize,
    /// Where the numbers of the samples begin.
    from: usize,
}

impl Samples for Shades {
    fn len(&self) -> usize {
        self.count
    }
    fn label(&self, index: usize) -> u16 {
        let i = index + self.from;
        ((i + usize::from(i.is_multiple_of(self.wrong))) % 3) as u16
    }
    fn input(&self, index: usize, out: &mut [f32]) {
        let i = index + self.from;
        for (k, v) in out.iter_mut().enumerate() {
            *v = 0.7 * noise(i * 1000 + k) + (i % 3) as f32 * 0.4 - 0.4;
        }
    }
    fn identity(&self) -> String {
        format!("{} {} {}", self.count, self.wrong, self.from)
    }
}

const LEARNT: Shades = Shades {
    count: 96,
    wrong: 4,
    from: 0,
};
const JUDGES: Shades = Shades {
    count: 60,
    wrong: 1000,
    from: 5000,
};

fn with(recipe: HeadRecipe) -> HeadSpec<'static> {
    HeadSpec {
        recipe,
        ..spec(Box::leak(Box::new(head())))
    }
}

/// The head's weights after some epochs over the frozen network.
fn frozen(specs: &[HeadSpec<'_>], hyper: &TrainingConfig) -> Vec<Vec<f32>> {
    let (heads, _) = trained((&LEARNT, hyper), None, 99, |task, on| {
        train_heads(&net(), specs, task, &MEMORY, on)
    });
    heads.unwrap().iter().map(floats).collect()
}

/// The same together with the network.
fn joint(recipe: HeadRecipe, hyper: &TrainingConfig) -> Vec<f32> {
    let spec = with(recipe);
    let (made, _) = trained((&LEARNT, hyper), None, 99, |task, on| {
        let branch = Branch {
            head: spec.clone(),
            weight: 1.0,
        };
        train_joint(&net(), 1.0, &[branch], task, on)
    });
    floats(&made.unwrap().1[0])
}

fn floats(graph: &Graph) -> Vec<f32> {
    let id = graph.find("fc.weight").unwrap();
    graph.constants[&id].floats().unwrap().to_vec()
}

fn norm(v: &[f32]) -> f32 {
    v.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

#[test]
fn each_head_has_its_own_rate_and_decay() {
    let usual = HeadRecipe::default();
    let slow = HeadRecipe {
        learning_rate: Some(1e-6),
        ..usual
    };
    let drawn = HeadRecipe {
        weight_decay: Some(1.0),
        ..usual
    };
    let hyper = hyper(8);
    let all = frozen(&[with(usual), with(slow), with(drawn)], &hyper);
    // Side by side or alone, a head learns the same.
    assert_eq!(all[0], frozen(&[with(usual)], &hyper)[0]);
    let start = floats(&head());
    // The start is scaled by the features; what matters is how far a head went from it.
    let still = frozen(
        &[with(slow)],
        &TrainingConfig {
            epochs: 0,
            ..hyper.clone()
        },
    );
    assert!(apart(&all[1], &still[0]) < 0.05 * apart(&all[0], &still[0]));
    assert!(norm(&all[2]) < 0.9 * norm(&all[0]));
    let own = joint(slow, &hyper);
    assert!(apart(&own, &start) < 0.05 * apart(&joint(usual, &hyper), &start));
    assert!(norm(&joint(drawn, &hyper)) < norm(&joint(usual, &hyper)));
}

/// Mean of the largest probability over samples, through the head at `a`.
fn confidence(weights: &[HeadSpec<'_>], hyper: &TrainingConfig) -> f32 {
    let (heads, _) = trained((&LEARNT, hyper), None, 999, |task, on| {
        train_heads(&net(), weights, task, &MEMORY, on)
    });
    let heads = heads.unwrap();
    let pairs = [("a", &heads[0])];
    let scores = forward_scores(&net(), &pairs, &JUDGES, &Cancel::new(), &mut |_| {});
    let scores = scores.unwrap().remove(0);
    let tops = scores.chunks_exact(3).map(|row| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        1.0 / row.iter().map(|v| (v - top).exp()).sum::<f32>()
    });
    tops.sum::<f32>() / JUDGES.count as f32
}

#[test]
fn smoothing_makes_a_head_less_sure() {
    let smooth = HeadRecipe {
        label_smoothing: Some(0.6),
        ..HeadRecipe::default()
    };
    let hyper = hyper(40);
    let (plain, smoothed) = (
        confidence(&[with(HeadRecipe::default())], &hyper),
        confidence(&[with(smooth)], &hyper),
    );
    assert!(smoothed < plain - 0.1, "{plain} {smoothed}");
    // What the training's settings say is for heads that say nothing.
    let all = TrainingConfig {
        label_smoothing: 0.6,
        ..hyper
    };
    assert_eq!(confidence(&[with(HeadRecipe::default())], &all), smoothed);
}

/// How far a head's answers are from the final classifier's: mean divergence at temperature 1.
fn from_teacher(head: &Graph, network: &Graph) -> f32 {
    let scores = forward_scores(
        network,
        &[("a", head)],
        &JUDGES,
        &Cancel::new(),
        &mut |_| {},
    );
    let scores = scores.unwrap();
    let soft = |row: &[f32]| -> Vec<f32> {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: f32 = row.iter().map(|v| (v - top).exp()).sum();
        row.iter().map(|v| (v - top).exp() / all).collect()
    };
    let rows = scores[0].chunks_exact(3).zip(scores[1].chunks_exact(3));
    let apart = rows.map(|(own, final_)| {
        let (own, teacher) = (soft(own), soft(final_));
        let pairs = own.iter().zip(&teacher);
        pairs.map(|(o, t)| t * (t / o).ln()).sum::<f32>()
    });
    apart.sum::<f32>() / JUDGES.count as f32
}

#[test]
fn a_taught_head_answers_as_the_final_classifier() {
    let hyper = TrainingConfig {
        learning_rate: 3e-2,
        ..hyper(60)
    };
    let taught = HeadRecipe {
        distill: Some(Distill {
            temperature: 1.0,
            weight: 1.0,
        }),
        ..HeadRecipe::default()
    };
    let (net, head) = (net(), head());
    let run = |recipe: HeadRecipe, limits: &CacheLimits| {
        let (heads, _) = trained((&LEARNT, &hyper), None, 999, |task, on| {
            train_heads(&net, &[with(recipe)], task, limits, on)
        });
        heads.unwrap().remove(0)
    };
    let none = CacheLimits {
        memory_bytes: 0,
        ..MEMORY
    };
    let own = from_teacher(&run(HeadRecipe::default(), &MEMORY), &net);
    let after = from_teacher(&run(taught, &MEMORY), &net);
    // The final classifier has drawn weights and says other things than the labels.
    assert!(after < 0.2 * own, "{own} {after}");
    assert!(from_teacher(&run(taught, &none), &net) < 0.2 * own);
    // Together: the network stands still, its loss counting nothing, and teaches all the same.
    let (made, _) = trained((&LEARNT, &hyper), None, 999, |task, on| {
        let mut branch = branch(&head);
        branch.head.recipe = HeadRecipe {
            learning_rate: Some(3e-2),
            ..taught
        };
        let still = TrainingConfig {
            learning_rate: 0.0,
            ..hyper.clone()
        };
        let task = Task {
            hyper: &still,
            ..*task
        };
        train_joint(&net, 0.0, &[branch], &task, on)
    });
    let (network, heads) = made.unwrap();
    let after = from_teacher(&heads[0], &network);
    assert!(after < 0.3 * own, "{own} {after}");
}

/// Result, epochs, and where something stopped (last epoch, best epoch).
type Patient<R> = (Result<R, TrainError>, Vec<usize>, Vec<(usize, usize)>);

/// A training with patience: its result, the epochs it went through, and what it said of stopping.
fn patient<R>(
    hyper: &TrainingConfig,
    saved: Option<&Path>,
    stop: usize,
    run: impl FnOnce(&Task<'_>, &mut dyn FnMut(Event)) -> Result<R, TrainError>,
) -> Patient<R> {
    let mut stopped = Vec::new();
    let (result, epochs) = trained((&LEARNT, hyper), saved, stop, |task, on| {
        let task = Task {
            judge: Some(&JUDGES),
            ..*task
        };
        run(&task, &mut |e| {
            if let Event::Stopped { epoch, best, .. } = e {
                stopped.push((epoch, best));
            }
            on(e);
        })
    });
    (result, epochs, stopped)
}

#[test]
fn each_epoch_is_judged_on_images_nothing_learns_from_and_learns_the_same() {
    let (hyper, net) = (hyper(4), net());
    let specs = [with(HeadRecipe::default())];
    let branches = [Branch {
        head: specs[0].clone(),
        weight: 1.0,
    }];
    let right = |graph: &Graph| {
        let scores = forward_scores(&net, &[("a", graph)], &JUDGES, &Cancel::new(), &mut |_| {});
        let scores = scores.unwrap().remove(0);
        let best =
            |row: &[f32]| (0..3).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        let rows = scores.chunks_exact(3).enumerate();
        let hits = rows.filter(|(i, row)| best(row) == usize::from(JUDGES.label(*i)));
        hits.count() as f64 / JUDGES.count as f64
    };
    let run = |judge: Option<&dyn Samples>| {
        let cancel = Cancel::new();
        let task = Task {
            judge,
            ..Task::new(&LEARNT, &hyper, &cancel)
        };
        let mut told = Vec::new();
        let heads = train_heads(&net, &specs, &task, &MEMORY, &mut |e| {
            if let Event::Epoch { validation, .. } = e {
                told.push(validation);
            }
        });
        let mut both = Vec::new();
        let joint = train_joint(&net, 1.0, &branches, &task, &mut |e| {
            if let Event::Epoch { validation, .. } = e {
                both.push(validation);
            }
        });
        ((heads.unwrap(), joint.unwrap()), told, both)
    };
    let (judged, told, both) = run(Some(&JUDGES));
    let (alone, nothing, _) = run(None);
    assert_eq!(judged, alone);
    assert_eq!(nothing, vec![vec![None]; 4]);
    assert_eq!(told.len(), 4);
    assert_eq!(told[3], [Some(right(&judged.0[0]))]);
    // The network itself comes first.
    assert!(
        both.iter()
            .all(|epoch| epoch.len() == 2 && epoch.iter().all(Option::is_some))
    );
}

#[test]
fn a_head_stops_when_the_judges_say_and_is_at_its_best() {
    // A rate at which it first learns and then runs off.
    let hyper = TrainingConfig {
        learning_rate: 0.5,
        patience: Some(3),
        ..hyper(60)
    };
    let (net, head) = (net(), head());
    let fast = HeadRecipe {
        learning_rate: Some(0.5),
        ..HeadRecipe::default()
    };
    let slow = HeadRecipe {
        learning_rate: Some(1e-3),
        ..HeadRecipe::default()
    };
    let specs = [with(fast), with(slow)];
    let run = |saved: Option<&Path>, stop| {
        patient(&hyper, saved, stop, |task, on| {
            train_heads(&net, &specs, task, &MEMORY, on)
        })
    };
    let (heads, epochs, stopped) = run(None, 999);
    let heads = heads.unwrap();
    let (last, best) = stopped[0];
    assert_eq!(last, best + 3);
    assert!(last < 60, "{stopped:?}");
    // The slow one went on when the fast one had stopped.
    assert!(epochs.len() > last, "{epochs:?} {stopped:?}");
    // At its best: what a training that went no further gives. The rate depends on all epochs, so
    // the same training is only cut off there.
    let loss = |graph: &Graph| {
        let scores = forward_scores(&net, &[("a", graph)], &JUDGES, &Cancel::new(), &mut |_| {});
        let scores = scores.unwrap().remove(0);
        let rows = scores.chunks_exact(3).enumerate();
        let losses = rows.map(|(i, row)| {
            let all: f32 = row.iter().map(|v| v.exp()).sum();
            all.ln() - row[usize::from(JUDGES.label(i))]
        });
        losses.sum::<f32>() / JUDGES.count as f32
    };
    let all_epochs = TrainingConfig {
        patience: None,
        ..hyper.clone()
    };
    let (whole, _) = trained((&LEARNT, &all_epochs), None, 999, |task, on| {
        train_heads(&net, &specs[..1], task, &MEMORY, on)
    });
    assert!(loss(&heads[0]) < loss(&whole.unwrap()[0]));
    // Killed in between, it comes to the same.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    assert!(run(Some(&path), best + 1).0.is_err());
    let (again, _, later) = run(Some(&path), 999);
    assert_eq!((again.unwrap(), later), (heads, stopped));
    // Nobody to judge, nothing to stop.
    let (_, epochs) = trained(
        (
            &LEARNT,
            &TrainingConfig {
                epochs: 8,
                ..hyper.clone()
            },
        ),
        None,
        999,
        |task, on| train_heads(&net, &[spec(&head)], task, &MEMORY, on),
    );
    assert_eq!(epochs.len(), 8);
}

#[test]
fn together_all_stop_at_once_and_are_at_their_best() {
    let hyper = TrainingConfig {
        learning_rate: 0.2,
        patience: Some(2),
        ..hyper(40)
    };
    let (net, head) = (net(), head());
    let run = |saved: Option<&Path>, stop| {
        patient(&hyper, saved, stop, |task, on| {
            train_joint(&net, 1.0, &[branch(&head)], task, on)
        })
    };
    let (made, epochs, stopped) = run(None, 999);
    let (last, best) = stopped[0];
    assert_eq!((stopped.len(), last), (1, best + 2));
    assert_eq!(epochs.len(), last);
    // Cut off after its best epoch, the checkpoint holds the network as it then was.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    assert!(run(Some(&path), best).0.is_err());
    assert_eq!(
        learnt_so_far(&path, &net).unwrap(),
        made.as_ref().unwrap().0
    );
    let (again, _, later) = run(Some(&path), 999);
    assert_eq!((again.unwrap(), later), (made.unwrap(), stopped));
}

#[test]
fn kept_features_spare_the_backbone_and_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let limits = CacheLimits {
        kept: Some(folder.path().join("features")),
        ..MEMORY
    };
    let (net, head, hyper) = (net(), head(), hyper(2));
    let deeper = {
        let mut b = Builder::new("head");
        let x = b.input("x", Shape::batched(&[16, 3, 3]));
        classifier(&mut b, x, 16);
        b.finish()
    };
    let at = |value: &str, graph| HeadSpec {
        value: value.into(),
        ..spec(graph)
    };
    let run = |data: &dyn Samples, limits: &CacheLimits, specs: &[HeadSpec<'_>]| {
        let (mut made, mut kept) = (0, 0);
        let (heads, _) = trained((data, &hyper), None, 99, |task, on| {
            train_heads(&net, specs, task, limits, &mut |e| {
                match e {
                    Event::Features { .. } => made += 1,
                    Event::KeptFeatures { places } => kept += places,
                    _ => {}
                }
                on(e);
            })
        });
        (heads.unwrap(), made > 0, kept)
    };
    let both = [at("a", &head), at("c", &deeper)];
    let (first, made, kept) = run(&LEARNT, &limits, &both[..1]);
    assert_eq!((made, kept), (true, 0));
    // The second needs features of its own; those of the first are there.
    let (second, made, kept) = run(&LEARNT, &limits, &both);
    assert_eq!((made, kept), (true, 1));
    let (third, made, kept) = run(&LEARNT, &limits, &both);
    assert_eq!((made, kept), (false, 2));
    assert_eq!((&second[0], &second), (&first[0], &third));
    assert_eq!(run(&LEARNT, &MEMORY, &both).0, third);
    // Other samples have other features; those without an identity are never taken for others.
    assert_eq!(run(&JUDGES, &limits, &both).2, 0);
    for _ in 0..2 {
        assert_eq!(run(&Toy(20), &limits, &both).2, 0);
    }
}
