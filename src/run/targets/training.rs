/*! Heads trained on a target rather than here: sent as they were rendered, fetched as they are. */

use super::Fleet;
use crate::data::{LoadedData, Set};
use crate::exits::{Head, Part};
use crate::model::Graph;
use crate::model::export::to_onnx;
use crate::model::onnx::import_bytes;
use crate::remote::message::{
    DataSet, Epoch, HeadToTrain, JobEvent, JobRequest, JobResult, TrainHeads,
};
use crate::run::keep::Teller;
use crate::run::{Event, Network, RunError};
use crate::session::Session;
use crate::train::Hyper;

/// What is learnt, and from what.
pub(in crate::run) struct Away<'a> {
    pub session: &'a Session,
    pub network: &'a Network,
    pub data: &'a LoadedData,
    pub heads: &'a [(Part, Head)],
    pub hyper: Hyper,
}

impl Fleet<'_> {
    /// Trains heads over the frozen network on the leading target of a side; gives their graphs, in
    /// order.
    pub fn train(
        &mut self,
        teller: &mut Teller,
        on: Part,
        away: &Away,
    ) -> Result<Vec<Graph>, RunError> {
        let index = self.lead(teller, on)?;
        let put = |fleet: &mut Self, teller: &mut Teller, bytes: &[u8]| {
            fleet.put(teller, on, index, bytes)
        };
        let model = put(self, teller, &away.network.onnx)?;
        let mut heads = Vec::new();
        for (_, head) in away.heads {
            let dropout = head.dropout.iter().map(|d| (d.value.clone(), d.rate));
            heads.push(HeadToTrain {
                name: head.point.after.clone(),
                value: head.point.value.clone(),
                model: put(self, teller, &to_onnx(&head.graph)?)?,
                dropout: dropout.collect(),
            });
        }
        let samples = away.data.len(Set::Train);
        let pixels = (0..samples).flat_map(|i| away.data.pixels(Set::Train, i));
        let set = DataSet {
            shape: away.data.shape(),
            samples,
            pixels: pixels.copied().collect(),
        };
        teller.progress(0, 0, "training images to the target");
        let labels = away.data.labels(Set::Train).iter();
        let labels: Vec<u8> = labels.flat_map(|l| l.to_le_bytes()).collect();
        let request = TrainHeads {
            model,
            heads,
            data: put(self, teller, &set.encode()?)?,
            labels: put(self, teller, &labels)?,
            preprocessing: away.session.preprocessing.clone(),
            hyper: away.hyper.clone(),
        };
        drop((set, labels));
        let request = JobRequest::TrainHeads(Box::new(request));
        let (result, client, id) = self.job_at(teller, on, index, &request, &mut tell)?;
        let JobResult::Trained(trained) = result else {
            return Err(RunError::OtherAnswer);
        };
        if trained.heads != away.heads.len() {
            return Err(RunError::OtherAnswer);
        }
        let mut graphs = Vec::new();
        for (at, (_, head)) in away.heads.iter().enumerate() {
            let bytes = self.runtime.block_on(client.result(&id, at))?;
            let graph = import_bytes(&bytes, &head.point.after)?;
            graphs.push(graph);
        }
        Ok(graphs)
    }
}

/// What the target tells of its training, told on as that of one here.
fn tell(teller: &mut Teller, event: JobEvent) {
    match event {
        JobEvent::Progress(p) => teller.progress(p.done as usize, p.total as usize, &p.note),
        JobEvent::Epoch(Epoch {
            epoch,
            epochs,
            scores,
        }) => {
            let stage = teller.stage;
            teller.event(Event::Epoch {
                stage,
                epoch,
                epochs,
                scores,
            });
        }
        JobEvent::Queued { ahead } => teller.say(format!("waits behind {ahead} other jobs")),
        JobEvent::Log { text } => teller.say(text),
        JobEvent::Done(_) | JobEvent::Failed { .. } | JobEvent::Cancelled => {}
    }
}
