/*!
What a million inferences cost in the cloud.

Prices are list prices in US dollars without the free allowance of a month, since that is used up
once. A measured duration is of the machine at hand; billed is what the rented tier would take, so it
is *scaled*: multiplied by max(1, GHz × threads of the agent ÷ GHz of the tier). Providers round
durations up; with 100 ms steps every cloud part faster than that costs the same, so the unrounded
bill stands beside the rounded one.

Sources: Google's table of prices and clocks for Cloud Functions of the first generation; Cloud Run
billed by request; AWS Lambda, whose memory also sets its share of a CPU (1,769 MiB is one).
*/

use super::Cost;
use serde::{Deserialize, Serialize};

/// Whose prices the bill uses, as the session writes it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Billing {
    /// Google Cloud Functions, first generation.
    GoogleCloudFunctions {
        /// Price tier of the region, 1 or 2.
        #[serde(default = "tier_one")]
        tier: u8,
    },
    /// Cloud Run, billed by request.
    CloudRun,
    /// AWS Lambda, by the second and the gigabyte.
    AwsLambda {
        /// Whether it runs on Arm, which is cheaper.
        #[serde(default)]
        arm: bool,
    },
    /// Rates of one's own, for a machine that holds exactly what is needed.
    Rates {
        /// US dollars per second that a request is computed.
        #[serde(default)]
        usd_per_second: f64,
        /// US dollars per second and GB (1,024 MiB) of memory.
        #[serde(default)]
        usd_per_gb_second: f64,
        /// US dollars per request.
        #[serde(default)]
        usd_per_request: f64,
        /// US dollars per GB (2^30 bytes) of answers.
        #[serde(default)]
        usd_per_gb_out: f64,
        /// Durations are rounded up to a multiple of so many milliseconds.
        #[serde(default = "one")]
        step_ms: f64,
        /// CPUs, each as fast as the one measured on.
        #[serde(default = "one")]
        cpus: f64,
    },
}

impl Default for Billing {
    fn default() -> Self {
        Billing::GoogleCloudFunctions { tier: tier_one() }
    }
}

fn one() -> f64 {
    1.0
}

fn tier_one() -> u8 {
    1
}

/// Why there is no bill.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BillingError {
    /// A price tier that doesn't exist.
    #[error("Google Cloud Functions has price tiers 1 and 2, not {0}")]
    PriceTier(u8),
    /// Nothing to rent is large enough.
    #[error(
        "the cloud side needs {needed_mib} MiB of memory, {provider} rents at most {largest_mib} MiB; \
         take another `billing`, or a later split"
    )]
    TooLarge {
        /// Resident memory of the cloud side.
        needed_mib: usize,
        /// Provider whose prices are asked for.
        provider: &'static str,
        /// Megabytes of the provider's largest memory tier.
        largest_mib: usize,
    },
}

/// Memory in MiB and clock in GHz of the tiers of Google Cloud Functions.
const FUNCTIONS: [(usize, f64); 7] = [
    (128, 0.2),
    (256, 0.4),
    (512, 0.8),
    (1024, 1.4),
    (2048, 2.4),
    (4096, 4.8),
    (8192, 4.8),
];

/// Memory in MiB of Cloud Run, and the fewest CPUs it is rented with.
const RUN: [(usize, f64); 9] = [
    (128, 1.0),
    (256, 1.0),
    (512, 1.0),
    (1024, 1.0),
    (2048, 1.0),
    (4096, 1.0),
    (8192, 2.0),
    (16384, 4.0),
    (32768, 8.0),
];

const LAMBDA_SMALLEST_MIB: usize = 128;
const LAMBDA_LARGEST_MIB: usize = 10_240;
/// Memory at which Lambda gives one whole CPU.
const LAMBDA_CPU_MIB: f64 = 1769.0;

/// What providers call a MB, and a GB of 1,024 of them.
const MIB: usize = 1 << 20;
const GB: f64 = (1_u64 << 30) as f64;

/// What is rented, and its prices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryTier {
    /// Memory of the tier in MiB, which the provider may call MB.
    pub mib: usize,
    /// GHz where the provider says, else how many CPUs.
    speed: Speed,
    /// US dollars per second that a request is computed.
    pub second: f64,
    /// US dollars per request.
    pub invocation: f64,
    /// US dollars per byte that leaves the cloud; what enters is free.
    pub egress_byte: f64,
    /// Durations are rounded up to a multiple of so many milliseconds.
    pub step_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Ghz(f64),
    Cpus(f64),
}

/// The machine the durations were measured on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// Clock in GHz, where known.
    pub ghz: Option<f64>,
    /// CPU threads that computed.
    pub threads: usize,
}

