/*! The targets behind a link, as those before it get to know them. */

use super::secrets::{believed, is_private, read_token};
use super::{Fleet, is_away};
use crate::plan::Tier;
use crate::protocol::client::Client;
use crate::protocol::message::{CloudTarget, V2Model};
use crate::run::RunError;
use crate::run::stage_cache::Reporter;
use crate::session::{Degrade, Target};

impl Fleet<'_> {
    /// Where the tier before finds a target. With `probabilities` a part of the plan is meant, of which
    /// the last a server of the Open Inference Protocol may serve (and whether that ends in Softmax);
    /// without, any part is.
    ///
    /// # Errors
    /// Where it can't be reached, or its token would have to travel unencrypted.
    pub fn target_behind(
        &mut self,
        reporter: &mut Reporter,
        tier: Tier,
        index: usize,
        probabilities: Option<bool>,
    ) -> Result<CloudTarget, RunError> {
        if let (Some(Target::V2 { url, model, token }), Some(probabilities)) =
            (self.targets(tier).get(index), probabilities)
        {
            let target = CloudTarget {
                v2: Some(V2Model {
                    name: model.clone(),
                    probabilities,
                }),
                token: token.as_ref().map(read_token).transpose()?,
                ..CloudTarget::new(url)
            };
            return self.with_its_token(tier, target);
        }
        let reached = self.reach(reporter, tier, index)?;
        let target = CloudTarget {
            token: reached.token.clone(),
            believed: reached.believed.clone(),
            ..CloudTarget::new(reached.client.url())
        };
        self.with_its_token(tier, target)
    }

    /// Where the tier before would find a target that this machine can't reach; `None` for a child of
    /// this machine.
    fn unreached(&self, tier: Tier, index: usize) -> Result<Option<CloudTarget>, RunError> {
        let Some(Target::Agent {
            url, token, trust, ..
        }) = self.targets(tier).get(index)
        else {
            return Ok(None);
        };
        let target = CloudTarget {
            token: token.as_ref().map(read_token).transpose()?,
            believed: believed(trust)?,
            ..CloudTarget::new(url)
        };
        self.with_its_token(tier, target).map(Some)
    }

    /// The target, if its token may travel through the tiers before it.
    fn with_its_token(&self, tier: Tier, target: CloudTarget) -> Result<CloudTarget, RunError> {
        if target.token.is_some() {
            self.way_is_private(tier, &target.url)?;
        }
        Ok(target)
    }

    /// Whether what the tiers before `tier` are told stays between them and this machine.
    fn way_is_private(&self, tier: Tier, cloud: &str) -> Result<(), RunError> {
        let open = |target: &&Target| match target {
            Target::Agent { url, .. } => !is_private(url),
            _ => false,
        };
        let before = Tier::chain(tier.index()).flat_map(|before| self.targets(before));
        match before.into_iter().find(open) {
            Some(Target::Agent { url, .. }) => Err(RunError::TokenInTheOpen {
                edge: url.clone(),
                cloud: cloud.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Hands all targets of a tier the part that they are to run (none where they pass samples on), and
    /// says where the tier before finds them. One that can't be reached is named and passed over, as long
    /// as another can.
    ///
    /// # Errors
    /// Where none can be reached.
    pub fn behind(
        &mut self,
        reporter: &mut Reporter,
        tier: Tier,
        bytes: Option<&[u8]>,
        probabilities: Option<bool>,
    ) -> Result<Vec<(usize, CloudTarget)>, RunError> {
        let is_v2 = |target: &Target| matches!(target, Target::V2 { .. });
        let all = self.targets(tier).len().max(1);
        let mut wanted: Vec<usize> = (0..all).collect();
        // What isn't the plan's part no such server has.
        if probabilities.is_none() && !self.targets(tier).iter().all(is_v2) {
            wanted.retain(|&at| !self.targets(tier).get(at).is_some_and(is_v2));
        }
        // A tier whose last exit answers for the next does so for one that is away from the start.
        let degrades = probabilities.is_some() && self.session.offload.degrade == Degrade::LastExit;
        let mut targets = Vec::new();
        let mut failed = None;
        for index in wanted {
            let served =
                self.targets(tier).get(index).is_some_and(is_v2) && probabilities.is_some();
            let put = if served {
                Ok(())
            } else if self.in_backoff(tier, index) {
                continue;
            } else {
                match bytes {
                    Some(bytes) => self.put(reporter, tier, index, bytes).map(drop),
                    None => self.reach(reporter, tier, index).map(drop),
                }
            };
            match put.and_then(|()| self.target_behind(reporter, tier, index, probabilities)) {
                Ok(target) => targets.push((index, target)),
                Err(error) if is_away(&error) && degrades => {
                    let name = self.names.name(tier).to_string();
                    reporter.say(format!(
                        "{name} {index}: {error}; the last exit before it answers"
                    ));
                    targets.extend(self.unreached(tier, index)?.map(|target| (index, target)));
                }
                Err(error) if is_away(&error) && all > 1 => {
                    self.mark_down(reporter, tier, index, error);
                    failed = Some(index);
                }
                Err(error) => return Err(error),
            }
        }
        if targets.is_empty() {
            return Err(self.none_reachable(tier, failed));
        }
        Ok(targets)
    }

    /// Lets the peaks of resident memory of these tiers' targets count from now.
    pub fn reset_memory(&mut self, tiers: &[Tier]) {
        for tier in tiers {
            for client in self.clients(*tier) {
                // One that doesn't answer, or a system that can't, shows in the figures.
                let _ = self.runtime.block_on(client.reset_memory());
            }
        }
    }

    /// The largest peak of resident memory of a tier's targets; 0 where none tells.
    pub fn resident_bytes(&mut self, tier: Tier) -> usize {
        let told = self.clients(tier).into_iter();
        let told = told.filter_map(|client| self.runtime.block_on(client.info()).ok());
        told.map(|info| info.resident_bytes).max().unwrap_or(0)
    }

    /// Clients of the tier's targets that were reached.
    fn clients(&self, tier: Tier) -> Vec<Client> {
        let reached = self.tiers.get(tier.index()).into_iter().flatten().flatten();
        reached.map(|reached| reached.client.clone()).collect()
    }
}
