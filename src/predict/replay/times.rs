/*! How long a sample usually takes to each classifier, and what it sends. */

use super::chain::Chain;
use super::{Evidence, ReplayError, Terms};
use crate::device::{Form, HeadProfile, LinkProfile, Profile};
use crate::model::layers::LayerTable;
use crate::plan::{Element, Plan, Sends, Split, Tier};

/// A piece of the backbone and the head behind it: milliseconds of a usual run, medians of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Segment {
    body: f64,
    head: f64,
}

/// What a sample has spent when a classifier has answered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Elapsed {
    /// Computing, by tier, milliseconds of a usual run.
    pub tiers: [f64; 4],
    /// Milliseconds of usual round trips on the links, and of writing what goes over them.
    pub links: f64,
    /// Links that were crossed.
    pub hops: usize,
}

/// How times compare with the usual ones: factors by tier, and milliseconds more by link. Those of
/// single samples are kept in half the room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace<F> {
    pub tiers: [F; 4],
    pub links: [F; 3],
}

impl Elapsed {
    /// Milliseconds at a pace.
    pub fn at<F: Copy + Into<f64>>(&self, pace: &Pace<F>) -> f64 {
        let computing = self.tiers.iter().zip(&pace.tiers);
        let computing: f64 = computing.map(|(ms, &pace)| ms * pace.into()).sum();
        let more = pace.links.iter().take(self.hops);
        computing + self.links + more.map(|&ms| ms.into()).sum::<f64>()
    }
}

/// The times of a plan.
#[derive(Debug, Clone)]
pub(super) struct Times {
    /// One per stage of the chain, with its tier.
    segments: Vec<(Tier, Segment)>,
    /// Time of each tier between its last exit and the split behind it.
    to_split: [f64; 4],
    /// One per hop: the round trip of what is sent on and the writing of it, milliseconds.
    round_trip: Vec<f64>,
    /// One per hop: reading what came, milliseconds.
    decode: Vec<f64>,
    /// One per hop: bytes that a sample sends.
    pub payload: Vec<f64>,
}

impl Times {
    pub fn new(
        chain: &Chain,
        plan: &Plan,
        evidence: &Evidence,
        terms: &Terms,
    ) -> Result<Times, ReplayError> {
        let mut times = Times {
            segments: Vec::with_capacity(chain.stages.len()),
            to_split: [0.0; 4],
            round_trip: Vec::new(),
            decode: Vec::new(),
            payload: Vec::new(),
        };
        let last = plan.last_tier();
        for tier in plan.chain() {
            let rows = plan.rows(tier, evidence.layers.layers.len());
            if rows.is_empty() {
                continue;
            }
            let mut segments = part(chain, plan, evidence, tier, rows)?;
            // Before a link, a trailing segment leads to the split and to no classifier.
            if tier != last
                && let Some(trailing) = segments.pop()
            {
                times.to_split[tier.index()] = trailing.body;
            }
            times
                .segments
                .extend(segments.into_iter().map(|s| (tier, s)));
        }
        let works = |tier: Tier| !plan.rows(tier, evidence.layers.layers.len()).is_empty();
        for (tier, split) in plan.chain().zip(&plan.splits) {
            let Some(sent) = Sent::of(chain, plan, *split, evidence, terms)? else {
                times.hop(0.0, 0.0, 0.0);
                continue;
            };
            if tier >= last {
                times.hop(sent.bytes, 0.0, 0.0);
                continue;
            }
            let link = round_trip(evidence.link(tier)?, sent.bytes).ok_or(ReplayError::NoLink)?;
            // Profiles of before codecs were timed don't tell, and then they are taken to take no time.
            let codec = |tier: Tier| evidence.profile(tier).map(|p| sent.codec_ms(p));
            // What a tier only passes on is neither read nor written there.
            let next = Tier::ALL[(tier.index() + 1).min(Tier::ALL.len() - 1)];
            let encode = match tier == Tier::First || works(tier) {
                true => codec(tier)?.0,
                false => 0.0,
            };
            let decode = if works(next) { codec(next)?.1 } else { 0.0 };
            times.hop(sent.bytes, link + encode, decode);
        }
        Ok(times)
    }

    fn hop(&mut self, payload: f64, round_trip: f64, decode: f64) {
        self.payload.push(payload);
        self.round_trip.push(round_trip);
        self.decode.push(decode);
    }

    /// What is spent at each stage, with the head of one stage left out if so asked.
    pub fn reaching(&self, without: Option<usize>) -> Vec<Elapsed> {
        let mut spent = Elapsed::default();
        let mut at = 0;
        let stages = self.segments.iter().enumerate();
        stages
            .map(|(k, (tier, segment))| {
                while at < tier.index() {
                    spent.tiers[at] += self.to_split[at];
                    spent.links += self.round_trip.get(at).copied().unwrap_or(0.0);
                    let decode = self.decode.get(at).copied().unwrap_or(0.0);
                    at += 1;
                    spent.tiers[at] += decode;
                    spent.hops = at;
                }
                spent.tiers[at] += segment.body;
                if without != Some(k) {
                    spent.tiers[at] += segment.head;
                }
                spent
            })
            .collect()
    }
}

fn belongs(profile: &Profile, layers: &LayerTable) -> Result<(), ReplayError> {
    if profile.fits(layers) {
        return Ok(());
    }
    Err(ReplayError::OtherProfile {
        target: profile.target.clone(),
        network: layers.network.clone(),
    })
}

