/*!
What the samples of a run show to the eye: classes mistaken for others, latencies, and single samples that
left early, late or wrongly.
*/

use super::Origin;
use crate::data::Set;
use crate::predict::{Kind, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Samples listed of each group.
const LISTED: usize = 8;
/// Bins of the histogram up to its last, which holds all above the 99th percentile.
const BINS: usize = 16;
/// Larger pictures are scaled down to so many pixels a side.
pub const PICTURE: u32 = 48;

/// What the samples of a run show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// Where it comes from.
    pub origin: Origin,
    /// In the order of their labels.
    pub classes: Vec<ClassFigures>,
    /// How often samples of one class were answered with another (or their own), the rest is 0; by
    /// label, then prediction.
    pub confusions: Vec<Confusion>,
    /// Samples by latency, ascending; empty where it wasn't measured.
    pub latencies: Vec<LatencyBin>,
    /// The most confident at the first exit, the least confident at the final classifier, and the most
    /// confident that are wrong; at most eight of each, in this order.
    pub samples: Vec<ShownSample>,
}

/// A class, over the samples that truly are of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// What it is called.
    pub name: String,
    /// Number of samples.
    pub samples: usize,
    /// Share answered right, 0 to 1; null without samples.
    pub accuracy: Option<f64>,
    /// Share that left before the final classifier, 0 to 1; null without samples.
    pub early: Option<f64>,
}

/// How often one class was answered with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// True class.
    pub label: u16,
    /// Class that was answered.
    pub prediction: u16,
    /// Number of samples.
    pub samples: usize,
}

/// Samples within a range of latency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyBin {
    /// Least latency in it, milliseconds.
    pub from_ms: f64,
    /// Latency below which it ends, milliseconds; in the last bin the largest there is.
    pub to_ms: f64,
    /// Samples that stayed on the first tier.
    pub local: usize,
    /// Samples that were sent on.
    pub offloaded: usize,
}

/// Why a sample is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// It left at the first exit.
    Early,
    /// It went to the final classifier.
    Late,
    /// Its answer is wrong.
    Wrong,
}

/// A sample, as a person may look at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownSample {
    /// Why it is listed.
    pub group: Group,
    /// Number of the sample in its set.
    pub sample: u32,
    /// Name of its true class.
    pub label: String,
    /// Name of the class that was answered.
    pub prediction: String,
    /// Layer behind which it left; null for the final classifier.
    pub after: Option<String>,
    /// Confidence there, 0 to 1.
    pub confidence: f32,
    /// Milliseconds to its answer; null where they weren't measured.
    pub latency_ms: Option<f32>,
    /// The image, small; not part of the JSON form.
    #[serde(skip)]
    pub picture: Option<Picture>,
}

/// A small image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Of an image `[c, h, w]` of one or three channels, no larger than [`PICTURE`] a side; `None` for any
    /// other.
    pub fn of(pixels: &[u8], shape: [usize; 3]) -> Option<Picture> {
        let [channels, height, width] = shape;
        let area = height * width;
        if area == 0 || !matches!(channels, 1 | 3) || pixels.len() != channels * area {
            return None;
        }
        let colour = |at: usize| [0, 1, 2].map(|c| pixels[(c % channels) * area + at]);
        let rgb: Vec<u8> = (0..area).flat_map(colour).collect();
        let (w, h) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let whole = image::RgbImage::from_raw(w, h, rgb)?;
        let largest = w.max(h);
        let small = if largest > PICTURE {
            let side = |n: u32| (n * PICTURE / largest).max(1);
            image::imageops::thumbnail(&whole, side(w), side(h))
        } else {
            whole
        };
        Some(Picture {
            width: small.width(),
            height: small.height(),
            rgb: small.into_raw(),
        })
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// Where it can't be encoded.
    pub fn png(&self) -> Result<Vec<u8>, image::ImageError> {
        use image::ImageEncoder as _;
        let mut out = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut out);
        let kind = image::ExtendedColorType::Rgb8;
        encoder.write_image(&self.rgb, self.width, self.height, kind)?;
        Ok(out)
    }
}

/// The run that the evidence is of.
pub struct Shown<'a> {
    /// What it noted of each sample.
    pub records: &'a [Record],
    /// True classes of the whole set, by number of the sample.
    pub labels: &'a [u16],
    /// Names of the classes; those missing are called by their number.
    pub class_names: &'a [String],
    /// Layers behind which the plan's exits stand, in order of depth.
    pub exits: Vec<String>,
    /// The image of a sample, if it is at hand.
    pub picture: &'a dyn Fn(u32) -> Option<Picture>,
}

