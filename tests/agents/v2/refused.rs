//! What a server of the Open Inference Protocol refuses, in words; and that it serves on afterwards.

use super::{LENGTH, Served, input, served};
use flate2::write::GzEncoder;
use pretty_assertions::assert_eq;
use reqwest::StatusCode;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;

const BAD: StatusCode = StatusCode::BAD_REQUEST;
const LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;

/// A request: its headers beyond the usual, and its body.
struct Sent(Vec<(&'static str, String)>, Vec<u8>);

fn text(body: &str) -> Sent {
    Sent(vec![], body.as_bytes().to_vec())
}

fn document(value: &Value) -> Sent {
    Sent(vec![], serde_json::to_vec(value).unwrap())
}

/// A good request under this header.
fn under(header: &'static str, value: &str, served: &Served) -> Sent {
    let body = document(&served.request(&input(1))).1;
    Sent(vec![(header, value.to_string())], body)
}

/// A good request whose one input has something else.
fn with(served: &Served, field: &str, value: Value) -> Sent {
    let mut request = served.request(&input(1));
    request["inputs"][0][field] = value;
    document(&request)
}

/// A request in JSON that says how many bytes of its tensor follow, and these bytes.
fn binary(served: &Served, says: usize, follow: usize) -> Sent {
    let head = json!({"inputs": [{
        "name": served.names().0, "shape": [1, 3, 16, 16], "datatype": "FP32",
        "parameters": {"binary_data_size": says},
    }]});
    let head = document(&head).1;
    let length = head.len().to_string();
    Sent(vec![(LENGTH, length)], [head, vec![0; follow]].concat())
}

fn deep(served: &Served) -> Sent {
    let (name, depth) = (served.names().0, 200_000);
    let data = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    text(&format!(
        "{{\"inputs\": [{{\"name\": \"{name}\", \"shape\": [1], \"datatype\": \"FP32\", \"data\": {data}}}]}}"
    ))
}

fn two_inputs(served: &Served) -> Sent {
    let mut request = served.request(&input(1));
    let input = request["inputs"][0].clone();
    request["inputs"].as_array_mut().unwrap().push(input);
    document(&request)
}

fn no_sample(served: &Served) -> Sent {
    let mut request = served.request(&input(1));
    request["inputs"][0]["shape"] = json!([0, 3, 16, 16]);
    request["inputs"][0]["data"] = json!([]);
    document(&request)
}

fn unknown_output(served: &Served) -> Sent {
    let mut request = served.request(&input(1));
    request["outputs"] = json!([{"name": "x"}]);
    document(&request)
}

/// Few bytes that unpack to many.
fn bomb() -> Sent {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 64 << 20]).unwrap();
    let packed = gzip.finish().unwrap();
    Sent(vec![("content-encoding", "gzip".to_string())], packed)
}

