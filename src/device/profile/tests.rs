use super::*;
use crate::backend::{CompiledMemory, Native};
use crate::engine::{EngineError, Port, Unsupported};
use crate::model::fuse::fuse;
use crate::model::onnx::import_file;
use crate::model::{Activation, Builder, Shape};
use pretty_assertions::assert_eq;
use std::path::PathBuf;

fn small() -> ProfileOptions {
    ProfileOptions {
        threads: 1,
        runs: 5,
        warm_up: 2,
        ..ProfileOptions::default()
    }
}

/// `name` reads `cin` channels of 8×8 and gives `cout`.
fn convolution(name: &str, cin: usize, cout: usize) -> Graph {
    let mut b = Builder::new(name);
    let x = b.input("x", Shape::batched(&[cin, 8, 8]));
    let w = vec![0.01; cin * cout];
    let y = b.conv_with("y", x, w, cout, 1, 1, 0, Activation::RELU);
    b.output(y);
    b.finish()
}

fn nothing(_: usize, _: usize) {}

fn reference(name: &str) -> Option<(Graph, LayerTable)> {
    let shared = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models"));
    let path = shared.join(name);
    if !path.is_file() {
        println!("skipped: no {}", path.display());
        return None;
    }
    let graph = fuse(&import_file(&path).unwrap());
    let table = LayerTable::new(&graph).unwrap();
    Some((graph, table))
}

#[test]
fn a_layer_holds_its_weights_its_input_and_its_output() {
    let mut b = Builder::new("two");
    let x = b.input("x", Shape::batched(&[3, 8, 8]));
    let a = b.conv_with("a", x, vec![0.1; 16 * 3], 16, 1, 1, 0, Activation::RELU);
    let c = b.conv_with("c", a, vec![0.1; 16 * 16], 16, 1, 1, 0, Activation::NONE);
    b.output(c);
    let graph = b.finish();
    let table = LayerTable::new(&graph).unwrap();
    let options = ProfileOptions {
        batch: 2,
        ..small()
    };
    let profile = profile(graph, &table, &[], &options, &mut nothing, &Cancel::new()).unwrap();
    let bytes: Vec<usize> = profile.layers.iter().map(|l| l.bytes).collect();
    // Sixteen channels are one whole panel, and each has a bias in the kernel.
    let (x, y) = (2 * 3 * 64, 2 * 16 * 64);
    assert_eq!(
        bytes,
        [4 * (16 * 3 + 16 + x + y), 4 * (16 * 16 + 16 + y + y)]
    );
    assert_eq!(profile.weight_bytes, 4 * (16 * 3 + 16 * 16));
}

#[test]
fn every_step_belongs_to_the_layer_of_its_node_and_none_is_lost() {
    let Some((graph, table)) = reference("cifar10/resnet8_float.onnx") else {
        return;
    };
    let options = CompileOptions { threads: 1 };
    let network = Native::default().compile(graph.clone(), &options).unwrap();
    let Timing::Steps(timed) = network.timing() else {
        panic!("our engine knows the time of each step");
    };
    let steps = timed.steps(1).unwrap();
    let rows = Rows::of(&graph, &table, 1);
    let layers: Vec<usize> = steps.iter().map(|step| rows.of_step(step)).collect();
    for (step, &layer) in steps.iter().zip(&layers) {
        let nodes = &graph.nodes[table.layers[layer].nodes.clone()];
        assert!(
            nodes.iter().any(|n| n.name == step.node),
            "{} in {}",
            step.node,
            table.layers[layer].name
        );
    }
    assert!(layers.is_sorted());
}

/// Our engine, as one that fuses layers would show it: no time of steps, nothing said of memory.
#[derive(Debug)]
struct Fusing {
    /// Whether it says beforehand that it has no time of steps.
    says_so: bool,
}

#[derive(Debug)]
struct Fused(Box<dyn Compiled>);

impl Backend for Fusing {
    fn name(&self) -> String {
        "fusing".to_string()
    }

    fn check(&self, graph: &Graph) -> Vec<Unsupported> {
        Native::default().check(graph)
    }

    fn times_steps(&self) -> bool {
        !self.says_so
    }

    fn compile(
        &self,
        graph: Graph,
        options: &CompileOptions,
    ) -> Result<Box<dyn Compiled>, EngineError> {
        Ok(Box::new(Fused(Native::default().compile(graph, options)?)))
    }
}

impl Compiled for Fused {
    fn inputs(&self) -> &[Port] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.0.outputs()
    }

    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn run(
        &self,
        batch: usize,
        inputs: &[TensorRef],
        outputs: &mut [TensorMut],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        self.0.run(batch, inputs, outputs, cancel)
    }

    fn memory(&self, _: usize) -> Result<CompiledMemory, EngineError> {
        Ok(CompiledMemory::default())
    }

    fn timing(&self) -> Timing<'_> {
        Timing::Whole
    }
}

fn by_fusing(says_so: bool, graph: &Graph, table: &LayerTable) -> Profile {
    let (graph, options, cancel) = (graph.clone(), small(), Cancel::new());
    let backend = Fusing { says_so };
    profile_on(&backend, graph, table, &[], &options, &mut nothing, &cancel).unwrap()
}

