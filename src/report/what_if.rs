/*! Where the best plan changes, in the form it has in the report, and as lines of text. */

use super::number::{dollars, ms};
use crate::explore::Goal;
use crate::explore::what_if::{Answer, Axis, FACTORS, WhatIf};
use crate::plan::{Plan, TierNames};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Columns of a cell in text.
const CELL: usize = 8;
/// Columns of a row's name in text.
const NAME: usize = 18;

/// Best plans by the goal, if link, devices or prices were others; predicted on the calibration set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIfReport {
    /// Plans that are best somewhere; cells name them by their letter, `A` for the first, which is the best
    /// as things are.
    pub plans: Vec<String>,
    /// What the axes are multiplied by.
    pub factors: Vec<f64>,
    /// A strip of regions per axis.
    pub strips: Vec<StripReport>,
    /// By factor of bandwidth across and round trip down; empty where it wasn't asked for.
    #[serde(default)]
    pub map: Vec<Vec<WhatIfCell>>,
    /// Requests per second that a month's bill is for.
    pub requests_per_second: f64,
    /// The best plan at each price list, the session's own first.
    pub prices: Vec<PriceReport>,
}

/// The best plans along one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StripReport {
    /// Which quantity is scaled along the strip.
    pub axis: Axis,
    /// The best plan at each factor, in the order of the factors.
    pub cells: Vec<WhatIfCell>,
}

/// The best plan under one setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIfCell {
    /// Letter of the plan; null where none holds the limits.
    pub plan: Option<String>,
    /// Its mean latency there in milliseconds.
    pub latency_ms: Option<f64>,
    /// Its accuracy there, 0 to 1.
    pub accuracy: Option<f64>,
    /// US dollars per million inferences there.
    pub cost_per_million_usd: Option<f64>,
}

/// The best plan at a price list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceReport {
    /// Cloud provider whose prices these are.
    pub provider: String,
    /// The plan, and what it gives.
    #[serde(flatten)]
    pub best: WhatIfCell,
    /// US dollars per month of 30 days at the report's requests per second.
    pub usd_per_month: Option<f64>,
}

/// A to Z, then numbers.
fn letter(plan: usize) -> String {
    match u8::try_from(plan) {
        Ok(n) if n < 26 => char::from(b'A' + n).to_string(),
        _ => (plan + 1).to_string(),
    }
}

impl From<&Option<Answer>> for WhatIfCell {
    fn from(answer: &Option<Answer>) -> Self {
        let outcome = answer.as_ref().map(|answer| &answer.outcome);
        WhatIfCell {
            plan: answer.as_ref().map(|answer| letter(answer.plan)),
            latency_ms: outcome.and_then(|o| o.latency_ms).map(|l| l.mean),
            accuracy: outcome.map(|o| o.accuracy),
            cost_per_million_usd: outcome
                .map(|o| o.cost_per_million.map_or(0.0, |cost| cost.rounded)),
        }
    }
}

/// Name of an axis, for people.
pub(super) fn axis(axis: Axis, names: &TierNames) -> String {
    let first = names.tiers().next().map_or("", |tier| names.name(tier));
    match axis {
        Axis::Bandwidth => "bandwidth".into(),
        Axis::RoundTrip => "round trip".into(),
        Axis::EdgeSpeed => format!("{first} speed"),
        Axis::CloudSpeed if names.count() == 2 => {
            let last = names.tiers().next_back();
            format!("{} speed", last.map_or("", |tier| names.name(tier)))
        }
        Axis::CloudSpeed => "other tiers' speed".into(),
    }
}

/// A factor as people write it.
pub(super) fn times(factor: f64) -> String {
    if factor < 1.0 {
        format!("× 1/{:.0}", 1.0 / factor)
    } else {
        format!("× {factor}")
    }
}

impl WhatIfReport {
    /// Of what was found for a goal.
    pub fn new(found: &WhatIf, goal: &Goal, names: &TierNames) -> WhatIfReport {
        let describe = |plan: &Plan| plan.describe_places(names);
        let cells = |answers: &Vec<Option<Answer>>| answers.iter().map(WhatIfCell::from).collect();
        let price = |(billing, answer): &(crate::predict::Billing, Option<Answer>)| {
            let best = WhatIfCell::from(answer);
            PriceReport {
                provider: billing.provider().to_string(),
                usd_per_month: best.cost_per_million_usd.map(|usd| goal.per_month(usd)),
                best,
            }
        };
        WhatIfReport {
            plans: found.plans.iter().map(describe).collect(),
            factors: FACTORS.to_vec(),
            strips: found
                .strips
                .iter()
                .map(|strip| StripReport {
                    axis: strip.axis,
                    cells: cells(&strip.answers),
                })
                .collect(),
            map: found.map.iter().map(cells).collect(),
            requests_per_second: goal.within.requests_per_second.unwrap_or(1.0),
            prices: found.prices.iter().map(price).collect(),
        }
    }

    /// Plans by their letter, `A: ...`.
    pub fn legend(&self) -> Vec<String> {
        let plans = self.plans.iter().enumerate();
        plans
            .map(|(plan, what)| format!("{}: {what}", letter(plan)))
            .collect()
    }

    /// As lines of 80 columns at most, but for the plans.
    pub fn text(&self, names: &TierNames) -> String {
        let mut out = String::new();
        let head: String = self
            .factors
            .iter()
            .map(|f| format!("{:>CELL$}", times(*f)))
            .collect();
        line(&mut out, &format!("{:<NAME$}{head}", ""));
        let plan = |cell: &WhatIfCell| cell.plan.clone().unwrap_or("–".into());
        for strip in &self.strips {
            let cell = |cell: &WhatIfCell| {
                let text = cell
                    .latency_ms
                    .map_or(String::new(), |l| format!(" {}", number(l)));
                format!("{:>CELL$}", plan(cell) + &text)
            };
            let cells: String = strip.cells.iter().map(cell).collect();
            line(
                &mut out,
                &format!("{:<NAME$}{cells}", axis(strip.axis, names)),
            );
        }
        if !self.map.is_empty() {
            line(&mut out, "\nBandwidth across, round trip down");
            for (factor, row) in self.factors.iter().zip(&self.map) {
                let cells: String = row.iter().map(|c| format!("{:>CELL$}", plan(c))).collect();
                line(&mut out, &format!("{:<NAME$}{cells}", times(*factor)));
            }
        }
        let load = requests(self.requests_per_second);
        line(&mut out, &format!("\n{:<52}per month", ""));
        line(
            &mut out,
            &format!("{:<36}{:>4}   per million at {load}", "prices", "plan"),
        );
        for price in &self.prices {
            let usd = |usd: Option<f64>| usd.map_or("–".to_string(), dollars);
            let (million, month) = (
                usd(price.best.cost_per_million_usd),
                usd(price.usd_per_month),
            );
            let (provider, plan) = (&price.provider, plan(&price.best));
            line(
                &mut out,
                &format!("{provider:<36}{plan:>4}{million:>14} {month}"),
            );
        }
        line(&mut out, "");
        for plan in self.legend() {
            line(&mut out, &plan);
        }
        out
    }
}

/// A load, for people.
pub(super) fn requests(per_second: f64) -> String {
    let s = if per_second == 1.0 { "" } else { "s" };
    format!("{per_second} request{s} per second")
}

/// Milliseconds without their unit.
fn number(x: f64) -> String {
    ms(x).replace(" ms", "")
}

fn line(out: &mut String, text: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(out, "{}", text.trim_end());
}
