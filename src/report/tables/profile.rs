/*! One row per thing measured of a device or a link, apart from runs. */

use super::{Table, Values};
use crate::device::{Form, PartProfile, Profile, Stats};
use crate::model::layers::LayerTable;
use crate::plan::Tier;
use crate::predict::Evidence;
use std::sync::Arc;

/// A thing that was measured.
#[derive(Debug, Clone, Default)]
struct Row {
    tier: Arc<str>,
    what: &'static str,
    from: Arc<str>,
    after: Arc<str>,
    head: Arc<str>,
    number: Option<usize>,
    elements: Option<usize>,
    bytes: Option<usize>,
    arena_bytes: Option<usize>,
    ms: Option<f64>,
    stats: Option<Stats>,
}

/// What was measured of each tier and each link: the whole network (`whole`, and its single runs, `run`),
/// its layers (`layer`) or prefixes (`prefix`), what ending and beginning a segment behind a layer takes
/// (`cut leave`, `cut enter`), the heads (`head`), the memory of segments (`segment`), writing and reading so
/// many elements as they travel (`encode f32`, `decode f32` and the like), the assembled parts (`part segment`,
/// `part head`), the round trip of the link behind a tier against payload (`link warm`, `link idle`), and by
/// how much single round trips were longer than usual (`link variation`). `ms` is the median where several
/// runs stand behind it.
pub fn profile(evidence: &Evidence, parts: &[(Tier, PartProfile)]) -> Table {
    let mut rows = Vec::new();
    for tier in evidence.tiers.tiers() {
        let name: Arc<str> = evidence.tiers.name(tier).into();
        if let Ok(profile) = evidence.profile(tier) {
            rows.extend(of_profile(&name, profile, &evidence.layers));
        }
        for (_, part) in parts.iter().filter(|(own, _)| *own == tier) {
            rows.extend(of_part(&name, part));
        }
        if let Ok(link) = evidence.link(tier) {
            for (what, points) in [("link warm", &link.warm), ("link idle", &link.idle)] {
                rows.extend(points.iter().map(|&(bytes, ms)| Row {
                    tier: name.clone(),
                    what,
                    bytes: Some(bytes),
                    ms: Some(ms),
                    ..Row::default()
                }));
            }
            rows.extend(link.jitter_ms.iter().enumerate().map(|(n, &ms)| Row {
                tier: name.clone(),
                what: "link variation",
                number: Some(n),
                ms: Some(ms),
                ..Row::default()
            }));
        }
    }
    table(&rows)
}

fn of_profile(tier: &Arc<str>, profile: &Profile, layers: &LayerTable) -> Vec<Row> {
    let row = |what| Row {
        tier: tier.clone(),
        what,
        ..Row::default()
    };
    let layer = |at: usize| -> Arc<str> {
        let found = layers.layers.get(at);
        found.map_or("", |layer| layer.name.as_str()).into()
    };
    let mut rows = vec![Row {
        bytes: Some(profile.weight_bytes),
        arena_bytes: Some(profile.arena_bytes),
        stats: Some(profile.total_ms),
        ..row("whole")
    }];
    rows.extend(profile.samples_ms.iter().enumerate().map(|(n, &ms)| Row {
        number: Some(n),
        ms: Some(ms),
        ..row("run")
    }));
    rows.extend(profile.layers.iter().map(|layer| Row {
        after: layer.name.as_str().into(),
        bytes: Some(layer.bytes),
        stats: Some(layer.ms),
        ..row("layer")
    }));
    rows.extend(profile.prefixes.iter().map(|prefix| Row {
        after: prefix.after.as_str().into(),
        stats: Some(prefix.ms),
        ..row("prefix")
    }));
    for cut in &profile.boundaries {
        let after = layer(cut.rows.wrapping_sub(1));
        for (what, ms) in [("cut leave", cut.leave_ms), ("cut enter", cut.enter_ms)] {
            rows.push(Row {
                after: after.clone(),
                ms: Some(ms),
                ..row(what)
            });
        }
    }
    for codec in &profile.codec {
        let (encode, decode) = codec_names(codec.form);
        for (what, ms) in [(encode, codec.encode_ms), (decode, codec.decode_ms)] {
            rows.push(Row {
                elements: Some(codec.elements),
                ms: Some(ms),
                ..row(what)
            });
        }
    }
    rows.extend(profile.heads.iter().map(|head| Row {
        after: head.after.as_str().into(),
        head: head.hash.as_str().into(),
        bytes: Some(head.bytes.saturating_sub(head.arena_bytes)),
        arena_bytes: Some(head.arena_bytes),
        stats: Some(head.ms),
        ..row("head")
    }));
    rows.extend(profile.segments.iter().map(|segment| Row {
        from: layer(segment.from),
        after: layer(segment.to.wrapping_sub(1)),
        bytes: Some(segment.weight_bytes),
        arena_bytes: Some(segment.arena_bytes),
        ..row("segment")
    }));
    rows
}

/// What writing and reading a form is called.
fn codec_names(form: Form) -> (&'static str, &'static str) {
    match form {
        Form::F32 => ("encode f32", "decode f32"),
        Form::F16 => ("encode f16", "decode f16"),
        Form::U8 => ("encode u8", "decode u8"),
        Form::F32Lz4 => ("encode f32 lz4", "decode f32 lz4"),
        Form::F16Lz4 => ("encode f16 lz4", "decode f16 lz4"),
        Form::U8Lz4 => ("encode u8 lz4", "decode u8 lz4"),
        Form::Pixels => ("encode pixels", "decode pixels"),
        Form::Jpeg => ("encode jpeg", "decode jpeg"),
    }
}

fn of_part(tier: &Arc<str>, part: &PartProfile) -> Vec<Row> {
    let row = |what, number, stats: &Stats| Row {
        tier: tier.clone(),
        what,
        number: Some(number),
        stats: Some(*stats),
        ..Row::default()
    };
    let segments = part.segments.iter().enumerate();
    let heads = part.heads.iter().enumerate();
    segments
        .map(|(n, stats)| row("part segment", n, stats))
        .chain(heads.map(|(n, stats)| row("part head", n, stats)))
        .collect()
}

fn table(rows: &[Row]) -> Table {
    let text = |value: fn(&Row) -> Arc<str>| Values::Text(rows.iter().map(value).collect());
    let whole = |value: fn(&Row) -> Option<usize>| {
        let value = |row| value(row).map(|n| n as u64);
        Values::Whole(rows.iter().map(value).collect())
    };
    let stat = |value: fn(&Stats) -> f64| {
        let value = |row: &Row| row.stats.as_ref().map_or(f64::NAN, value);
        Values::Double(rows.iter().map(value).collect())
    };
    let ms = |row: &Row| row.ms.or(row.stats.map(|stats| stats.median));
    let ms = rows.iter().map(|row| ms(row).unwrap_or(f64::NAN));
    Table::of(vec![
        ("tier", text(|row| row.tier.clone())),
        ("what", text(|row| row.what.into())),
        ("from", text(|row| row.from.clone())),
        ("after", text(|row| row.after.clone())),
        ("head", text(|row| row.head.clone())),
        ("number", whole(|row| row.number)),
        ("elements", whole(|row| row.elements)),
        ("bytes", whole(|row| row.bytes)),
        ("arena_bytes", whole(|row| row.arena_bytes)),
        ("ms", Values::Double(ms.collect())),
        ("ms_min", stat(|stats| stats.min)),
        ("ms_mean", stat(|stats| stats.mean)),
        ("ms_p95", stat(|stats| stats.p95)),
    ])
}
