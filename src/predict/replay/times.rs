/*! How long a sample takes to each classifier, in the mean and usually; and what it sends. */

use super::chain::Chain;
use super::{Assembled, ReplayError, World};
use crate::device::{LinkProfile, PartProfile, Profile, Stats};
use crate::model::layers::LayerTable;
use crate::plan::Part;
use crate::plan::{Element, Wire};
use crate::plan::{Plan, Split};

/// Milliseconds of something that runs. A mean answers for means; a median, paced by recorded runs
/// of the whole network, for percentiles: one disturbed run in a hundred moves a mean, and would move
/// every percentile with it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Time {
    pub mean: f64,
    pub median: f64,
}

impl std::ops::AddAssign for Time {
    fn add_assign(&mut self, other: Time) {
        self.mean += other.mean;
        self.median += other.median;
    }
}

impl From<Stats> for Time {
    fn from(stats: Stats) -> Time {
        Time {
            mean: stats.mean,
            median: stats.median,
        }
    }
}

/// A piece of the backbone and the head behind it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Segment {
    body: Time,
    head: Time,
}

/// What a sample has spent when a classifier has answered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Spent {
    pub edge: Time,
    /// Encoding, link, decoding.
    pub fixed: f64,
    pub cloud: Time,
}

/// The times of a plan.
#[derive(Debug, Clone)]
pub(super) struct Times {
    /// One a stage of the chain.
    segments: Vec<Segment>,
    /// Stages before this one end at the edge.
    first_cloud: usize,
    /// Time of the edge between its last exit and the split.
    to_split: Time,
    /// Encoding, link and decoding of what is offloaded.
    offload: f64,
    pub decode: f64,
    pub payload: f64,
    pub from_parts: bool,
}

impl Times {
    pub fn new(chain: &Chain, plan: &Plan, world: &World) -> Result<Times, ReplayError> {
        for profile in [world.edge, world.cloud] {
            belongs(profile, world.layers)?;
        }
        let measured = world.assembled.iter().find(|a| a.is_of(plan));
        let [edge_layers, cloud_layers] = ranges(plan, world.layers);
        let (edge, edge_part) = side(
            chain,
            plan,
            world,
            measured,
            Part::Edge,
            edge_layers.clone(),
        )?;
        let (cloud, cloud_part) = side(chain, plan, world, measured, Part::Cloud, cloud_layers)?;
        let mut segments = edge;
        // At the edge, a trailing segment leads to the split and no classifier.
        let to_split = match plan.split {
            Split::EdgeOnly => Time::default(),
            _ => segments.pop().map_or_else(Time::default, |s| s.body),
        };
        segments.extend(cloud);
        let payload = match plan.split {
            Split::EdgeOnly => 0.0,
            Split::CloudOnly => pixels(world.layers),
            Split::After(at) => tensor(world.layers, at, world.wire, world.codec.compressed),
        };
        let (mut offload, mut decode) = (0.0, 0.0);
        if plan.split != Split::EdgeOnly {
            decode = world.codec.decode_ms;
            offload = world.codec.encode_ms + decode;
            offload += round_trip(world.link, payload).ok_or(ReplayError::NoLink)?;
        }
        Ok(Times {
            segments,
            first_cloud: chain.first_cloud,
            to_split,
            offload,
            decode,
            payload,
            from_parts: edge_part && cloud_part,
        })
    }

    /// What is spent at each stage, with the head of one stage left out if so asked.
    pub fn reaching(&self, without: Option<usize>) -> Vec<Spent> {
        let mut spent = Spent::default();
        let stages = self.segments.iter().enumerate();
        stages
            .map(|(k, segment)| {
                if k == self.first_cloud {
                    spent.edge += self.to_split;
                    spent.fixed += self.offload;
                }
                let side = match k < self.first_cloud {
                    true => &mut spent.edge,
                    false => &mut spent.cloud,
                };
                *side += segment.body;
                if without != Some(k) {
                    *side += segment.head;
                }
                spent
            })
            .collect()
    }
}

fn belongs(profile: &Profile, layers: &LayerTable) -> Result<(), ReplayError> {
    let rows = profile.layers.iter().zip(&layers.layers);
    let same = profile.layers.len() == layers.layers.len()
        && rows.into_iter().all(|(p, l)| p.name == l.name);
    if same {
        return Ok(());
    }
    Err(ReplayError::OtherProfile {
        target: profile.target.clone(),
        network: layers.network.clone(),
    })
}

