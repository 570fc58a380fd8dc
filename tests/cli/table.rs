//! The exported tables tell all that the report says: its figures are computed again from them alone.

use crate::run::{ONE_EPOCH, edgelesspart, folder, run};
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

type Row = HashMap<String, String>;

/// A table of the small session's run, read back from CSV.
fn table(folder: &Path, of: &str) -> Vec<Row> {
    let output = edgelesspart(folder, &["table", "small.ron", "--of", of, "--csv"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
    let rows = reader.deserialize().collect::<Result<Vec<Row>, _>>();
    rows.unwrap()
}

fn number(row: &Row, column: &str) -> Option<f64> {
    let text = &row[column];
    (!text.is_empty()).then(|| text.parse().unwrap())
}

fn the(row: &Row, column: &str) -> f64 {
    number(row, column).unwrap_or_else(|| panic!("no {column}: {row:?}"))
}

fn share(rows: &[&Row], is: impl Fn(&Row) -> bool) -> f64 {
    rows.iter().filter(|row| is(row)).count() as f64 / rows.len() as f64
}

fn is_right(row: &Row) -> bool {
    row["prediction"] == row["label"]
}

/// numpy.percentile's linear one.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = percent / 100.0 * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[track_caller]
fn near(what: &str, report: &Value, computed: f64) {
    let told = report
        .as_f64()
        .unwrap_or_else(|| panic!("{what}: {report}"));
    // Records hold times as f32.
    assert!(
        (told - computed).abs() <= 1e-6 * told.abs().max(1e-3),
        "{what}: the report says {told}, the tables {computed}"
    );
}

/// A million inferences by the rows of `runs`: rounded, unrounded and unscaled.
fn bill(records: &[&Row], tiers: &[&Row]) -> [f64; 3] {
    let mut usd = [0.0; 3];
    for tier in tiers
        .iter()
        .filter(|tier| number(tier, "step_ms").is_some())
    {
        let step = the(tier, "step_ms");
        let round = |ms: f64| (ms / step - 1e-9).ceil() * step;
        let own = format!("{}_ms", tier["tier"]);
        let each = the(tier, "usd_per_request")
            + the(tier, "usd_per_byte_out") * the(tier, "answer_bytes");
        for ms in records.iter().filter_map(|record| number(record, &own)) {
            let scaled = ms * the(tier, "scale");
            for (usd, ms) in usd.iter_mut().zip([round(scaled), scaled, round(ms)]) {
                *usd += ms / 1000.0 * the(tier, "usd_per_second") + each;
            }
        }
    }
    usd.map(|usd| 1e6 * usd / records.len() as f64)
}

fn measured_follows(report: &Value, records: &[Row], runs: &[Row]) {
    let figures = [
        ("plan", &report["measured"]),
        ("original", &report["baselines"]["original"]),
        ("cloud_only", &report["baselines"]["cloud_only"]),
        ("edge_only", &report["baselines"]["edge_only"]),
    ];
    for (what, figures) in figures {
        let own: Vec<&Row> = records.iter().filter(|row| row["run"] == what).collect();
        let tiers: Vec<&Row> = runs.iter().filter(|row| row["run"] == what).collect();
        assert_eq!(figures["samples"], own.len(), "{what}");
        let latencies: Vec<f64> = own.iter().map(|row| the(row, "latency_ms")).collect();
        let latency = &figures["latency_ms"];
        near(what, &latency["mean"], mean(&latencies));
        for (name, percent) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
            near(what, &latency[name], percentile(&latencies, percent));
        }
        let sent = |row: &Row| !row["edge_cloud_bytes"].is_empty();
        near(what, &figures["offloaded"], share(&own, sent));
        let bytes = own
            .iter()
            .map(|row| number(row, "edge_cloud_bytes").unwrap_or(0.0));
        near(
            what,
            &figures["bytes_sent"],
            mean(&bytes.collect::<Vec<_>>()),
        );
        let memory = |tier: usize| number(tiers[tier], "resident_bytes").unwrap_or(0.0);
        near(what, &figures["edge_memory_bytes"], memory(0));
        near(what, &figures["cloud_memory_bytes"], memory(1));
        if what == "plan" || what == "cloud_only" {
            let [rounded, unrounded, unscaled] = bill(&own, &tiers);
            near(what, &figures["cost_per_million_usd"], rounded);
            near(what, &figures["bill_usd"]["unrounded"], unrounded);
            near(what, &figures["bill_usd"]["unscaled"], unscaled);
        }
        if what != "plan" {
            continue;
        }
        near(what, &figures["accuracy"], share(&own, is_right));
        for exit in report["exits"].as_array().unwrap() {
            let after = exit["after"].as_str().unwrap_or("");
            let here: Vec<&Row> = own
                .iter()
                .copied()
                .filter(|row| row["after"] == after)
                .collect();
            near(after, &exit["share"], here.len() as f64 / own.len() as f64);
            if !here.is_empty() {
                near(after, &exit["accuracy"], share(&here, is_right));
            }
        }
    }
}

/// The classifiers that the plan has, of each sample of a set, in order of depth.
fn met<'a>(samples: &'a [Row], set: &str) -> Vec<Vec<&'a Row>> {
    let mut all: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    let planned = |row: &&Row| row["set"] == set && !row["threshold"].is_empty();
    for row in samples.iter().filter(planned) {
        all.entry(the(row, "sample") as u64).or_default().push(row);
    }
    all.into_values().collect()
}

