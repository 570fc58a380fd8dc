/*! The devices and the link between them, timed. */

use super::Pipeline;
use crate::device::{LinkProfile, Profile};
use crate::event::{Event, Linked, Stage};
use crate::model::export::to_onnx;
use crate::model::fuse::fuse;
use crate::plan::{Tier, TierHead};
use crate::protocol::message::{HeadToProfile, JobRequest, JobResult};
use crate::run::distribute::RUNS;
use crate::run::stage_cache::{Listener, Reporter};
use crate::run::{RunError, summary};
use crate::session::Target;
use crate::session::stages::Inputs;

impl Pipeline<'_> {
    /// The target that stands for its side: the first whose profile is kept, or that answers.
    fn first(
        &mut self,
        on: Listener,
        part: Tier,
        file: &str,
        keys: &[String],
    ) -> Result<usize, RunError> {
        let kept = |key: &String| self.keep.find::<Profile>(file, key).is_some();
        let mut index = 0;
        if keys.len() > 1 && !kept(&keys[0]) {
            let mut reporter = Reporter {
                stage: Stage::Targets,
                on,
            };
            index = match self.fleet.lead(&mut reporter, part) {
                Ok(index) => index,
                // Nobody is needed for what is known.
                Err(error) => keys.iter().position(kept).ok_or(error)?,
            };
        }
        self.fleet.prefer(part, index);
        Ok(index)
    }

    /// The layers of both sides, and the link between them.
    pub(super) fn profile(&mut self, on: Listener, heads: &[TierHead]) -> Result<(), RunError> {
        let session = self.session;
        let target = |t: &Target| format!("{t:?} {}", summary::machine());
        let mut targets = Vec::new();
        let names = session.tier_names();
        for part in names.tiers() {
            let all = session.targets(part);
            let keys: Vec<String> = all
                .iter()
                .map(|of| {
                    let mut inputs = Inputs::new()
                        .with("network", &self.network.hash)
                        .with("target", target(of))
                        .with("runs", RUNS.to_string())
                        // Profiles of before don't hold these.
                        .with("memory", "of segments")
                        .with("times", "of cuts and codecs");
                    for TierHead { head, .. } in heads {
                        inputs = inputs.with(&head.point.after, &head.hash);
                    }
                    inputs.key()
                })
                .collect();
            let side = names.name(part);
            // By its usual name, so that what was measured before it could be renamed is still found.
            let file = &format!("profile-{}", part.usual_name(names.count()));
            let index = self.first(on, part, file, &keys)?;
            targets.push(target(&all[index]));
            let (fleet, network) = (&mut self.fleet, &self.network);
            let profile = self.keep.stage(
                on,
                (Stage::Profile, file, &keys[index]),
                |p: &Profile| summary::profile(side, p),
                |reporter| {
                    let model = fleet.put(reporter, part, index, &network.onnx)?;
                    let mut to_profile = Vec::new();
                    for TierHead { head, .. } in heads {
                        let onnx = to_onnx(&fuse(&head.graph))?;
                        to_profile.push(HeadToProfile {
                            after: head.point.after.clone(),
                            value: head.point.value.clone(),
                            hash: head.hash.clone(),
                            model: fleet.put(reporter, part, index, &onnx)?,
                        });
                    }
                    let request = JobRequest::Profile {
                        model,
                        heads: to_profile,
                        batch: 1,
                        runs: RUNS,
                    };
                    match fleet.job(reporter, part, request)? {
                        JobResult::Profile(profile) => Ok(*profile),
                        _ => Err(RunError::OtherAnswer),
                    }
                },
            )?;
            on(Event::Profiled {
                part,
                profile: Box::new(profile.clone()),
            });
            self.results.set_profile(part, profile);
        }
        for (before, pair) in names.tiers().zip(targets.windows(2)) {
            self.measure_link(on, before, pair)?;
        }
        Ok(())
    }

    /// The link behind a tier, of whose ends `pair` tells.
    fn measure_link(
        &mut self,
        on: Listener,
        before: Tier,
        pair: &[String],
    ) -> Result<(), RunError> {
        let link = self.session.link(before);
        let behind = Tier::ALL[before.index() + 1];
        // The first has the names that it had when it was the only one.
        let file = match before {
            Tier::First => "link".to_owned(),
            _ => format!("link-{}", before.index() + 1),
        };
        let key = Inputs::new()
            .with("edge", &pair[0])
            .with("cloud", &pair[1])
            .with("link", format!("{link:?}"))
            .with("jitter", "noted");
        let fleet = &mut self.fleet;
        let measured = self.keep.stage(
            on,
            (Stage::Link, &file, &key.key()),
            summary::link,
            |reporter| {
                let lead = fleet.lead(reporter, behind)?;
                let cloud = fleet.target_behind(reporter, behind, lead, Some(false))?;
                let request = JobRequest::MeasureLink { cloud, link };
                match fleet.job(reporter, before, request)? {
                    JobResult::Link(link) => Ok::<LinkProfile, _>(link),
                    _ => Err(RunError::OtherAnswer),
                }
            },
        )?;
        on(Event::Linked(Linked {
            before,
            link: measured.clone(),
        }));
        self.results.set_link(before, measured);
        Ok(())
    }
}
