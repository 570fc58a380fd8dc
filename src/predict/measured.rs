/*! What a run noted of its samples, folded into the form a replay has. */

use super::billing::{Billing, BillingError, Clock, MemoryTier};
use super::interval::{Intervals, bootstrap, mean, p95};
use super::outcome::{
    Cost, Energy, ExitOutcome, HopOutcome, Kind, Latency, Outcome, Power, Record, TierOutcome,
};
use crate::data::Set;
use crate::plan::Plan;

/// Seed of the resamples: the same records have the same intervals.
const SEED: u64 = 0;

/// A run of a plan over a set, or of a baseline (whose plan has no split, or no exits).
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// One a sample, in any order.
    pub records: &'a [Record],
    /// True classes of the whole set, by number of the sample.
    pub labels: &'a [u16],
    /// Set of samples that this is of.
    pub set: Set,
    /// What ran. Records count its exits, edge first.
    pub plan: &'a Plan,
    /// Confidence threshold of the exits that have none of their own, 0 to 1.
    pub threshold: f64,
    /// Whether a device or the link was emulated.
    pub emulated: bool,
    /// Peak resident memory of each tier's process, in order; 0 where none was asked.
    pub resident_bytes: &'a [usize],
    /// Price model of the cloud.
    pub billing: Billing,
    /// The machines that the tiers' durations were measured on, nearest tier first.
    pub clocks: &'a [Clock],
    /// Mean bytes of the answers of the tiers behind a link.
    pub answer_bytes: f64,
    /// Joules of the first tier's board per inference, everything on it included, where it has power rails.
    pub joules_per_inference: Option<f64>,
}

/// Why records can't be folded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MeasuredError {
    /// The run has no records.
    #[error("the run left no records; run it again")]
    Empty,
    /// A record of something else.
    #[error("the record of sample {sample} doesn't fit: {what}; run the plan again")]
    Record {
        /// Number of the sample.
        sample: u32,
        /// What doesn't fit, in words.
        what: &'static str,
    },
    /// There is no bill.
    #[error(transparent)]
    Billing(#[from] BillingError),
}

/// Folds a run.
///
/// Each tier behind a link is billed by the durations it told; a tier that didn't answer told none, and
/// isn't billed for the sample. Latency is `None` where any record has none.
///
/// # Errors
/// Without records, where one is of another set or plan or comes twice, or no tier is large enough.
pub fn measured(run: &Run) -> Result<Outcome, MeasuredError> {
    let Run { plan, labels, .. } = *run;
    if run.records.is_empty() {
        return Err(MeasuredError::Empty);
    }
    let classifiers = plan.exits.len() + 1;
    let (mut left, mut right) = (vec![0_usize; classifiers], vec![0_usize; classifiers]);
    let mut seen = vec![false; labels.len()];
    let mut degraded = 0;
    let mut crossed = vec![(0_usize, 0_u64); plan.splits.len()];
    for record in run.records {
        let refuse = |what| MeasuredError::Record {
            sample: record.sample,
            what,
        };
        let (sample, exit) = (record.sample as usize, usize::from(record.exit));
        let Some(&label) = labels.get(sample) else {
            return Err(refuse("the set has fewer samples"));
        };
        if std::mem::replace(&mut seen[sample], true) {
            return Err(refuse("it comes twice"));
        }
        if exit >= classifiers {
            return Err(refuse("the plan has fewer exits"));
        }
        left[exit] += 1;
        right[exit] += usize::from(record.prediction == label);
        degraded += usize::from(record.degraded);
        for ((samples, bytes), hop) in crossed.iter_mut().zip(&record.hops) {
            *samples += 1;
            *bytes += u64::from(hop.bytes_sent);
        }
    }
    let samples = run.records.len();
    let n = samples as f64;
    let latencies: Vec<f32> = run.records.iter().map(|r| r.latency_ms).collect();
    let rented = rented(run)?;
    Ok(Outcome {
        kind: Kind::Measured,
        emulated: run.emulated,
        as_f32: false,
        set: run.set,
        samples,
        threshold: run.threshold,
        accuracy: right.iter().sum::<usize>() as f64 / n,
        exits: exits(plan, &left, &right, n),
        tiers: run
            .resident_bytes
            .iter()
            .map(|&memory_bytes| TierOutcome { memory_bytes })
            .collect(),
        hops: crossed
            .iter()
            .map(|(samples, bytes)| HopOutcome {
                share: *samples as f64 / n,
                bytes_sent: *bytes as f64 / n,
            })
            .collect(),
        degraded,
        latency_ms: Latency::of(&latencies),
        cost_per_million: bill(run, &rented),
        energy: run.joules_per_inference.map(|joules| Energy {
            compute_mj: 1e3 * joules,
            radio_mj: None,
            power: Power::Run,
        }),
        intervals: intervals(run, &rented),
    })
}