/// The row at which a sample leaves, at a common threshold or at the plan's.
fn leaves<'a>(met: &[&'a Row], common: Option<f64>) -> &'a Row {
    let at = |row: &Row| common.unwrap_or(the(row, "threshold"));
    let stays = |row: &&&Row| the(row, "confidence") <= at(row);
    let (last, exits) = met.split_last().unwrap();
    exits.iter().find(|row| !stays(row)).unwrap_or(last)
}

fn predicted_follows(figures: &Value, samples: &[Row], common: Option<f64>) -> Vec<String> {
    let set = figures["set"].as_str().unwrap();
    let all = met(samples, set);
    let left: Vec<&Row> = all.iter().map(|met| leaves(met, common)).collect();
    assert_eq!(figures["samples"], left.len());
    near("accuracy", &figures["accuracy"], share(&left, is_right));
    let away = |row: &Row| row["tier"] != "edge";
    near("offloaded", &figures["offloaded"], share(&left, away));
    left.iter().map(|row| row["after"].clone()).collect()
}

/// Milliseconds to write or to read a tensor of four axes that takes so many bytes: between two sizes that were
/// timed by interpolation, below the smallest what that takes.
fn codec(timed: &[&Row], payload: f64) -> f64 {
    let elements = (payload - 28.0) / 4.0;
    let mut timed: Vec<(f64, f64)> = timed
        .iter()
        .map(|row| (the(row, "elements"), the(row, "ms")))
        .collect();
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let above = timed.iter().position(|t| t.0 >= elements);
    match above {
        Some(0) => timed[0].1,
        Some(at) => {
            let ((n0, t0), (n1, t1)) = (timed[at - 1], timed[at]);
            t0 + (t1 - t0) * (elements - n0) / (n1 - n0)
        }
        None => {
            let (n, ms) = *timed.last().unwrap();
            ms * elements / n
        }
    }
}

/// Mean latency by the profile: medians of layers, scaled to the whole network's, and of heads, times the
/// mean run of the whole network, those above their 95th percentile counted as that; what cuts add; warm round
/// trips and by how much they vary; and writing and reading what is sent.
fn mean_latency(profile: &[Row], met: &[&Row], left: &[String], payload: f64) -> f64 {
    let of = |tier: &str, what: &str| -> Vec<&Row> {
        let is = |row: &&Row| row["tier"] == tier && row["what"] == what;
        profile.iter().filter(is).collect()
    };
    let split = met.iter().rfind(|row| row["tier"] == "edge").unwrap();
    let mut spent = 0.0;
    let mut until: HashMap<&str, f64> = HashMap::new();
    for tier in ["edge", "cloud"] {
        let runs: Vec<f64> = of(tier, "run").iter().map(|row| the(row, "ms")).collect();
        let bound = percentile(&runs, 95.0);
        let runs: Vec<f64> = runs.iter().map(|ms| ms.min(bound)).collect();
        let layers = of(tier, "layer");
        let sum: f64 = layers.iter().map(|row| the(row, "ms")).sum();
        // Median of the whole ÷ sum of layers, times mean run ÷ median of the whole.
        let pace = mean(&runs) / the(of(tier, "whole")[0], "ms");
        let scale = pace * the(of(tier, "whole")[0], "ms") / sum;
        let cut = |what: &str, after: &str| {
            let cuts = of(tier, what);
            let here = cuts.iter().find(|row| row["after"] == after);
            pace * here.map_or(0.0, |row| the(row, "ms"))
        };
        let mut here = tier == "edge";
        let mut begins = match tier {
            "edge" => Some(""),
            _ => {
                spent += pace * codec(&of(tier, "decode f32"), payload);
                Some(split["after"].as_str())
            }
        };
        let end = layers.last().unwrap()["after"].as_str();
        for layer in layers {
            if here {
                spent += begins.take().map_or(0.0, |after| cut("cut enter", after));
                spent += scale * the(layer, "ms");
            }
            let exits = |m: &&&Row| m["tier"] == tier && m["after"] == layer["after"];
            if here && (met.iter().any(|m| exits(&m)) || layer["after"] == end) {
                spent += cut("cut leave", &layer["after"]);
                begins = Some(&layer["after"]);
            }
            if let Some(exit) = met
                .iter()
                .find(|m| m["tier"] == tier && m["after"] == layer["after"])
            {
                let heads = of(tier, "head");
                let is = |row: &&&Row| row["after"] == exit["after"] && row["head"] == exit["head"];
                spent += pace * the(heads.iter().find(is).unwrap(), "ms");
                until.insert(&exit["after"], spent);
            }
            // Here the plan has an exit at its split.
            if layer["after"] == split["after"] {
                here = !here;
                if tier == "edge" {
                    break;
                }
            }
        }
        if tier == "edge" {
            let link: Vec<(f64, f64)> = of("edge", "link warm")
                .iter()
                .map(|row| (the(row, "bytes"), the(row, "ms")))
                .collect();
            let pair = link.windows(2).find(|pair| payload <= pair[1].0).unwrap();
            let ((b0, t0), (b1, t1)) = (pair[0], pair[1]);
            spent += t0 + (t1 - t0) * ((payload - b0) / (b1 - b0)).max(0.0);
            spent += codec(&of("edge", "encode f32"), payload);
            let variation = of("edge", "link variation");
            let variation: Vec<f64> = variation.iter().map(|row| the(row, "ms")).collect();
            let bound = percentile(&variation, 95.0);
            let variation: Vec<f64> = variation.iter().map(|ms| ms.min(bound)).collect();
            spent += mean(&variation);
        }
    }
    until.insert("", spent);
    mean(
        &left
            .iter()
            .map(|after| until[after.as_str()])
            .collect::<Vec<_>>(),
    )
}

