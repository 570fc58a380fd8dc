/*! What heads cost and whether they pay, for `exits check` and `exits render`. */

use super::Place;
use crate::device::Stats;
use crate::exits::Head;
use crate::predict::Kind;
use crate::run::head_cost::{self, Costs, OnTarget, Worth};
use serde::Serialize;

/// What is known of one head.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    /// Milliseconds at batch 1 on this machine, measured now.
    here_ms: Stats,
    /// Bytes of packed parameters and arena.
    bytes: usize,
    /// On the targets of the session given.
    targets: Vec<OnTarget>,
    /// By replaying the session's plan.
    worth: Option<Worth>,
    /// Whether there is a plan to replay.
    #[serde(skip)]
    ran: bool,
}

/// Knows what heads cost.
pub(super) struct Pricer<'a>(Option<Costs<'a>>);

impl<'a> Pricer<'a> {
    pub(super) fn of(place: &'a Place) -> Pricer<'a> {
        Pricer(place.session.as_ref().and_then(Costs::of))
    }

    pub(super) fn cost(&self, head: &Head) -> anyhow::Result<Cost> {
        let here = head_cost::here(head)?;
        let costs = self.0.as_ref();
        Ok(Cost {
            here_ms: here.ms,
            bytes: here.bytes,
            targets: costs.map_or_else(Vec::new, |c| c.on_targets(head)),
            worth: costs.and_then(|c| c.worth(head)),
            ran: costs.is_some_and(Costs::ran),
        })
    }
}

impl Cost {
    /// In a few lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut first = format!(
            "{} ms on this machine (measured), {} bytes while it runs",
            ms(self.here_ms.median),
            self.bytes
        );
        for target in &self.targets {
            let kind = match target.kind {
                Kind::Measured => "measured",
                Kind::Predicted => "predicted from the layers there",
            };
            let emulated = if target.emulated { ", emulated" } else { "" };
            let side = &target.part;
            first += &format!("; {side} {} ms ({kind}{emulated})", ms(target.ms));
        }
        let mut lines = vec![first];
        match &self.worth {
            Some(worth) => {
                let place = if worth.in_plan {
                    "in the plan that ran".to_string()
                } else {
                    format!("if it were added to the plan's {} part", worth.part)
                };
                lines.push(format!(
                    "{}: {} ms per sample with it, {} without; accuracy {:.2} % and {:.2} % (predicted on \
                     calibration, {place})",
                    if worth.pays { "pays" } else { "doesn't pay" },
                    ms(worth.latency_ms),
                    ms(worth.latency_without_ms),
                    100.0 * worth.accuracy,
                    100.0 * worth.accuracy_without,
                ));
            }
            None if self.ran => {
                lines.push("whether it pays is known once it is trained: run the session".into());
            }
            None => {}
        }
        lines
    }
}

/// Three significant digits down to a nanosecond.
fn ms(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v if v >= 0.1 => format!("{v:.3}"),
        v => format!("{v:.4}"),
    }
}
