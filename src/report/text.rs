/*! The report for a terminal of 80 columns. Ends with the few numbers that matter. */

use super::number::{NONE, bytes, count, dollars, energy, ms, percent, threshold};
use super::{Figures, Report};
use crate::data::Set;
use crate::predict::{Interval, Kind, Latency};
use std::fmt::Write;

const WIDTH: usize = 80;
/// Of a row's name.
const NAME: usize = 14;
/// Of a column of figures.
const COLUMN: usize = 11;
/// Columns of figures side by side.
const PER_LINE: usize = 6;

/// Writes the whole report as text.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    verdict(&mut out, report);
    guarantee(&mut out, report);
    figures(&mut out, report);
    exits(&mut out, report);
    sweep(&mut out, report);
    placements(&mut out, report);
    calibration(&mut out, report);
    budget(&mut out, report);
    what_if(&mut out, report);
    evidence(&mut out, report);
    checks(&mut out, report);
    if !report.caveats.is_empty() {
        section(&mut out, "To be read with it");
        for sentence in &report.caveats {
            paragraph(&mut out, "- ", sentence);
        }
    }
    short(&mut out, report);
    out
}

fn verdict(out: &mut String, report: &Report) {
    let Some(verdict) = &report.verdict else {
        return;
    };
    section(out, "What to deploy");
    paragraph(out, "", &verdict.text);
    for row in &verdict.against {
        paragraph(out, "- ", &row.sentence());
    }
}

fn guarantee(out: &mut String, report: &Report) {
    if let Some(guarantee) = &report.guarantee {
        section(out, "Guarantee");
        paragraph(out, "", &format!("{}.", guarantee.sentence()));
    }
}

fn calibration(out: &mut String, report: &Report) {
    if report.calibration_errors.is_empty() {
        return;
    }
    section(out, "Confidences, on test: expected calibration error");
    let mut row = |[name, temperature, before, after]: [&str; 4]| {
        let name = fit(name, 27);
        line(
            out,
            format!("{name:<28}{temperature:>14}{before:>14}{after:>14}"),
        );
    };
    row(["after", "temperature", "before it", "after it"]);
    for one in &report.calibration_errors {
        let [name, temperature, before, after] = one.cells();
        row([&name, &temperature, &before, &after]);
    }
}

fn line(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref().trim_end());
    out.push('\n');
}

fn section(out: &mut String, title: &str) {
    let rule = WIDTH.saturating_sub(title.chars().count() + 4);
    line(out, format!("\n── {title} {}", "─".repeat(rule)));
}

/// Wrapped at the width, hanging under the first word behind `mark`.
fn paragraph(out: &mut String, mark: &str, text: &str) {
    let indent = mark.chars().count();
    let mut row = mark.to_string();
    let mut length = indent;
    for word in text.split_whitespace() {
        let more = word.chars().count();
        if length > indent && length + 1 + more > WIDTH {
            line(out, &row);
            row = " ".repeat(indent);
            length = indent;
        }
        if length > indent {
            row.push(' ');
            length += 1;
        }
        row.push_str(word);
        length += more;
    }
    line(out, row);
}

/// Cut to a width, the end marked.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let start: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{start}…")
}

fn head(out: &mut String, report: &Report) {
    let s = &report.subject;
    line(
        out,
        fit(&format!("{}: {} on {}", s.name, s.network, s.data), WIDTH),
    );
    line(out, "═".repeat(WIDTH));
    let plan = &report.plan;
    let share = match plan.split.as_str() {
        "edge only" | "cloud only" => String::new(),
        _ => format!(
            " ({} of the memory, {} of the MACs before it)",
            percent(plan.memory_share),
            percent(plan.macs_share)
        ),
    };
    paragraph(out, "split   ", &format!("{}{share}", plan.split));
    for note in &plan.notes {
        paragraph(out, "        ", note);
    }
    if let Some(c) = &report.conditions {
        for (side, d) in super::devices(report, c) {
            let side = &format!("{side:<7} ");
            let ghz = d.ghz.map_or(String::new(), |g| format!(", {g:.1} GHz"));
            let threads = if d.threads == 1 { "thread" } else { "threads" };
            let what = format!("{}{ghz}, {} {threads}", d.device, d.threads);
            paragraph(out, side, &what);
        }
        paragraph(out, "prices  ", &c.provider);
    }
    let images = format!(
        "{} to train, {} to calibrate, {} to test",
        count(s.train.used),
        count(s.calibration.used),
        count(s.test.used)
    );
    paragraph(out, "images  ", &images);
}