#[test]
fn an_engine_that_fuses_layers_is_timed_up_to_each_place_where_the_network_may_be_cut() {
    let Some((graph, table)) = reference("cifar10/resnet8_float.onnx") else {
        return;
    };
    let profile = by_fusing(true, &graph, &table);
    assert!(profile.layers.is_empty() && profile.fits(&table));
    let places: Vec<&str> = (table.layers.iter())
        .filter(|l| l.split_legal || l.exit_legal)
        .map(|l| l.name.as_str())
        .collect();
    let timed: Vec<&str> = profile.prefixes.iter().map(|p| p.after.as_str()).collect();
    assert_eq!(timed, places);
    assert!(!places.is_empty());
    assert!(profile.prefixes.iter().all(|p| p.ms.min > 0.0));
    // What it doesn't tell of memory is the network's own.
    let floats = graph.constants.values().filter_map(|c| c.floats());
    assert_eq!(
        profile.weight_bytes,
        floats.map(|f| 4 * f.len()).sum::<usize>()
    );
    assert_eq!(profile.arena_bytes, peak_bytes(&graph, 1));
    let first = table.find(places[0]).unwrap() + 1;
    let end = table.layers.len();
    let [before, behind, all] =
        [0..first, first..end, 0..end].map(|rows| profile.rows_ms(&table, rows).unwrap());
    assert_eq!(before, profile.prefixes[0].ms.median);
    assert_eq!(all, profile.total_ms.median);
    assert_eq!(behind, (all - before).max(0.0));
    // Between two places that were not timed nothing is known.
    let inner = table.layers.iter().position(|l| !l.is_cut).unwrap();
    let missing = profile.rows_ms(&table, 0..inner + 1).unwrap_err();
    assert_eq!(missing.after, table.layers[inner].name);
}

#[test]
fn where_only_the_whole_was_timed_its_layers_have_no_time() {
    let Some((graph, table)) = reference("cifar10/resnet8_float.onnx") else {
        return;
    };
    let profile = by_fusing(false, &graph, &table);
    assert!(profile.layers.is_empty() && profile.prefixes.is_empty());
    let end = table.layers.len();
    let whole = profile.rows_ms(&table, 0..end).unwrap();
    assert_eq!(whole, profile.total_ms.median);
    let missing = profile.rows_ms(&table, 1..end).unwrap_err();
    assert_eq!(missing.after, table.layers[0].name);
    assert_eq!(profile.rows_ms(&table, 2..2).unwrap(), 0.0);
}

#[test]
fn a_profile_has_a_row_a_layer_a_sample_a_run_and_counts_them_all() {
    let Some((graph, table)) = reference("cifar10/resnet20_cifar10.onnx") else {
        return;
    };
    let head = convolution("head", 3, 4);
    let heads = [HeadToTime {
        after: &table.layers[3].name,
        hash: "0123456789abcdef",
        graph: &head,
    }];
    let mut seen = Vec::new();
    let mut progress = |done, total| seen.push((done, total));
    let profile = profile(
        graph,
        &table,
        &heads,
        &small(),
        &mut progress,
        &Cancel::new(),
    )
    .unwrap();
    assert_eq!(profile.samples_ms.len(), 5);
    assert_eq!(profile.total_ms, Stats::of(&profile.samples_ms));
    let names = |rows: &[LayerProfile]| rows.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    let rows: Vec<String> = table.layers.iter().map(|l| l.name.clone()).collect();
    assert_eq!(names(&profile.layers), rows);
    assert!(profile.layers.iter().all(|l| l.ms.min > 0.0));
    assert_eq!(profile.heads[0].after, rows[3]);
    assert!(profile.heads[0].ms.median > 0.0 && profile.heads[0].bytes > 0);
    assert_eq!(seen, (1..=14).map(|n| (n, 14)).collect::<Vec<_>>());
    assert!(profile.resident_bytes > profile.weight_bytes + profile.arena_bytes);
}

#[test]
fn a_part_is_timed_segment_by_segment_with_zeros_where_no_head_stands() {
    let (a, b, head) = (
        convolution("a", 3, 16),
        convolution("b", 16, 4),
        convolution("head", 16, 2),
    );
    let stages = [
        SegmentToTime {
            segment: a,
            head: Some(head),
        },
        SegmentToTime {
            segment: b,
            head: None,
        },
    ];
    let part = profile_part(stages.to_vec(), &small(), &mut nothing, &Cancel::new()).unwrap();
    assert!(part.segments.iter().all(|s| s.min > 0.0));
    assert!(part.heads[0].min > 0.0);
    assert_eq!(part.heads[1], Stats::default());
    // Each of the three rounds its channels up to a panel of 16.
    assert_eq!(part.weight_bytes, 4 * 16 * (3 + 16 + 16));

    let wrong = stages.into_iter().rev().collect();
    let error = profile_part(wrong, &small(), &mut nothing, &Cancel::new()).unwrap_err();
    assert!(
        error.to_string().contains("takes 192 floats, is given 256"),
        "{error}"
    );
}

#[test]
fn a_slowdown_stretches_what_was_measured() {
    let options = ProfileOptions {
        slowdown: 6.0,
        ..small()
    };
    assert_eq!(options.ms(Duration::from_micros(1500)), 9.0);
}

#[test]
fn settings_out_of_range_are_refused_and_a_raised_token_stops() {
    let graph = convolution("a", 3, 16);
    let table = LayerTable::new(&graph).unwrap();
    let run = |options: &ProfileOptions, cancel: &Cancel| {
        profile(graph.clone(), &table, &[], options, &mut nothing, cancel)
    };
    for options in [
        ProfileOptions {
            batch: 0,
            ..small()
        },
        ProfileOptions { runs: 0, ..small() },
        ProfileOptions {
            slowdown: f64::NAN,
            ..small()
        },
    ] {
        let refused = run(&options, &Cancel::new());
        assert!(matches!(refused, Err(DeviceError::Setting { .. })));
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = run(&small(), &cancel);
    assert!(matches!(stopped, Err(DeviceError::Cancelled)));
}