/// What is rented for a tier, and on which clock its durations were measured.
struct Rented {
    tier: usize,
    memory: MemoryTier,
    clock: Clock,
}

impl Rented {
    /// The bill for a million samples, of which these are some.
    fn per_million(&self, records: &[Record], answer_bytes: f64) -> Cost {
        let durations = records.iter().filter_map(|r| r.tier_ms.get(self.tier));
        let durations = durations
            .map(|ms| f64::from(*ms))
            .filter(|ms| ms.is_finite());
        let (clock, samples) = (self.clock, records.len());
        self.memory
            .per_million(durations, samples, clock, answer_bytes)
    }
}

/// The tiers behind the first that ran something; none where nobody was asked.
fn rented(run: &Run) -> Result<Vec<Rented>, BillingError> {
    let tiers = run.resident_bytes.iter().zip(run.clocks).enumerate();
    let behind = tiers.skip(1).filter(|(_, (resident, _))| **resident > 0);
    let behind = behind.filter(|_| run.plan.offloads());
    let rented = behind.map(|(tier, (&resident, &clock))| {
        Ok(Rented {
            tier,
            memory: run.billing.tier(resident)?,
            clock,
        })
    });
    rented.collect()
}

/// What the tiers behind the first cost together; `None` where none of them was asked.
fn bill(run: &Run, rented: &[Rented]) -> Option<Cost> {
    let own = |one: &Rented| one.per_million(run.records, run.answer_bytes);
    rented.iter().map(own).reduce(Cost::with)
}

fn intervals(run: &Run, rented: &[Rented]) -> Intervals {
    let latencies: Vec<f32> = run.records.iter().map(|r| r.latency_ms).collect();
    let latency = bootstrap(&latencies, SEED, |ms| [mean(ms), p95(ms)]);
    // What a million samples like this one would cost.
    let bill = |record: &Record| {
        let alone = std::slice::from_ref(record);
        let own = rented
            .iter()
            .map(|one| one.per_million(alone, run.answer_bytes));
        own.map(|cost| cost.rounded).sum::<f64>() as f32
    };
    let cost = if rented.is_empty() {
        None
    } else {
        let bills: Vec<f32> = run.records.iter().map(bill).collect();
        bootstrap(&bills, SEED, |usd| [mean(usd)])
    };
    Intervals {
        mean_ms: latency.map(|[mean, _]| mean),
        p95_ms: latency.map(|[_, p95]| p95),
        cost_per_million: cost.map(|[cost]| cost),
    }
}