/// A column's name and figures; the two predictions stand apart where they differ in set.
fn columns(report: &Report) -> Vec<(&'static str, &Figures)> {
    let calibration = report.predicted_on_calibration.as_ref();
    let same = |c: &&Figures| report.predicted.as_ref().is_none_or(|p| p.set != c.set);
    let b = &report.baselines;
    [
        ("plan", calibration.filter(same)),
        ("plan", report.predicted.as_ref()),
        ("plan", report.measured.as_ref()),
        ("original", b.original.as_ref()),
        ("cloud only", b.cloud_only.as_ref()),
        ("edge only", b.edge_only.as_ref()),
        ("cloud JPEG", b.cloud_only_jpeg.as_ref()),
        ("exits/JPEG", b.exits_else_image.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, figures)| Some((name, figures?)))
    .collect()
}

fn figures(out: &mut String, report: &Report) {
    let columns = columns(report);
    if columns.is_empty() {
        return;
    }
    section(out, "Figures");
    // As many as fit a line; the others below.
    for columns in columns.chunks(PER_LINE) {
        block(out, &report.tiers, columns);
    }
}

fn block(out: &mut String, tiers: &[String], columns: &[(&'static str, &Figures)]) {
    let mut row = |name: &str, cell: &dyn Fn(&str, &Figures) -> String| {
        let mut text = format!("{name:<NAME$}");
        for (name, figures) in columns {
            let _ = write!(text, "{:>COLUMN$}", cell(name, figures));
        }
        line(out, text);
    };
    row("", &|name, _| name.to_string());
    row("", &|_, f| f.kind.to_string());
    row("", &|_, f| match f.set {
        crate::data::Set::Calibration => "calibr.".to_string(),
        set => set.to_string(),
    });
    row("", &|_, f| {
        if f.emulated { "emulated" } else { "" }.to_string()
    });
    row("samples", &|_, f| count(f.samples));
    row("accuracy", &|_, f| {
        let about = if f.as_f32 { "≈ " } else { "" };
        format!("{about}{}", percent(f.accuracy))
    });
    interval(&mut row, |f| f.accuracy_interval, &share);
    let latency = |pick: fn(&Latency) -> f64| {
        move |_: &str, f: &Figures| f.latency_ms.map_or(NONE.to_string(), |l| ms(pick(&l)))
    };
    row("mean latency", &latency(|l| l.mean));
    interval(&mut row, |f| f.intervals.mean_ms, &two);
    row("  p50", &latency(|l| l.p50));
    row("  p95", &latency(|l| l.p95));
    interval(&mut row, |f| f.intervals.p95_ms, &two);
    row("  p99", &latency(|l| l.p99));
    row("offloaded", &|_, f| percent(f.offloaded));
    if tiers.len() > 2 {
        for (hop, name) in tiers.iter().skip(1).enumerate() {
            let share = |f: &Figures| f.hops.get(hop).map_or(0.0, |hop| hop.share);
            row(&format!("  to {name}"), &|_, f| percent(share(f)));
        }
    }
    row("sent / sample", &|_, f| bytes(f.bytes_sent));
    let memory = |b: usize| if b == 0 { NONE.into() } else { bytes(b as f64) };
    for (tier, name) in tiers.iter().enumerate() {
        let own = |f: &Figures| f.tiers.get(tier).map_or(0, |t| t.memory_bytes);
        row(&format!("memory, {name}"), &|_, f| memory(own(f)));
    }
    let bill = |f: &Figures, pick: fn(&super::Bill) -> f64| {
        f.bill_usd.map_or(NONE.to_string(), |b| dollars(pick(&b)))
    };
    row("cost / 1 M", &|_, f| bill(f, |b| b.rounded));
    interval(&mut row, |f| f.intervals.cost_per_million, &two);
    row("  unrounded", &|_, f| bill(f, |b| b.unrounded));
    row("  unscaled", &|_, f| bill(f, |b| b.unscaled));
    row("  tier", &|_, f| {
        f.bill_usd
            .map_or(NONE.to_string(), |b| format!("{} MiB", b.tier_mib))
    });
    let mj = |mj: Option<f64>| mj.map_or(NONE.to_string(), energy);
    let first = tiers.first().map_or("edge", String::as_str);
    row(&format!("energy, {first}"), &|_, f| {
        mj(f.energy.map(|e| e.mj()))
    });
    row("  computing", &|_, f| mj(f.energy.map(|e| e.compute_mj)));
    row("  radio", &|_, f| mj(f.energy.and_then(|e| e.radio_mj)));
    row("  power by", &|_, f| {
        f.energy.map_or(NONE, |e| e.power.name()).to_string()
    });
}

/// Two rows: the 95 % interval of the figure above, and of how many samples.
fn interval(
    row: &mut impl FnMut(&str, &dyn Fn(&str, &Figures) -> String),
    of: fn(&Figures) -> Option<Interval>,
    number: &dyn Fn(f64) -> String,
) {
    row("  95 %", &|_, f| {
        let ends = |i: Interval| format!("{}–{}", number(i.low), number(i.high));
        of(f).map_or(NONE.into(), ends)
    });
    row("  of", &|_, f| {
        of(f).map_or(NONE.into(), |i| count(i.samples))
    });
}

/// A share as percent, without the sign.
fn share(x: f64) -> String {
    format!("{:.1}", 100.0 * x)
}

/// As few digits as tell two ends apart in a column.
fn two(x: f64) -> String {
    if x >= 9.995 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

/// Says what figures are and of which set: "measured on test".
pub(super) fn origin(f: &Figures) -> String {
    format!("{} on {}", f.kind, f.set)
}

fn exits(out: &mut String, report: &Report) {
    let Some(origin) = report.exits_origin else {
        return;
    };
    let mut from = format!("Exits, {} on {}", origin.kind, origin.set);
    let replayed = (Kind::Predicted, Set::Calibration);
    if !report.head_pays.is_empty() && (origin.kind, origin.set) != replayed {
        // A head's worth is the plan's against the plan's without it, which nobody has measured.
        from += "; pays and saves predicted on calibration";
    }
    section(out, &from);
    line(
        out,
        format!(
            "{:<28}{:>7}{:>11}{:>10}{:>10}{:>14}",
            "after", "part", "threshold", "leave", "right", "pays, saves"
        ),
    );
    for exit in &report.exits {
        let name = exit.after.as_deref();
        let pays = report.head_pays.iter();
        let pays = name.and_then(|n| {
            pays.into_iter()
                .find(|p| p.after == n && p.part == exit.part)
        });
        let pays = pays.map_or(String::new(), |p| {
            let word = if p.pays { "yes" } else { "no" };
            format!("{word}, {}", ms(p.latency_without_ms - p.latency_ms))
        });
        let limit = match name {
            Some(_) => threshold(exit.threshold),
            None => NONE.to_string(),
        };
        let right = exit.accuracy.map_or(NONE.to_string(), percent);
        line(
            out,
            format!(
                "{:<28}{:>7}{limit:>11}{:>10}{right:>10}{pays:>14}",
                fit(name.unwrap_or("final classifier"), 27),
                exit.part,
                percent(exit.share),
            ),
        );
    }
}

fn sweep(out: &mut String, report: &Report) {
    if report.sweep.is_empty() {
        return;
    }
    section(out, "Thresholds, predicted on calibration");
    line(
        out,
        format!(
            "{:>9}{:>10}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "threshold", "accuracy", "offloaded", "mean", "p95", "p99", "sent", "cost/1 M"
        ),
    );
    for f in &report.sweep {
        let latency =
            |pick: fn(&Latency) -> f64| f.latency_ms.map_or(NONE.to_string(), |l| ms(pick(&l)));
        line(
            out,
            format!(
                "{:>9}{:>10}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}",
                threshold(f.threshold),
                percent(f.accuracy),
                percent(f.offloaded),
                latency(|l| l.mean),
                latency(|l| l.p95),
                latency(|l| l.p99),
                bytes(f.bytes_sent),
                dollars(f.cost_per_million_usd),
            ),
        );
    }
}

fn placements(out: &mut String, report: &Report) {
    if report.placements.is_empty() {
        return;
    }
    section(
        out,
        "Placements against cloud only, predicted on calibration",
    );
    line(
        out,
        format!(
            "{:<12}{:>12}{:>14}{:>10}   exits after",
            "", "accuracy", "mean latency", "cost"
        ),
    );
    for p in &report.placements {
        let times = |x: Option<f64>| x.map_or(NONE.to_string(), |x| format!("{x:.3} ×"));
        let exits = fit(&p.exits.join(", "), 29);
        line(
            out,
            format!(
                "{:<12}{:>12}{:>14}{:>10}   {exits}",
                p.placement,
                times(p.ratios.accuracy),
                times(p.ratios.latency),
                times(p.ratios.cost),
            ),
        );
    }
}

fn budget(out: &mut String, report: &Report) {
    let Some(found) = &report.budget else {
        return;
    };
    section(out, "The best of all plans, and what a budget buys");
    for sentence in found.sentences() {
        for words in textwrap::wrap(&sentence, WIDTH) {
            line(out, &words);
        }
    }
    line(out, String::new());
    line(
        out,
        format!(
            "{:>12}{:>10}   most accurate plan",
            found.unit(),
            "accuracy"
        ),
    );
    for row in found.rows() {
        let at = row.threshold.map_or(String::new(), |t| format!(" at {t}"));
        let text = format!("{}{at}", row.plan);
        let mut words = textwrap::wrap(&text, WIDTH - 25).into_iter();
        let first = words.next().unwrap_or_default();
        let (value, accuracy) = (found.written(row.value), percent(row.accuracy));
        line(out, format!("{value:>12}{accuracy:>10}   {first}"));
        for more in words {
            line(out, format!("{:25}{more}", ""));
        }
    }
}

fn what_if(out: &mut String, report: &Report) {
    if let Some(found) = &report.what_if {
        section(
            out,
            "What if: the best plan and its mean ms, predicted on calibration",
        );
        out.push_str(&found.text(&report.names()));
    }
}

/// Most classes that are listed; of more, the least accurate are.
const CLASSES: usize = 12;
/// Columns of the longest bar of the histogram.
const BAR: usize = 40;

fn evidence(out: &mut String, report: &Report) {
    let Some(evidence) = &report.evidence else {
        return;
    };
    let mut classes: Vec<_> = evidence.classes.iter().collect();
    let some = if classes.len() > CLASSES {
        let accuracy = |c: &super::evidence::ClassFigures| c.accuracy.unwrap_or(1.0);
        classes.sort_by(|a, b| accuracy(a).total_cmp(&accuracy(b)));
        classes.truncate(CLASSES);
        format!(
            ", the {CLASSES} least accurate of {}",
            evidence.classes.len()
        )
    } else {
        String::new()
    };
    section(out, &format!("Classes, measured on test{some}"));
    line(
        out,
        format!(
            "{:<24}{:>9}{:>9}{:>12}",
            "", "samples", "right", "left early"
        ),
    );
    let share = |share: Option<f64>| share.map_or(NONE.to_string(), percent);
    for class in classes {
        let name = fit(&class.name, 23);
        let (right, early) = (share(class.accuracy), share(class.early));
        line(
            out,
            format!("{name:<24}{:>9}{right:>9}{early:>12}", count(class.samples)),
        );
    }
    let bins = &evidence.latencies;
    let most = bins
        .iter()
        .map(|b| b.local + b.offloaded)
        .max()
        .unwrap_or(0);
    if most > 0 {
        section(
            out,
            "Samples by latency: █ answered on the first tier, ░ sent on",
        );
    }
    for bin in bins {
        let columns = |n: usize| (n * BAR).div_ceil(most);
        let bar = "█".repeat(columns(bin.local)) + &"░".repeat(columns(bin.offloaded));
        let range = format!("{} to {}", ms(bin.from_ms), ms(bin.to_ms));
        line(
            out,
            format!("{range:<24}{:>7} {bar}", count(bin.local + bin.offloaded)),
        );
    }
    use super::evidence::Group;
    for (group, title) in [
        (
            Group::Early,
            "Left at the first exit, the most confident first",
        ),
        (
            Group::Late,
            "Went to the final classifier, the least confident first",
        ),
        (Group::Wrong, "Answered wrongly, the most confident first"),
    ] {
        let samples = evidence.samples.iter().filter(|s| s.group == group);
        let named = samples.map(|s| format!("{} {} {:.3}", s.sample, answer(s), s.confidence));
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            section(out, title);
            paragraph(out, "", &named.join(", "));
        }
    }
}

/// A sample's class, and what it was taken for where that is another.
pub(super) fn answer(sample: &super::evidence::ShownSample) -> String {
    if sample.label == sample.prediction {
        sample.label.clone()
    } else {
        format!("{} taken for {}", sample.label, sample.prediction)
    }
}

fn checks(out: &mut String, report: &Report) {
    if report.equality.is_none() && report.prediction_error.is_none() {
        return;
    }
    section(out, "Prediction against measurement");
    if let Some(e) = &report.prediction_error {
        let points = |x: f64| format!("{:+.1} points", 100.0 * x);
        paragraph(
            out,
            "",
            &format!(
                "accuracy {}, offloaded {}",
                points(e.accuracy),
                points(e.offloaded)
            ),
        );
        if let Some(l) = e.latency {
            let off = |x: f64| format!("{:+.0} %", 100.0 * x);
            let [mean, p50, p95, p99] = [l.mean, l.p50, l.p95, l.p99].map(off);
            line(
                out,
                format!("latency: mean {mean}, p50 {p50}, p95 {p95}, p99 {p99}"),
            );
        }
    }
    for part in &report.parts {
        paragraph(out, "", &assembled(part));
    }
    if let Some(e) = &report.equality {
        paragraph(out, "", &equality(e));
    }
}

/// Says in a sentence how a part's memory, as assembled, is beside its prediction.
pub(super) fn assembled(part: &super::PartFigures) -> String {
    format!(
        "{} part as assembled: {} of weights and arena (predicted {}), {} through all of it",
        part.part,
        bytes(part.memory_bytes as f64),
        bytes(part.predicted_memory_bytes as f64),
        ms(part.median_ms)
    )
}

/// Says in a sentence how far a run's answers agree with the table's.
pub(super) fn equality(e: &super::EqualityReport) -> String {
    let verdict = match e.differing {
        0 => "the run equals the table sample by sample".to_string(),
        1 => "1 sample differs from the table".to_string(),
        n => format!("{} samples differ from the table", count(n)),
    };
    format!(
        "{verdict}: {} compared, {} within 1e-5 of a threshold, confidences differ by at most {:.1e}",
        count(e.compared),
        count(e.within_band),
        e.largest_difference
    )
}

fn short(out: &mut String, report: &Report) {
    let Some(f) = report.chief() else {
        return;
    };
    let emulated = if f.emulated { ", emulated" } else { "" };
    section(out, &format!("In short: {}{emulated}", origin(f)));
    let base = report.baselines.cloud_only.as_ref();
    let beside = |cell: &dyn Fn(&Figures) -> String| {
        base.map_or(String::new(), |b| {
            let same = (b.kind, b.set) == (f.kind, f.set);
            let other = if same {
                String::new()
            } else {
                format!(" ({})", origin(b))
            };
            format!("   cloud only {}{other}", cell(b))
        })
    };
    let row = |out: &mut String, name: &str, cell: &dyn Fn(&Figures) -> String| {
        line(
            out,
            format!("{name:<NAME$}{:>COLUMN$}{}", cell(f), beside(cell)),
        );
    };
    match report.unmodified_accuracy {
        // Baselines may have run over fewer images; their accuracy would not compare.
        Some(whole) => {
            let unmodified = percent(whole);
            let own = percent(f.accuracy);
            line(
                out,
                format!(
                    "{:<NAME$}{own:>COLUMN$}   unmodified {unmodified}",
                    "accuracy"
                ),
            );
        }
        None => row(out, "accuracy", &|f| percent(f.accuracy)),
    }
    row(out, "mean latency", &|f| {
        f.latency_ms.map_or(NONE.to_string(), |l| ms(l.mean))
    });
    row(out, "offloaded", &|f| percent(f.offloaded));
    row(out, "cost / 1 M", &|f| dollars(f.cost_per_million_usd));
    // Known where power rails or the session's watts tell it, or of a prediction.
    if f.energy.or(base.and_then(|b| b.energy)).is_some() {
        row(out, "energy", &|f| {
            f.energy.map_or(NONE.to_string(), |e| energy(e.mj()))
        });
    }
}