impl Billing {
    /// Whose prices, for people.
    pub fn provider(&self) -> &'static str {
        match self {
            Billing::GoogleCloudFunctions { tier: 2 } => "Google Cloud Functions, price tier 2",
            Billing::GoogleCloudFunctions { .. } => "Google Cloud Functions, price tier 1",
            Billing::CloudRun => "Cloud Run",
            Billing::Rates { .. } => "own rates",
            Billing::AwsLambda { arm: false } => "AWS Lambda",
            Billing::AwsLambda { arm: true } => "AWS Lambda on Arm",
        }
    }

    /// The smallest tier that holds this much resident memory.
    ///
    /// # Errors
    /// Where none does, or the price tier doesn't exist.
    pub fn tier(&self, resident_bytes: usize) -> Result<MemoryTier, BillingError> {
        let needed_mib = resident_bytes.div_ceil(MIB);
        let too_large = |largest_mib| BillingError::TooLarge {
            needed_mib,
            provider: self.provider(),
            largest_mib,
        };
        let smallest = |tiers: &[(usize, f64)]| {
            let fits = tiers.iter().find(|t| t.0 >= needed_mib).copied();
            fits.ok_or_else(|| too_large(tiers.last().map_or(0, |t| t.0)))
        };
        let gb = |mib: usize| mib as f64 / 1024.0;
        Ok(match *self {
            Billing::GoogleCloudFunctions { tier } => {
                let (gb_second, ghz_second) = match tier {
                    1 => (2.5e-6, 1e-5),
                    2 => (3.5e-6, 1.4e-5),
                    other => return Err(BillingError::PriceTier(other)),
                };
                let (mib, ghz) = smallest(&FUNCTIONS)?;
                MemoryTier {
                    mib,
                    speed: Speed::Ghz(ghz),
                    second: gb_second * gb(mib) + ghz_second * ghz,
                    invocation: 4e-7,
                    egress_byte: 0.12 / GB,
                    step_ms: 100.0,
                }
            }
            Billing::CloudRun => {
                let (mib, cpus) = smallest(&RUN)?;
                MemoryTier {
                    mib,
                    speed: Speed::Cpus(cpus),
                    second: 2.4e-5 * cpus + 2.5e-6 * gb(mib),
                    invocation: 4e-7,
                    egress_byte: 0.0,
                    step_ms: 100.0,
                }
            }
            Billing::Rates {
                usd_per_second,
                usd_per_gb_second,
                usd_per_request,
                usd_per_gb_out,
                step_ms,
                cpus,
            } => MemoryTier {
                mib: needed_mib,
                speed: Speed::Cpus(cpus),
                second: usd_per_second + usd_per_gb_second * gb(needed_mib),
                invocation: usd_per_request,
                egress_byte: usd_per_gb_out / GB,
                step_ms,
            },
            Billing::AwsLambda { arm } => {
                let mib = needed_mib.max(LAMBDA_SMALLEST_MIB);
                if mib > LAMBDA_LARGEST_MIB {
                    return Err(too_large(LAMBDA_LARGEST_MIB));
                }
                let gb_second = if arm { 1.333_34e-5 } else { 1.666_67e-5 };
                MemoryTier {
                    mib,
                    speed: Speed::Cpus(mib as f64 / LAMBDA_CPU_MIB),
                    second: gb_second * gb(mib),
                    invocation: 2e-7,
                    egress_byte: 0.0,
                    step_ms: 1.0,
                }
            }
        })
    }
}

impl MemoryTier {
    /// How many times longer the tier takes than the machine measured on, at least 1; `None` where
    /// that machine's clock isn't known. A tier of whole or part CPUs is taken to have the clock of
    /// the machine at hand.
    pub fn scale(&self, clock: Clock) -> Option<f64> {
        let threads = clock.threads.max(1) as f64;
        let times = match self.speed {
            Speed::Ghz(tier) => clock.ghz? * threads / tier,
            Speed::Cpus(cpus) => threads / cpus,
        };
        Some(times.max(1.0))
    }

