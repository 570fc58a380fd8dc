/*! The last tier's part on a server of the Open Inference Protocol, whichever it is. */

use super::Terms;
use super::request::Request;
use crate::agent::error::JobError;
use crate::agent::offload::{Offload, OffloadError, Reply};
use crate::engine::Cancel;
use crate::plan::{Element, Link};
use crate::predict::Confidence;
use crate::predict::policy::{Output, decide};
use crate::protocol::message::{CloudTarget, V2Model};
use crate::protocol::v2::{
    BINARY, CONFIDENCE, Datatype, EXIT, HEADER_LENGTH, InferRequest, ModelMetadata, PLATFORM,
    Parameters, head, json, wanted,
};
use crate::runtime::runner::PartAnswer;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use std::time::Duration;

/// Elements of an answer.
const LARGEST: usize = 1 << 20;

/// A model on such a server.
pub(super) struct V2 {
    offload: Offload,
    model: V2Model,
    path: String,
    input: String,
    /// The output that is read; the first where the server doesn't name any.
    output: Option<String>,
    /// Extents of a sample where the server tells them, −1 for any.
    shape: Option<Vec<i64>>,
    /// Whether it says at which exit a sample left, as an agent does, and what `export parts` writes for other
    /// servers.
    tells_exit: bool,
    /// Exits of the cloud part, which number the final classifier.
    exits: u16,
    /// Whether the server takes tensors in binary.
    binary: bool,
    confidence: Confidence,
    number: u64,
}

fn is_float(datatype: Datatype) -> bool {
    matches!(datatype, Datatype::F32 | Datatype::F64 | Datatype::F16)
}

/// Whether a model says at which exit a sample left: one of an agent, or one that has both outputs for it.
fn tells_exit(about: &ModelMetadata) -> bool {
    let whole = |d: Datatype| matches!(d, Datatype::I32 | Datatype::I64);
    let mut outputs = about.outputs.iter();
    let exit = outputs.any(|o| o.name == EXIT && whole(o.datatype));
    let mut outputs = about.outputs.iter();
    let sure = outputs.any(|o| o.name == CONFIDENCE && is_float(o.datatype));
    about.platform == PLATFORM || (exit && sure)
}

impl V2 {
    /// Asks for the model's inputs and outputs.
    pub(super) fn open(
        cloud: &CloudTarget,
        model: &V2Model,
        link: Link,
        terms: &Terms,
        cancel: &Cancel,
    ) -> Result<V2, JobError> {
        let offload = Offload::new(cloud, link, cancel)?;
        if terms.onward.wire.tensor != Element::F32 {
            let url = offload.url();
            let what = format!("{url} speaks the Open Inference Protocol, so set `wire` to F32");
            return Err(JobError::invalid(what));
        }
        if terms.confidence.looks_back() && !terms.thresholds.is_empty() {
            let (url, measure) = (offload.url(), terms.confidence);
            return Err(JobError::invalid(format!(
                "{url} speaks the Open Inference Protocol, which has no place for what the exits before said, and \
                 by {measure:?} the exits there look at it: set `policy.confidence` to another measure, or \
                 place no exits behind the last split"
            )));
        }
        let mut v2 = V2 {
            offload,
            model: model.clone(),
            // Some servers refuse a version that is their own; without one all take their newest.
            path: format!("/v2/models/{}", model.name),
            input: "input".to_string(),
            output: None,
            shape: None,
            tells_exit: false,
            exits: terms.thresholds.len() as u16,
            binary: true,
            confidence: terms.confidence,
            number: 0,
        };
        let path = v2.path.clone();
        let about: ModelMetadata = v2.offload.ask(Method::GET, &path)?;
        match about.inputs.as_slice() {
            // Some name none.
            [] => {}
            [one] if one.datatype == Datatype::F32 => {
                v2.input = one.name.clone();
                v2.shape = one.shape.get(1..).map(<[i64]>::to_vec);
            }
            [one] => {
                let what = format!("takes {:?} for `{}`, not FP32", one.datatype, one.name);
                return Err(v2.wrong(&what));
            }
            more => return Err(v2.wrong(&format!("takes {} inputs, not one", more.len()))),
        }
        v2.tells_exit = tells_exit(&about);
        let mut outputs = about.outputs.iter();
        let scores = outputs.find(|o| is_float(o.datatype) && o.name != CONFIDENCE);
        v2.output = scores.map(|o| o.name.clone());
        v2.path.push_str("/infer");
        Ok(v2)
    }

    fn wrong(&self, what: &str) -> JobError {
        let (name, url) = (&self.model.name, self.offload.url());
        JobError::invalid(format!("the model {name} at {url} {what}"))
    }