impl Shown<'_> {
    /// Gathers what the run shows, measured over the test set.
    pub fn report(&self) -> EvidenceReport {
        EvidenceReport {
            origin: Origin {
                kind: Kind::Measured,
                set: Set::Test,
            },
            classes: self.classes(),
            confusions: self.confusions(),
            latencies: self.latencies(),
            samples: self.samples(),
        }
    }

    fn label(&self, record: &Record) -> Option<u16> {
        self.labels.get(record.sample as usize).copied()
    }

    fn name(&self, class: u16) -> String {
        let name = self.class_names.get(usize::from(class));
        name.cloned().unwrap_or_else(|| class.to_string())
    }

    fn is_early(&self, record: &Record) -> bool {
        usize::from(record.exit) < self.exits.len()
    }

    fn classes(&self) -> Vec<ClassFigures> {
        let seen = self.records.iter().filter_map(|r| self.label(r));
        let most = seen.map(|label| usize::from(label) + 1).max().unwrap_or(0);
        let count = most.max(self.class_names.len());
        let mut all = vec![[0_usize; 3]; count];
        for record in self.records {
            if let Some(label) = self.label(record) {
                let [samples, right, early] = &mut all[usize::from(label)];
                *samples += 1;
                *right += usize::from(record.prediction == label);
                *early += usize::from(self.is_early(record));
            }
        }
        let figures = |(class, [samples, right, early]): (usize, [usize; 3])| {
            let share = |part: usize| (samples > 0).then(|| part as f64 / samples as f64);
            ClassFigures {
                name: self.name(class as u16),
                samples,
                accuracy: share(right),
                early: share(early),
            }
        };
        all.into_iter().enumerate().map(figures).collect()
    }

    fn confusions(&self) -> Vec<Confusion> {
        let mut all: BTreeMap<(u16, u16), usize> = BTreeMap::new();
        for record in self.records {
            if let Some(label) = self.label(record) {
                *all.entry((label, record.prediction)).or_default() += 1;
            }
        }
        all.into_iter()
            .map(|((label, prediction), samples)| Confusion {
                label,
                prediction,
                samples,
            })
            .collect()
    }

    fn latencies(&self) -> Vec<LatencyBin> {
        let mut ms: Vec<f64> = self.records.iter().map(|r| r.latency_ms.into()).collect();
        if ms.is_empty() || ms.iter().any(|ms| ms.is_nan()) {
            return Vec::new();
        }
        ms.sort_by(f64::total_cmp);
        let (least, most) = (ms[0], ms[ms.len() - 1]);
        let usual = crate::device::percentile(&ms, 99.0);
        let width = (usual - least) / BINS as f64;
        if width <= 0.0 {
            return Vec::new();
        }
        let bin = |at: usize| LatencyBin {
            from_ms: least + width * at as f64,
            to_ms: if at == BINS {
                most
            } else {
                least + width * (at + 1) as f64
            },
            local: 0,
            offloaded: 0,
        };
        let mut bins: Vec<LatencyBin> = (0..=BINS).map(bin).collect();
        for record in self.records {
            let at = ((f64::from(record.latency_ms) - least) / width) as usize;
            let bin = &mut bins[at.min(BINS)];
            if record.offloaded() {
                bin.offloaded += 1;
            } else {
                bin.local += 1;
            }
        }
        bins
    }

    fn samples(&self) -> Vec<ShownSample> {
        let wrong = |r: &&Record| self.label(r).is_some_and(|label| label != r.prediction);
        let groups: [(Group, Vec<&Record>, bool); 3] = [
            (
                Group::Early,
                self.records
                    .iter()
                    .filter(|r| r.exit == 0 && self.is_early(r))
                    .collect(),
                true,
            ),
            (
                Group::Late,
                self.records.iter().filter(|r| !self.is_early(r)).collect(),
                false,
            ),
            (
                Group::Wrong,
                self.records.iter().filter(wrong).collect(),
                true,
            ),
        ];
        let mut shown = Vec::new();
        for (group, mut records, confident_first) in groups {
            records.sort_by(|a, b| {
                let ascending = a.confidence.total_cmp(&b.confidence);
                let order = if confident_first {
                    ascending.reverse()
                } else {
                    ascending
                };
                order.then(a.sample.cmp(&b.sample))
            });
            let first = records.into_iter().take(LISTED);
            shown.extend(first.map(|record| self.shown(group, record)));
        }
        shown
    }

    fn shown(&self, group: Group, record: &Record) -> ShownSample {
        let latency = record.latency_ms;
        ShownSample {
            group,
            sample: record.sample,
            label: self
                .label(record)
                .map_or_else(String::new, |label| self.name(label)),
            prediction: self.name(record.prediction),
            after: self.exits.get(usize::from(record.exit)).cloned(),
            confidence: record.confidence,
            latency_ms: (!latency.is_nan()).then_some(latency),
            picture: (self.picture)(record.sample),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn record(sample: u32, exit: u16, prediction: u16, confidence: f32, ms: f32) -> Record {
        Record {
            sample,
            exit,
            prediction,
            confidence,
            degraded: false,
            latency_ms: ms,
            tier_ms: vec![ms],
            hops: if exit > 0 {
                vec![crate::predict::HopRecord::default()]
            } else {
                Vec::new()
            },
        }
    }

    fn shown(records: &[Record]) -> EvidenceReport {
        let names = ["cat".to_string(), "dog".to_string()];
        Shown {
            records,
            labels: &[0, 1, 1, 0, 2],
            class_names: &names,
            exits: vec!["a".into()],
            picture: &|sample| Picture::of(&[sample as u8; 4], [1, 2, 2]),
        }
        .report()
    }

    #[test]
    fn classes_and_confusions_count_every_sample_once() {
        let found = shown(&[
            record(0, 0, 0, 0.9, 1.0),
            record(1, 0, 0, 0.8, 2.0),
            record(2, 1, 1, 0.5, 9.0),
            record(4, 1, 1, 0.4, 8.0),
        ]);
        let classes: Vec<_> = found
            .classes
            .iter()
            .map(|c| (c.name.as_str(), c.samples, c.accuracy))
            .collect();
        assert_eq!(
            classes,
            [
                ("cat", 1, Some(1.0)),
                ("dog", 2, Some(0.5)),
                ("2", 1, Some(0.0))
            ]
        );
        assert_eq!(found.classes[1].early, Some(0.5));
        let confusions: Vec<_> = found
            .confusions
            .iter()
            .map(|c| (c.label, c.prediction, c.samples))
            .collect();
        assert_eq!(confusions, [(0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 1, 1)]);
        let groups: Vec<_> = found.samples.iter().map(|s| (s.group, s.sample)).collect();
        let expected = [
            (Group::Early, 0),
            (Group::Early, 1),
            (Group::Late, 4),
            (Group::Late, 2),
            (Group::Wrong, 1),
            (Group::Wrong, 4),
        ];
        assert_eq!(groups, expected);
        let last = &found.samples[5];
        assert_eq!(
            (last.label.as_str(), last.prediction.as_str()),
            ("2", "dog")
        );
        assert_eq!(last.picture.as_ref().unwrap().rgb, [4; 12]);
    }

    #[test]
    fn the_histogram_holds_all_and_its_last_bin_the_stalls() {
        let mut records: Vec<Record> = (0..200)
            .map(|i| record(i % 5, (i % 2) as u16, 0, 0.5, 1.0 + i as f32 / 200.0))
            .collect();
        records.push(record(0, 0, 0, 0.5, 100.0));
        let found = shown(&records).latencies;
        let all: usize = found.iter().map(|bin| bin.local + bin.offloaded).sum();
        assert_eq!((found.len(), all), (17, 201));
        assert_eq!(found[16].to_ms, 100.0);
        assert!(found[16].local >= 1 && found[0].local > 0);
        assert!(
            found
                .windows(2)
                .all(|pair| (pair[0].to_ms - pair[1].from_ms).abs() < 1e-9)
        );
        records[3].latency_ms = f32::NAN;
        assert_eq!(shown(&records).latencies, []);
    }

    #[test]
    fn a_picture_keeps_its_colours_and_its_bounds() {
        let planes = [[255; 4], [0; 4], [7; 4]].concat();
        let small = Picture::of(&planes, [3, 2, 2]).unwrap();
        assert_eq!(small.rgb, [255, 0, 7].repeat(4));
        let png = small.png().unwrap();
        let back = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(back.into_raw(), small.rgb);
        let large = Picture::of(&[9; 3 * 300 * 200], [3, 300, 200]).unwrap();
        assert_eq!((large.width, large.height), (32, 48));
        assert_eq!(Picture::of(&[0; 8], [2, 2, 2]), None);
    }
}