/// Rows of the layer table on either side.
pub(super) fn ranges(plan: &Plan, layers: &LayerTable) -> [std::ops::Range<usize>; 2] {
    let end = layers.layers.len();
    let split = match plan.split {
        Split::After(at) => at + 1,
        Split::EdgeOnly => end,
        Split::CloudOnly => 0,
    };
    [0..split, split..end]
}

/// The part's measured times, if they are there and have the plan's segments.
pub(super) fn measured_part(measured: Option<&Assembled>, part: Part) -> Option<&PartProfile> {
    match part {
        Part::Edge => measured?.edge.as_ref(),
        Part::Cloud => measured?.cloud.as_ref(),
    }
}

/// The segments of one side: one an exit and one behind the last, which may be nothing. Says whether
/// they come from the measured part.
fn side(
    chain: &Chain,
    plan: &Plan,
    world: &World,
    measured: Option<&Assembled>,
    part: Part,
    rows: std::ops::Range<usize>,
) -> Result<(Vec<Segment>, bool), ReplayError> {
    if rows.is_empty() {
        return Ok((Vec::new(), true));
    }
    let profile = match part {
        Part::Edge => world.edge,
        Part::Cloud => world.cloud,
    };
    let exits = plan.exits.iter().zip(&chain.stages);
    let exits: Vec<_> = exits.filter(|(e, _)| e.part == part).collect();
    let trailing = exits.last().is_none_or(|(e, _)| e.layer + 1 < rows.end);
    let count = exits.len() + usize::from(trailing);
    if let Some(part) = measured_part(measured, part)
        && part.segments.len() == count
        && part.heads.len() == count
    {
        let pairs = part.segments.iter().zip(&part.heads);
        let mut segments: Vec<Segment> = pairs
            .map(|(s, h)| Segment {
                body: (*s).into(),
                head: (*h).into(),
            })
            .collect();
        if !trailing {
            segments.push(Segment::default());
        }
        return Ok((segments, true));
    }
    if exits.is_empty() && rows.len() == profile.layers.len() {
        // The whole network was measured as a whole: no need to sum.
        let whole = Segment {
            body: profile.total_ms.into(),
            head: Time::default(),
        };
        return Ok((vec![whole], false));
    }
    let sum = |rows: std::ops::Range<usize>| {
        let mut sum = Time::default();
        for layer in &profile.layers[rows] {
            sum += layer.ms.into();
        }
        sum
    };
    let mut from = rows.start;
    let mut segments = Vec::with_capacity(exits.len() + 1);
    for (exit, stage) in exits {
        let head = head(profile, &exit.after, stage.hash)?;
        segments.push(Segment {
            body: sum(from..exit.layer + 1),
            head: head.ms.into(),
        });
        from = exit.layer + 1;
    }
    segments.push(Segment {
        body: sum(from..rows.end),
        head: Time::default(),
    });
    Ok((segments, false))
}

/// What was measured of a head.
pub(super) fn head<'a>(
    profile: &'a Profile,
    after: &str,
    hash: &str,
) -> Result<&'a crate::device::HeadProfile, ReplayError> {
    let mut heads = profile.heads.iter();
    let found = heads.find(|h| h.after == after && h.hash == hash);
    found.ok_or_else(|| ReplayError::HeadNotTimed {
        after: after.to_string(),
        hash: hash.to_string(),
        target: profile.target.clone(),
    })
}

/// Length of a tensor's header on the wire, by its rank.
fn header(rank: usize) -> f64 {
    (8 + 4 * (rank + 1)) as f64
}

/// Bytes of the split tensor of one sample.
fn tensor(layers: &LayerTable, at: usize, wire: Wire, compressed: f64) -> f64 {
    let layer = &layers.layers[at];
    let elements = (layer.activation_bytes / 4) as f64;
    let body = match wire.tensor {
        Element::F32 => 4.0 * elements,
        Element::F16 => 2.0 * elements,
        // Scale and zero point.
        Element::U8 => elements + 8.0,
    };
    header(layer.shape.rank()) + body * compressed
}

/// Bytes of an image sent as pixels.
fn pixels(layers: &LayerTable) -> f64 {
    header(layers.input.rank()) + layers.input.elements(1) as f64
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
