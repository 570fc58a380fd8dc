use super::*;
use crate::explore::sweep;
use crate::plan::Tier;
use crate::predict::replay::tests::{Setting, plan, setting, table};
use crate::predict::{Answers, Evidence, baselines, replay};
use pretty_assertions::assert_eq;
use std::sync::Arc;

/// A whole report: predicted, "measured" by a second replay, compared, placed.
pub(crate) fn report(hostile: bool) -> Report {
    let mut s = setting(300, 11);
    if hostile {
        let name = "<script>alert(1)</script>";
        Arc::make_mut(&mut s.evidence.layers).layers[3].name = name.into();
        s.profile_mut(Tier::First).layers[3].name = name.into();
        s.profile_mut(Tier::Second).layers[3].name = name.into();
    }
    s.evidence.test = Some(Arc::new(Answers {
        table: table(Set::Test, 200, 12),
        wires: vec![],
        images: None,
    }));
    let Setting { evidence, terms } = &s;
    let mut chosen = plan(Split::After(3), &[1, 2, 4], 0.7);
    chosen.split_layers = vec![Some(evidence.layers.layers[3].name.clone())];
    let subject = Subject {
        name: "demo".into(),
        network: "net".into(),
        data: "synthetic images".into(),
        training: "2 + 1 epochs".into(),
        train: Used {
            used: 2000,
            of: 50_000,
        },
        calibration: Used { used: 300, of: 300 },
        test: Used {
            used: 200,
            of: 10_000,
        },
    };
    let mut report = Report::new(subject, &chosen, &evidence.layers, &evidence.tiers);
    report.under(&Conditions {
        tiers: &[s.profile(Tier::First), s.profile(Tier::Second)],
        links: &[(
            Link::Emulated {
                mbit: 40.0,
                rtt_ms: 12.0,
            },
            evidence.link(Tier::First).unwrap(),
        )],
        wire: terms.wire,
        billing: terms.billing,
        one_machine: true,
    });
    let prepared = s.prepared(&chosen);
    let thresholds = [0.3, 0.5, 0.7, 0.9];
    let swept = sweep(evidence, terms, &chosen, &thresholds).unwrap();
    report.predict(&prepared.outcome(), &swept, prepared.head_pays());
    let on_test = replay(evidence, terms, Set::Test, &chosen).unwrap();
    let mut measured = on_test.clone();
    measured.kind = Kind::Measured;
    measured.accuracy -= 0.01;
    if let Some(latency) = &mut measured.latency_ms {
        latency.mean *= 1.25;
    }
    let equality = Equality {
        compared: 200,
        within_band: 1,
        differing: vec![],
        largest_difference: 2e-7,
    };
    report.measure(&measured, Some(&on_test), Some(&equality));
    let base = baselines(evidence, terms, Set::Calibration, &chosen).unwrap();
    report.compare(BaselineFigures {
        original: Some(Figures::from(&base.original)),
        cloud_only: Some(Figures::from(&base.cloud_only)),
        cloud_only_jpeg: None,
        exits_else_image: None,
        edge_only: base.edge_only.as_ref().map(Figures::from),
    });
    for (placement, exits) in [
        (Placement::Linear, [1, 2, 4]),
        (Placement::Pareto, [0, 1, 4]),
    ] {
        let placed = plan(Split::After(3), &exits, 0.7);
        let swept = sweep(evidence, terms, &placed, &thresholds).unwrap();
        let outcome = s.prepared(&placed).outcome();
        report.place(placement, &placed, &outcome, &swept, &base.cloud_only);
    }
    report
}

