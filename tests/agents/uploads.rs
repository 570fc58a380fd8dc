//! Files on their way to an agent: sent once, gone on with where a connection broke, refused where they
//! are not what they say, and a disk that is full.

use crate::network::Network;
use crate::serving::{Agent, Between, http};
use edgelesspart::plan::Wire;
use edgelesspart::predict::Confidence;
use edgelesspart::protocol::message::{Evaluate, JobRequest, Refusal, Route};
use edgelesspart::protocol::{Client, ClientError, TlsTrust};
use edgelesspart::runtime::parts::address;
use pretty_assertions::assert_eq;
use reqwest::{Response, StatusCode};
use std::time::Duration;

/// Bytes that nothing makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(byte).collect()
}

async fn send(agent: &Agent, address: &str, range: Option<&str>, body: Vec<u8>) -> Response {
    let path = agent.path(&format!("/v1/blobs/{address}"));
    let mut request = http(&TlsTrust::System).put(path).body(body);
    if let Some(range) = range {
        request = request.header("content-range", range);
    }
    request.send().await.unwrap()
}

async fn error(response: Response) -> (StatusCode, String) {
    let status = response.status();
    (status, response.json::<Refusal>().await.unwrap().error)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_off_goes_on_where_it_was() {
    let agent = Agent::start(&[]);
    let file = noise(5_000_000);
    // In the middle of the second piece, in that of the third, between two, and in a request's head.
    let cuts = [1_600_000, 1_300_000, 1_050_000, 40];
    let between = Between::start(&agent, &cuts).await;
    let client = Client::connect(&between.url, None).await.unwrap();
    let name = client.put(file.clone()).await.unwrap();
    assert_eq!(name, address(&file));
    assert!(client.has(&name).await.unwrap());
    let passed = between.passed();
    // What had come was not sent again, but for a piece that the agent was still busy taking in when
    // its connection broke.
    assert!(passed < file.len() + (2 << 20), "{passed} bytes");
    // And a second time nothing at all.
    client.put(file).await.unwrap();
    assert!(between.passed() < passed + 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_across_the_agent_s_own_end() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let mut agent = Agent::start(&data);
    let file = noise(3_000_000);
    let name = address(&file);
    let first = send(
        &agent,
        &name,
        Some("bytes 0-1999999/3000000"),
        file[..2_000_000].to_vec(),
    );
    assert_eq!(first.await.status(), StatusCode::ACCEPTED);
    agent.kill();
    let again = Agent::start(&data);
    let between = Between::start(&again, &[]).await;
    let client = Client::connect(&between.url, None).await.unwrap();
    assert_eq!(client.upload(&name).await.unwrap().received, 2_000_000);
    client.put(file).await.unwrap();
    assert!(between.passed() < 1_050_000, "{}", between.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_cut_short_files_are_refused_and_the_right_one_is_taken() {
    let agent = Agent::start(&["--max-body", "2000000"]);
    let file = noise(1_500_000);
    let name = address(&file);
    let mut wrong = file.clone();
    wrong[700_000] ^= 1;
    for (range, body, status, words) in [
        (
            None,
            wrong.clone(),
            StatusCode::BAD_REQUEST,
            "damaged on the way",
        ),
        (
            None,
            file[..1000].to_vec(),
            StatusCode::BAD_REQUEST,
            "damaged",
        ),
        (
            Some("bytes 0-99/1500000"),
            vec![0; 50],
            StatusCode::BAD_REQUEST,
            "50 bytes early",
        ),
        (
            Some("bytes 50-99/1500000"),
            vec![0; 60],
            StatusCode::BAD_REQUEST,
            "more bytes than",
        ),
        (
            Some("bytes 500-599/1500000"),
            vec![0; 100],
            StatusCode::CONFLICT,
            "go on from there",
        ),
        (
            Some("bytes 0-9/99999999999"),
            vec![0; 10],
            StatusCode::PAYLOAD_TOO_LARGE,
            "2000000",
        ),
        (
            Some("bytes 9-0/10"),
            vec![0; 10],
            StatusCode::BAD_REQUEST,
            "no piece",
        ),
        (
            Some("furlongs"),
            vec![0; 10],
            StatusCode::BAD_REQUEST,
            "no piece",
        ),
    ] {
        let (found, said) = error(send(&agent, &name, range, body).await).await;
        assert_eq!(found, status, "{range:?}: {said}");
        assert!(said.contains(words), "{range:?}: {said}");
    }
    let client = Client::connect(agent.url(), None).await.unwrap();
    assert_eq!(client.put(file).await.unwrap(), name);
}

/// The whole is refused, and sent once more from its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_changed_what_came_of_a_file_does_not_keep_it_from_arriving() {
    let folder = tempfile::tempdir().unwrap();
    let data = ["--data", folder.path().to_str().unwrap()];
    let mut agent = Agent::start(&data);
    let file = noise(1_500_000);
    let name = address(&file);
    let first = send(
        &agent,
        &name,
        Some("bytes 0-999/1500000"),
        file[..1000].to_vec(),
    );
    assert_eq!(first.await.status(), StatusCode::ACCEPTED);
    agent.kill();
    let partial = folder.path().join(format!("blobs/{name}.part"));
    let length = std::fs::metadata(&partial).unwrap().len() as usize;
    assert_eq!(length, 1000);
    std::fs::write(&partial, vec![9; length]).unwrap();
    let agent = Agent::start(&data);
    let client = Client::connect(agent.url(), None).await.unwrap();
    assert_eq!(client.put(file).await.unwrap(), name);
    assert!(client.has(&name).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_an_agent_takes_is_not_sent_and_an_empty_one_is() {
    let small = Agent::start(&["--max-body", "1000"]);
    let client = Client::connect(small.url(), None).await.unwrap();
    let error = client.put(vec![0; 1001]).await;
    assert!(matches!(error, Err(ClientError::TooLarge { .. })));
    client.put(Vec::new()).await.unwrap();
}

fn job(part: &str, data: &str, samples: u32, there: u32) -> JobRequest {
    JobRequest::Evaluate(Box::new(Evaluate {
        route: Route::alone(part.to_string()),
        data: data.to_string(),
        preprocessing: Default::default(),
        samples: (0..there).cycle().take(samples as usize).collect(),
        warm_up: 0,
        confidence: Confidence::MaxProbability,
        thresholds: vec![],
        last_exit_answers: false,
        wire: Wire::default(),
        jpeg: None,
        deadline_ms: None,
        degrade: false,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_survived() {
    let network = Network::new(20);
    let (part, data) = (network.whole_bundle(), network.data.encode().unwrap());
    let kilobytes = (part.len().max(data.len()) >> 10) + 16;
    let agent = Agent::with_little_disk(kilobytes, &[]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let large = noise((kilobytes << 10) + 100_000);
    let error = client.put(large.clone()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused { status: 507, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("free disk"), "{error}");
    // Nothing of it takes room from what fits.
    assert_eq!(client.upload(&address(&large)).await.unwrap().received, 0);
    let part = client.put(part).await.unwrap();
    let data = client.put(data).await.unwrap();
    let small = client.submit(&job(&part, &data, 100, 20)).await.unwrap();
    client.follow(&small, &mut |_| {}).await.unwrap();
    assert_eq!(client.all_records(&small).await.unwrap().len(), 100);
    // Records that don't fit end the job, and every one that is told of is whole.
    // A record of a part that runs alone takes 24 bytes, so these are half as much again as fits.
    let many = (kilobytes as u32) << 6;
    let long = client.submit(&job(&part, &data, many, 20)).await.unwrap();
    let end = client.follow(&long, &mut |_| {}).await.unwrap_err();
    assert!(
        end.to_string().contains("writing the job's records"),
        "{end}"
    );
    let records = client.all_records(&long).await.unwrap();
    assert!(!records.is_empty() && records.len() < many as usize);
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.sample, at as u32 % 20);
    }
    // It serves on.
    let again = client.submit(&job(&part, &data, 100, 20)).await.unwrap();
    client.follow(&again, &mut |_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_set_that_its_disk_changed_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(&["--data", folder.path().to_str().unwrap()]);
    let client = Client::connect(agent.url(), None).await.unwrap();
    let network = Network::new(20);
    let part = client.put(network.whole_bundle()).await.unwrap();
    let bytes = network.data.encode().unwrap();
    let data = client.put(bytes.clone()).await.unwrap();
    let file = folder.path().join("blobs").join(&data);
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(file, damaged).unwrap();
    let request = job(&part, &data, 20, 20);
    let id = client.submit(&request).await.unwrap();
    let end = client.follow(&id, &mut |_| {}).await.unwrap_err();
    assert!(end.to_string().contains("was damaged"), "{end}");
    // Sent again, it runs.
    client.put(bytes).await.unwrap();
    let id = client.submit(&request).await.unwrap();
    client.follow(&id, &mut |_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_slowly_is_waited_for() {
    let agent = Agent::start(&[]);
    let file = noise(2000);
    let pieces: Vec<Vec<u8>> = file.chunks(100).map(<[u8]>::to_vec).collect();
    let slow = futures_util::stream::unfold(pieces.into_iter(), |mut pieces| async {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let piece = pieces.next()?;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    let request = http(&TlsTrust::System).put(agent.path(&format!("/v1/blobs/{}", address(&file))));
    let body = reqwest::Body::wrap_stream(slow);
    let slow = tokio::spawn(request.body(body).send());
    // Others are served meanwhile.
    let client = Client::connect(agent.url(), None).await.unwrap();
    client.put(noise(300)).await.unwrap();
    assert!(!slow.is_finished());
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}
