/*! `run --dry-run`: what a run would do, and what is kept from before, without doing any of it. */

use crate::cli::session::Chosen;
use crate::run::Network;
use crate::session::catalog::Setting;
use anyhow::Context;
use std::io::Write as _;
use std::path::Path;

/// Settings that say how long a run takes.
const TELLING: [&str; 7] = [
    "data",
    "calibration",
    "train_samples",
    "test_samples",
    "splits",
    "exits.training",
    "train_on",
];

/// Prints what would be done, in the order of a run.
///
/// # Errors
/// What a run would refuse: network, settings and images that don't go together.
pub(super) fn show(chosen: &Chosen, fresh: bool) -> anyhow::Result<()> {
    let session = &chosen.session;
    let network = Network::load(session)?;
    network.check_whole(session)?;
    let row = |name: &str, text: &str| format!("{name:<16} {text}\n");
    let mut text = row("dry run", &format!("{}; nothing is done", chosen.name));
    let (layers, points) = (network.table.layers.len(), network.points.len());
    let name = &network.table.network;
    text += &row(
        "network",
        &format!("{name}: {layers} layers, {points} places for exits"),
    );
    for path in TELLING {
        let setting = Setting::find(path).map_err(|e| anyhow::Error::msg(e.to_string()))?;
        let value = setting.text(session);
        let words: Vec<&str> = value.split_whitespace().collect();
        text += &row(path, &words.join(" "));
    }
    let names = session.tier_names();
    for tier in session.chain() {
        for (at, target) in session.targets(tier).iter().enumerate() {
            text += &row(&format!("{} {at}", names.name(tier)), &target.text());
        }
    }
    let kept = kept(&chosen.out);
    let words = match (kept.as_slice(), fresh) {
        ([], _) => "nothing; every stage is done".to_owned(),
        (_, true) => "nothing: --fresh does every stage again".to_owned(),
        (kept, false) => {
            let kept = kept.join(", ");
            format!("{kept}; taken where what they were made of is the same")
        }
    };
    text += &row("kept from before", &words);
    let files = "report.txt, report.html, report.json, report.csv, session.ron";
    text += &row("writes", &format!("{}: {files}", chosen.out.display()));
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing what would be done")
}

/// Stages that are kept in an out folder, by name.
fn kept(out: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(out.join("stages"));
    let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
    let stages = paths.filter(|path| path.extension().is_some_and(|e| e == "stage"));
    let name = |path: std::path::PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = stages.filter_map(name).collect();
    names.sort();
    names
}
