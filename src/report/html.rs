/*!
The report as one page without anything from elsewhere: curves as inline SVG, the same numbers as
tables. Readable in dark and light, without colours, and by those who hear it.
*/

use super::chart::{Chart, Curve};
use super::number::{NONE, bytes, count, dollars, energy, ms, percent, threshold};
use super::{Figures, Ratios, Report, ReportError};
use crate::predict::{Interval, Kind, Latency};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

const TEMPLATE: &str = include_str!("../../assets/report.html.j2");
const NAME: &str = "report.html";
/// Classes up to which the whole confusion matrix is shown; of more, as many of the least accurate.
const MATRIX: usize = 20;

/// The page.
///
/// # Errors
/// Where a curve can't be drawn or the page not be put together.
pub fn html(report: &Report) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Names of layers and networks come from files: everything is escaped but our own SVG.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template(NAME, TEMPLATE)?;
    let s = &report.subject;
    let plan = &report.plan;
    let page = environment.get_template(NAME)?;
    Ok(page.render(context! {
        name => s.name.as_str(),
        network => s.network.as_str(),
        data => s.data.as_str(),
        training => s.training.as_str(),
        images => vec![count(s.train.used), count(s.calibration.used), count(s.test.used)],
        split => plan.split.as_str(),
        memory_share => percent(plan.memory_share),
        macs_share => percent(plan.macs_share),
        notes => plan.notes.clone(),
        verdict => report.verdict.as_ref().map(|v| v.text.clone()),
        beside => report.verdict.as_ref().map_or_else(Vec::new, beside),
        guarantee => report.guarantee.as_ref().map(|g| g.sentence()),
        calibration => report.calibration_errors.iter().map(|c| c.cells()).collect::<Vec<_>>(),
        reliability => super::reliability::charts(report)?
            .into_iter()
            .map(Value::from_safe_string)
            .collect::<Vec<_>>(),
        caveats => report.caveats.clone(),
        devices => devices(report),
        chief => chief(report),
        figures => figures(report),
        exits_from => report.exits_origin.map_or(String::new(), |o| {
            format!("{} on {}", o.kind, o.set)
        }),
        exits => exits(report),
        sweep => sweep(report),
        placements => placements(report),
        equality => report.equality.as_ref().map_or(String::new(), super::text::equality),
        parts => report.parts.iter().map(super::text::assembled).collect::<Vec<_>>(),
        error => error(report),
        charts => charts(report)?,
        classes => classes(report),
        classes_shown => report.evidence.as_ref().is_some_and(|e| e.classes.len() <= MATRIX),
        class_names => class_names(report),
        latencies => latencies(report),
        samples => samples(report)?,
        what_if => what_if(report),
        budget => budget(report),
        ratio_charts => ratio_charts(report)?,
    })?)
}

/// The plan beside each of the others.
fn beside(verdict: &super::VerdictReport) -> Vec<String> {
    let rows = verdict.against.iter();
    rows.map(super::VerdictRow::sentence).collect()
}

/// A figure's 95 % interval, and of how many samples; empty where nobody knows.
fn sure(interval: Option<Interval>, number: &dyn Fn(f64) -> String) -> String {
    interval.map_or(String::new(), |i| {
        let (low, high) = (number(i.low), number(i.high));
        format!(" ({low} to {high}, n = {})", count(i.samples))
    })
}

fn set(f: &Figures) -> String {
    f.set.to_string()
}

fn latency(f: &Figures, pick: fn(&Latency) -> f64) -> String {
    f.latency_ms.map_or(NONE.to_string(), |l| ms(pick(&l)))
}

fn devices(report: &Report) -> Vec<Vec<String>> {
    let Some(c) = &report.conditions else {
        return Vec::new();
    };
    let row = |side: &str, d: &super::DeviceReport| {
        let ghz = d.ghz.map_or(NONE.to_string(), |g| format!("{g:.1} GHz"));
        let slowdown = match d.slowdown {
            1.0 => "none".to_string(),
            factor => format!("× {factor}, emulated"),
        };
        let threads = d.threads.to_string();
        vec![
            side.into(),
            d.target.clone(),
            d.device.clone(),
            ghz,
            threads,
            slowdown,
        ]
    };
    let all = super::devices(report, c).into_iter();
    all.map(|(side, d)| row(&side, d)).collect()
}

