/*! An edit trains what it changed, and nothing else. */

use super::*;
use crate::backend::{Backend, CompileOptions, Native};
use crate::data::{Fit, LoadOptions};
use crate::exits::Classifier;
use crate::plan::TierHead;
use crate::run::pause::Pause;
use crate::session::ExitSettings;
use crate::train::HeadRecipe;
use pretty_assertions::assert_eq;

/// A small network, images, and a folder for what is kept.
struct Bench {
    session: Session,
    network: Network,
    data: LoadedData,
    folder: tempfile::TempDir,
}

/// What a training did: the heads that learnt, whether the backbone ran, and what came of it.
struct Did {
    learnt: Vec<String>,
    backbone: bool,
    heads: Vec<TierHead>,
    keys: Vec<String>,
    said: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        let text = "Session(version: 1,
            model: Zoo(network: ResNet8, input: (3, 32, 32), classes: 10, width: 0.25),
            data: Synthetic(seed: 3), calibration: FromTrain(60),
            exits: (training: Frozen(epochs: 2)))";
        let mut session = Session::parse(text, Path::new("small.ron")).unwrap();
        session.exits.classifier = plain();
        let network = Network::load(&session).unwrap();
        let load = LoadOptions {
            input: [3, 32, 32],
            fit: Fit::Stretch,
            classes: None,
            outputs: Vec::new(),
            output_names: Vec::new(),
            calibration: session.calibration,
            train: Some(96),
            test: Some(10),
            seed: 1,
        };
        let cancel = Cancel::new();
        let data = LoadedData::load(&session.data, &load, &mut |_| {}, &cancel).unwrap();
        Bench {
            session,
            network,
            data,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn train(&self, fresh: bool) -> Result<Did, RunError> {
        let keep = StageCache {
            stages: Stages::open(self.folder.path())?,
            fresh,
        };
        let mut did = Did {
            learnt: Vec::new(),
            backbone: false,
            heads: Vec::new(),
            keys: Vec::new(),
            said: Vec::new(),
        };
        let mut on = |event| match event {
            Event::Epoch {
                epoch: 1, scores, ..
            } => did.learnt.extend(scores.into_iter().map(|(name, ..)| name)),
            Event::Progress { note, .. } if note.contains("through the network") => {
                did.backbone = true;
            }
            Event::Say(said) => did.said.push(said.to_string()),
            _ => {}
        };
        let mut reporter = Reporter {
            stage: Stage::Heads,
            on: &mut on,
        };
        let heads = self.network.heads(&self.session, &mut reporter)?;
        let cancel = Cancel::new();
        let mut fleet = Fleet::new(&self.session, None, &cancel, Pause::new(None))?;
        let context = TrainingContext {
            session: &self.session,
            network: &self.network,
            data: &self.data,
            keep: &keep,
            folder: self.folder.path(),
            cancel: &cancel,
        };
        let learnt = context.frozen(&mut on, &heads, 2, &mut fleet)?;
        (did.heads, did.keys) = (learnt.heads, learnt.keys);
        Ok(did)
    }
}

fn plain() -> Classifier {
    Classifier::Template("[GlobalAvgPool, Linear(classes)]".into())
}

/// Another head at one point only.
fn edited(index: usize) -> Classifier {
    Classifier::Template(format!(
        "[GlobalAvgPool, {{% if index == {index} %}}Linear(8), Relu,{{% endif %}} Linear(classes)]"
    ))
}

#[test]
fn an_edit_for_one_exit_point_trains_only_that_head() {
    let mut bench = Bench::new();
    let names: Vec<String> = bench
        .network
        .points
        .iter()
        .map(|p| p.after.clone())
        .collect();
    assert!(names.len() >= 3);
    let first = bench.train(false).unwrap();
    assert_eq!((&first.learnt, first.backbone), (&names, true));
    // Nothing changed: the stage itself is kept.
    assert_eq!(bench.train(false).unwrap().learnt, Vec::<String>::new());
    // Nor does it matter whether they came one by one or as a whole.
    std::fs::remove_dir_all(bench.folder.path().join("stages/heads")).unwrap();
    assert_eq!(bench.train(false).unwrap().learnt, Vec::<String>::new());
    bench.session.exits.classifier = edited(1);
    let second = bench.train(false).unwrap();
    assert_eq!(second.learnt, names[1..2]);
    assert!(!second.backbone, "the features are there");
    assert!(
        second
            .said
            .iter()
            .any(|s| s.contains("exits are as they were trained before"))
    );
    for (i, (old, new)) in first.heads.iter().zip(&second.heads).enumerate() {
        assert_eq!(old == new, i != 1, "{}", names[i]);
    }
    // Back again: all of it is there.
    bench.session.exits.classifier = plain();
    let third = bench.train(false).unwrap();
    assert_eq!((third.learnt, third.heads), (vec![], first.heads));
    // Alone or with the others, a head learns the same.
    bench.session.exits.classifier = edited(1);
    let whole = bench.train(true).unwrap();
    assert_eq!((whole.learnt, whole.backbone), (names, true));
    assert_eq!(whole.heads, second.heads);
}

