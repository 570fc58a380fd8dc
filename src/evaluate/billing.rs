/*! What a million inferences cost in the cloud. */

use serde::{Deserialize, Serialize};

/// Whose prices the bill uses, as the session writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// AWS Lambda.
    AwsLambda {
        /// Whether it runs on Arm, which is cheaper.
        #[serde(default)]
        arm: bool,
    },
}

impl Default for Billing {
    fn default() -> Self {
        Billing::GoogleCloudFunctions { tier: tier_one() }
    }
}

fn tier_one() -> u8 {
    1
}