/// The few numbers that matter: name, the plan's and whence, cloud-only's and whence.
fn chief(report: &Report) -> Vec<Vec<String>> {
    let Some(f) = report.chief() else {
        return Vec::new();
    };
    let base = report.baselines.cloud_only.as_ref();
    let from = |f: &Figures| {
        let emulated = if f.emulated { ", emulated" } else { "" };
        format!("{}{emulated}", super::text::origin(f))
    };
    let row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let base = base.map_or(String::new(), |b| {
            format!("cloud only {}, {}", cell(b), from(b))
        });
        vec![name.to_string(), cell(f), from(f), base]
    };
    let mut accuracy = row("accuracy", &|f| percent(f.accuracy));
    if let Some(whole) = report.unmodified_accuracy {
        // A baseline may have run over fewer images; this is of the same.
        accuracy[3] = format!("unmodified {}, over the same images", percent(whole));
    }
    let mut rows = vec![
        accuracy,
        row("mean latency", &|f| latency(f, |l| l.mean)),
        row("offloaded", &|f| percent(f.offloaded)),
        row("cost of a million", &|f| dollars(f.cost_per_million_usd)),
    ];
    if f.energy.or(base.and_then(|b| b.energy)).is_some() {
        let energy = row("energy per inference", &|f| mj(f.energy.map(|e| e.mj())));
        rows.push(energy);
    }
    rows
}

fn mj(mj: Option<f64>) -> String {
    mj.map_or(NONE.to_string(), energy)
}

fn figures(report: &Report) -> Vec<Vec<String>> {
    let b = &report.baselines;
    let calibration = report.predicted_on_calibration.as_ref();
    let apart = |c: &&Figures| report.predicted.as_ref().is_none_or(|p| p.set != c.set);
    let rows = [
        ("plan", calibration.filter(apart)),
        ("plan", report.predicted.as_ref()),
        ("plan", report.measured.as_ref()),
        ("original, on the edge", b.original.as_ref()),
        ("cloud only, pixels", b.cloud_only.as_ref()),
        ("cloud only, JPEG", b.cloud_only_jpeg.as_ref()),
        ("exits, else JPEG", b.exits_else_image.as_ref()),
        ("edge only", b.edge_only.as_ref()),
    ];
    let row = |name: &str, f: &Figures| {
        let emulated = if f.emulated { ", emulated" } else { "" };
        let about = if f.as_f32 { "≈ " } else { "" };
        let memory = |b: usize| if b == 0 { NONE.into() } else { bytes(b as f64) };
        let bill = |pick: fn(&super::Bill) -> f64| {
            f.bill_usd.map_or(NONE.to_string(), |b| dollars(pick(&b)))
        };
        vec![
            name.to_string(),
            format!("{}{emulated}", f.kind),
            format!("{}, {}", set(f), count(f.samples)),
            format!(
                "{about}{}{}",
                percent(f.accuracy),
                sure(f.accuracy_interval, &percent)
            ),
            latency(f, |l| l.mean) + &sure(f.intervals.mean_ms, &ms),
            latency(f, |l| l.p50),
            latency(f, |l| l.p95) + &sure(f.intervals.p95_ms, &ms),
            latency(f, |l| l.p99),
            percent(f.offloaded),
            bytes(f.bytes_sent),
            memory(f.edge_memory_bytes),
            memory(f.cloud_memory_bytes),
            bill(|b| b.rounded) + &sure(f.intervals.cost_per_million, &dollars),
            bill(|b| b.unrounded),
            bill(|b| b.unscaled),
            f.bill_usd
                .map_or(NONE.to_string(), |b| format!("{} MiB", b.tier_mib)),
            mj(f.energy.map(|e| e.mj())),
            mj(f.energy.map(|e| e.compute_mj)),
            mj(f.energy.and_then(|e| e.radio_mj)),
            f.energy.map_or(NONE, |e| e.power.text()).to_string(),
        ]
    };
    rows.into_iter()
        .filter_map(|(name, f)| Some(row(name, f?)))
        .collect()
}

fn exits(report: &Report) -> Vec<Vec<String>> {
    let row = |exit: &super::ExitFigures| {
        let name = exit.after.as_deref();
        let pays = name.and_then(|n| {
            let mut all = report.head_pays.iter();
            all.find(|p| p.after == n && p.part == exit.part)
        });
        let cell = |text: &dyn Fn(&super::PaysFigures) -> String| pays.map_or(NONE.into(), text);
        vec![
            name.unwrap_or("final classifier").to_string(),
            exit.part.clone(),
            name.map_or(NONE.to_string(), |_| threshold(exit.threshold)),
            percent(exit.share),
            exit.accuracy.map_or(NONE.to_string(), percent),
            cell(&|p| if p.pays { "yes" } else { "no" }.to_string()),
            cell(&|p| ms(p.latency_without_ms)),
            cell(&|p| percent(p.accuracy_without)),
        ]
    };
    report.exits.iter().map(row).collect()
}

