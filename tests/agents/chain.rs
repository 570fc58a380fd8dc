//! Three agents in a row: each sends on what leaves its part, and what happens where one is gone.

use crate::network::Network;
use crate::serving::Agent;
use edgelesspart::engine::Cancel;
use edgelesspart::plan::{Link, Wire};
use edgelesspart::predict::{Combination, Confidence, Record};
use edgelesspart::protocol::message::{
    Evaluate, Evaluated, FailureKind, Hop, JobEvent, JobRequest, JobResult, Route,
};
use edgelesspart::protocol::{Client, ClientError};
use edgelesspart::runtime::runner::{ExecutionOptions, ExitRules, Runner};
use pretty_assertions::assert_eq;
use rstest::rstest;

const SAMPLES: usize = 30;

async fn client(agent: &Agent) -> Client {
    Client::connect(agent.url(), None).await.unwrap()
}

/// The network cut in three, and the agents that run its parts.
struct Chain {
    network: Network,
    agents: Vec<Agent>,
    first: Client,
    data: String,
}

impl Chain {
    async fn new() -> Chain {
        let network = Network::cut(SAMPLES, &[0.3, 0.6]);
        let agents: Vec<Agent> = (0..3).map(|_| Agent::start(&[])).collect();
        let first = client(&agents[0]).await;
        let data = first.put(network.data.encode().unwrap()).await.unwrap();
        Chain {
            network,
            agents,
            first,
            data,
        }
    }

    async fn hop(&self, agent: usize, bundle: Option<Vec<u8>>) -> Hop {
        let there = client(&self.agents[agent]).await;
        Hop {
            part: match bundle {
                Some(bundle) => Some(there.put(bundle).await.unwrap()),
                None => None,
            },
            targets: vec![self.agents[agent].target()],
            link: Link::Measured,
        }
    }

    /// From the first agent over the second to the third, each with its part.
    async fn route(&self) -> Route {
        let part = self.first.put(self.network.bundle(0)).await.unwrap();
        let second = self.hop(1, Some(self.network.bundle(1))).await;
        let third = self.hop(2, Some(self.network.bundle(2))).await;
        Route {
            part: Some(part),
            onward: vec![second, third],
        }
    }

    fn exits(&self) -> Vec<usize> {
        (0..3).map(|part| self.network.exits(part)).collect()
    }

    fn job(&self, route: Route, thresholds: Vec<f64>, degrade: bool) -> Evaluate {
        Evaluate {
            route,
            data: self.data.clone(),
            preprocessing: Default::default(),
            samples: (0..SAMPLES as u32).collect(),
            warm_up: 0,
            confidence: Confidence::MaxProbability,
            thresholds,
            last_exit_answers: false,
            wire: Wire::default(),
            jpeg: None,
            deadline_ms: None,
            degrade,
        }
    }

    async fn run(
        &self,
        job: Evaluate,
    ) -> (Result<Evaluated, ClientError>, Vec<Record>, Vec<String>) {
        let id = self
            .first
            .submit(&JobRequest::Evaluate(Box::new(job)))
            .await;
        let id = id.unwrap();
        let mut said = Vec::new();
        let end = self
            .first
            .follow(&id, &mut |event| {
                if let JobEvent::Log { text } = event {
                    said.push(text.clone());
                }
            })
            .await;
        let end = end.map(|end| match end {
            JobResult::Evaluated(evaluated) => evaluated,
            other => panic!("{other:?}"),
        });
        (end, self.first.all_records(&id).await.unwrap(), said)
    }