#[rstest]
#[case::no_json(|_: &Served| text("{\"inputs\":"), BAD, "JSON")]
#[case::nothing(|_: &Served| text(""), BAD, "JSON")]
#[case::deep_json(deep, BAD, "recursion")]
#[case::no_inputs(|_: &Served| document(&json!({"inputs": []})), BAD, "one input")]
#[case::two_inputs(two_inputs, BAD, "one input")]
#[case::another_name(|s: &Served| with(s, "name", json!("other")), BAD, "no input is called")]
#[case::another_type(|s: &Served| with(s, "datatype", json!("FP64")), BAD, "FP32")]
#[case::an_unknown_type(|s: &Served| with(s, "datatype", json!("BF17")), BAD, "datatype")]
#[case::another_shape(|s: &Served| with(s, "shape", json!([1, 16, 16, 3])), BAD, "of the shape")]
#[case::no_sample(no_sample, BAD, "of the shape")]
#[case::a_negative_extent(|s: &Served| with(s, "shape", json!([-1, 3, 16, 16])), BAD, "JSON")]
#[case::an_overflowing_shape(|s: &Served| with(s, "shape", json!([1_u64 << 40, 4])), BAD, "more than the")]
#[case::one_that_overflows_to_a_small_product(
    |s: &Served| with(s, "shape", json!([1_u64 << 32, 1_u64 << 32, 768])),
    BAD,
    "more than the"
)]
#[case::too_few_numbers(|s: &Served| with(s, "data", json!([1, 2])), BAD, "2 numbers")]
#[case::words(|s: &Served| with(s, "data", json!(["a"])), BAD, "numbers")]
#[case::not_a_number(|s: &Served| with(s, "data", json!([null])), BAD, "numbers")]
#[case::an_unknown_output(unknown_output, BAD, "no output is called")]
#[case::shared_memory(
    |s: &Served| with(s, "parameters", json!({"shared_memory_region": "x"})),
    BAD,
    "shared memory"
)]
#[case::a_negative_length(|s: &Served| under(LENGTH, "-1", s), BAD, "no length within")]
#[case::a_length_beyond_the_body(|s: &Served| under(LENGTH, "99999999999", s), BAD, "no length within")]
#[case::a_length_beyond_every_number(
    |s: &Served| under(LENGTH, "99999999999999999999999", s),
    BAD,
    "no length within"
)]
#[case::a_length_of_a_word(|s: &Served| under(LENGTH, "ten", s), BAD, "no length within")]
#[case::a_length_inside_the_json(|s: &Served| under(LENGTH, "10", s), BAD, "JSON")]
#[case::a_short_body(|s: &Served| binary(s, 3072, 3071), BAD, "are there")]
#[case::a_long_body(|s: &Served| binary(s, 3072, 3073), BAD, "behind the last")]
#[case::another_size(|s: &Served| binary(s, 3000, 3000), BAD, "needs 3072")]
#[case::an_unknown_encoding(
    |s: &Served| under("content-encoding", "br", s),
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "br"
)]
#[case::no_gzip(|s: &Served| under("content-encoding", "gzip", s), BAD, "read to its end")]
#[case::a_bomb(|_: &Served| bomb(), LARGE, "4000000")]
#[case::over_the_limit(|_: &Served| Sent(vec![], vec![b' '; 5_000_000]), LARGE, "4000000")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_answered_with_words_and_it_serves_on(
    #[case] sent: fn(&Served) -> Sent,
    #[case] status: StatusCode,
    #[case] words: &str,
) {
    let served = served();
    let Sent(headers, body) = sent(&served);
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let response = served.post("/v2/models/whole/infer", &headers, body).await;
    let found = response.status();
    let refusal: Value = response.json().await.unwrap();
    let error = refusal["error"].as_str().unwrap_or_default();
    assert_eq!(found, status, "{error}");
    assert!(error.contains(words), "{error}");
    serves(&served).await;
    // What was refused is counted as that.
    let counts = metrics(&served).await;
    for status in [status.as_u16(), 200] {
        let wanted =
            format!("edgelesspart_requests_total{{kind=\"v2_infer\",status=\"{status}\"}} 1\n");
        assert!(counts.contains(&wanted), "{wanted}\n{counts}");
    }
}

/// Chunked, so that nothing announces how much it will be.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_cut_off() {
    let served = served();
    let chunk = |_| Ok::<_, std::io::Error>(vec![b' '; 100_000]);
    let chunks = futures_util::stream::iter((0..100).map(chunk));
    let url = served.agent.path("/v2/models/whole/infer");
    let body = reqwest::Body::wrap_stream(chunks);
    // The connection may be closed while the client still sends.
    if let Ok(response) = served.http.post(&url).body(body).send().await {
        assert_eq!(response.status(), LARGE);
    }
    serves(&served).await;
    let counts = metrics(&served).await;
    for wanted in [
        "edgelesspart_request_seconds_count{kind=\"v2_infer\"}",
        "edgelesspart_outstanding_requests 0\n",
        "edgelesspart_jobs{state=\"running\"} 0\n",
    ] {
        assert!(counts.contains(wanted), "{wanted}\n{counts}");
    }
}

/// A good request gets its answer.
async fn serves(served: &Served) {
    let answer = served.whole(&served.request(&input(1))).await;
    assert_eq!(answer["outputs"][0]["data"].as_array().unwrap().len(), 10);
}

/// What `/metrics` says.
async fn metrics(served: &Served) -> String {
    let url = served.agent.path("/metrics");
    let response = served.http.get(url).send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    response.text().await.unwrap()
}
