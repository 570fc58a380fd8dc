/*! What the types of a session can't say: ranges, and what goes with what. */

use super::{ModelSource, Session, Target, TrainOn, Trust};
use crate::data::Calibration;
use crate::plan::Link;
use crate::plan::SplitRule;
use crate::predict::Billing;
use crate::train::Training;

/// The setting and what is wrong with it.
type Problem = (String, String);

fn check(good: bool, field: &str, problem: impl FnOnce() -> String) -> Result<(), Problem> {
    if good {
        Ok(())
    } else {
        Err((field.to_owned(), problem()))
    }
}

fn share(value: f64, field: &str) -> Result<(), Problem> {
    check((0.0..=1.0).contains(&value), field, || {
        format!("{value}, it may be 0 to 1")
    })
}

fn at_least_one(value: usize, field: &str) -> Result<(), Problem> {
    check(value > 0, field, || {
        format!("{value}, it must be at least 1")
    })
}

fn positive(value: f64, field: &str) -> Result<(), Problem> {
    check(value.is_finite() && value > 0.0, field, || {
        format!("{value}, it must be more than 0")
    })
}

impl Session {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        if let Some(name) = &self.name {
            // It becomes a folder's name.
            let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
            check(plain, "name", || {
                format!("`{name}`, it must be a plain name, without / and no dot in front")
            })?;
        }
        if let ModelSource::Zoo {
            input: (c, h, w),
            classes,
            width,
            ..
        } = self.model
        {
            at_least_one(c.min(h).min(w), "model.input")?;
            check(classes > 1, "model.classes", || {
                format!("{classes}, there must be two at least")
            })?;
            positive(width.unwrap_or(1.0), "model.width")?;
        }
        if let ModelSource::OnnxWith {
            input: Some((c, h, w)),
            ..
        } = self.model
        {
            at_least_one(c.min(h).min(w), "model.input")?;
        }
        self.validate_data()?;
        match &self.split {
            SplitRule::Memory { share: value } | SplitRule::Layers { share: value } => {
                share(*value, "split.share")?;
            }
            SplitRule::After(layer) => check(!layer.is_empty(), "split", || {
                "After needs the name of a layer; `edgelesspart layers` lists them".into()
            })?,
            SplitRule::Latency | SplitRule::Fastest | SplitRule::Cheapest => {}
        }
        check(self.exits.per_part <= 3, "exits.per_part", || {
            format!("{}, it may be 0 to 3", self.exits.per_part)
        })?;
        match self.exits.training {
            Training::Frozen { epochs } | Training::Joint { epochs } => {
                at_least_one(epochs, "exits.training")?;
            }
            Training::Mixed { backbone, epochs } => {
                at_least_one(backbone.min(epochs), "exits.training")?;
            }
        }
        self.validate_train_on()?;
        let recipe = self.exits.recipe.check();
        recipe.map_err(|(field, problem)| (format!("exits.recipe.{field}"), problem))?;
        share(self.policy.threshold, "policy.threshold")?;
        for (i, (_, threshold)) in self.policy.exits.iter().enumerate() {
            share(*threshold, &format!("policy.exits[{i}]"))?;
        }
        self.goal
            .check()
            .map_err(|e| (format!("goal.within.{}", e.field), e.to_string()))?;
        share(self.sweep.from, "sweep.from")?;
        share(self.sweep.to, "sweep.to")?;
        check(self.sweep.from <= self.sweep.to, "sweep.from", || {
            format!("{}, more than `to`", self.sweep.from)
        })?;
        check(self.sweep.step >= 0.001, "sweep.step", || {
            format!("{}, it must be at least 0.001", self.sweep.step)
        })?;
        self.validate_targets()?;
        if let Link::Emulated { mbit, rtt_ms } = self.link {
            positive(mbit, "link.mbit")?;
            check(rtt_ms.is_finite() && rtt_ms >= 0.0, "link.rtt_ms", || {
                format!("{rtt_ms}, it must be 0 or more")
            })?;
        }
        if let Billing::GoogleCloudFunctions { tier } = self.billing {
            check(matches!(tier, 1 | 2), "billing.tier", || {
                format!("{tier}, it may be 1 or 2")
            })?;
        }
        positive(
            self.offload.deadline_ms.unwrap_or(1.0),
            "offload.deadline_ms",
        )?;
        at_least_one(self.threads.unwrap_or(1), "threads")?;
        at_least_one(self.batch.train, "batch.train")?;
        at_least_one(self.batch.evaluate, "batch.evaluate")
    }

    fn validate_data(&self) -> Result<(), Problem> {
        let (Calibration::FromTrain(n) | Calibration::FromTest(n)) = self.calibration;
        at_least_one(n, "calibration")?;
        at_least_one(self.train_samples.unwrap_or(1), "train_samples")?;
        at_least_one(self.test_samples.unwrap_or(1), "test_samples")?;
        let pixels = &self.preprocessing;
        for (values, field, may_be_zero) in [
            (&pixels.mean, "preprocessing.mean", true),
            (&pixels.std, "preprocessing.std", false),
        ] {
            check(matches!(values.len(), 1 | 3), field, || {
                format!("{} values, it takes one, or one a channel", values.len())
            })?;
            let good = |v: &f32| v.is_finite() && (may_be_zero || *v != 0.0);
            check(values.iter().all(good), field, || {
                format!("{values:?}, the values must be finite, and no divisor 0")
            })?;
        }
        check(
            pixels.scale.is_finite() && pixels.scale != 0.0,
            "preprocessing.scale",
            || format!("{}, it must be a number other than 0", pixels.scale),
        )?;
        let (height, width) = pixels.resize.unwrap_or((1, 1));
        at_least_one(height.min(width), "preprocessing.resize")
    }

    fn validate_train_on(&self) -> Result<(), Problem> {
        let away = self.train_on != TrainOn::Here;
        let frozen = matches!(self.exits.training, Training::Frozen { .. });
        check(!away || frozen, "train_on", || {
            "targets train exits over a frozen network: set `training: Frozen(..)`, or train Here"
                .into()
        })?;
        let is_v2 = |t: &Target| matches!(t, Target::V2 { .. });
        let v2 = self.train_on == TrainOn::Cloud && self.cloud.iter().any(is_v2);
        check(!v2, "train_on", || {
            "a V2 server trains nothing: train Here or on the Edge".into()
        })
    }

    fn validate_targets(&self) -> Result<(), Problem> {
        for (side, targets) in [("edge", &self.edge), ("cloud", &self.cloud)] {
            check(!targets.is_empty(), side, || {
                "no target; give one at least, as Local(cores: [0])".into()
            })?;
            for (i, target) in targets.iter().enumerate() {
                let at = |field: &str| format!("{side}[{i}]{field}");
                match target {
                    Target::Local {
                        slowdown, threads, ..
                    } => {
                        let good = slowdown.is_finite() && *slowdown >= 1.0;
                        check(good, &at(".slowdown"), || {
                            format!("{slowdown}, it must be 1 or more")
                        })?;
                        at_least_one(threads.unwrap_or(1), &at(".threads"))?;
                    }
                    Target::Agent { url, trust, .. } => {
                        web(url, &at(".url"))?;
                        if let Trust::Fingerprint(print) = trust {
                            let hex = print.strip_prefix("sha256:").unwrap_or("");
                            let good =
                                hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
                            check(good, &at(".trust"), || {
                                format!("`{print}`, it must be sha256: and 64 hex digits")
                            })?;
                        }
                    }
                    Target::V2 { url, model } => {
                        check(side == "cloud", &at(""), || {
                            "a V2 server can't run the edge part; it may stand in `cloud`".into()
                        })?;
                        web(url, &at(".url"))?;
                        check(!model.is_empty(), &at(".model"), || {
                            "no name; give the one the server has it under".into()
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn web(url: &str, field: &str) -> Result<(), Problem> {
    let good = ["http://", "https://"]
        .iter()
        .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    check(good, field, || {
        format!("`{url}`, it must start with http:// or https://")
    })
}
