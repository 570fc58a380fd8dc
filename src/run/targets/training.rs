/*! Heads trained on a target rather than here: sent as they were rendered, fetched as they are. */

use super::Fleet;
use crate::data::{LoadedData, Set};
use crate::event::{Event, Note, TargetId};
use crate::model::Graph;
use crate::model::export::to_onnx;
use crate::model::onnx::import_bytes;
use crate::plan::Tier;
use crate::protocol::message::{
    DataSet, Epoch, HeadToTrain, JobEvent, JobRequest, JobResult, LabelledSet, TrainHeads,
};
use crate::run::stage_cache::Reporter;
use crate::run::{Network, RunError};
use crate::session::Session;
use crate::train::{HeadSpec, TrainingConfig};

/// What is learnt, and from what.
pub(in crate::run) struct RemoteTraining<'a> {
    pub session: &'a Session,
    pub network: &'a Network,
    pub data: &'a LoadedData,
    pub heads: &'a [HeadSpec<'a>],
    pub hyper: TrainingConfig,
}

impl Fleet<'_> {
    /// Trains heads over the frozen network on the leading target of a side; gives their graphs, in
    /// order.
    pub fn train(
        &mut self,
        reporter: &mut Reporter,
        on: Tier,
        away: &RemoteTraining,
    ) -> Result<Vec<Graph>, RunError> {
        // All are as they were trained before: nobody needs to be asked.
        if away.heads.is_empty() {
            return Ok(Vec::new());
        }
        let index = self.lead(reporter, on)?;
        let model = self.put(reporter, on, index, &away.network.onnx)?;
        let mut heads = Vec::new();
        for head in away.heads {
            let dropout = head.dropout.iter().map(|d| (d.value.clone(), d.rate));
            heads.push(HeadToTrain {
                name: head.name.clone(),
                value: head.value.clone(),
                model: self.put(reporter, on, index, &to_onnx(head.graph)?)?,
                dropout: dropout.collect(),
                recipe: head.recipe,
            });
        }
        reporter.progress(0, 0, "training images to the target");
        let request = TrainHeads {
            model,
            heads,
            lessons: self.lessons(reporter, (on, index), away.data, Set::Train)?,
            judge: Some(self.lessons(reporter, (on, index), away.data, Set::Calibration)?),
            preprocessing: away.session.pixels().clone(),
            hyper: away.hyper.clone(),
            batch: away.session.batch.evaluate,
        };
        let request = JobRequest::TrainHeads(Box::new(request));
        let target = TargetId { part: on, index };
        let (result, client, id) =
            self.job_at(reporter, on, index, &request, &mut |reporter, event| {
                tell(reporter, target, event)
            })?;
        let JobResult::Trained(trained) = result else {
            return Err(RunError::OtherAnswer);
        };
        if trained.heads != away.heads.len() {
            return Err(RunError::OtherAnswer);
        }
        let mut graphs = Vec::new();
        for (at, head) in away.heads.iter().enumerate() {
            let bytes = self.runtime.block_on(client.result(&id, at))?;
            graphs.push(import_bytes(&bytes, &head.name)?);
        }
        Ok(graphs)
    }

    /// Hands a target images and their classes.
    fn lessons(
        &mut self,
        reporter: &mut Reporter,
        (on, index): (Tier, usize),
        data: &LoadedData,
        set: Set,
    ) -> Result<LabelledSet, RunError> {
        let samples = data.len(set);
        let pixels = (0..samples).flat_map(|i| data.pixels(set, i));
        let images = DataSet {
            shape: data.shape(),
            samples,
            pixels: pixels.copied().collect(),
        };
        let labels = data.labels(set).iter();
        let labels: Vec<u8> = labels.flat_map(|l| l.to_le_bytes()).collect();
        Ok(LabelledSet {
            data: self.put(reporter, on, index, &images.encode()?)?,
            labels: self.put(reporter, on, index, &labels)?,
        })
    }
}

/// What the target tells of its training, told on as that of one here.
fn tell(reporter: &mut Reporter, target: TargetId, event: JobEvent) {
    match event {
        JobEvent::Progress(p) => reporter.progress(p.done as usize, p.total as usize, &p.note),
        JobEvent::Epoch(Epoch {
            epoch,
            epochs,
            scores,
            validation,
        }) => {
            let stage = reporter.stage;
            reporter.event(Event::Epoch {
                stage,
                epoch,
                epochs,
                scores,
                validation,
            });
        }
        JobEvent::Queued { ahead } => reporter.say_of(target, Note::Queued { ahead }),
        JobEvent::Log { text } => reporter.say_of(target, text),
        JobEvent::Lost { .. }
        | JobEvent::Found
        | JobEvent::Done(_)
        | JobEvent::Failed { .. }
        | JobEvent::Cancelled => {}
    }
}