#[test]
fn a_recipe_for_one_head_trains_only_that_head() {
    let mut bench = Bench::new();
    let after = bench.network.points[2].after.clone();
    let first = bench.train(false).unwrap();
    let own = HeadRecipe {
        learning_rate: Some(0.001),
        ..HeadRecipe::default()
    };
    bench.session.exits.recipe.heads = vec![(after.clone(), own)];
    let second = bench.train(false).unwrap();
    assert_eq!(second.learnt, [after]);
    assert_ne!(first.heads[2], second.heads[2]);
    bench.session.exits.recipe.patience = Some(1);
    assert_eq!(bench.train(false).unwrap().learnt.len(), first.heads.len());
}

#[test]
fn a_session_brings_the_heads_it_trained_one_by_one() {
    let mut bench = Bench::new();
    let first = bench.train(false).unwrap();
    let mut results =
        crate::session::Results::new(bench.network.table.clone(), bench.network.points.clone());
    for (head, key) in first.heads.iter().zip(&first.keys) {
        let mut packed = TrainedHead::pack(head).unwrap();
        packed.key.clone_from(key);
        results.heads.push(packed);
    }
    bench.session.results = Some(Box::new(results));
    bench.folder = tempfile::tempdir().unwrap();
    bench.session.exits.classifier = edited(0);
    let second = bench.train(false).unwrap();
    assert_eq!(second.learnt, [bench.network.points[0].after.clone()]);
    assert_eq!(second.heads[1..], first.heads[1..]);
}

#[test]
fn a_source_includes_what_lies_beside_it_and_names_networks_there() {
    let mut bench = Bench::new();
    let own = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(own.path().join(name), text).unwrap();
    write(
        "mine.j2",
        b"{% macro wide(n) %}Linear({{ n }}), Relu{% endmacro %}",
    );
    write(
        "head.ron.j2",
        b"{% from \"mine\" import wide %}[GlobalAvgPool, {{ wide(6) }}, Linear(classes)]",
    );
    bench.session.exits = ExitSettings {
        classifier: Classifier::File("head.ron.j2".into()),
        ..bench.session.exits
    };
    bench.session = bench.session.resolved(own.path());
    let included = bench.train(false).unwrap();
    assert!(
        included
            .heads
            .iter()
            .all(|h| h.head.rendered.contains("Linear(6)"))
    );
    // The same from the session's own text, which lies where the session does.
    let text = "{% from 'mine' import wide %}[GlobalAvgPool, {{ wide(6) }}, Linear(classes)]";
    bench.session.exits.classifier = Classifier::Template(text.into());
    bench.session.exits.templates = None;
    bench.session = bench.session.resolved(own.path());
    assert_eq!(bench.train(false).unwrap().heads, included.heads);

    // One of those heads from its file, further trained or kept, where it fits.
    let head = &included.heads[0].head;
    write("own.onnx", &to_onnx(&head.graph).unwrap());
    let channels = head.point.sample[0];
    for (fields, moves) in [("", true), (", trainable: false", false)] {
        let text = format!(
            "[{{% if index == 0 %}}Onnx(\"own.onnx\"{fields}){{% else %}}GlobalAvgPool, \
             Linear(classes){{% endif %}}]"
        );
        bench.session.exits.classifier = Classifier::Template(text);
        let did = bench.train(false).unwrap();
        assert_eq!(bench.network.points[0].sample[0], channels);
        let x: Vec<f32> = (0..head.point.sample.iter().product())
            .map(|i: usize| (i as f32 * 0.37).sin())
            .collect();
        let run = |graph: &Graph| {
            let options = CompileOptions { threads: 1 };
            let network = Native::default().compile(graph.clone(), &options).unwrap();
            network.run_f32(1, &[&x], &Cancel::new()).unwrap().remove(0)
        };
        let off = run(&did.heads[0].head.graph)
            .iter()
            .zip(run(&head.graph))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert_eq!(off > 1e-4, moves, "{off}");
    }
    // Nothing leads out of the folder.
    for text in [
        "[Onnx(\"../own.onnx\")]",
        "{% include \"../mine\" %}",
        "{% include \"/etc/hostname\" %}",
    ] {
        bench.session.exits.classifier = Classifier::Template(text.into());
        let error = bench.train(false).err().unwrap().to_string();
        assert!(
            error.contains("beside the source") || error.contains("no template"),
            "{error}"
        );
    }
}

/// Else a newcomer's first run trains exits that ship trained, and its figures are others.
#[test]
fn the_exits_that_ship_are_those_of_the_session_that_ships() {
    let session = Session::demo().unwrap();
    let network = Network::load(&session).unwrap();
    let load = network.load_options(&session).unwrap();
    let cancel = Cancel::new();
    let data = LoadedData::load(&session.data, &load, &mut |_| {}, &cancel).unwrap();
    let source = crate::run::ExitSource::of(&session.exits, &network.fused).unwrap();
    let names = session.tier_names();
    let heads: Vec<TierHead> = network
        .points
        .iter()
        .flat_map(|point| source.heads(point, &names, session.seed).unwrap())
        .collect();
    let shipped = session.results.as_ref().unwrap();
    assert_eq!(key(&session, &network, &data, &heads), shipped.heads_key);
}
