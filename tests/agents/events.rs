//! A job's events across everything a network does to a stream: no end is missed, none is taken for
//! lost that only has nothing to say.

use edgelesspart::protocol::message::{AgentInfo, Evaluated, JobEvent, JobResult, Progress};
use edgelesspart::protocol::{Client, ClientError};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a connection that follows a job is given, one after the other.
#[derive(Clone)]
enum Step {
    /// An event, by its number.
    Event(u64, JobEvent),
    /// A sign of life that is no event.
    Alive,
    Rest(u64),
    /// Says nothing more, and doesn't end either.
    Silence,
}

/// Somebody who speaks as an agent does, and follows a script in its streams; gives its address, and
/// what each connection said it had seen.
async fn agent(scripts: Vec<Vec<Step>>) -> (String, Arc<Mutex<Vec<Option<String>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let scripts = Arc::new(Mutex::new(VecDeque::from(scripts)));
    let seen = Arc::<Mutex<Vec<Option<String>>>>::default();
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, scripts.clone(), noted.clone()));
        }
    });
    (url, seen)
}

async fn serve(
    mut stream: TcpStream,
    scripts: Arc<Mutex<VecDeque<Vec<Step>>>>,
    seen: Arc<Mutex<Vec<Option<String>>>>,
) {
    let mut request = String::new();
    while !request.contains("\r\n\r\n") {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(n @ 1..) => request += &String::from_utf8_lossy(&bytes[..n]),
            _ => return,
        }
    }
    if !request.contains("/events") {
        let info = AgentInfo {
            version: "0".into(),
            device: "a script".into(),
            cores: vec![],
            engine: edgelesspart::backend::BackendId::Native,
            threads: 1,
            ghz: None,
            slowdown: 1.0,
            resident_bytes: 0,
            max_body: 1,
            requests: 0,
            telemetry: None,
            joules_per_inference: None,
        };
        let body = serde_json::to_string(&info).unwrap();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let id = request.lines().find_map(|l| {
        l.to_lowercase()
            .strip_prefix("last-event-id: ")
            .map(str::to_string)
    });
    seen.lock().unwrap().push(id);
    let Some(script) = scripts.lock().unwrap().pop_front() else {
        return;
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let mut said = stream.write_all(head.as_bytes()).await;
    for step in script {
        let text = match step {
            Step::Event(id, event) => {
                let data = serde_json::to_string(&event).unwrap();
                format!("event: event\nid: {id}\ndata: {data}\n\n")
            }
            Step::Alive => ":\n\n".to_string(),
            Step::Rest(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                continue;
            }
            Step::Silence => std::future::pending().await,
        };
        if said.is_ok() {
            said = stream.write_all(text.as_bytes()).await;
        }
    }
}

fn progress(id: u64, done: u64) -> Step {
    Step::Event(
        id,
        JobEvent::Progress(Progress {
            done,
            ..Progress::default()
        }),
    )
}

fn done(id: u64) -> Step {
    let found = JobResult::Evaluated(Evaluated::default());
    Step::Event(id, JobEvent::Done(Box::new(found)))
}

async fn follow(
    url: &str,
    silence: u64,
    patience: u64,
) -> (Result<JobResult, ClientError>, Vec<u64>) {
    let client = Client::connect(url, None).await.unwrap();
    let client = client
        .silence(Duration::from_millis(silence))
        .patience(Duration::from_millis(patience));
    let mut told = Vec::new();
    let end = client
        .follow("1", &mut |event| {
            if let JobEvent::Progress(p) = event {
                told.push(p.done);
            }
        })
        .await;
    (end, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_nothing_to_say_for_long_is_not_given_up() {
    // Far longer than silence and patience together, with nothing but signs of life.
    let mut script = vec![progress(1, 1)];
    for _ in 0..12 {
        script.extend([Step::Rest(100), Step::Alive]);
    }
    script.push(done(2));
    let (url, seen) = agent(vec![script]).await;
    let (end, told) = follow(&url, 400, 300).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!((told, seen.lock().unwrap().len()), (vec![1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_behind_a_broken_stream_is_fetched() {
    let (url, seen) = agent(vec![
        // It ends without the word that ends it,
        vec![progress(1, 1), progress(2, 2)],
        // then before anything at all,
        vec![],
        // then falls silent without ending,
        vec![progress(3, 3), Step::Silence],
        // and the job has been over for a while.
        vec![done(4)],
    ])
    .await;
    let (end, told) = follow(&url, 300, 20_000).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(told, [1, 2, 3]);
    let seen = seen.lock().unwrap().clone();
    let ids: Vec<Option<&str>> = seen.iter().map(Option::as_deref).collect();
    assert_eq!(ids, [None, Some("2"), Some("2"), Some("3")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_only_ever_hangs_up_is_given_up() {
    let (url, _) = agent(vec![]).await;
    let (end, _) = follow(&url, 300, 500).await;
    assert!(
        matches!(end, Err(ClientError::Unreachable { .. })),
        "{end:?}"
    );
}
