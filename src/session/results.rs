/*!
What a run leaves in its session file, enough to replay it anywhere: the layers, the profiles, the
trained heads, the confidence tables, the plan, the measured outcome and the journal. One file copied
off a board needs neither model nor data nor agent to be tuned.
*/

use super::records::{PackedRecords, RecordsError};
use super::tables::{PackError, PackedTable};
use crate::device::{LinkProfile, PartProfile, Profile};
use crate::event::Event;
use crate::exits::{ExitPoint, Head};
use crate::model::export::to_onnx;
use crate::model::fuse::fuse;
use crate::model::layers::LayerTable;
use crate::model::onnx::import_bytes;
use crate::plan::Plan;
use crate::plan::Wire;
use crate::plan::{Tier, TierHead, TierNames};
use crate::predict::{
    Answers, CompressionRatio, ConfidenceTable, Evidence, HeadKey, ImageTable, Outcome, Record,
    WireTable,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The most that is unpacked of one string, so that nothing unpacks without end.
const MAX_PACKED: u64 = 512 << 20;

/// Runs of a plan that a session remembers.
pub const MOST_RUNS: usize = 20;

/// Results of a run. Everything but the network's layers may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "stored::Results")]
pub struct Results {
    /// Version of the program that wrote them.
    pub program: String,
    /// Layers and cuts of the network.
    pub layers: LayerTable,
    /// All legal exit points.
    pub points: Vec<ExitPoint>,
    /// Hash of what the heads were trained from and with.
    pub heads_key: String,
    /// Trained heads, in order of their exit points.
    pub heads: Vec<TrainedHead>,
    /// Hash of what the tables were made of.
    pub tables_key: String,
    /// Whether the tables hold half of the calibration samples back for a guarantee: temperatures were
    /// fitted without them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_back: bool,
    /// Every calibration sample through every exit.
    pub calibration: Option<PackedTable>,
    /// Every test sample through every exit.
    pub test: Option<PackedTable>,
    /// The columns behind splits, for wires other than F32.
    pub wires: Vec<WireTables>,
    /// The final classifier's columns of images that were coded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageTables>,
    /// What compression leaves of the tensors behind layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<CompressionRatio>,
    /// One per tier, of its first target; shorter where the last tiers were never profiled.
    pub profiles: Vec<Option<Profile>>,
    /// One per link, nearest to the sample first; shorter where the last were never measured.
    pub links: Vec<Option<LinkProfile>>,
    /// The plan that ran last.
    pub plan: Option<Plan>,
    /// Its parts, timed as they are assembled, by tier.
    pub parts: Vec<(Tier, PartProfile)>,
    /// What the runs gave.
    pub measured: Vec<Measured>,
    /// What they noted of each sample, the last run of each kind; none of what ran before they were kept.
    pub records: Vec<PackedRecords>,
    /// The events of the last run, packed ([`Results::journal`]).
    pub journal: String,
}

/// What a plan or a baseline gave when it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// `plan`, `original`, `cloud_only` or `edge_only`.
    pub what: String,
    /// Seconds since 1970, by the workbench's clock.
    pub at: u64,
    /// The plan, for `plan`.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// Hash of the head at each of the plan's exits, in their order; empty in files of release 0.1.
    #[serde(default)]
    pub heads: Vec<String>,
    /// Device of the first tier; empty in files of release 0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// What the plan gave.
    pub outcome: Outcome,
}

/// Tables whose cloud columns were computed from tensors as a wire delivers them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireTables {
    /// Layer behind which the network was split.
    pub split_after: String,
    /// How the tensor travels.
    pub wire: Wire,
    /// The columns behind the split, of the calibration set.
    pub calibration: PackedTable,
    /// And of the test set.
    pub test: PackedTable,
}

/// What the network says of images that went over a wire as JPEG files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTables {
    /// Quality they were coded at, 1 to 100.
    pub quality: u8,
    /// Mean bytes of a file, of the calibration and of the test set.
    pub bytes: (f64, f64),
    /// The final classifier's column, of the calibration set.
    pub calibration: PackedTable,
    /// And of the test set.
    pub test: PackedTable,
}

/// A trained head as a session keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedHead {
    /// The tier it was trained for, where its source tells them apart; else the first.
    #[serde(alias = "part")]
    pub tier: Tier,
    /// Exit point that the head reads.
    pub point: ExitPoint,
    /// Source as rendered for its exit point.
    pub rendered: String,
    /// Hash of the rendered source.
    pub hash: String,
    /// Number of trained values.
    pub params: usize,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Fitted on the calibration set.
    pub temperature: f32,
    /// Hash of all it was trained from and with; empty where it learnt together with the network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The ONNX file, compressed and in base64.
    pub weights: String,
}