fn edge_memory(profile: &[Row], met: &[&Row]) -> f64 {
    let (mut weights, mut arena, mut from) = (0.0, 0.0_f64, None);
    let of = |what: &'static str| {
        profile
            .iter()
            .filter(move |r| r["tier"] == "edge" && r["what"] == what)
    };
    let layers: Vec<&str> = of("layer").map(|row| row["after"].as_str()).collect();
    for exit in met.iter().filter(|row| row["tier"] == "edge") {
        let first = from.map_or(0, |last| {
            layers.iter().position(|l| *l == last).unwrap() + 1
        });
        let segment = of("segment")
            .find(|row| row["from"] == layers[first] && row["after"] == exit["after"])
            .unwrap();
        let head =
            of("head").find(|row| row["head"] == exit["head"] && row["after"] == exit["after"]);
        for row in [segment, head.unwrap()] {
            weights += the(row, "bytes");
            arena = arena.max(the(row, "arena_bytes"));
        }
        from = Some(exit["after"].as_str());
    }
    weights + arena
}

#[test]
fn every_figure_of_the_report_follows_from_the_tables() {
    let exits =
        "exits: (per_part: 2, placement: Linear, at_split: true, training: Frozen(epochs: 1)),";
    let folder = folder(exits);
    // Where the heads of one epoch let some go and keep others.
    let (report, _) = run(folder.path(), &["--threshold", "0.125"]);
    let [samples, records, runs, profile] =
        ["samples", "records", "runs", "profile"].map(|of| table(folder.path(), of));
    for row in samples.iter().chain(&records) {
        assert_eq!(row["correct"], is_right(row).to_string());
    }
    measured_follows(&report, &records, &runs);
    let left = predicted_follows(&report["predicted"], &samples, None);
    assert!(left.iter().any(|after| after.is_empty()) && left.iter().any(|a| !a.is_empty()));
    predicted_follows(&report["predicted_on_calibration"], &samples, None);
    for at in report["sweep"].as_array().unwrap() {
        predicted_follows(at, &samples, at["threshold"].as_f64());
    }
    // Baselines answer the whole set by the table.
    let test = met(&samples, "test");
    let finals: Vec<&Row> = test.iter().map(|met| *met.last().unwrap()).collect();
    let whole = share(&finals, is_right);
    near("unmodified", &report["unmodified_accuracy"], whole);
    for baseline in ["original", "cloud_only"] {
        near(baseline, &report["baselines"][baseline]["accuracy"], whole);
    }
    let alone = test.iter().map(|met| {
        let edge: Vec<&Row> = met
            .iter()
            .copied()
            .filter(|m| m["tier"] == "edge")
            .collect();
        leaves(&edge, None)
    });
    let alone: Vec<&Row> = alone.collect();
    let edge_only = &report["baselines"]["edge_only"]["accuracy"];
    near("edge_only", edge_only, share(&alone, is_right));
    let predicted = &report["predicted"];
    let payload =
        predicted["bytes_sent"].as_f64().unwrap() / predicted["offloaded"].as_f64().unwrap();
    let ms = mean_latency(&profile, &test[0], &left, payload);
    near("predicted mean", &predicted["latency_ms"]["mean"], ms);
    let memory = edge_memory(&profile, &test[0]);
    near("predicted memory", &predicted["edge_memory_bytes"], memory);
    let error = &report["prediction_error"]["latency"]["mean"];
    let measured: Vec<f64> = records
        .iter()
        .filter(|row| row["run"] == "plan")
        .map(|row| the(row, "latency_ms"))
        .collect();
    let off = ms / mean(&measured) - 1.0;
    assert!(
        (error.as_f64().unwrap() - off).abs() < 1e-5,
        "{error} {off}"
    );
}

