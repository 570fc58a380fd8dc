//! A small network with random weights, its parts and heads, and pictures for it.

use edgelesspart::backend::Compiled;
use edgelesspart::engine::{Cancel, Engine, Options};
use edgelesspart::exits;
use edgelesspart::model::Graph;
use edgelesspart::model::fuse::fuse;
use edgelesspart::model::layers::LayerTable;
use edgelesspart::model::zoo::ZooModel;
use edgelesspart::plan::Tier;
use edgelesspart::plan::{ExitRule, Placement, Plan, TierHead, plan_at, split};
use edgelesspart::predict::policy::{Output, decide};
use edgelesspart::protocol::message::DataSet;
use edgelesspart::runtime::parts::{Part, PartSettings, parts};

pub const SHAPE: [usize; 3] = [3, 16, 16];

pub struct Network {
    pub graph: Graph,
    pub parts: Vec<Part>,
    pub data: DataSet,
    table: LayerTable,
}

impl Network {
    /// Cut in two, two exits per part.
    pub fn new(samples: usize) -> Network {
        Network::cut(samples, &[0.5])
    }

    /// Cut behind these shares of its layers, two exits per part.
    pub fn cut(samples: usize, shares: &[f64]) -> Network {
        let model = ZooModel::ResNet {
            depth: 20,
            width: 8,
        };
        let graph = fuse(&model.build((3, 16, 16), 10, 1).unwrap());
        let table = LayerTable::new(&graph).unwrap();
        let points = exits::points(&table, &graph);
        let rule = ExitRule {
            placement: Placement::Linear,
            per_part: 2,
            at_split: false,
            threshold: 0.5,
            thresholds: vec![],
        };
        let split = |share: &f64| split::layers(&table, Tier::First, *share).unwrap().split;
        let splits = shares.iter().map(split).collect();
        let plan = plan_at(&table, &points, splits, &rule);
        let source = exits::replica(&graph).unwrap();
        let heads: Vec<TierHead> = points
            .iter()
            .map(|p| TierHead {
                tier: Tier::First,
                head: exits::head(&source, p, "edge", p.index as u64).unwrap(),
                temperature: 1.5,
            })
            .collect();
        let parts = parts(&graph, &table, &plan, &heads, &PartSettings::default()).unwrap();
        assert_eq!(parts.len(), shares.len() + 1);
        let mut state = 7u32;
        let size: usize = SHAPE.iter().product();
        let pixels = (0..samples * size).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Network {
            parts,
            data: DataSet {
                shape: SHAPE,
                samples,
                pixels: pixels.collect(),
            },
            table,
            graph,
        }
    }

    pub fn exits(&self, part: usize) -> usize {
        self.parts[part]
            .segments
            .iter()
            .filter(|s| s.exit.is_some())
            .count()
    }

    pub fn bundle(&self, part: usize) -> Vec<u8> {
        self.parts[part].bundle().unwrap()
    }

    /// The network as it is, as a part for either side.
    pub fn whole_bundle(&self) -> Vec<u8> {
        let plan = Plan::unmodified(Tier::Second, 2);
        let whole = parts(
            &self.graph,
            &self.table,
            &plan,
            &[],
            &PartSettings::default(),
        )
        .unwrap();
        whole[0].bundle().unwrap()
    }

    /// Extents of a sample of the tensor at the split.
    pub fn split_shape(&self) -> Vec<usize> {
        let graph = &self.parts[1].segments[0].graph;
        graph.value(graph.inputs[0]).shape.at(1)[1..].to_vec()
    }

    /// Prediction and confidence of every exit and of the final classifier, run one by one.
    pub fn classifiers(&self, input: &[f32]) -> Vec<(u16, f32)> {
        let run = |graph: &Graph, x: &[f32]| {
            let engine = Engine::new(graph.clone(), &Options { threads: 1 }).unwrap();
            engine.run_f32(1, &[x], &Cancel::new()).unwrap().remove(0)
        };
        let mut x = input.to_vec();
        let mut said = Vec::new();
        for segment in self.parts.iter().flat_map(|p| &p.segments) {
            x = run(&segment.graph, &x);
            if let Some(exit) = &segment.exit {
                let scores = run(&exit.head, &x);
                let d = decide(&scores, Output::Logits, exit.temperature).unwrap();
                said.push((d.prediction, d.max_probability));
            }
        }
        let d = decide(&x, Output::Logits, 1.0).unwrap();
        said.push((d.prediction, d.max_probability));
        said
    }
}