/// Why a head can't be packed or unpacked.
#[derive(Debug, thiserror::Error)]
#[error("the trained head after `{after}`: {what}; run again with --fresh to train it anew")]
pub struct HeadError {
    after: String,
    what: String,
}

/// Puts a value in a tier's place.
fn put<T>(all: &mut Vec<Option<T>>, tier: Tier, value: T) {
    if all.len() <= tier.index() {
        all.resize_with(tier.index() + 1, || None);
    }
    all[tier.index()] = Some(value);
}

/// Compressed and in base64: what RON text would blow up or compress badly.
pub(super) fn pack(bytes: &[u8]) -> Result<String, String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    packed
        .map(|packed| STANDARD.encode(packed))
        .map_err(|e| e.to_string())
}

pub(super) fn unpack(text: &str) -> Result<Vec<u8>, String> {
    let packed = STANDARD.decode(text).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    ZlibDecoder::new(&packed[..])
        .take(MAX_PACKED)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Why a journal can't be packed or unpacked.
#[derive(Debug, thiserror::Error)]
#[error("the journal of the last run is damaged: {0}; run again to replace it")]
pub struct JournalError(String);

impl TrainedHead {
    /// Packs a head; its graph is kept fused, as it runs.
    ///
    /// # Errors
    /// Where the graph can't be written as ONNX.
    pub fn pack(of: &TierHead) -> Result<TrainedHead, HeadError> {
        let head = &of.head;
        let fail = |what: String| HeadError {
            after: head.point.after.clone(),
            what,
        };
        let bytes = to_onnx(&fuse(&head.graph)).map_err(|e| fail(e.to_string()))?;
        Ok(TrainedHead {
            tier: of.tier,
            point: head.point.clone(),
            rendered: head.rendered.clone(),
            hash: head.hash.clone(),
            params: head.params,
            macs: head.macs,
            temperature: of.temperature,
            key: String::new(),
            weights: pack(&bytes).map_err(fail)?,
        })
    }

    /// The head again, its graph fused.
    ///
    /// # Errors
    /// Where the packed file is damaged.
    pub fn unpack(&self) -> Result<TierHead, HeadError> {
        let fail = |what: String| HeadError {
            after: self.point.after.clone(),
            what,
        };
        let bytes = unpack(&self.weights).map_err(fail)?;
        let graph = import_bytes(&bytes, "head.onnx").map_err(|e| fail(e.to_string()))?;
        let head = Head {
            point: self.point.clone(),
            rendered: self.rendered.clone(),
            hash: self.hash.clone(),
            graph: fuse(&graph),
            params: self.params,
            macs: self.macs,
            dropout: Vec::new(),
            lines: Vec::new(),
            warnings: Vec::new(),
        };
        Ok(TierHead {
            tier: self.tier,
            head,
            temperature: self.temperature,
        })
    }
}

impl Results {
    /// Results that know the network and nothing else yet.
    pub fn new(layers: LayerTable, points: Vec<ExitPoint>) -> Results {
        Results {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            layers,
            points,
            heads_key: String::new(),
            heads: Vec::new(),
            tables_key: String::new(),
            held_back: false,
            calibration: None,
            test: None,
            wires: Vec::new(),
            images: None,
            ratios: Vec::new(),
            profiles: Vec::new(),
            links: Vec::new(),
            plan: None,
            parts: Vec::new(),
            measured: Vec::new(),
            records: Vec::new(),
            journal: String::new(),
        }
    }

    /// What was measured of a tier; `None` where it never was.
    pub fn profile(&self, tier: Tier) -> Option<&Profile> {
        self.profiles.get(tier.index())?.as_ref()
    }

    /// What was measured of the link behind a tier; `None` where it never was.
    pub fn link(&self, behind: Tier) -> Option<&LinkProfile> {
        self.links.get(behind.index())?.as_ref()
    }

    /// Keeps what was measured of a tier.
    pub fn set_profile(&mut self, tier: Tier, profile: Profile) {
        put(&mut self.profiles, tier, profile);
    }

    /// Keeps what was measured of the link behind a tier.
    pub fn set_link(&mut self, behind: Tier, link: LinkProfile) {
        put(&mut self.links, behind, link);
    }

    /// Both confidence tables, calibration first, if they are there.
    ///
    /// # Errors
    /// A table is damaged.
    pub fn tables(&self) -> Result<Option<(ConfidenceTable, ConfidenceTable)>, PackError> {
        match (&self.calibration, &self.test) {
            (Some(calibration), Some(test)) => Ok(Some((calibration.unpack()?, test.unpack()?))),
            _ => Ok(None),
        }
    }

    /// Notes what a run of `what` gave, now.
    pub fn note(&mut self, what: &str, plan: Option<&Plan>, outcome: Outcome) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.measured.push(Measured {
            what: what.to_owned(),
            at: now.map_or(0, |d| d.as_secs()),
            plan: plan.cloned(),
            heads: plan.map_or_else(Vec::new, |plan| self.heads_of(plan)),
            device: self
                .profile(Tier::First)
                .map_or_else(String::new, |p| p.device.clone()),
            outcome,
        });
    }

    /// Takes over what earlier runs of a plan gave, the oldest first; those beyond [`MOST_RUNS`] go. A
    /// run whose stages were all kept measured nothing anew, and isn't there twice.
    pub fn remember(&mut self, earlier: &[Measured]) {
        let own = std::mem::take(&mut self.measured);
        let again = |before: &Measured| {
            let same = |one: &&Measured| one.plan == before.plan && one.outcome == before.outcome;
            own.iter().any(|one| same(&one))
        };
        let plans = earlier.iter().filter(|m| m.what == "plan" && !again(m));
        let mut all: Vec<Measured> = plans.cloned().collect();
        let ours = own.iter().filter(|m| m.what == "plan").count();
        let over = (all.len() + ours).saturating_sub(MOST_RUNS);
        all.drain(..over.min(all.len()));
        all.sort_by_key(|m| m.at);
        all.extend(own);
        self.measured = all;
    }

    /// Keeps what a run of `what` noted of each sample, in place of what the one before it did.
    ///
    /// # Errors
    /// As [`PackedRecords::pack`].
    pub fn keep_records(
        &mut self,
        what: &str,
        plan: &Plan,
        records: &[Record],
    ) -> Result<(), RecordsError> {
        let exits = plan.exits.iter().map(|exit| exit.after.clone()).collect();
        let packed = PackedRecords::pack(what, exits, records)?;
        self.records.retain(|kept| kept.what != what);
        self.records.push(packed);
        Ok(())
    }

    /// Keeps the events of a run, with the seconds since its start.
    ///
    /// # Errors
    /// Where they can't be put into words.
    pub fn keep_journal(&mut self, events: &[(f64, Event)]) -> Result<(), JournalError> {
        let text = serde_json::to_vec(events).map_err(|e| JournalError(e.to_string()))?;
        self.journal = pack(&text).map_err(JournalError)?;
        Ok(())
    }

    /// The events of the last run, and the seconds since its start; none if it wasn't kept.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn journal(&self) -> Result<Vec<(f64, Event)>, JournalError> {
        if self.journal.is_empty() {
            return Ok(Vec::new());
        }
        let text = unpack(&self.journal).map_err(JournalError)?;
        serde_json::from_slice(&text).map_err(|e| JournalError(e.to_string()))
    }

    /// Which head stands where on a chain of tiers: the one trained for a tier, or the one that serves
    /// all that have none of their own.
    pub fn head_keys(&self, tiers: &TierNames) -> Vec<HeadKey> {
        let mut keys = Vec::new();
        for point in &self.points {
            let here = self.heads.iter().filter(|h| h.point.layer == point.layer);
            for tier in tiers.tiers() {
                if let Some(head) = tier.own_or_first(here.clone(), |h| h.tier) {
                    keys.push(HeadKey {
                        after: point.after.clone(),
                        tier,
                        hash: head.hash.clone(),
                    });
                }
            }
        }
        keys
    }

    /// Hash of the head that stands at each exit of a plan, in their order.
    pub fn heads_of(&self, plan: &Plan) -> Vec<String> {
        let hash = |exit: &crate::plan::PlannedExit| {
            let here = self.heads.iter().filter(|h| h.point.after == exit.after);
            let own = exit.tier.own_or_first(here, |h| h.tier);
            own.map_or_else(String::new, |head| head.hash.clone())
        };
        plan.exits.iter().map(hash).collect()
    }

    /// The points at which a trained head stands; all of them while there is none.
    fn points_with_heads(&self) -> Vec<ExitPoint> {
        let has_head = |p: &&ExitPoint| self.heads.iter().any(|h| h.point.layer == p.layer);
        if self.heads.is_empty() {
            return self.points.clone();
        }
        self.points.iter().filter(has_head).cloned().collect()
    }

    /// All of it that predictions read, unpacked.
    ///
    /// # Errors
    /// A table is damaged.
    pub fn evidence(&self, tiers: TierNames) -> Result<Evidence, PackError> {
        let wires = |packed: fn(&WireTables) -> &PackedTable| {
            let tables = self.wires.iter().map(|w| {
                Ok(WireTable {
                    split_after: w.split_after.clone(),
                    element: w.wire.tensor,
                    table: packed(w).unpack()?,
                })
            });
            tables.collect::<Result<Vec<_>, PackError>>()
        };
        let images = |of: fn(&ImageTables) -> (f64, &PackedTable)| {
            let images = self.images.as_ref().map(|images| {
                let (bytes, packed) = of(images);
                Ok(ImageTable {
                    quality: images.quality,
                    bytes,
                    table: packed.unpack()?,
                })
            });
            images.transpose()
        };
        let answers = |table: &Option<PackedTable>, wires, images: Option<ImageTable>| {
            let table = table.as_ref().map(PackedTable::unpack).transpose()?;
            let fits = |table: &ConfidenceTable| {
                // Those of other samples, of a table that was made anew since, tell nothing.
                images.filter(|images| images.table.labels == table.labels)
            };
            Ok(table.map(|table| {
                let images = fits(&table);
                Answers {
                    table,
                    wires,
                    images,
                }
            }))
        };
        let layers = Arc::new(self.layers.clone());
        let points = Arc::new(self.points_with_heads());
        let mut evidence = Evidence {
            heads: self.head_keys(&tiers),
            ..Evidence::new(layers, points, tiers)
        };
        for (own, profile) in evidence.profiles.iter_mut().zip(&self.profiles) {
            *own = profile.clone().map(Arc::new);
        }
        for (own, link) in evidence.links.iter_mut().zip(&self.links) {
            *own = link.clone().map(Arc::new);
        }
        let calibration = images(|i| (i.bytes.0, &i.calibration))?;
        let calibration = answers(&self.calibration, wires(|w| &w.calibration)?, calibration)?;
        evidence.calibration = match calibration {
            Some(all) if self.held_back => {
                let (tuning, held) = all.hold_back();
                evidence.held_back = Some(Arc::new(held));
                Some(Arc::new(tuning))
            }
            all => all.map(Arc::new),
        };
        let test = images(|i| (i.bytes.1, &i.test))?;
        let test = answers(&self.test, wires(|w| &w.test)?, test)?;
        evidence.test = test.map(Arc::new);
        evidence.ratios.clone_from(&self.ratios);
        Ok(evidence)
    }

    /// What the last run of `what` gave.
    pub fn last(&self, what: &str) -> Option<&Measured> {
        self.measured.iter().rev().find(|m| m.what == what)
    }
}