    /// What every exit says of each sample, one by one.
    fn classifiers(&self) -> Vec<Vec<(u16, f32)>> {
        let size: usize = crate::network::SHAPE.iter().product();
        let pixels = self.network.data.pixels.chunks_exact(size);
        let inputs = pixels.map(|pixels| {
            let mut input = vec![0.0; size];
            let plain = edgelesspart::data::Preprocessing::default();
            plain
                .apply(crate::network::SHAPE, pixels, &mut input)
                .unwrap();
            input
        });
        inputs
            .map(|input| self.network.classifiers(&input))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tier_lets_out_what_its_exits_are_sure_of_and_sends_on_the_rest() {
    let chain = Chain::new().await;
    let said = chain.classifiers();
    let exits = chain.exits();
    let count: usize = exits.iter().sum();
    // A quarter of the samples leaves at each exit they come to, so that samples leave everywhere.
    let threshold = |exit: usize| {
        let mut all: Vec<f32> = said.iter().map(|s| s[exit].1).collect();
        all.sort_by(f32::total_cmp);
        f64::from(all[all.len() * 3 / 4])
    };
    let thresholds: Vec<f64> = (0..count).map(threshold).collect();
    let mut job = chain.job(chain.route().await, thresholds.clone(), false);
    // What is thrown away counts in no tier's answers either.
    job.warm_up = 7;
    let (end, records, _) = chain.run(job).await;
    let end = end.unwrap();
    let mut tiers_used = [0; 3];
    for (record, said) in records.iter().zip(&said) {
        let leaves = |exit: &usize| f64::from(said[*exit].1) > thresholds[*exit];
        let exit = (0..count).find(leaves).unwrap_or(count);
        assert_eq!(usize::from(record.exit), exit, "{record:?}");
        assert_eq!(record.prediction, said[exit].0);
        assert!((record.confidence - said[exit].1).abs() < 1e-6);
        let tier = match exit {
            e if e < exits[0] => 0,
            e if e < exits[0] + exits[1] => 1,
            _ => 2,
        };
        tiers_used[tier] += 1;
        // One time per tier that worked, one link before each but the first.
        assert_eq!((record.tier_ms.len(), record.hops.len()), (tier + 1, tier));
        assert!(record.tier_ms.iter().all(|ms| *ms > 0.0), "{record:?}");
        assert!(record.hops.iter().all(|hop| hop.bytes_sent > 0));
        let hops: f32 = record.hops.iter().map(|h| h.encode_ms + h.network_ms).sum();
        let sum = hops + record.tier_ms.iter().sum::<f32>();
        assert!(sum <= record.latency_ms + 1e-2, "{record:?}");
        assert!(!record.degraded);
    }
    assert!(tiers_used.iter().all(|used| *used > 0), "{tiers_used:?}");
    let answered: Vec<u64> = end.clouds.iter().map(|c| c.answered).collect();
    assert_eq!(
        answered,
        [tiers_used[1] + tiers_used[2], tiers_used[2]].map(|n: u64| n)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_runs_nothing_passes_pixels_on() {
    let chain = Chain::new().await;
    let whole = chain.network.whole_bundle();
    let route = Route {
        part: None,
        onward: vec![chain.hop(1, None).await, chain.hop(2, Some(whole)).await],
    };
    let (end, records, _) = chain.run(chain.job(route, vec![], false)).await;
    end.unwrap();
    for (record, said) in records.iter().zip(chain.classifiers()) {
        let (prediction, confidence) = *said.last().unwrap();
        assert_eq!((record.exit, record.prediction), (0, prediction));
        assert!((record.confidence - confidence).abs() < 1e-6);
        assert_eq!(record.tier_ms.len(), 3);
        assert_eq!(record.tier_ms[..2], [0.0, 0.0]);
        assert_eq!(record.hops[0].bytes_sent, record.hops[1].bytes_sent);
    }
}

/// Which agent is gone, and whether an exit before it may answer.
#[rstest]
#[case(1, true)]
#[case(2, true)]
#[case(1, false)]
#[case(2, false)]
#[tokio::test(flavor = "multi_thread")]
async fn for_a_tier_that_is_gone_the_last_exit_before_it_answers_or_the_run_fails(
    #[case] gone: usize,
    #[case] degrade: bool,
) {
    let mut chain = Chain::new().await;
    let exits = chain.exits();
    let route = chain.route().await;
    chain.agents[gone].0.kill().unwrap();
    chain.agents[gone].0.wait().unwrap();
    // Nothing leaves by itself.
    let thresholds = vec![1.0; exits.iter().sum()];
    let (end, records, said) = chain.run(chain.job(route, thresholds, degrade)).await;
    let url = chain.agents[gone].url();
    if !degrade {
        let Err(ClientError::Job { kind, error, .. }) = end else {
            panic!("{end:?}");
        };
        assert_eq!(kind, FailureKind::CloudUnreachable);
        assert!(error.contains(url), "{error}");
        return;
    }
    end.unwrap();
    assert_eq!(records.len(), SAMPLES);
    let last = exits[..gone].iter().sum::<usize>() - 1;
    for (record, said) in records.iter().zip(chain.classifiers()) {
        assert!(record.degraded, "{record:?}");
        assert_eq!(usize::from(record.exit), last);
        assert_eq!(record.prediction, said[last].0);
        assert_eq!(record.tier_ms.len(), gone);
    }
    assert!(said.iter().any(|s| s.contains(url)), "{said:?}");
}

/// Parts whose exits look at what those before them said, on other agents too; the model of each reads the
/// log-odds of all and whether they agree.
fn looking_back(network: &mut Network, measure: Confidence) {
    let mut before: Vec<String> = Vec::new();
    for part in &mut network.parts {
        part.settings.confidence = measure;
        part.settings.exits_before = before.clone();
        let exits = part.segments.iter_mut().filter_map(|s| s.exit.as_mut());
        for exit in exits {
            let earlier = before.iter().flat_map(|_| [0.3, 0.0, 0.2]);
            let weights = [0.1, 0.5, 0.0].into_iter().chain(earlier).collect();
            exit.combination = (measure == Confidence::Learned).then_some(Combination { weights });
            before.push(exit.after.clone());
        }
    }
}

/// The confidence of an exit, written out, of what all exits up to it said: class and largest probability.
fn looked_back(measure: Confidence, said: &[(u16, f32)]) -> f32 {
    let Some(((class, own), before)) = said.split_last() else {
        return 0.0;
    };
    if measure == Confidence::Patience {
        let agree = before.iter().rev().take_while(|(c, _)| c == class).count() + 1;
        return agree as f32 / (agree + 1) as f32;
    }
    let log_odds = |p: f32| (f64::from(p) / (1.0 - f64::from(p))).ln();
    let of = |(c, p): &(u16, f32)| {
        let sign = if c == class { 1.0 } else { -1.0 };
        sign * (f64::from(0.3_f32) * log_odds(*p) + f64::from(0.2_f32))
    };
    let sum = f64::from(0.1_f32) + 0.5 * log_odds(*own) + before.iter().map(of).sum::<f64>();
    (1.0 / (1.0 + (-sum).exp())) as f32
}

#[rstest]
#[case::patience(Confidence::Patience)]
#[case::learned(Confidence::Learned)]
#[tokio::test(flavor = "multi_thread")]
async fn exits_look_back_over_every_link(#[case] measure: Confidence) {
    let mut chain = Chain::new().await;
    looking_back(&mut chain.network, measure);
    let said = chain.classifiers();
    let count: usize = chain.exits().iter().sum();
    let confidence = |sample: usize, exit: usize| looked_back(measure, &said[sample][..=exit]);
    // Of every exit the largest confidences leave; where exits are counted, of those behind the first tier what
    // agrees with the exit before it.
    let threshold = |exit: usize| {
        if measure == Confidence::Patience {
            return if exit < chain.exits()[0] { 0.9 } else { 0.6 };
        }
        let mut all: Vec<f32> = (0..SAMPLES)
            .map(|sample| confidence(sample, exit))
            .collect();
        all.sort_by(f32::total_cmp);
        // In the middle between two neighbours, so that no last digit decides.
        let at = all.partition_point(|c| *c < all[all.len() * 3 / 4]).max(1);
        f64::from(all[at - 1]).midpoint(f64::from(all[at]))
    };
    let thresholds: Vec<f64> = (0..count).map(threshold).collect();
    let mut job = chain.job(chain.route().await, thresholds.clone(), false);
    job.confidence = measure;
    let (end, records, _) = chain.run(job).await;
    end.unwrap();
    let mut left = vec![0; count + 1];
    for record in &records {
        let sample = record.sample as usize;
        let leaves = |exit: &usize| f64::from(confidence(sample, *exit)) > thresholds[*exit];
        let exit = (0..count).find(leaves).unwrap_or(count);
        assert_eq!(usize::from(record.exit), exit, "{record:?}");
        assert_eq!(record.prediction, said[sample][exit].0);
        if exit < count {
            assert!((record.confidence - confidence(sample, exit)).abs() < 1e-5);
        }
        left[exit] += 1;
    }
    // Behind both links somebody leaves for what was said before it.
    let behind: usize = left[chain.exits()[0]..count].iter().sum();
    assert!(behind > 0, "{left:?}");
}

#[rstest]
#[case::told_nothing(Confidence::Learned, Confidence::Learned, "what the exits before said")]
#[case::of_another_measure(
    Confidence::Margin,
    Confidence::Patience,
    "made for the measure Margin"
)]
fn a_part_that_should_look_back_and_cannot_says_so(
    #[case] made_for: Confidence,
    #[case] asked: Confidence,
    #[case] words: &str,
) {
    let mut network = Network::cut(1, &[0.3, 0.6]);
    looking_back(&mut network, made_for);
    let runner = Runner::new(network.parts[1].clone(), &ExecutionOptions::default()).unwrap();
    let rules = ExitRules {
        confidence: asked,
        ..runner.rules()
    };
    let input = vec![0.5; runner.input_elements()];
    let mut work = runner.work();
    let ran = runner.run(1, &input, &rules, &mut work, &Cancel::default());
    let error = ran.unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}
