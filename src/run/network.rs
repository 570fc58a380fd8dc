/*! The network of a session, and a head for each of its legal exit points. */

use super::ExitSource;
use super::RunError;
use super::refused;
use super::stage_cache::Reporter;
use crate::data::LoadOptions;
use crate::event::Note;
use crate::exits;
use crate::exits::ExitPoint;
use crate::model::export::to_onnx;
use crate::model::fuse::fuse;
use crate::model::layers::LayerTable;
use crate::model::{Graph, ends_in_softmax};
use crate::plan::TierHead;
use crate::runtime::parts::address;
use crate::session::{ModelSource, Session};

/// A network, looked at from all sides.
#[derive(Debug, Clone)]
pub struct Network {
    /// As imported or built, batch norms and all: what training works on.
    pub imported: Graph,
    /// Graph with norms, activations and residual sums folded in, as it runs.
    pub fused: Graph,
    /// Layers and cuts of the network.
    pub table: LayerTable,
    /// All legal exit points.
    pub points: Vec<ExitPoint>,
    /// Its ONNX file, fused: what agents get.
    pub onnx: Vec<u8>,
    /// SHA-256 of that file.
    pub hash: String,
    /// Whether its weights are drawn, not learnt.
    pub untrained: bool,
    /// Whether it gives probabilities.
    pub ends_in_softmax: bool,
}

impl Network {
    /// The session's network.
    ///
    /// # Errors
    /// Where it can't be read, or isn't a classifier that can be cut.
    pub fn load(session: &Session) -> Result<Network, RunError> {
        let untrained = matches!(session.model, ModelSource::Zoo { .. });
        Network::of(session.model.load(session.seed)?, untrained)
    }

    /// A network as imported.
    ///
    /// # Errors
    /// Where it isn't a classifier that can be cut.
    pub fn of(imported: Graph, untrained: bool) -> Result<Network, RunError> {
        let fused = fuse(&imported);
        // Agents get the file and name its layers by its order, which is this one's.
        let onnx = to_onnx(&fused)?;
        let table = LayerTable::new(&fused)?;
        Ok(Network {
            points: exits::points(&table, &fused),
            ends_in_softmax: ends_in_softmax(&fused),
            hash: address(&onnx),
            imported,
            fused,
            table,
            onnx,
            untrained,
        })
    }

    /// Channels, height and width of the input, in the order the session's layout gives them.
    ///
    /// # Errors
    /// Where the network doesn't take images.
    pub fn image(&self, session: &Session) -> Result<[usize; 3], RunError> {
        Ok(refused::image(session, &self.table)?)
    }

    /// What the session's images are loaded with.
    pub(super) fn load_options(&self, session: &Session) -> Result<LoadOptions, RunError> {
        Ok(LoadOptions {
            input: self.image(session)?,
            fit: session.pixels().fit,
            classes: Some(self.table.classes),
            outputs: session.classes.clone(),
            output_names: self.fused.class_names.clone(),
            calibration: session.calibration,
            train: session.train_samples,
            test: session.test_samples,
            seed: session.seed,
        })
    }

    /// The points at which one of these heads stands.
    pub(super) fn points_with(&self, heads: &[TierHead]) -> Vec<ExitPoint> {
        let stands = |point: &&ExitPoint| heads.iter().any(|h| h.head.point.layer == point.layer);
        self.points.iter().filter(stands).cloned().collect()
    }

    /// The session's exit classifier at every legal point, untrained: one head a point, or one for
    /// each part where the source tells them apart. A point where the source doesn't fit gets none,
    /// which is told.
    ///
    /// # Errors
    /// Where it fits at no point.
    pub(super) fn heads(
        &self,
        session: &Session,
        reporter: &mut Reporter,
    ) -> Result<Vec<TierHead>, RunError> {
        let source = ExitSource::of(&session.exits, &self.fused)?;
        let mut heads = Vec::new();
        let mut refused = None;
        for point in &self.points {
            match source.heads(point, &session.tier_names(), session.seed) {
                Ok(found) => heads.extend(found),
                Err(error) => {
                    let first = error.diagnostics.first();
                    let why = first.map_or_else(String::new, |d| d.message.clone());
                    reporter.say(Note::NoExit {
                        after: point.after.clone(),
                        why,
                    });
                    refused.get_or_insert(error);
                }
            }
        }
        match refused {
            Some(error) if heads.is_empty() => Err(error.into()),
            _ => Ok(heads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::onnx::import_bytes;
    use crate::model::zoo::ZooModel;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case(ZooModel::ResNet50, 32)]
    #[case(ZooModel::MobileNetV2 { width: 0.5 }, 32)]
    #[case(ZooModel::InceptionV3, 75)]
    #[case(ZooModel::ResNet { depth: 8, width: 4 }, 32)]
    fn an_agent_knows_the_layers_by_the_same_names(#[case] model: ZooModel, #[case] size: usize) {
        let graph = model.build((3, size, size), 10, 1).unwrap();
        let network = Network::of(graph.clone(), true).unwrap();
        let theirs = fuse(&import_bytes(&network.onnx, "uploaded").unwrap());
        let theirs = LayerTable::new(&theirs).unwrap();
        let names = |table: &LayerTable| -> Vec<String> {
            table.layers.iter().map(|l| l.name.clone()).collect()
        };
        assert_eq!(names(&network.table), names(&theirs));
        // And so does every command that lists them without writing a file.
        let built = LayerTable::new(&fuse(&graph)).unwrap();
        assert_eq!(names(&built), names(&theirs));
        // Exits trained together with the network are looked up in it as it was built.
        for point in &network.points {
            assert!(graph.find(&point.value).is_ok(), "{}", point.value);
        }
    }
}
