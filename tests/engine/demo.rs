//! The demo network needs its depth: exits get better with it, plain images leave early and hard ones
//! need the end. Otherwise there would be nothing to show.

use edgelesspart::backend::Compiled;
use edgelesspart::data::{
    Calibration, Fit, LoadOptions, LoadedData, Preprocessing, Set, Source, synthetic::is_easy,
};
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::exits;
use edgelesspart::model::{LayerTable, fuse};
use edgelesspart::run::samples::{Images, accuracy};
use edgelesspart::session::ModelSource;
use edgelesspart::train::{CacheLimits, HeadSpec, Samples, Task, TrainingConfig, train_heads};

/// Rows of scores, as many as samples.
fn right(scores: &[f32], data: &LoadedData) -> Vec<bool> {
    let rows = scores.chunks_exact(data.classes()).enumerate();
    rows.map(|(i, row)| {
        let label = usize::from(data.label(Set::Calibration, i));
        (0..row.len()).all(|k| k == label || row[k] < row[label])
    })
    .collect()
}

fn share(right: &[bool], counts: impl Fn(usize) -> bool) -> f64 {
    let of: Vec<bool> = (0..right.len())
        .filter(|&i| counts(i))
        .map(|i| right[i])
        .collect();
    of.iter().filter(|&&r| r).count() as f64 / of.len() as f64
}

/// Synthetic images, 3000 to train on and 1000 held out.
fn images(cancel: &Cancel) -> LoadedData {
    let options = LoadOptions {
        input: [3, 32, 32],
        fit: Fit::Stretch,
        classes: Some(10),
        outputs: Vec::new(),
        output_names: Vec::new(),
        calibration: Calibration::FromTrain(1000),
        train: Some(3000),
        test: Some(1),
        seed: 7,
    };
    let source = Source::Synthetic { seed: 7 };
    LoadedData::load(&source, &options, &mut |_| {}, cancel).unwrap()
}

#[test]
fn exits_get_better_with_depth() {
    let cancel = Cancel::new();
    let data = images(&cancel);
    let pixels = Preprocessing::default();
    let fused = fuse(&ModelSource::Demo.load(0).unwrap());
    let table = LayerTable::new(&fused).unwrap();
    let points = exits::points(&table, &fused);
    let replica = exits::replica(&fused).unwrap();
    let heads: Vec<_> = points
        .iter()
        .map(|p| exits::head(&replica, p, "edge", 1).unwrap())
        .collect();
    let specs: Vec<HeadSpec> = heads.iter().map(HeadSpec::from).collect();
    let train = Images::new(&data, Set::Train, &pixels).unwrap();
    let hyper = TrainingConfig {
        batch: 64,
        learning_rate: 1e-2,
        ..TrainingConfig::default()
    };
    let task = Task::new(&train, &hyper, &cancel);
    let limits = CacheLimits::memory(1 << 30);
    let trained = train_heads(&fused, &specs, &task, &limits, &mut |_| {}).unwrap();

    let held_out = Images::new(&data, Set::Calibration, &pixels).unwrap();
    let values: Vec<_> = points
        .iter()
        .map(|p| fused.find(&p.value).unwrap())
        .chain(fused.outputs.clone())
        .collect();
    let engine = Engine::new(
        fused.subgraph(&fused.inputs, &values).unwrap(),
        &Options::default(),
    )
    .unwrap();
    let count = held_out.len();
    let mut input = vec![0.0; count * 3072];
    for (i, out) in input.chunks_exact_mut(3072).enumerate() {
        held_out.input(i, out);
    }
    let mut features = engine.run_f32(count, &[&input], &cancel).unwrap();
    let last = right(&features.pop().unwrap(), &data);
    let exits: Vec<Vec<bool>> = trained
        .iter()
        .zip(&features)
        .map(|(head, feature)| {
            let head = Engine::new(fuse(head), &Options::default()).unwrap();
            right(&head.run_f32(count, &[feature], &cancel).unwrap()[0], &data)
        })
        .collect();

    let easy = |i: usize| is_easy(data.difficulty(Set::Calibration, i).unwrap());
    let mut rows = Vec::new();
    for (name, right) in points
        .iter()
        .map(|p| p.after.as_str())
        .zip(&exits)
        .chain([("end", &last)])
    {
        let row = [
            share(right, |_| true),
            share(right, easy),
            share(right, |i| !easy(i)),
        ];
        let [all, plain, hard] = row.map(|s| 100.0 * s);
        println!("{name:10} all {all:5.1} %  easy {plain:5.1} %  hard {hard:5.1} %");
        rows.push(row);
    }
    let end = rows[rows.len() - 1];
    let whole = Engine::new(fused, &Options::default()).unwrap();
    let alone = accuracy(&whole, &held_out, 64, &cancel).unwrap();
    assert!((end[0] - alone).abs() < 2.5e-3, "{} {alone}", end[0]);
    // Plain images are right in the end, hard ones mostly; halfway many plain ones are right already,
    // so that leaving there is worth a thought and costs something.
    assert!(end[0] > 0.9 && end[1] > 0.97 && end[2] > 0.75, "{rows:?}");
    let middle = rows[rows.len() / 2];
    assert!(middle[1] > 0.8 && middle[2] < 0.7, "{rows:?}");
    assert!(rows[0][0] < 0.4, "{rows:?}");
}