    /// Whether a sample of these extents is what it takes; and which form of request it reads.
    pub(super) fn fits(&mut self, sample: &[usize]) -> Result<(), JobError> {
        let fits = self.shape.as_ref().is_none_or(|takes| {
            let same = |(&t, &s): (&i64, &usize)| t == -1 || usize::try_from(t) == Ok(s);
            takes.len() == sample.len() && takes.iter().zip(sample).all(same)
        });
        if !fits {
            let takes = self.shape.clone().unwrap_or_default();
            return Err(self.wrong(&format!(
                "takes {takes:?} per sample, the edge sends {sample:?}: they are not of one plan"
            )));
        }
        let shape: Vec<usize> = std::iter::once(1).chain(sample.iter().copied()).collect();
        let zeros = vec![0.0; shape.iter().product()];
        let request = self.request(&shape, &zeros)?;
        if let Err(error) = self.infer(&request, None) {
            if error == OffloadError::Cancelled {
                return Err(JobError::Cancelled);
            }
            // JSON is what every server must speak; what is wrong then is wrong indeed.
            self.binary = false;
            let request = self.request(&shape, &zeros)?;
            self.infer(&request, None)?;
        }
        Ok(())
    }

    /// A request for one sample.
    pub(super) fn request(&mut self, shape: &[usize], tensor: &[f32]) -> Result<Request, JobError> {
        self.number += 1;
        let mut bytes = Vec::new();
        let input = match self.binary {
            true => head(&self.input, shape, Datatype::F32, tensor, Some(&mut bytes)),
            false => head(&self.input, shape, Datatype::F32, tensor, None),
        };
        let request = InferRequest {
            // Some fail without one.
            id: Some(self.number.to_string()),
            parameters: self.binary.then(|| Parameters {
                binary_data_output: Some(true),
                ..Parameters::default()
            }),
            inputs: vec![input],
            outputs: None,
        };
        let mut body = serde_json::to_vec(&request).map_err(JobError::invalid)?;
        let mut headers = HeaderMap::with_capacity(5);
        if self.binary {
            headers.insert(HEADER_LENGTH, HeaderValue::from(body.len()));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(BINARY));
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        body.extend(bytes);
        let body = Bytes::from(body);
        Ok(Request { headers, body })
    }

    /// The answer; its exit counts from the part's start.
    pub(super) fn infer(
        &mut self,
        request: &Request,
        deadline: Option<Duration>,
    ) -> Result<PartAnswer, OffloadError> {
        let (headers, body) = (request.headers.clone(), request.body.clone());
        let (path, offload) = (&self.path, &mut self.offload);
        let reply = offload.answered(Method::POST, path, headers, body, deadline)?;
        self.answer(&reply).map_err(|what| OffloadError::Answer {
            url: self.offload.url().to_string(),
            what,
        })
    }

    fn answer(&self, reply: &Reply) -> Result<PartAnswer, String> {
        let length = reply.headers.get(HEADER_LENGTH);
        let length = length.map(|v| v.to_str().unwrap_or_default());
        let (response, rest) =
            json::<serde_json::Value>(&reply.body, length).map_err(|e| e.to_string())?;
        let reads = |name: &str| match &self.output {
            Some(output) => {
                name == output || (self.tells_exit && [EXIT, CONFIDENCE].contains(&name))
            }
            None => true,
        };
        let outputs = wanted(&response, rest, reads, LARGEST).map_err(|e| e.to_string())?;
        let scores = match &self.output {
            Some(name) => outputs.iter().find(|o| o.name == *name),
            None => outputs.first(),
        };
        let scores = scores.ok_or("the output isn't among those it answers with")?;
        let output = match self.model.probabilities {
            true => Output::Probabilities,
            false => Output::Logits,
        };
        let decision = decide(&scores.values, output, 1.0).map_err(|e| e.to_string())?;
        let mut answer = PartAnswer {
            exit: self.exits,
            prediction: decision.prediction,
            confidence: decision.confidence(self.confidence),
        };
        let told = |name: &str| {
            let told = outputs.iter().find(|o| o.name == name && self.tells_exit)?;
            told.values.first().copied()
        };
        if let Some(exit) = told(EXIT).filter(|&exit| exit < f32::from(self.exits)) {
            answer.exit = exit as u16;
        }
        // Of its scores only the server knows whether they are before a temperature, and it measures as the plan
        // does that the part was made for.
        if let Some(told) = told(CONFIDENCE) {
            answer.confidence = told;
        }
        Ok(answer)
    }

    /// Whether it is ready, within this time.
    pub(super) fn ready(&mut self, within: Duration) -> Result<(), OffloadError> {
        let path = format!("/v2/models/{}/ready", self.model.name);
        let offload = &mut self.offload;
        // The bodies differ from server to server.
        let ready = offload.exchange(Method::GET, &path, None, Bytes::new(), Some(within));
        ready.map(drop)
    }
}