    /// The bill for a million inferences, of which `offload_ms` holds the measured durations of
    /// those that reach the cloud, out of `samples`, each sending `returned_bytes` back.
    ///
    /// Where the clock isn't known the scaled bill is the unscaled one; [`MemoryTier::scale`] tells.
    pub fn per_million(
        &self,
        offload_ms: impl IntoIterator<Item = f64>,
        samples: usize,
        clock: Clock,
        returned_bytes: f64,
    ) -> Cost {
        let scale = self.scale(clock).unwrap_or(1.0);
        let round = |ms: f64| {
            // 300.00000000000006 ms are three steps, not four.
            (ms / self.step_ms - 1e-9).ceil().max(0.0) * self.step_ms
        };
        let (mut calls, mut rounded, mut unrounded, mut unscaled) = (0_usize, 0.0, 0.0, 0.0);
        for ms in offload_ms {
            calls += 1;
            rounded += round(ms * scale);
            unrounded += ms * scale;
            unscaled += round(ms);
        }
        let million = 1e6 / samples.max(1) as f64;
        let each = self.invocation + returned_bytes * self.egress_byte;
        let bill = |ms: f64| million * (ms / 1000.0 * self.second + calls as f64 * each);
        Cost {
            rounded: bill(rounded),
            unrounded: bill(unrounded),
            unscaled: bill(unscaled),
            tier_mib: self.mib,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SLOW: Clock = Clock {
        ghz: Some(0.8),
        threads: 1,
    };

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn a_million_offloads_of_260_ms_at_512_mb() {
        let tier = Billing::default().tier(512 * MIB).unwrap();
        let cost = tier.per_million([260.0; 10], 10, SLOW, 0.0);
        close(cost.rounded, 2.775 + 0.40);
        close(cost.unrounded, 2.775 * 260.0 / 300.0 + 0.40);
        close(cost.unscaled, cost.rounded);
        assert_eq!(cost.tier_mib, 512);
    }

    #[test]
    fn half_offloaded_costs_half_and_answers_cost_egress() {
        let tier = Billing::default().tier(512 * MIB).unwrap();
        let cost = tier.per_million([260.0; 5], 10, SLOW, 0.0);
        close(cost.rounded, 3.175 / 2.0);
        let egress = tier.per_million([260.0; 5], 10, SLOW, 1e6);
        close(egress.rounded - cost.rounded, 0.5 * 1e12 * 0.12 / GB);
        close(tier.per_million([], 10, SLOW, 1e6).rounded, 0.0);
    }

    #[test]
    fn a_faster_machine_is_scaled_to_the_tier_and_a_slower_one_is_not() {
        let tier = Billing::default().tier(512 * MIB).unwrap();
        let clock = Clock {
            ghz: Some(2.4),
            threads: 2,
        };
        close(tier.scale(clock).unwrap(), 6.0);
        let cost = tier.per_million([50.0], 1, clock, 0.0);
        close(cost.rounded, 2.775 + 0.40);
        close(cost.unscaled, 0.925 + 0.40);
        let slow = Clock {
            ghz: Some(0.1),
            threads: 1,
        };
        close(tier.scale(slow).unwrap(), 1.0);
        let unknown = Clock {
            ghz: None,
            threads: 4,
        };
        assert_eq!(tier.scale(unknown), None);
        close(
            tier.per_million([50.0], 1, unknown, 0.0).rounded,
            cost.unscaled,
        );
    }

    #[rstest]
    #[case(0, 128)]
    #[case(128 * MIB, 128)]
    #[case(128 * MIB + 1, 256)]
    #[case(700 * MIB, 1024)]
    #[case(8192 * MIB, 8192)]
    fn the_smallest_tier_that_holds_it(#[case] bytes: usize, #[case] mib: usize) {
        assert_eq!(Billing::default().tier(bytes).unwrap().mib, mib);
    }

    #[test]
    fn too_much_memory_and_unknown_tiers_are_refused() {
        let error = Billing::default().tier(8193 * MIB).unwrap_err();
        assert!(error.to_string().contains("8193 MiB"), "{error}");
        assert!(Billing::CloudRun.tier(8193 * MIB).is_ok());
        let lambda = Billing::AwsLambda { arm: false };
        assert!(lambda.tier(10_241 * MIB).is_err());
        let third = Billing::GoogleCloudFunctions { tier: 3 };
        assert_eq!(third.tier(0), Err(BillingError::PriceTier(3)));
    }

    #[test]
    fn other_price_lists() {
        let two = Billing::GoogleCloudFunctions { tier: 2 };
        let two = two.tier(512 * MIB).unwrap();
        let cost = two.per_million([260.0], 1, SLOW, 0.0);
        close(
            cost.rounded,
            1e6 * 0.3 * (0.5 * 3.5e-6 + 0.8 * 1.4e-5) + 0.4,
        );
        let run = Billing::CloudRun.tier(512 * MIB).unwrap();
        let cost = run.per_million([260.0], 1, SLOW, 0.0);
        close(cost.rounded, 1e6 * 0.3 * (2.4e-5 + 0.5 * 2.5e-6) + 0.4);
        // 1,024 MiB are 0.579 of a CPU: 10.2 ms become 17.62, billed as 18.
        let lambda = Billing::AwsLambda { arm: false };
        let lambda = lambda.tier(1024 * MIB).unwrap();
        let cost = lambda.per_million([10.2], 1, SLOW, 0.0);
        close(cost.rounded, 1e6 * 0.018 * 1.666_67e-5 + 0.2);
        close(cost.unscaled, 1e6 * 0.011 * 1.666_67e-5 + 0.2);
        let own = Billing::Rates {
            usd_per_second: 1e-5,
            usd_per_gb_second: 2e-6,
            usd_per_request: 3e-7,
            usd_per_gb_out: 0.5,
            step_ms: 10.0,
            cpus: 0.5,
        };
        let cost = own
            .tier(512 * MIB)
            .unwrap()
            .per_million([101.0], 1, SLOW, GB / 1e6);
        // Half a CPU takes 202 ms, billed as 210.
        close(cost.rounded, 1e6 * 0.21 * 1.1e-5 + 0.3 + 0.5);
        let arm = Billing::AwsLambda { arm: true };
        let arm = arm.tier(1024 * MIB).unwrap();
        let cost = arm.per_million([10.2], 1, SLOW, 0.0);
        close(cost.unscaled, 1e6 * 0.011 * 1.333_34e-5 + 0.2);
    }
}