mod stored {
    /*! Results as files hold them: those of version 1 knew an edge, a cloud and the link between them. */

    use super::{
        CompressionRatio, ImageTables, LinkProfile, Measured, PackedRecords, PackedTable, Profile,
        TrainedHead, WireTables,
    };
    use crate::device::PartProfile;
    use crate::exits::ExitPoint;
    use crate::model::layers::LayerTable;
    use crate::plan::{Plan, Tier};
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename = "Results")]
    pub(super) struct Results {
        program: String,
        layers: LayerTable,
        points: Vec<ExitPoint>,
        #[serde(default)]
        heads_key: String,
        #[serde(default)]
        heads: Vec<TrainedHead>,
        #[serde(default)]
        tables_key: String,
        #[serde(default)]
        held_back: bool,
        #[serde(default)]
        calibration: Option<PackedTable>,
        #[serde(default)]
        test: Option<PackedTable>,
        #[serde(default)]
        wires: Vec<WireTables>,
        #[serde(default)]
        images: Option<ImageTables>,
        #[serde(default)]
        ratios: Vec<CompressionRatio>,
        #[serde(default)]
        profiles: Vec<Option<Profile>>,
        #[serde(default)]
        links: Vec<Option<LinkProfile>>,
        #[serde(default)]
        edge: Option<Profile>,
        #[serde(default)]
        cloud: Option<Profile>,
        #[serde(default)]
        link: Option<LinkProfile>,
        #[serde(default)]
        plan: Option<Plan>,
        #[serde(default)]
        parts: Vec<(Tier, PartProfile)>,
        #[serde(default)]
        measured: Vec<Measured>,
        #[serde(default)]
        records: Vec<PackedRecords>,
        #[serde(default)]
        journal: String,
    }

    impl From<Results> for super::Results {
        fn from(stored: Results) -> super::Results {
            let mut results = super::Results {
                program: stored.program,
                layers: stored.layers,
                points: stored.points,
                heads_key: stored.heads_key,
                heads: stored.heads,
                tables_key: stored.tables_key,
                held_back: stored.held_back,
                calibration: stored.calibration,
                test: stored.test,
                wires: stored.wires,
                images: stored.images,
                ratios: stored.ratios,
                profiles: stored.profiles,
                links: stored.links,
                plan: stored.plan,
                parts: stored.parts,
                measured: stored.measured,
                records: stored.records,
                journal: stored.journal,
            };
            for (tier, profile) in [(Tier::First, stored.edge), (Tier::Second, stored.cloud)] {
                if let Some(profile) = profile {
                    results.set_profile(tier, profile);
                }
            }
            if let Some(link) = stored.link {
                results.set_link(Tier::First, link);
            }
            results
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Compiled;
    use crate::engine::{Cancel, Engine, Options};
    use crate::event::{Said, Stage};
    use crate::exits::{head, points};
    use crate::model::zoo::ZooModel;

    #[test]
    fn runs_are_remembered_once_and_so_many() {
        let network = ZooModel::ResNet { depth: 8, width: 4 };
        let fused = fuse(&network.build((3, 32, 32), 10, 1).unwrap());
        let demo = crate::session::Session::demo().unwrap();
        let sample = demo.results.unwrap().last("plan").unwrap().clone();
        let run = |at: u64, what: &str, accuracy: f64| Measured {
            what: what.into(),
            at,
            outcome: Outcome {
                accuracy,
                ..sample.outcome.clone()
            },
            ..sample.clone()
        };
        let mut results = Results::new(LayerTable::new(&fused).unwrap(), Vec::new());
        let own = [run(900, "plan", 0.9), run(901, "original", 0.8)];
        results.measured = own.to_vec();
        let earlier: Vec<Measured> = (0..30)
            .flat_map(|i| [run(i, "plan", i as f64 / 100.0), run(i, "original", 0.7)])
            .chain([run(899, "plan", 0.9)])
            .collect();
        results.remember(&earlier);
        let plans: Vec<u64> = results.measured.iter().map(|m| m.at).collect();
        let expected: Vec<u64> = (11..30).chain([900, 901]).collect();
        assert_eq!(plans, expected);
        assert_eq!(results.last("original").unwrap().at, 901);
    }

    #[test]
    fn a_journal_comes_back() {
        let network = ZooModel::ResNet { depth: 8, width: 4 };
        let fused = fuse(&network.build((3, 32, 32), 10, 1).unwrap());
        let mut results = Results::new(LayerTable::new(&fused).unwrap(), Vec::new());
        assert_eq!(results.journal().unwrap(), []);
        let say = |text: &str| {
            Event::Say(Said {
                stage: Stage::Heads,
                origin: None,
                note: text.into(),
            })
        };
        let events = vec![(0.25, say("a")), (1.5, say("b"))];
        results.keep_journal(&events).unwrap();
        assert_eq!(results.journal().unwrap(), events);
        results.journal.truncate(20);
        assert!(results.journal().is_err());
    }

    #[test]
    fn a_packed_head_runs_to_the_same_numbers() {
        let network = ZooModel::ResNet { depth: 8, width: 4 };
        let fused = fuse(&network.build((3, 32, 32), 10, 1).unwrap());
        let layers = LayerTable::new(&fused).unwrap();
        let point = &points(&layers, &fused)[1];
        let source = "[Conv2d(6), BatchNorm2d, Relu, GlobalAvgPool, Linear(classes)]";
        let mut before = TierHead::new(Tier::First, head(source, point, "edge", 3).unwrap());
        before.temperature = 1.5;
        before.head.graph = fuse(&before.head.graph);
        let packed = TrainedHead::pack(&before).unwrap();
        let after = packed.unpack().unwrap();
        assert_eq!((after.tier, after.temperature), (Tier::First, 1.5));
        let size: usize = point.sample.iter().product();
        let x: Vec<f32> = (0..size).map(|i| (i as f32 * 0.37).sin()).collect();
        let run = |graph| {
            let engine = Engine::new(graph, &Options { threads: 1 }).unwrap();
            engine.run_f32(1, &[&x], &Cancel::new()).unwrap()
        };
        assert_eq!(run(before.head.graph), run(after.head.graph));
        let mut broken = packed;
        broken.weights.truncate(40);
        let text = broken.unpack().unwrap_err().to_string();
        assert!(text.contains("--fresh"), "{text}");
    }
}