fn sweep(report: &Report) -> Vec<Vec<String>> {
    let row = |f: &Figures| {
        vec![
            threshold(f.threshold),
            percent(f.accuracy),
            percent(f.offloaded),
            latency(f, |l| l.mean),
            latency(f, |l| l.p50),
            latency(f, |l| l.p95),
            latency(f, |l| l.p99),
            bytes(f.edge_memory_bytes as f64),
            bytes(f.cloud_memory_bytes as f64),
            bytes(f.bytes_sent),
            dollars(f.cost_per_million_usd),
            f.bill_usd
                .map_or(NONE.to_string(), |b| dollars(b.unrounded)),
        ]
    };
    report.sweep.iter().map(row).collect()
}

fn class_names(report: &Report) -> Vec<String> {
    let classes = report.evidence.iter().flat_map(|e| &e.classes);
    classes
        .take(MATRIX)
        .map(|class| class.name.clone())
        .collect()
}

/// The classes with what they were answered with: the whole matrix where it isn't too large, else the least
/// accurate with the class each is most often taken for.
fn classes(report: &Report) -> Vec<Value> {
    let Some(evidence) = &report.evidence else {
        return Vec::new();
    };
    let all = &evidence.classes;
    let of = |label: usize| {
        let own = evidence.confusions.iter();
        own.filter(move |c| usize::from(c.label) == label)
    };
    let mut rows: Vec<usize> = (0..all.len()).collect();
    if all.len() > MATRIX {
        let accuracy = |class: &usize| all[*class].accuracy.unwrap_or(1.0);
        rows.sort_by(|a, b| accuracy(a).total_cmp(&accuracy(b)).then(a.cmp(b)));
        rows.truncate(MATRIX);
    }
    let row = |label: usize| {
        let class = &all[label];
        let mut cells = Vec::new();
        if all.len() <= MATRIX {
            let count = |prediction: usize| {
                let mut own = of(label);
                own.find(|c| usize::from(c.prediction) == prediction)
                    .map_or(0, |c| c.samples)
            };
            cells.extend((0..all.len()).map(|prediction| {
                let n = count(prediction);
                let shade = 50 * n / class.samples.max(1);
                context! { n, shade, own => prediction == label }
            }));
        }
        let others = of(label).filter(|c| usize::from(c.prediction) != label);
        let taken = others.max_by_key(|c| (c.samples, std::cmp::Reverse(c.prediction)));
        let taken = taken.and_then(|c| {
            let other = all.get(usize::from(c.prediction))?;
            Some(format!("{} ({})", other.name, count(c.samples)))
        });
        context! {
            name => class.name.as_str(),
            cells,
            samples => count(class.samples),
            right => class.accuracy.map_or(NONE.to_string(), percent),
            early => class.early.map_or(NONE.to_string(), percent),
            taken => taken.unwrap_or(NONE.to_string()),
        }
    };
    rows.into_iter().map(row).collect()
}

fn latencies(report: &Report) -> Vec<Value> {
    let bins: &[_] = report.evidence.as_ref().map_or(&[], |e| &e.latencies);
    let all = |bin: &super::evidence::LatencyBin| bin.local + bin.offloaded;
    let most = bins.iter().map(all).max().unwrap_or(0).max(1) as f64;
    let bin = |bin: &super::evidence::LatencyBin| {
        context! {
            range => format!("{} to {}", ms(bin.from_ms), ms(bin.to_ms)),
            local => count(bin.local),
            offloaded => count(bin.offloaded),
            local_width => 100.0 * bin.local as f64 / most,
            offloaded_width => 100.0 * bin.offloaded as f64 / most,
        }
    };
    bins.iter().map(bin).collect()
}

/// The samples that are shown, by group, each with its picture as a data URI.
fn samples(report: &Report) -> Result<Vec<Value>, ReportError> {
    use super::evidence::Group;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let all: &[_] = report.evidence.as_ref().map_or(&[], |e| &e.samples);
    let groups = [
        (
            Group::Early,
            "Left at the first exit, the most confident first",
        ),
        (
            Group::Late,
            "Went to the final classifier, the least confident first",
        ),
        (Group::Wrong, "Answered wrongly, the most confident first"),
    ];
    let mut shown = Vec::new();
    for (group, title) in groups {
        let mut samples = Vec::new();
        for s in all.iter().filter(|s| s.group == group) {
            let png = s
                .picture
                .as_ref()
                .map(super::evidence::Picture::png)
                .transpose();
            let png = png.map_err(|e| ReportError::Picture(s.sample, e))?;
            samples.push(context! {
                number => s.sample,
                answer => super::text::answer(s),
                confidence => format!("{:.3}", s.confidence),
                after => s.after.clone().unwrap_or("final classifier".into()),
                latency => s.latency_ms.map_or(NONE.into(), |l| ms(l.into())),
                picture => png.map(|png| format!("data:image/png;base64,{}", STANDARD.encode(png))),
            });
        }
        if !samples.is_empty() {
            shown.push(context! { title, samples });
        }
    }
    Ok(shown)
}

