/*! The cloud targets, as the edges get to know them. */

use super::secrets::{believed, is_private, read_token};
use super::{Fleet, is_away};
use crate::plan::Tier;
use crate::protocol::message::{CloudTarget, V2Model};
use crate::run::RunError;
use crate::run::keep::Teller;
use crate::session::{Degrade, Target};

impl Fleet<'_> {
    /// Where an edge target finds a cloud target. With `probabilities` the cloud part of the plan is
    /// meant, which a server of the Open Inference Protocol may serve (and whether it ends in
    /// Softmax); without, any part is.
    ///
    /// # Errors
    /// Where it can't be reached, or its token would have to travel unencrypted.
    pub fn cloud_target(
        &mut self,
        teller: &mut Teller,
        index: usize,
        probabilities: Option<bool>,
    ) -> Result<CloudTarget, RunError> {
        if let (Some(Target::V2 { url, model }), Some(probabilities)) =
            (self.targets(Tier::Second).get(index), probabilities)
        {
            return Ok(CloudTarget {
                v2: Some(V2Model {
                    name: model.clone(),
                    probabilities,
                }),
                ..CloudTarget::new(url)
            });
        }
        let reached = self.reach(teller, Tier::Second, index)?;
        let target = CloudTarget {
            token: reached.token.clone(),
            believed: reached.believed.clone(),
            ..CloudTarget::new(reached.client.url())
        };
        self.with_its_token(target)
    }

    /// Where an edge would find a cloud target that this machine can't reach; `None` for a child of
    /// this machine.
    fn unreached(&self, index: usize) -> Result<Option<CloudTarget>, RunError> {
        let Some(Target::Agent { url, token, trust }) = self.targets(Tier::Second).get(index)
        else {
            return Ok(None);
        };
        let target = CloudTarget {
            token: token.as_ref().map(read_token).transpose()?,
            believed: believed(trust)?,
            ..CloudTarget::new(url)
        };
        self.with_its_token(target).map(Some)
    }

    /// The target, if its token may travel to the edges.
    fn with_its_token(&self, target: CloudTarget) -> Result<CloudTarget, RunError> {
        if target.token.is_some() {
            self.edges_are_private(&target.url)?;
        }
        Ok(target)
    }

    /// Whether what the edges are told stays between them and this machine.
    fn edges_are_private(&self, cloud: &str) -> Result<(), RunError> {
        let open = |target: &&Target| match target {
            Target::Agent { url, .. } => !is_private(url),
            _ => false,
        };
        match self.targets(Tier::First).iter().find(open) {
            Some(Target::Agent { url, .. }) => Err(RunError::TokenInTheOpen {
                edge: url.clone(),
                cloud: cloud.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Hands all cloud targets the part that they are to run, and says where an edge finds them. One
    /// that can't be reached is named and passed over, as long as another can.
    ///
    /// # Errors
    /// Where none can be reached.
    pub fn clouds(
        &mut self,
        teller: &mut Teller,
        bytes: &[u8],
        probabilities: Option<bool>,
    ) -> Result<Vec<(usize, CloudTarget)>, RunError> {
        let is_v2 = |target: &Target| matches!(target, Target::V2 { .. });
        let all = self.targets(Tier::Second).len().max(1);
        let mut wanted: Vec<usize> = (0..all).collect();
        // What isn't the plan's part no such server has.
        if probabilities.is_none() && !self.targets(Tier::Second).iter().all(is_v2) {
            wanted.retain(|&at| !self.targets(Tier::Second).get(at).is_some_and(is_v2));
        }
        // Edges whose last exit answers for a cloud do so for one that is away from the start.
        let degrades = probabilities.is_some() && self.session.offload.degrade == Degrade::LastExit;
        let mut targets = Vec::new();
        let mut failed = None;
        for index in wanted {
            let served =
                self.targets(Tier::Second).get(index).is_some_and(is_v2) && probabilities.is_some();
            let put = match served {
                true => Ok(()),
                false if self.left_alone(Tier::Second, index) => continue,
                false => self.put(teller, Tier::Second, index, bytes).map(drop),
            };
            match put.and_then(|()| self.cloud_target(teller, index, probabilities)) {
                Ok(target) => targets.push((index, target)),
                Err(error) if is_away(&error) && degrades => {
                    teller.say(format!(
                        "cloud {index}: {error}; the edge's last exit answers"
                    ));
                    targets.extend(self.unreached(index)?.map(|target| (index, target)));
                }
                Err(error) if is_away(&error) && all > 1 => {
                    self.miss(teller, Tier::Second, index, error);
                    failed = Some(index);
                }
                Err(error) => return Err(error),
            }
        }
        match targets.is_empty() {
            true => Err(self.nobody(Tier::Second, failed)),
            false => Ok(targets),
        }
    }
}
