//! Runs a part from its file, as an agent does, and says where each sample leaves:
//! `edgelesspart export parts --format bundle --out bundles` writes the demo's, then
//! `cargo run --release --example run_part -- bundles/edge.tar`.

use edgelesspart::engine::Cancel;
use edgelesspart::runtime::runner::ExecutionOptions;
use edgelesspart::{Part, PartRunner};
use std::error::Error;
use std::path::Path;

/// Samples to run at once.
const BATCH: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args()
        .nth(1)
        .ok_or("which part? run_part FILE.tar")?;
    let part = Part::open(Path::new(&file))?;
    let exits: Vec<String> = part
        .segments
        .iter()
        .filter_map(|segment| Some(segment.exit.as_ref()?.after.clone()))
        .collect();
    let runner = PartRunner::new(part, &ExecutionOptions::default())?;
    let elements = runner.input_elements();
    // Any numbers do to see it run; a real caller preprocesses images as the manifest says.
    let input: Vec<f32> = (0..BATCH * elements)
        .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect();
    let mut work = runner.work();
    // The thresholds are those the part was made with.
    runner.run(
        BATCH,
        &input,
        &runner.rules(),
        &mut work,
        &Cancel::default(),
    )?;
    for (sample, verdict) in work.verdicts.iter().enumerate() {
        let latest = verdict.latest.as_ref();
        let place = latest.and_then(|answer| exits.get(usize::from(answer.exit)));
        match (verdict.answered, latest) {
            (true, Some(answer)) => println!(
                "sample {sample}: class {} at confidence {:.3}, after {}",
                answer.prediction,
                answer.confidence,
                place.map_or("the last layer", String::as_str)
            ),
            _ => println!("sample {sample}: goes on to the next tier"),
        }
    }
    runner.recycle(work);
    Ok(())
}
