/*! One row per record of a run, and one per run and tier: memory, clock and prices. */

use super::{Table, Values};
use crate::plan::{Tier, TierNames};
use crate::predict::replay::ANSWER_BYTES;
use crate::predict::{Billing, Clock, Evidence, Record};
use std::sync::Arc;

/// A run whose records are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// `plan`, `original`, `cloud_only` or `edge_only`.
    pub what: String,
    /// Layers behind which its exits stand, in order of depth.
    pub exits: Vec<String>,
    /// One per sample that ran.
    pub records: Vec<Record>,
    /// Peak resident memory of each tier's process, in order; 0 where none was asked.
    pub resident_bytes: Vec<usize>,
}

/// What runs noted of each sample of the test set: exit, answer, and the milliseconds and bytes of each
/// tier and each link. `after` is empty for the final classifier.
pub fn records(ran: &[Ran], labels: &[u16], tiers: &TierNames) -> Table {
    let all = || each(ran);
    let whole = |value: &dyn Fn(&Record) -> u64| {
        Values::Whole(all().map(|(_, record)| Some(value(record))).collect())
    };
    let label = |record: &Record| labels.get(record.sample as usize).copied();
    let after = |(run, record): (&Ran, &Record)| -> Arc<str> {
        let exit = run.exits.get(usize::from(record.exit));
        exit.map_or("", String::as_str).into()
    };
    let names: Vec<Arc<str>> = ran.iter().map(|run| run.what.as_str().into()).collect();
    let of_run = ran.iter().zip(&names);
    let run = of_run.flat_map(|(run, name)| vec![name.clone(); run.records.len()]);
    let degraded = all().map(|(_, record)| record.degraded);
    let correct = all().map(|(_, record)| label(record) == Some(record.prediction));
    let mut table = Table::of(vec![
        ("run", Values::Text(run.collect())),
        ("sample", whole(&|record| record.sample.into())),
        (
            "label",
            Values::Whole(all().map(|(_, r)| label(r).map(u64::from)).collect()),
        ),
        ("exit", whole(&|record| record.exit.into())),
        ("after", Values::Text(all().map(after).collect())),
        ("prediction", whole(&|record| record.prediction.into())),
        ("correct", Values::Flag(correct.collect())),
        (
            "confidence",
            single(all(), |record| Some(record.confidence)),
        ),
        ("degraded", Values::Flag(degraded.collect())),
        (
            "latency_ms",
            single(all(), |record| Some(record.latency_ms)),
        ),
    ]);
    for (at, tier) in tiers.tiers().enumerate() {
        let ms = single(all(), |record| record.tier_ms.get(at).copied());
        table.columns.push((format!("{}_ms", tiers.name(tier)), ms));
    }
    for (at, pair) in tiers.all().windows(2).enumerate() {
        let link = format!("{}_{}", pair[0], pair[1]);
        let hop = |record: &Record| record.hops.get(at).copied();
        let bytes = all().map(|(_, record)| hop(record).map(|hop| hop.bytes_sent.into()));
        let columns = [
            ("encode_ms", single(all(), |r| hop(r).map(|h| h.encode_ms))),
            (
                "network_ms",
                single(all(), |r| hop(r).map(|h| h.network_ms)),
            ),
            ("bytes", Values::Whole(bytes.collect())),
        ];
        let named = columns.map(|(name, values)| (format!("{link}_{name}"), values));
        table.columns.extend(named);
    }
    table
}

/// Every record, with its run.
fn each(ran: &[Ran]) -> impl Iterator<Item = (&Ran, &Record)> {
    ran.iter()
        .flat_map(|run| run.records.iter().map(move |record| (run, record)))
}

fn single<'a>(
    all: impl Iterator<Item = (&'a Ran, &'a Record)>,
    value: impl Fn(&Record) -> Option<f32>,
) -> Values {
    let value = |(_, record): (&Ran, &Record)| value(record).unwrap_or(f32::NAN);
    Values::Single(all.map(value).collect())
}

/// What each tier of a run took and is billed by. A request of a tier behind a link costs
/// `usd_per_request`, `usd_per_byte_out` × `answer_bytes`, and `usd_per_second` of the tier's milliseconds ×
/// `scale`, rounded up to multiples of `step_ms`.
pub fn runs(ran: &[Ran], evidence: &Evidence, billing: Billing) -> Table {
    let tiers = evidence.tiers.tiers();
    let rows: Vec<(&Ran, Tier)> = ran
        .iter()
        .flat_map(|run| tiers.clone().map(move |tier| (run, tier)))
        .collect();
    let resident = |(run, tier): &(&Ran, Tier)| {
        let found = run.resident_bytes.get(tier.index()).copied();
        found.filter(|bytes| *bytes > 0)
    };
    let clock = |tier: Tier| {
        let profile = evidence.profile(tier).ok();
        Clock {
            ghz: profile.and_then(|p| p.ghz),
            threads: profile.map_or(1, |p| p.threads),
        }
    };
    let rented = |row: &(&Ran, Tier)| {
        let bytes = resident(row).filter(|_| row.1 != Tier::First)?;
        billing.tier(bytes).ok()
    };
    let priced = |value: &dyn Fn(&crate::predict::billing::MemoryTier, Clock) -> f64| {
        let value = |row: &(&Ran, Tier)| rented(row).map(|rented| value(&rented, clock(row.1)));
        Values::Double(
            rows.iter()
                .map(|row| value(row).unwrap_or(f64::NAN))
                .collect(),
        )
    };
    let text = |value: &dyn Fn(&(&Ran, Tier)) -> String| {
        Values::Text(rows.iter().map(|row| value(row).into()).collect())
    };
    let slowdown =
        |(_, tier): &(&Ran, Tier)| evidence.profile(*tier).map_or(f64::NAN, |p| p.slowdown);
    let whole = |value: &dyn Fn(&(&Ran, Tier)) -> Option<usize>| {
        let value = |row| value(row).map(|n| n as u64);
        Values::Whole(rows.iter().map(value).collect())
    };
    let ghz = rows.iter().map(|row| clock(row.1).ghz.unwrap_or(f64::NAN));
    Table::of(vec![
        ("run", text(&|(run, _)| run.what.clone())),
        ("tier", text(&|(_, tier)| evidence.tiers.name(*tier).into())),
        ("resident_bytes", whole(&resident)),
        ("ghz", Values::Double(ghz.collect())),
        ("threads", whole(&|(_, tier)| Some(clock(*tier).threads))),
        (
            "slowdown",
            Values::Double(rows.iter().map(slowdown).collect()),
        ),
        ("memory_tier_mib", whole(&|row| rented(row).map(|m| m.mib))),
        ("scale", priced(&|m, clock| m.scale(clock).unwrap_or(1.0))),
        ("step_ms", priced(&|m, _| m.step_ms)),
        ("usd_per_second", priced(&|m, _| m.second)),
        ("usd_per_request", priced(&|m, _| m.invocation)),
        ("usd_per_byte_out", priced(&|m, _| m.egress_byte)),
        ("answer_bytes", priced(&|_, _| ANSWER_BYTES)),
    ])
}
