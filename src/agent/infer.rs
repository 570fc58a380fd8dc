/*!
One request for inference: a tensor or pixels in, the answers of a part and their durations out. What
doesn't leave the part goes on to the next tier, where the request names one.
*/

use super::body::{blocking, whole};
use super::error::{JobError, Refused};
use super::forward::{Forward, Offloaded, Payload, Terms};
use super::onward::Client;
use super::state::Agent;
use crate::data::{Preprocessing, jpeg};
use crate::engine::Cancel;
use crate::predict::HopRecord;
use crate::predict::policy::Decision;
use crate::protocol::message::{
    Asked, Behind, EARLIER_HEADER, FailureKind, INFER_HEADER, InferReply, InferRequest, Onward,
    Passed, Prepared, RefusalKind,
};
use crate::protocol::wire;
use crate::runtime::emulation;
use crate::runtime::runner::{ExitRules, PartAnswer, PartInfo, Runner, Workspace};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Samples in one request.
const SAMPLES: usize = 256;
/// Room for the head of a tensor, and for what U8 adds to each sample.
const OVERHEAD: usize = 64 + 8 * SAMPLES;

/// Answers a request to a part.
pub(super) async fn infer(
    State(agent): State<Arc<Agent>>,
    Path(address): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<InferReply>, Refused> {
    let request = header(&headers)?.ok_or_else(missing)?;
    let told = earlier(&headers)?;
    let runner = match agent.parts.get(&address) {
        Some(runner) => runner,
        None => {
            let (agent, address) = (agent.clone(), address.clone());
            blocking(move || agent.parts.prepare(&address, &agent.store)).await?
        }
    };
    let largest = runner.input_elements().saturating_mul(4 * SAMPLES) + OVERHEAD;
    let bytes = whole(body, agent.max_body.min(largest), &agent.budget).await?;
    let outstanding = agent.outstanding();
    let waiting = Instant::now();
    let turn = agent.engine.clone().acquire_owned().await;
    let turn = turn.map_err(Refused::internal)?;
    agent.metrics.waited("offload", waiting.elapsed());
    let (client, _presence) = Client::arrives();
    let reply = blocking(move || {
        let _outstanding = outstanding;
        let mut ran = run(&runner, &request, &told, &bytes, agent.slowdown)?;
        // Another sample may be computed here while this one is on its way, with what it takes.
        drop((turn, bytes));
        let sent = ran.work.tensor().len() * ran.work.onward().len().min(1);
        let _charge = agent.budget.take(size_of::<f32>() * sent)?;
        if ran.work.onward().is_empty() {
            let answers = ran.work.verdicts.iter().filter_map(|v| v.latest);
            ran.reply.answers = answers.collect();
            if request.onward.is_some() {
                let none = Passed::default();
                ran.reply.passed = vec![none; ran.reply.answers.len()];
            }
        } else {
            let asked = Asking {
                request: &request,
                client: &client,
                came: waiting,
            };
            send_on(&agent, &address, &runner, &asked, &mut ran)?;
        }
        let left = ran.reply.answers.iter().map(|a| a.exit);
        let exits = runner.info().exits as u16;
        left.filter(|exit| *exit <= exits)
            .for_each(|exit| agent.metrics.exit(exit));
        runner.recycle(ran.work);
        Ok(counted(&agent, ran.reply))
    });
    Ok(Json(reply.await?))
}

/// Passes a sample on as it came: this tier runs nothing of the plan.
pub(super) async fn relay(
    State(agent): State<Arc<Agent>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<InferReply>, Refused> {
    let request = header(&headers)?.ok_or_else(missing)?;
    let told = earlier(&headers)?;
    let bytes = whole(body, agent.max_body, &agent.budget).await?;
    let outstanding = agent.outstanding();
    let came = Instant::now();
    let (client, _presence) = Client::arrives();
    let reply = blocking(move || {
        let _outstanding = outstanding;
        let key = format!("relay {}", key(&request)?);
        let terms = || relay_terms(&request);
        let mut way = agent.ways.open(&agent, &key, &client, terms)?;
        let forward = &mut way.forward;
        let body = Payload::Body(bytes.into_bytes());
        let cancel = forward.cancel().clone();
        let stretch = |start| emulation::stretch(start, agent.slowdown, &cancel);
        let sent = forward.look().and_then(|()| {
            let sent = forward.infer(&body, &told, came.elapsed(), &stretch);
            sent.map_err(|failure| failure.error)
        });
        let mut notes = forward.take_notes();
        agent.ways.put(key, way, &client);
        let offloaded = sent.map_err(refused)?;
        let answer = offloaded.answered.answer;
        notes.extend(offloaded.answered.notes.iter().cloned());
        let reply = InferReply {
            answers: vec![answer],
            decode_ms: 0.0,
            compute_ms: 0.0,
            outstanding: 0,
            passed: vec![passed(offloaded)],
            notes,
        };
        Ok(counted(&agent, reply))
    });
    Ok(Json(reply.await?))
}

/// Makes a part ready, and with it the parts behind that the header names.
pub(super) async fn prepare(
    State(agent): State<Arc<Agent>>,
    Path(address): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Prepared>, Refused> {
    let request = header(&headers)?;
    let (client, _presence) = Client::arrives();
    blocking(move || {
        let runner = agent.parts.prepare(&address, &agent.store)?;
        let part = runner.info().clone();
        let Some(request) = request.filter(|r| r.onward.is_some() && !part.ends_network) else {
            return Ok(Json(Prepared { part, behind: None }));
        };
        let key = format!("{address} {}", key(&request)?);
        let terms = || part_terms(&runner, &request);
        let way = agent.ways.open(&agent, &key, &client, terms)?;
        let behind = Some(behind(&way.forward));
        agent.ways.put(key, way, &client);
        Ok(Json(Prepared { part, behind }))
    })
    .await
}

/// Makes the way ready on which samples are passed on as they come.
pub(super) async fn prepare_relay(
    State(agent): State<Arc<Agent>>,
    headers: HeaderMap,
) -> Result<Json<Prepared>, Refused> {
    let request = header(&headers)?.ok_or_else(missing)?;
    let (client, _presence) = Client::arrives();
    blocking(move || {
        let key = format!("relay {}", key(&request)?);
        let terms = || relay_terms(&request);
        let way = agent.ways.open(&agent, &key, &client, terms)?;
        let part = PartInfo {
            network: String::new(),
            segments: 0,
            exits: 0,
            classes: 0,
            input: way.forward.takes().to_vec(),
            ends_network: false,
        };
        let behind = Some(behind(&way.forward));
        agent.ways.put(key, way, &client);
        Ok(Json(Prepared { part, behind }))
    })
    .await
}

/// What a request says in its header, if it has one.
fn header(headers: &HeaderMap) -> Result<Option<InferRequest>, Refused> {
    let Some(request) = headers.get(INFER_HEADER) else {
        return Ok(None);
    };
    let request = serde_json::from_slice(request.as_bytes());
    request
        .map(Some)
        .map_err(|e| Refused::bad(format!("the header {INFER_HEADER}: {e}")))
}

/// What the exits before said of each sample, one after the other.
fn earlier(headers: &HeaderMap) -> Result<Vec<Decision>, Refused> {
    let Some(told) = headers.get(EARLIER_HEADER) else {
        return Ok(Vec::new());
    };
    let told: Result<Vec<Vec<Decision>>, _> = serde_json::from_slice(told.as_bytes());
    let told = told.map_err(|e| Refused::bad(format!("the header {EARLIER_HEADER}: {e}")))?;
    let mut each = told.windows(2);
    if told.len() > SAMPLES || !each.all(|two| two[0].len() == two[1].len()) {
        return Err(Refused::bad(format!(
            "the header {EARLIER_HEADER}: it has a list for each sample, {SAMPLES} at most, all of one length"
        )));
    }
    Ok(told.concat())
}

fn missing() -> Refused {
    Refused::bad(format!("the header {INFER_HEADER} is missing"))
}

/// What a way to the next tier is kept under: all that it was opened for.
fn key(request: &InferRequest) -> Result<String, Refused> {
    serde_json::to_string(request).map_err(Refused::internal)
}

fn counted(agent: &Agent, mut reply: InferReply) -> InferReply {
    let others = agent.outstanding.load(Ordering::Relaxed).saturating_sub(1);
    reply.outstanding = others;
    agent.requests.fetch_add(1, Ordering::Relaxed);
    reply
}

fn behind(way: &Forward) -> Behind {
    Behind {
        exits: way.exits,
        emulated: way.emulated,
    }
}

/// How what leaves a part goes on.
fn part_terms(runner: &Runner, request: &InferRequest) -> Result<Terms, Refused> {
    let exits = runner.info().exits;
    let thresholds = request.thresholds.get(exits..).unwrap_or_default();
    let sends = runner.output_shape(1).split_off(1);
    Ok(Terms {
        confidence: request.confidence,
        thresholds: thresholds.to_vec(),
        onward: onward(request)?,
        pixels: None,
        jpeg: None,
        sends: Some(sends),
        can_answer: exits > 0,
    })
}

/// How what comes goes on, where nothing runs here.
fn relay_terms(request: &InferRequest) -> Result<Terms, Refused> {
    Ok(Terms {
        confidence: request.confidence,
        thresholds: request.thresholds.clone(),
        onward: onward(request)?,
        pixels: request.pixels.clone(),
        // It is coded already.
        jpeg: request.jpeg.then_some(0),
        sends: None,
        can_answer: false,
    })
}

fn onward(request: &InferRequest) -> Result<Onward, Refused> {
    let onward = request
        .onward
        .clone()
        .filter(|onward| !onward.hops.is_empty());
    onward.ok_or_else(|| {
        Refused::bad(
            "the part doesn't end the network, and nobody is behind it; send the cloud part",
        )
    })
}

/// Why nobody behind answers, for whoever asked here.
pub(super) fn refused(error: JobError) -> Refused {
    let kind = match &error {
        JobError::Failed {
            kind: FailureKind::Invalid,
            ..
        } => RefusalKind::Invalid,
        _ => RefusalKind::NextTier,
    };
    Refused::new(kind, error.to_string())
}

/// What became of a sample behind here.
fn passed(offloaded: Offloaded) -> Passed {
    let answered = offloaded.answered;
    let round_trip = emulation::ms(offloaded.round_trip);
    let mut hops = vec![HopRecord {
        encode_ms: offloaded.encode_ms,
        network_ms: (round_trip - answered.behind_ms()).max(0.0),
        bytes_sent: offloaded.bytes as u32,
    }];
    let mut tier_ms = vec![answered.tier_ms];
    let mut asked = offloaded.asked;
    hops.extend(answered.passed.hops);
    tier_ms.extend(answered.passed.tier_ms);
    asked.extend(answered.passed.asked.into_iter().map(|asked| Asked {
        hop: asked.hop + 1,
        ..asked
    }));
    Passed {
        tier_ms,
        hops,
        degraded: answered.passed.degraded,
        asked,
    }
}

/// A part that has run: what it left, and the reply so far.
struct Ran {
    work: Workspace,
    reply: InferReply,
}

/// A request, whose it is, and when it came.
struct Asking<'a> {
    request: &'a InferRequest,
    client: &'a Client,
    came: Instant,
}

/// Sends on what doesn't leave the part, sample by sample; where nobody behind answers, the part's last
/// exit may.
fn send_on(
    agent: &Agent,
    address: &str,
    runner: &Runner,
    asking: &Asking,
    ran: &mut Ran,
) -> Result<(), Refused> {
    let (request, client) = (asking.request, asking.client);
    let degrade = onward(request)?.degrade;
    let key = format!("{address} {}", key(request)?);
    let terms = || part_terms(runner, request);
    let mut way = agent.ways.open(agent, &key, client, terms)?;
    let forward = &mut way.forward;
    let cancel = forward.cancel().clone();
    let stretch = |start| emulation::stretch(start, agent.slowdown, &cancel);
    let looked = forward.look();
    let (work, reply) = (&ran.work, &mut ran.reply);
    let each = work.tensor().len() / work.onward().len().max(1);
    let mut rows = work.tensor().chunks_exact(each.max(1));
    let mut sent = looked.map_err(refused);
    for (sample, verdict) in work.verdicts.iter().enumerate() {
        if sent.is_err() {
            break;
        }
        if !work.onward().contains(&sample) {
            reply.answers.extend(verdict.latest);
            reply.passed.push(Passed::default());
            continue;
        }
        let fallback = verdict.latest.filter(|_| degrade);
        let tensor = rows.next().unwrap_or_default();
        if let Some(answer) = fallback.filter(|_| forward.closed()) {
            reply.answers.push(answer);
            reply.passed.push(Passed {
                degraded: true,
                ..Passed::default()
            });
            continue;
        }
        let (payload, said) = (Payload::Tensor(tensor), work.trail.of(sample));
        match forward.infer(&payload, said, asking.came.elapsed(), &stretch) {
            Ok(offloaded) => {
                let answer = offloaded.answered.answer;
                reply.answers.push(PartAnswer {
                    exit: answer.exit + runner.info().exits as u16,
                    ..answer
                });
                reply.notes.extend(offloaded.answered.notes.iter().cloned());
                reply.passed.push(passed(offloaded));
            }
            // A client that is gone needs no answer.
            Err(failure) => match fallback.filter(|_| failure.error != JobError::Cancelled) {
                Some(answer) => {
                    reply.notes.push(format!(
                        "{}; the last exit before the link answers for it",
                        failure.error
                    ));
                    reply.answers.push(answer);
                    reply.passed.push(Passed {
                        tier_ms: Vec::new(),
                        hops: vec![HopRecord {
                            encode_ms: failure.encode_ms,
                            network_ms: (emulation::ms(failure.took) - failure.encode_ms).max(0.0),
                            bytes_sent: failure.bytes as u32,
                        }],
                        degraded: true,
                        asked: failure.asked,
                    });
                }
                None => sent = Err(refused(failure.error)),
            },
        }
    }
    reply.notes.extend(forward.take_notes());
    agent.ways.put(key, way, client);
    sent
}

/// Decodes, runs, and tells the two durations.
fn run(
    runner: &Runner,
    request: &InferRequest,
    told: &[Decision],
    bytes: &[u8],
    slowdown: f64,
) -> Result<Ran, Refused> {
    // A client that goes away stops nothing here: a part's run is shorter than the notice of it.
    let cancel = Cancel::new();
    let start = Instant::now();
    let (samples, input) = match &request.pixels {
        Some(preprocessing) if request.jpeg => {
            let shape = image(runner, preprocessing)?;
            let pixels = jpeg::decode(shape, bytes).map_err(Refused::bad)?;
            preprocess(runner, preprocessing, &pixels)?
        }
        Some(preprocessing) => preprocess(runner, preprocessing, bytes)?,
        None => decode(runner, bytes)?,
    };
    let decode_ms = f64::from(emulation::ms(emulation::stretch(start, slowdown, &cancel)));
    let own = ExitRules {
        earlier: told,
        ..runner.rules()
    };
    let rules = if request.thresholds.is_empty() {
        own
    } else {
        // Those behind the part's own are for the parts behind it.
        let here = match &request.onward {
            Some(_) => request.thresholds.get(..runner.info().exits),
            None => None,
        };
        ExitRules {
            confidence: request.confidence,
            thresholds: here.unwrap_or(&request.thresholds),
            ..own
        }
    };
    let mut work = runner.work();
    runner.run(samples, &input, &rules, &mut work, &cancel)?;
    if !work.onward().is_empty() {
        onward(request)?;
    }
    let reply = InferReply {
        answers: Vec::new(),
        decode_ms,
        compute_ms: f64::from(work.compute_ms()),
        outstanding: 0,
        passed: Vec::new(),
        notes: Vec::new(),
    };
    Ok(Ran { work, reply })
}

fn decode(runner: &Runner, bytes: &[u8]) -> Result<(usize, Vec<f32>), Refused> {
    let most = runner.input_elements().saturating_mul(SAMPLES);
    let (shape, data) = wire::decode(bytes, most).map_err(Refused::bad)?;
    let takes = &runner.info().input;
    match shape.split_first() {
        Some((&samples, sample)) if sample == takes.as_slice() && samples > 0 => {
            Ok((samples, data))
        }
        _ => Err(Refused::bad(format!(
            "the part takes [samples, {takes:?}], this is {shape:?}; is it the part behind this split?"
        ))),
    }
}

/// Extents `[c, h, w]` of the image that a part takes.
fn image(runner: &Runner, preprocessing: &Preprocessing) -> Result<[usize; 3], Refused> {
    runner.image(preprocessing.layout).ok_or_else(|| {
        let takes = &runner.info().input;
        Refused::bad(format!("the part takes {takes:?}, which is no image"))
    })
}

fn preprocess(
    runner: &Runner,
    preprocessing: &Preprocessing,
    pixels: &[u8],
) -> Result<(usize, Vec<f32>), Refused> {
    let shape = image(runner, preprocessing)?;
    let size: usize = shape.iter().product();
    if size == 0
        || pixels.is_empty()
        || !pixels.len().is_multiple_of(size)
        || pixels.len() / size > SAMPLES
    {
        return Err(Refused::bad(format!(
            "{} bytes are not 1 to {SAMPLES} images of {shape:?}",
            pixels.len()
        )));
    }
    let mut input = vec![0.0; pixels.len()];
    for (pixels, input) in pixels.chunks_exact(size).zip(input.chunks_exact_mut(size)) {
        let done = preprocessing.apply(shape, pixels, input);
        done.map_err(Refused::bad)?;
    }
    Ok((pixels.len() / size, input))
}