#[rstest]
#[case("wire: (tensor: U8),", &[], "U8")]
#[case("", &["--set", "sends=Image"], "JPEG")]
fn predicted_answers_follow_whatever_travels(
    #[case] settings: &str,
    #[case] flags: &[&str],
    #[case] wire: &str,
) {
    let exits =
        "exits: (per_part: 2, placement: Linear, at_split: true, training: Frozen(epochs: 1)),";
    let folder = folder(&format!("{exits} {settings}"));
    let flags = [&["--threshold", "0.125"], flags].concat();
    let (report, _) = run(folder.path(), &flags);
    let samples = table(folder.path(), "samples");
    let behind = |row: &&Row| row["tier"] == "cloud" && !row["threshold"].is_empty();
    assert!(samples.iter().any(|row| behind(&row)));
    assert!(samples.iter().filter(behind).all(|row| row["wire"] == wire));
    let left = predicted_follows(&report["predicted"], &samples, None);
    assert!(left.iter().any(|after| after.is_empty()) && left.iter().any(|a| !a.is_empty()));
    for at in report["sweep"].as_array().unwrap() {
        predicted_follows(at, &samples, at["threshold"].as_f64());
    }
    // What the run found is what these rows say.
    assert_eq!(report["equality"]["differing"], 0);
    near("accuracy", &report["measured"]["accuracy"], {
        let met = met(&samples, "test");
        let left: Vec<&Row> = met.iter().map(|met| leaves(met, None)).collect();
        share(&left, is_right)
    });
}

#[rstest]
#[case("samples", 750)]
#[case("records", 450)]
#[case("runs", 10)]
fn the_three_forms_say_the_same(#[case] of: &str, #[case] expected: usize) {
    let folder = folder(ONE_EPOCH);
    run(folder.path(), &[]);
    let csv = table(folder.path(), of);
    assert_eq!(csv.len(), expected);
    let read = |form: &str| {
        let file = format!("out{form}");
        let args = ["table", "small.ron", "--of", of, form, "--out", &file];
        assert!(edgelesspart(folder.path(), &args).status.success());
        std::fs::read_to_string(folder.path().join(file)).unwrap()
    };
    let json: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&read("--json")).unwrap();
    let lines = read("--ndjson");
    let lines: Vec<_> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(json, lines);
    for (row, csv) in json.iter().zip(&csv) {
        assert_eq!(row.len(), csv.len());
        for (column, value) in row {
            match value {
                Value::Null => assert_eq!(csv[column], ""),
                Value::String(text) => assert_eq!(&csv[column], text),
                Value::Bool(is) => assert_eq!(csv[column], is.to_string()),
                // serde_json reads a number to its last bit but one.
                _ => near(column, value, csv[column].parse().unwrap()),
            }
        }
    }
}

#[test]
fn what_cannot_be_written_says_why() {
    let folder = folder(ONE_EPOCH);
    let refused = |args: &[&str], code: i32, wanted: &str| {
        let output = edgelesspart(folder.path(), args);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(wanted), "{told}");
    };
    refused(&["table", "small.ron", "--csv"], 1, "edgelesspart run");
    // As releases before this one left it.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (session, results) = (read("demo.ron"), read("demo.results.ron"));
    let (before, rest) = results.split_once("records:[").unwrap();
    let (_, after) = rest.split_once("],journal:").unwrap();
    let session = session.trim_end().strip_suffix(')').unwrap();
    let old = format!("{session}    results: {before}records:[],journal:{after},\n)\n");
    std::fs::write(folder.path().join("old.ron"), old).unwrap();
    let of = ["table", "old.ron", "--of", "records", "--csv"];
    refused(&of, 1, "run it again");
    refused(&["table", "--csv", "--json"], 2, "--json");
    refused(&["table", "--out", "file"], 2, "--csv");
}
