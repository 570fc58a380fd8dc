/*!
What a run refuses before it does anything, by session, network and images: one list, so that `run`, `plan`,
`explore` and the workbench refuse the same, in the same words.
*/

use super::stage_cache::Reporter;
use super::{ExitSource, Network, RunError};
use crate::data::{Layout, LoadedData};
use crate::event::Stage;
use crate::exits::{Classifier, ExitPoint};
use crate::model::layers::LayerTable;
use crate::plan::SplitRule;
use crate::session::{ModelSource, Session};
use crate::train::Training;

/// Why a session can't be run over its network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum Refused {
    #[error("the input of `{network}` is {input}, not images (channels, height, width)")]
    NoImages { network: String, input: String },
    #[error(
        "the input of `{network}` is {input}, which fits `preprocessing: (layout: {layout:?})`; the \
         session has the other layout"
    )]
    OtherLayout {
        network: String,
        input: String,
        layout: Layout,
    },
    #[error(
        "`{0}` is untrained, and exits over a frozen untrained network learn nothing: set \
         `training: Mixed(..)` or `Joint(..)`, or train it first with `edgelesspart train`"
    )]
    Untrained(String),
    #[error(
        "the split rule {0} compares all splits, which needs heads over a frozen network: set \
         `training: Frozen(..)`, or another rule"
    )]
    NeedsFrozen(&'static str),
    #[error(
        "`classifier: OwnExits`: the file of `{network}` brings no exit along that an exit point can take{}; take \
         `Replica`, or a template",
        if .outputs.is_empty() { String::new() } else { format!(" ({} reads the network elsewhere)", .outputs.join(", ")) }
    )]
    NoOwnExits {
        network: String,
        outputs: Vec<String>,
    },
    #[error(
        "`classifier: OwnExits`: exits that a network's file brings along are trained already, and would not fit a \
         network that learns: set `training: Frozen(..)`, or another classifier"
    )]
    OwnExitsOfOld,
    #[error(
        "exits.recipe.heads: no exit can stand after `{name}`; exits can stand after {}",
        .points.join(", ")
    )]
    NoSuchExit { name: String, points: Vec<String> },
}

/// Channels, height and width of a network's input, in the order the session's layout gives them.
///
/// # Errors
/// Where the network doesn't take images, or the session has another layout.
pub(super) fn image(session: &Session, table: &LayerTable) -> Result<[usize; 3], Refused> {
    use Layout::{Nchw, Nhwc};
    let sample = table.input.sample();
    let sample = sample.as_deref();
    let (network, input) = (table.network.clone(), table.input.to_string());
    let set = session.pixels().layout;
    if let Some(layout) = sample.and_then(Layout::of).filter(|&layout| layout != set) {
        return Err(Refused::OtherLayout {
            network,
            input,
            layout,
        });
    }
    match (sample, set) {
        (Some(&[c, h, w]), Nchw) | (Some(&[h, w, c]), Nhwc) => Ok([c, h, w]),
        _ => Err(Refused::NoImages { network, input }),
    }
}

/// Whether a session can be run over a network up to a stage, by what both say.
///
/// # Errors
/// What a run would refuse on its way there.
pub fn check(
    session: &Session,
    table: &LayerTable,
    points: &[ExitPoint],
    until: Stage,
) -> Result<(), Refused> {
    image(session, table)?;
    // Devices and links are measured whatever is to be trained.
    if until <= Stage::Link {
        return Ok(());
    }
    let untrained = matches!(session.model, ModelSource::Zoo { .. });
    match session.exits.training {
        Training::Frozen { .. } if untrained => {
            return Err(Refused::Untrained(table.network.clone()));
        }
        Training::Frozen { .. } => {}
        Training::Joint { .. } | Training::Mixed { .. } => {
            for rule in &session.splits {
                match rule {
                    SplitRule::Fastest => return Err(Refused::NeedsFrozen("Fastest")),
                    SplitRule::Cheapest => return Err(Refused::NeedsFrozen("Cheapest")),
                    _ => {}
                }
            }
            if session.exits.classifier == Classifier::OwnExits {
                return Err(Refused::OwnExitsOfOld);
            }
        }
    }
    let stands = |name: &str| points.iter().any(|point| point.after == name);
    let mut stray = session.exits.recipe.heads.iter();
    match stray.find(|(name, _)| !stands(name)) {
        Some((name, _)) => Err(Refused::NoSuchExit {
            name: name.clone(),
            points: points.iter().map(|p| p.after.clone()).collect(),
        }),
        None => Ok(()),
    }
}

impl Network {
    /// Whether a session can be run over the network up to a stage, by what the network and the listed
    /// images say. Decodes no image.
    ///
    /// # Errors
    /// What a run would refuse on its way there.
    pub fn check(&self, session: &Session, until: Stage) -> Result<(), RunError> {
        check(session, &self.table, &self.points, until)?;
        if session.exits.classifier == Classifier::OwnExits {
            ExitSource::own(&self.fused)?;
        }
        LoadedData::check(&session.data, &self.load_options(session)?)?;
        Ok(())
    }

    /// Whether the session can be run over the network to its report: what [`Network::check`] says, and whether
    /// its exit classifier fits at some point.
    ///
    /// # Errors
    /// What a run would refuse before it begins.
    pub fn check_whole(&self, session: &Session) -> Result<(), RunError> {
        self.check(session, Stage::Report)?;
        let mut quiet = |_| {};
        let mut reporter = Reporter {
            stage: Stage::Data,
            on: &mut quiet,
        };
        self.heads(session, &mut reporter).map(|_| ())
    }
}
