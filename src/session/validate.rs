/*! What the types of a session can't say: ranges, which the catalog has, and what goes with what. */

use super::catalog::{SETTINGS, is_variable};
use super::{ModelSource, Session, Target, TrainOn, Trust};
use crate::data::{Calibration, Fit};
use crate::plan::link::{LONGEST_DEADLINE_MS, LONGEST_ROUND_TRIP_MS, MOST_TARGETS};
use crate::plan::{Link, SplitRule, Tier};
use crate::predict::{Billing, EnergySettings, Radio};
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
        SETTINGS
            .iter()
            .try_for_each(|setting| setting.check(self))?;
        self.validate_data()?;
        self.validate_tiers()?;
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
        for (i, (_, threshold)) in self.policy.exits.iter().enumerate() {
            share(*threshold, &format!("policy.exits[{i}]"))?;
        }
        self.goal
            .check()
            .map_err(|e| (format!("goal.within.{}", e.limit.field()), e.to_string()))?;
        self.validate_guarantee()?;
        check(self.sweep.from <= self.sweep.to, "sweep.from", || {
            format!("{}, more than `to`", self.sweep.from)
        })?;
        self.validate_billing()?;
        self.validate_energy()?;
        let deadline = self.offload.deadline_ms.unwrap_or(1.0);
        check(
            deadline <= LONGEST_DEADLINE_MS,
            "offload.deadline_ms",
            || format!("{deadline}, it may be a day ({LONGEST_DEADLINE_MS}) at most"),
        )
    }

    fn validate_billing(&self) -> Result<(), Problem> {
        match self.billing {
            Billing::GoogleCloudFunctions { tier } => {
                check(matches!(tier, 1 | 2), "billing.tier", || {
                    format!("{tier}, it may be 1 or 2")
                })
            }
            Billing::Rates {
                usd_per_second,
                usd_per_gb_second,
                usd_per_request,
                usd_per_gb_out,
                step_ms,
                cpus,
            } => {
                for (rate, name) in [
                    (usd_per_second, "billing.usd_per_second"),
                    (usd_per_gb_second, "billing.usd_per_gb_second"),
                    (usd_per_request, "billing.usd_per_request"),
                    (usd_per_gb_out, "billing.usd_per_gb_out"),
                ] {
                    check(rate.is_finite() && rate >= 0.0, name, || {
                        format!("{rate}, it must be 0 or more")
                    })?;
                }
                positive(step_ms, "billing.step_ms")?;
                positive(cpus, "billing.cpus")
            }
            _ => Ok(()),
        }
    }

    fn validate_energy(&self) -> Result<(), Problem> {
        let EnergySettings {
            radio,
            watts,
            pj_per_mac,
            pj_per_byte,
        } = self.energy;
        let at_least_0 = |value: f64, field: &str| {
            check(value.is_finite() && value >= 0.0, field, || {
                format!("{value}, it must be 0 or more")
            })
        };
        positive(watts.unwrap_or(1.0), "energy.watts")?;
        at_least_0(pj_per_mac, "energy.pj_per_mac")?;
        at_least_0(pj_per_byte, "energy.pj_per_byte")?;
        let Radio::Custom(own) = radio else {
            return Ok(());
        };
        for (field, value) in own.fields() {
            at_least_0(value, &format!("energy.radio.{field}"))?;
        }
        check(
            own.listen_ms <= own.cycle_ms,
            "energy.radio.listen_ms",
            || {
                format!(
                    "{}, it may be cycle_ms ({}) at most",
                    own.listen_ms, own.cycle_ms
                )
            },
        )
    }

    fn validate_guarantee(&self) -> Result<(), Problem> {
        let Some(promise) = &self.guarantee else {
            return Ok(());
        };
        promise
            .check()
            .map_err(|e| (format!("guarantee.{}", e.field()), e.to_string()))?;
        check(self.exits.recipe.patience.is_none(), "guarantee", || {
            "exits.recipe.patience stops training by the calibration images, half of which a guarantee \
             holds back; leave out one of the two"
                .to_owned()
        })
    }

    fn validate_data(&self) -> Result<(), Problem> {
        let (Calibration::FromTrain(n) | Calibration::FromTest(n)) = self.calibration;
        at_least_one(n, "calibration")?;
        self.validate_classes()?;
        let pixels = self.pixels();
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
        if let Fit::CentreCrop { keep } = pixels.fit {
            let good = keep > 0.0 && keep <= 1.0;
            check(good, "preprocessing.fit.keep", || {
                format!("{keep}, it may be above 0 and at most 1")
            })?;
        }
        Ok(())
    }

    fn validate_classes(&self) -> Result<(), Problem> {
        for (i, (name, output)) in self.classes.iter().enumerate() {
            let before = &self.classes[..i];
            let again = before.iter().find(|(n, o)| n == name || o == output);
            check(again.is_none(), &format!("classes[{i}]"), || {
                format!("(\"{name}\", {output}), its name or output was given before")
            })?;
        }
        Ok(())
    }

    fn validate_train_on(&self) -> Result<(), Problem> {
        let TrainOn::Tier(name) = &self.train_on else {
            return Ok(());
        };
        let frozen = matches!(self.exits.training, Training::Frozen { .. });
        check(frozen, "train_on", || {
            "targets train exits over a frozen network: set `training: Frozen(..)`, or train Here"
                .into()
        })?;
        let Some(tier) = self.trains_on() else {
            let known = self.tier_names().all().join("`, `");
            let problem = format!("no tier is called `{name}` (known: `{known}`)");
            return Err(("train_on".to_owned(), problem));
        };
        let is_v2 = |t: &Target| matches!(t, Target::V2 { .. });
        check(!self.targets(tier).iter().any(is_v2), "train_on", || {
            "a V2 server trains nothing: train Here or on another tier".into()
        })
    }

    /// Tiers, the links between them, and where the network is split for them.
    fn validate_tiers(&self) -> Result<(), Problem> {
        let count = self.tiers.len();
        check((2..=Tier::ALL.len()).contains(&count), "tiers", || {
            let remedy = if count == 1 {
                "; to run everything on one device, keep two and give `splits: [Memory(share: 1.0)]`"
            } else {
                ""
            };
            format!("{count}, it may be 2 to 4{remedy}")
        })?;
        for (i, tier) in self.tiers.iter().enumerate() {
            let field = format!("tiers[{i}].name");
            let name = &tier.name;
            // Files of profiles and lines of reports are named by it.
            let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-');
            check(plain, &field, || {
                format!("`{name}`, it must be a word of letters, digits and `-`")
            })?;
            let same = self.tiers[..i].iter().position(|other| other.name == *name);
            if let Some(same) = same {
                let problem = format!("`{name}`, tiers[{same}] has that name; give each its own");
                return Err((field, problem));
            }
        }
        let hops = count - 1;
        check(self.links.len() == hops, "links", || {
            let (found, s) = (self.links.len(), if hops == 1 { "" } else { "s" });
            format!(
                "{found}, {count} tiers have {hops} link{s} between them; give as many, or leave `links` \
                 out to have them measured"
            )
        })?;
        check(self.splits.len() == hops, "splits", || {
            let (found, s) = (self.splits.len(), if hops == 1 { "" } else { "s" });
            format!(
                "{found}, {count} tiers are split {hops} time{s}; give as many, or leave `splits` out to \
                 spread them"
            )
        })?;
        for (i, rule) in self.splits.iter().enumerate() {
            let field = format!("splits[{i}]");
            match rule {
                SplitRule::Memory { share: value } | SplitRule::Layers { share: value } => {
                    share(*value, &format!("{field}.share"))?;
                }
                SplitRule::After(layer) => check(!layer.is_empty(), &field, || {
                    "After needs the name of a layer; `edgelesspart layers` lists them".into()
                })?,
                SplitRule::Latency | SplitRule::Fastest | SplitRule::Cheapest => {}
            }
        }
        for (i, link) in self.links.iter().enumerate() {
            let Link::Emulated { mbit, rtt_ms } = *link else {
                continue;
            };
            positive(mbit, &format!("links[{i}].mbit"))?;
            let field = format!("links[{i}].rtt_ms");
            check(
                (0.0..=LONGEST_ROUND_TRIP_MS).contains(&rtt_ms),
                &field,
                || format!("{rtt_ms}, it must lie between 0 and {LONGEST_ROUND_TRIP_MS}"),
            )?;
        }
        self.validate_targets()
    }

    fn validate_targets(&self) -> Result<(), Problem> {
        let last = self.tiers.len().saturating_sub(1);
        for (tier_index, tier) in self.tiers.iter().enumerate() {
            let side = format!("tiers[{tier_index}].targets");
            check(!tier.targets.is_empty(), &side, || {
                "no target; give one at least, as Local(cores: [0])".into()
            })?;
            check(tier.targets.len() <= MOST_TARGETS, &side, || {
                format!("{}, at most {MOST_TARGETS}", tier.targets.len())
            })?;
            for (i, target) in tier.targets.iter().enumerate() {
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
                        named(target, &at(".token"))?;
                        if let Trust::Fingerprint(print) = trust {
                            let hex = print.strip_prefix("sha256:").unwrap_or("");
                            let good =
                                hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
                            check(good, &at(".trust"), || {
                                format!("`{print}`, it must be sha256: and 64 hex digits")
                            })?;
                        }
                    }
                    Target::V2 { url, model, .. } => {
                        check(tier_index == last, &at(""), || {
                            "a V2 server passes nothing on; it may stand in the last tier".into()
                        })?;
                        web(url, &at(".url"))?;
                        check(!model.is_empty(), &at(".model"), || {
                            "no name; give the one the server has it under".into()
                        })?;
                        named(target, &at(".token"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// That a token is a variable's name.
fn named(target: &Target, field: &str) -> Result<(), Problem> {
    // Not repeated: it may be the token itself.
    let named = target.variable().is_none_or(is_variable);
    check(named, field, || {
        "Env takes the name of an environment variable (letters, digits and `_`, at most 64, no digit \
         first), and this is none; never write the token itself here: set a variable to it, and give its \
         name, as Env(\"EDGE_TOKEN\")"
            .into()
    })
}

fn web(url: &str, field: &str) -> Result<(), Problem> {
    let good = ["http://", "https://"]
        .iter()
        .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    check(good, field, || {
        format!("`{url}`, it must start with http:// or https://")
    })?;
    // Addresses are shown and written down; what stands in this one must not be.
    let parsed = url::Url::parse(url).ok();
    let named = parsed.is_some_and(|u| !u.username().is_empty() || u.password().is_some());
    check(!named, field, || {
        "there is a name or a password in the address; use a token, as Env(\"NAME\")".into()
    })
}