#[test]
fn json_has_its_keys() {
    let text = json::json(&report(false)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let at = |path: &str| value.pointer(path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(at("/plan/split"), "l3");
    assert_eq!(at("/plan/exits").as_array().unwrap().len(), 3);
    for row in ["/sweep/0", "/predicted", "/measured", "/baselines/original"] {
        for key in [
            "threshold",
            "accuracy",
            "offloaded",
            "latency_ms/mean",
            "latency_ms/p50",
            "latency_ms/p95",
            "latency_ms/p99",
            "edge_memory_bytes",
            "cloud_memory_bytes",
            "bytes_sent",
            "cost_per_million_usd",
        ] {
            assert!(at(&format!("{row}/{key}")).is_number(), "{row}/{key}");
        }
    }
    for key in ["after", "part", "share", "accuracy"] {
        at(&format!("/exits/0/{key}"));
    }
    assert_eq!(at("/exits/0/part"), "edge");
    assert_eq!(at("/exits/3/after"), &serde_json::Value::Null);
    assert_eq!(at("/measured/kind"), "measured");
    assert_eq!(at("/measured/set"), "test");
    assert_eq!(at("/predicted/set"), "test");
    assert_eq!(at("/sweep/0/set"), "calibration");
    assert!(at("/baselines/edge_only").is_object());
    assert!(at("/baselines/cloud_only").is_object());
    assert_eq!(at("/name"), "demo");
    // Whoever reads it back gets the same report, to the last digit but one.
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.plan, report(false).plan);
    assert_eq!(back.exits, report(false).exits);
}

#[test]
fn without_a_measurement_the_prediction_is_on_calibration() {
    let s = setting(50, 1);
    let chosen = plan(Split::After(3), &[1], 0.7);
    let Evidence { layers, tiers, .. } = &s.evidence;
    let mut report = Report::new(Subject::default(), &chosen, layers, tiers);
    let prepared = s.prepared(&chosen);
    report.predict(&prepared.outcome(), &[], vec![]);
    assert_eq!(report.predicted.as_ref().unwrap().set, Set::Calibration);
    assert_eq!(report.chief(), report.predicted.as_ref());
    assert!(!text::text(&report).contains("test "));
    html::html(&report).unwrap();
}

#[test]
fn what_is_emulated_or_a_subset_is_said() {
    let report = report(false);
    let said = report.caveats.join("\n");
    for part in [
        "Trained on 2,000 of 50,000 images, 2 + 1 epochs.",
        "Tested on 200 of 10,000 images.",
        "two processes on one machine",
        "Times of the edge are stretched by 6",
        "40 Mbit/s, round trip 12 ms",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.contains("Calibrated"), "{said}");
    let error = report.prediction_error.unwrap();
    assert!((error.accuracy - 0.01).abs() < 1e-12);
    assert!((error.latency.unwrap().mean + 0.2).abs() < 1e-12);
}

#[test]
fn text_is_80_columns_and_ends_with_what_matters() {
    let text = text::text(&report(false));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    let last: Vec<&str> = text.lines().rev().take(6).collect();
    assert!(last[5].contains("In short: measured on test, emulated"));
    assert!(last[1].starts_with("cost / 1 M") && last[4].starts_with("accuracy"));
    assert!(text.contains("the run equals the table sample by sample"));
    // Nobody has measured the plan without one of its heads.
    let exits = "── Exits, measured on test; pays and saves predicted on calibration ──";
    assert!(text.contains(exits), "{text}");
    let page = html::html(&report(false)).unwrap();
    assert!(page.contains("has a higher mean latency, predicted on calibration"));
}

#[test]
fn csv_has_a_row_each() {
    let report = report(false);
    let text = csv::figures(&report).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let names: Vec<&str> = rows.iter().map(|r| &r[0]).collect();
    let expected = [
        "predicted",
        "measured",
        "original",
        "cloud_only",
        "edge_only",
    ];
    assert_eq!(names[..4], ["sweep"; 4]);
    assert_eq!(names[4..], expected);
    assert_eq!(&rows[5][1], "measured");
    assert_eq!(rows[0][6].parse::<f64>().unwrap(), report.sweep[0].accuracy);
    assert_eq!(csv::exits(&report).unwrap().lines().count(), 5);
}

#[test]
fn the_page_stands_alone_and_trusts_no_name() {
    let page = html::html(&report(true)).unwrap();
    assert!(!page.contains("<script"), "a layer's name is not escaped");
    assert!(page.contains("&lt;script&gt;"));
    let own = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!own.contains("http") && !own.contains("url(") && !own.contains("@import"));
    // Five charts of the sweep, three of the placements.
    assert_eq!(page.matches("<svg").count(), 8);
    assert_eq!(page.matches("</svg>").count(), 8);
    assert!(page.contains("emulated") && page.contains("measured"));
}