fn budget(report: &Report) -> Value {
    let Some(found) = &report.budget else {
        return Value::from(());
    };
    let row = |row: &super::BudgetRow| {
        let at = row.threshold.map_or(NONE.to_string(), threshold);
        vec![
            found.written(row.value),
            row.plan.clone(),
            at,
            percent(row.accuracy),
        ]
    };
    context! {
        sentences => found.sentences(),
        unit => found.unit(),
        rows => found.rows().map(row).collect::<Vec<_>>(),
    }
}

fn what_if(report: &Report) -> Value {
    let Some(found) = &report.what_if else {
        return Value::from(());
    };
    let names = report.names();
    let cell = |cell: &super::what_if::WhatIfCell| {
        let letter = cell.plan.clone();
        let colour = letter.as_ref().and_then(|l| l.bytes().next());
        context! {
            plan => letter.unwrap_or(NONE.into()),
            colour => colour.map_or(9, |c| c.wrapping_sub(b'A') % 5),
            latency => cell.latency_ms.map_or(String::new(), ms),
            accuracy => cell.accuracy.map_or(String::new(), percent),
        }
    };
    let strip = |strip: &super::what_if::StripReport| {
        let cells: Vec<Value> = strip.cells.iter().map(cell).collect();
        context! { name => super::what_if::axis(strip.axis, &names), cells }
    };
    let usd = |usd: Option<f64>| usd.map_or(NONE.to_string(), dollars);
    let price = |price: &super::what_if::PriceReport| {
        vec![
            price.provider.clone(),
            price.best.plan.clone().unwrap_or(NONE.into()),
            usd(price.best.cost_per_million_usd),
            usd(price.usd_per_month),
        ]
    };
    context! {
        factors => found.factors.iter().map(|f| super::what_if::times(*f)).collect::<Vec<_>>(),
        strips => found.strips.iter().map(strip).collect::<Vec<_>>(),
        prices => found.prices.iter().map(price).collect::<Vec<_>>(),
        legend => found.legend(),
        requests => super::what_if::requests(found.requests_per_second),
    }
}

fn placements(report: &Report) -> Vec<Vec<String>> {
    let times = |x: Option<f64>| x.map_or(NONE.to_string(), |x| format!("{x:.3}"));
    let row = |p: &super::PlacementReport| {
        vec![
            p.placement.to_string(),
            p.exits.join(", "),
            threshold(p.ratios.threshold),
            times(p.ratios.accuracy),
            times(p.ratios.latency),
            times(p.ratios.cost),
        ]
    };
    report.placements.iter().map(row).collect()
}

fn error(report: &Report) -> Vec<Vec<String>> {
    let Some(e) = report.prediction_error else {
        return Vec::new();
    };
    let points = |x: f64| format!("{:+.2} points", 100.0 * x);
    let row = |name: &str, text: String| vec![name.to_string(), text];
    let mut rows = vec![
        row("accuracy", points(e.accuracy)),
        row("offloaded", points(e.offloaded)),
    ];
    if let Some(l) = e.latency {
        let off = |x: f64| format!("{:+.1} %", 100.0 * x);
        let all = [
            ("mean", l.mean),
            ("p50", l.p50),
            ("p95", l.p95),
            ("p99", l.p99),
        ];
        rows.extend(all.map(|(name, x)| row(&format!("{name} latency"), off(x))));
    }
    rows
}

/// A figure of merit, by which a curve is drawn.
type Pick<'a> = &'a dyn Fn(&Figures) -> f64;

/// The plan's figure over the thresholds of the sweep.
fn swept(report: &Report, name: &str, pick: Pick) -> Curve {
    let points = report.sweep.iter().map(|f| (f.threshold, pick(f)));
    Curve {
        name: name.to_string(),
        points: points.collect(),
        level: false,
    }
}