fn exits(plan: &Plan, left: &[usize], right: &[usize], samples: f64) -> Vec<ExitOutcome> {
    let exits = plan.exits.iter();
    let exits = exits.map(|e| (Some(e.after.clone()), e.tier, e.threshold));
    let all = exits.chain([(None, plan.last_tier(), 0.0)]);
    let counts = left.iter().zip(right);
    all.zip(counts)
        .map(|((after, tier, threshold), (&left, &right))| ExitOutcome {
            after,
            tier,
            threshold,
            share: left as f64 / samples,
            accuracy: (left > 0).then(|| right as f64 / left as f64),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::replay::tests::plan;
    use super::*;
    use crate::plan::{Split, Tier};
    use crate::predict::HopRecord;
    use pretty_assertions::assert_eq;

    const CLOCK: Clock = Clock {
        ghz: Some(0.8),
        threads: 1,
    };

    /// A sample of two tiers that leaves the first behind its exit 0.
    fn record(sample: u32, exit: u16, prediction: u16, latency_ms: f32) -> Record {
        let hop = HopRecord {
            encode_ms: 0.1,
            network_ms: 1.0,
            bytes_sent: 1000,
        };
        let (mut tier_ms, mut hops) = (vec![1.0], Vec::new());
        if exit > 0 {
            tier_ms.push(260.0);
            hops.push(hop);
        }
        Record {
            sample,
            exit,
            prediction,
            confidence: 0.9,
            degraded: false,
            latency_ms,
            tier_ms,
            hops,
        }
    }

    fn run<'a>(records: &'a [Record], plan: &'a Plan) -> Run<'a> {
        Run {
            records,
            labels: &[0, 1, 2, 0, 1],
            set: Set::Test,
            plan,
            threshold: 0.7,
            emulated: false,
            resident_bytes: &[10 << 20, 512 << 20],
            billing: Billing::default(),
            clocks: &[CLOCK; 3],
            answer_bytes: 0.0,
            joules_per_inference: Some(0.25),
        }
    }

    #[test]
    fn records_become_an_outcome() {
        let plan = plan(Split::After(3), &[1, 5], 0.7);
        let records = [
            record(0, 0, 0, 10.0),
            record(4, 2, 1, 40.0),
            record(1, 0, 2, 20.0),
            record(2, 1, 2, 30.0),
        ];
        let outcome = measured(&run(&records, &plan)).unwrap();
        assert_eq!((outcome.samples, outcome.accuracy), (4, 0.75));
        assert_eq!((outcome.offloaded(), outcome.bytes_sent()), (0.5, 500.0));
        let exits: Vec<_> = outcome
            .exits
            .iter()
            .map(|e| (e.share, e.accuracy))
            .collect();
        let expected = [(0.5, Some(0.5)), (0.25, Some(1.0)), (0.25, Some(1.0))];
        assert_eq!(exits, expected);
        let latency = outcome.latency_ms.unwrap();
        // Percentiles as numpy.percentile has them.
        assert_eq!((latency.mean, latency.p50), (25.0, 25.0));
        assert!((latency.p99 - 39.7).abs() < 1e-9);
        let cost = outcome.cost_per_million.unwrap();
        assert!((cost.rounded - 3.175 / 2.0).abs() < 1e-9);
        let energy = outcome.energy.unwrap();
        assert_eq!(
            (energy.mj(), energy.radio_mj, energy.power),
            (250.0, None, Power::Run)
        );
    }

    #[test]
    fn degraded_samples_are_counted_and_not_billed() {
        let plan = plan(Split::After(3), &[1], 0.7);
        let mut records = [record(0, 1, 0, 10.0), record(1, 1, 1, f32::NAN)];
        records[1].degraded = true;
        records[1].exit = 0;
        records[1].tier_ms.pop();
        let outcome = measured(&run(&records, &plan)).unwrap();
        assert_eq!((outcome.degraded, outcome.offloaded()), (1, 1.0));
        assert_eq!(outcome.latency_ms, None);
        let cost = outcome.cost_per_million.unwrap();
        assert!((cost.rounded - 3.175 / 2.0).abs() < 1e-9);
    }

    #[test]
    fn every_link_and_every_tier_behind_one_has_its_figures() {
        let chain = crate::predict::replay::tests::plan(Split::After(3), &[1, 5], 0.7);
        let chain = Plan {
            splits: vec![Split::After(3), Split::After(5)],
            split_layers: vec![None; 2],
            ..chain
        };
        let mut far = record(2, 2, 2, 30.0);
        far.tier_ms.push(130.0);
        far.hops.push(HopRecord {
            bytes_sent: 400,
            ..HopRecord::default()
        });
        let records = [record(0, 0, 0, 10.0), record(1, 1, 1, 20.0), far];
        let all = Run {
            resident_bytes: &[10 << 20, 512 << 20, 512 << 20],
            ..run(&records, &chain)
        };
        let outcome = measured(&all).unwrap();
        let hops: Vec<_> = outcome
            .hops
            .iter()
            .map(|h| (h.share, h.bytes_sent))
            .collect();
        assert_eq!(hops, [(2.0 / 3.0, 2000.0 / 3.0), (1.0 / 3.0, 400.0 / 3.0)]);
        assert_eq!(outcome.tiers.len(), 3);
        // The bill of a run on the second tier alone, and on the third.
        let alone = |tier_bytes: [usize; 3]| {
            let run = Run {
                resident_bytes: &tier_bytes,
                ..all
            };
            measured(&run).unwrap().cost_per_million.unwrap().unrounded
        };
        let (second, third) = (alone([1, 512 << 20, 0]), alone([1, 0, 512 << 20]));
        let both = outcome.cost_per_million.unwrap();
        assert!((both.unrounded - second - third).abs() < 1e-9);
        assert_eq!(both.tier_mib, 512);
    }

    #[test]
    fn an_edge_alone_has_no_bill() {
        let plan = plan(Split::End, &[], 0.7);
        let records = [record(0, 0, 0, 10.0)];
        let outcome = measured(&run(&records, &plan)).unwrap();
        assert_eq!(outcome.cost_per_million, None);
        assert_eq!(outcome.exits[0].tier, Tier::First);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let plan = plan(Split::After(3), &[1], 0.7);
        assert_eq!(measured(&run(&[], &plan)), Err(MeasuredError::Empty));
        let twice = [record(0, 0, 0, 1.0), record(0, 0, 0, 1.0)];
        let other_set = [record(5, 0, 0, 1.0)];
        let other_plan = [record(0, 2, 0, 1.0)];
        for records in [&twice[..], &other_set, &other_plan] {
            let error = measured(&run(records, &plan)).unwrap_err();
            assert!(matches!(error, MeasuredError::Record { .. }), "{error}");
        }
    }
}