/// The segments of one tier's part: one per exit and one behind the last, which may be nothing.
fn part(
    chain: &Chain,
    plan: &Plan,
    evidence: &Evidence,
    tier: Tier,
    rows: std::ops::Range<usize>,
) -> Result<Vec<Segment>, ReplayError> {
    let profile = evidence.profile(tier)?;
    belongs(profile, &evidence.layers)?;
    let exits = plan.exits.iter().zip(&chain.stages);
    let exits: Vec<_> = exits.filter(|(e, _)| e.tier == tier).collect();
    let layers = &evidence.layers;
    let mut from = rows.start;
    let mut segments = Vec::with_capacity(exits.len() + 1);
    for (exit, stage) in exits {
        let head = head(profile, &exit.after, stage.hash)?;
        segments.push(Segment {
            body: profile.segment_ms(layers, from..exit.layer + 1)?,
            head: head.ms.median,
        });
        from = exit.layer + 1;
    }
    segments.push(Segment {
        body: profile.segment_ms(layers, from..rows.end)?,
        head: 0.0,
    });
    Ok(segments)
}

/// What was measured of a head.
pub(super) fn head<'a>(
    profile: &'a Profile,
    after: &str,
    hash: &str,
) -> Result<&'a HeadProfile, ReplayError> {
    let mut heads = profile.heads.iter();
    let found = heads.find(|h| h.after == after && h.hash == hash);
    found.ok_or_else(|| ReplayError::HeadNotTimed {
        after: after.to_string(),
        hash: hash.to_string(),
        target: profile.target.clone(),
    })
}

/// What a sample sends over a link.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sent {
    form: Form,
    /// Elements of the tensor, or bytes of the image's pixels.
    elements: usize,
    /// Bytes on the link.
    bytes: f64,
}

impl Sent {
    /// `None` where nothing is behind the split.
    fn of(
        chain: &Chain,
        plan: &Plan,
        split: Split,
        evidence: &Evidence,
        terms: &Terms,
    ) -> Result<Option<Sent>, ReplayError> {
        let layers = &evidence.layers;
        let pixels = layers.input.elements(1);
        Ok(match (split, plan.sends) {
            (Split::End, _) => None,
            (_, Sends::Image) => Some(Sent {
                form: Form::Jpeg,
                elements: pixels,
                bytes: chain.image_bytes.unwrap_or(0.0),
            }),
            (Split::Start, Sends::Tensor) => Some(Sent {
                form: Form::Pixels,
                elements: pixels,
                bytes: pixels as f64,
            }),
            (Split::After(at), Sends::Tensor) => Some(Sent::tensor(layers, at, evidence, terms)),
        })
    }

    fn tensor(layers: &LayerTable, at: usize, evidence: &Evidence, terms: &Terms) -> Sent {
        let layer = &layers.layers[at];
        let (wire, elements) = (terms.wire, layer.activation_bytes / 4);
        let body = match wire.tensor {
            Element::F32 => 4 * elements,
            Element::F16 => 2 * elements,
            // Scale and zero point.
            Element::U8 => elements + 8,
        };
        // Magic, version and the like, the extents and the body's length.
        let header = 8 + 4 * (layer.shape.rank() + 1);
        let ratio = evidence.ratio(&layer.name, wire);
        Sent {
            form: wire.form(),
            elements,
            bytes: header as f64 + ratio * body as f64,
        }
    }

    /// Milliseconds to write and to read it on a device; none where they weren't timed.
    fn codec_ms(&self, profile: &Profile) -> (f64, f64) {
        let timed = profile.codec_ms(self.form, self.elements);
        timed.unwrap_or_default()
    }
}

/// Round trip on a warm connection, interpolated; beyond the largest payload measured it grows as
/// between the last two. `None` if nothing was measured.
pub(super) fn round_trip(link: &LinkProfile, bytes: f64) -> Option<f64> {
    let points: Vec<(f64, f64)> = link.warm.iter().map(|&(b, ms)| (b as f64, ms)).collect();
    let &(first, ms) = points.first()?;
    if bytes <= first {
        return Some(ms);
    }
    let pairs: Vec<_> = points.windows(2).collect();
    let inside = pairs.iter().find(|pair| bytes <= pair[1].0);
    let Some(pair) = inside.or(pairs.last()) else {
        return Some(ms);
    };
    let ((b0, t0), (b1, t1)) = (pair[0], pair[1]);
    if b1 <= b0 {
        return Some(t1);
    }
    let slope = (t1 - t0) / (b1 - b0);
    // Noise between the last two points must not make larger payloads ever faster.
    let slope = if bytes > b1 { slope.max(0.0) } else { slope };
    Some(if bytes > b1 {
        t1 + slope * (bytes - b1)
    } else {
        t0 + slope * (bytes - b0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(10.0, 2.0)]
    #[case(1000.0, 2.0)]
    #[case(1500.0, 3.0)]
    #[case(2000.0, 4.0)]
    #[case(4000.0, 5.0)]
    #[case(8000.0, 7.0)]
    fn the_link_is_interpolated(#[case] bytes: f64, #[case] ms: f64) {
        let link = LinkProfile {
            idle: vec![(1, 99.0)],
            warm: vec![(1000, 2.0), (2000, 4.0), (4000, 5.0)],
            emulated: false,
            jitter_ms: vec![],
        };
        assert_eq!(round_trip(&link, bytes), Some(ms));
    }

    #[test]
    fn a_link_of_one_point_or_none() {
        let mut link = LinkProfile {
            warm: vec![(1000, 2.0)],
            ..LinkProfile::default()
        };
        assert_eq!(round_trip(&link, 5000.0), Some(2.0));
        link.warm.clear();
        assert_eq!(round_trip(&link, 5000.0), None);
    }
}