/// A baseline's figure, the same at each threshold; none where nothing was swept.
fn level(report: &Report, name: &str, figures: &Figures, pick: Pick) -> Option<Curve> {
    // A level belongs beside the sweep only where it was had in the same way.
    let how = if figures.kind == Kind::Measured {
        ", measured"
    } else {
        ""
    };
    let ends = [report.sweep.first()?, report.sweep.last()?];
    Some(Curve {
        name: format!("{name}{how}"),
        points: ends.map(|f| (f.threshold, pick(figures))).to_vec(),
        level: true,
    })
}

/// The paper's second figure: what each threshold gives, beside the baselines.
fn charts(report: &Report) -> Result<Vec<Value>, ReportError> {
    let curve = |name: &str, pick: Pick| swept(report, name, pick);
    let level = |name: &str, figures: &Option<Figures>, pick: Pick| {
        level(report, name, figures.as_ref()?, pick)
    };
    let mean = |f: &Figures| f.latency_ms.map_or(f64::NAN, |l| l.mean);
    let b = &report.baselines;
    let accuracy = |f: &Figures| f.accuracy;
    let mb = 1e6;
    let mut charts = Vec::new();
    let mut add = |title, curves: Vec<Option<Curve>>, y: &dyn Fn(f64) -> String, from_zero| {
        let chart = Chart {
            title,
            x: "threshold",
            curves: curves.into_iter().flatten().collect(),
            y,
            from_zero,
        };
        charts.extend(chart.svg()?.map(Value::from_safe_string));
        Ok::<(), ReportError>(())
    };
    let whole = |x: f64| format!("{:.0} %", 100.0 * x);
    let tenth = |x: f64| format!("{:.1} %", 100.0 * x);
    add(
        "Accuracy",
        vec![
            Some(curve("plan", &accuracy)),
            level("cloud only", &b.cloud_only, &accuracy),
            level("edge only", &b.edge_only, &accuracy),
        ],
        &tenth,
        false,
    )?;
    add(
        "Offloaded",
        vec![Some(curve("plan", &|f| f.offloaded))],
        &whole,
        true,
    )?;
    add(
        "Latency",
        vec![
            Some(curve("plan, mean", &mean)),
            Some(curve("plan, p95", &|f| {
                f.latency_ms.map_or(f64::NAN, |l| l.p95)
            })),
            level("cloud only, mean", &b.cloud_only, &mean),
            level("original, mean", &b.original, &mean),
        ],
        &ms,
        true,
    )?;
    add(
        "Memory",
        vec![
            Some(curve("edge", &|f| f.edge_memory_bytes as f64 / mb)),
            Some(curve("cloud", &|f| f.cloud_memory_bytes as f64 / mb)),
            level("original", &b.original, &|f| {
                f.edge_memory_bytes as f64 / mb
            }),
        ],
        &|x| bytes(x * mb),
        true,
    )?;
    add(
        "Cost of a million inferences",
        vec![
            Some(curve("plan, rounded", &|f| f.cost_per_million_usd)),
            Some(curve("plan, unrounded", &|f| {
                f.bill_usd.map_or(0.0, |b| b.unrounded)
            })),
            level("cloud only", &b.cloud_only, &|f| f.cost_per_million_usd),
        ],
        &dollars,
        true,
    )?;
    Ok(charts)
}

/// The paper's third figure: placements as ratios to cloud-only.
fn ratio_charts(report: &Report) -> Result<Vec<Value>, ReportError> {
    type Pick = fn(&Ratios) -> Option<f64>;
    let all: [(&str, Pick, bool); 3] = [
        ("Latency ÷ cloud only", |r| r.latency, true),
        ("Accuracy ÷ cloud only", |r| r.accuracy, false),
        ("Cost ÷ cloud only", |r| r.cost, true),
    ];
    let mut charts = Vec::new();
    for (title, pick, from_zero) in all {
        let placed = report.placements.iter().map(|p| Curve {
            name: p.placement.to_string(),
            points: p
                .sweep
                .iter()
                .filter_map(|r| Some((r.threshold, pick(r)?)))
                .collect(),
            level: false,
        });
        let ends = [report.sweep.first(), report.sweep.last()];
        let even = Curve {
            name: "cloud only".to_string(),
            points: ends
                .into_iter()
                .flatten()
                .map(|f| (f.threshold, 1.0))
                .collect(),
            level: true,
        };
        let even = report
            .placements
            .iter()
            .any(|p| !p.sweep.is_empty())
            .then_some(even);
        let chart = Chart {
            title,
            x: "threshold",
            curves: placed.chain(even).collect(),
            y: &|x| format!("{x:.2}"),
            from_zero,
        };
        charts.extend(chart.svg()?.map(Value::from_safe_string));
    }
    Ok(charts)
}
