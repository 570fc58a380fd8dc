//! Splits a network over an edge and a cloud, writes both parts, and shows that they are the network:
//! `cargo run --release --example split -- network.onnx 0.5`. Without a file it is the demo's network.

use edgelesspart::engine::Cancel;
use edgelesspart::model::onnx::import_file;
use edgelesspart::plan::{ExitRule, Placement, Rules, Sends, SplitRule, TierNames};
use edgelesspart::predict::{Confidence, Evidence, Policy, Terms};
use edgelesspart::runtime::parts::{PartSettings, parts};
use edgelesspart::runtime::runner::ExecutionOptions;
use edgelesspart::session::Session;
use edgelesspart::{Network, PartRunner, Planner};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let network = match arguments.next() {
        Some(file) => Network::of(import_file(Path::new(&file))?, false)?,
        None => Network::load(&Session::demo()?)?,
    };
    let share = arguments.next().map_or(Ok(0.7), |share| share.parse())?;

    // Rules make a plan of what is known: here the layers alone, which is enough for a share of memory.
    let rules = Rules {
        splits: vec![SplitRule::Memory { share }],
        exits: ExitRule {
            placement: Placement::Linear,
            per_part: 0,
            at_split: false,
            threshold: 0.8,
            thresholds: Vec::new(),
        },
        at: None,
        sends: Sends::Tensor,
    };
    let terms = Terms::new(Policy {
        confidence: Confidence::MaxProbability,
        threshold: 0.8,
        exits: Vec::new(),
    });
    let planner = Planner {
        rules: &rules,
        terms: &terms,
    };
    let (layers, points) = (network.table.clone(), network.points.clone());
    let evidence = Evidence::new(Arc::new(layers), Arc::new(points), TierNames::default());
    let plan = planner.plan(&evidence)?;
    println!("{}", plan.describe(&evidence.tiers));

    // No exits, so no heads are asked for.
    let settings = PartSettings::default();
    let parts = parts(&network.fused, &network.table, &plan, &[], &settings)?;
    let mut tensor: Vec<f32> = Vec::new();
    for part in parts {
        let name = format!("{}.tar", evidence.tiers.name(part.tier));
        let bundle = part.bundle()?;
        std::fs::write(&name, &bundle)?;
        let runner = PartRunner::new(part, &ExecutionOptions::default())?;
        if tensor.is_empty() {
            tensor = (0..runner.input_elements())
                .map(|i| (i % 7) as f32 / 7.0)
                .collect();
        }
        let mut work = runner.work();
        runner.run(1, &tensor, &runner.rules(), &mut work, &Cancel::default())?;
        println!(
            "{name}: {} bytes, {} values in, {:.2} ms",
            bundle.len(),
            tensor.len(),
            work.compute_ms()
        );
        match work.verdicts[0].latest {
            Some(answer) => println!("class {} at {:.3}", answer.prediction, answer.confidence),
            None => tensor = work.tensor().to_vec(),
        }
        runner.recycle(work);
    }
    Ok(())
}
