use super::*;
use pretty_assertions::assert_eq;
use rstest::rstest;

fn read(text: &str) -> Result<Vec<Tensor>, V2Error> {
    let (request, rest): (InferRequest, _) = json(text.as_bytes(), None)?;
    tensors(request.inputs, rest, 1000)
}

fn input(rest: &str) -> String {
    format!(r#"{{"inputs": [{{"name": "x", "datatype": "FP32", {rest}}}]}}"#)
}

#[test]
fn nested_and_flat_data_are_the_same() {
    let nested = read(&input(r#""shape": [2, 2], "data": [[1, 2.5], [-3, 4e0]]"#)).unwrap();
    let flat = read(&input(r#""shape": [2, 2], "data": [1, 2.5, -3, 4]"#)).unwrap();
    assert_eq!(nested, flat);
    assert_eq!(flat[0].values, [1.0, 2.5, -3.0, 4.0]);
}

#[test]
fn binary_comes_back() {
    let mut bytes = Vec::new();
    let values = [1.0, -2.5, f32::MAX];
    let heads = vec![
        head("a", &[3], Datatype::F32, &values, Some(&mut bytes)),
        head("b", &[1], Datatype::F32, &[7.0], None),
        head("c", &[2], Datatype::I32, &[4.0, -5.0], Some(&mut bytes)),
    ];
    let back = tensors(heads.clone(), &bytes, 10).unwrap();
    let all: Vec<&[f32]> = back.iter().map(|t| t.values.as_slice()).collect();
    assert_eq!(all, [&values[..], &[7.0], &[4.0, -5.0]]);
    assert!(tensors(heads.clone(), &bytes[..bytes.len() - 1], 10).is_err());
    bytes.push(0);
    let error = tensors(heads, &bytes, 10).unwrap_err().to_string();
    assert!(error.contains("behind the last"), "{error}");
}

#[test]
fn whole_numbers_of_64_bits_are_read() {
    let text = r#"{"outputs": [{"name": "exit", "datatype": "INT64", "shape": [2],
        "parameters": {"binary_data_size": 16}}]}"#;
    let answer = serde_json::from_str(text).unwrap();
    let bytes = [3_i64, -1].map(i64::to_le_bytes).concat();
    let read = wanted(&answer, &bytes, |name| name == EXIT, 10).unwrap();
    assert_eq!(read[0].values, [3.0, -1.0]);
    assert!(wanted(&answer, &bytes[..8], |_| true, 10).is_err());
}

#[rstest]
#[case(r#""shape": [2], "data": [1]"#, "1 numbers")]
#[case(r#""shape": [1099511627776, 4], "data": [1]"#, "more than the 1000")]
#[case(r#""shape": [4294967296, 4294967296, 2], "data": [1]"#, "more than")]
#[case(r#""shape": [-1], "data": [1]"#, "JSON")]
#[case(r#""shape": [1], "data": ["a"]"#, "numbers")]
#[case(r#""shape": [1], "data": [null]"#, "numbers")]
#[case(r#""shape": [1]"#, "neither")]
#[case(
    r#""shape": [1], "parameters": {"binary_data_size": 4}"#,
    "0 bytes of its 4"
)]
#[case(r#""shape": [1], "parameters": {"binary_data_size": 5}"#, "needs 4")]
#[case(
    r#""shape": [1], "parameters": {"shared_memory_region": "a"}"#,
    "shared memory"
)]
#[case(
    r#""shape": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], "data": [1]"#,
    "too many"
)]
fn what_is_wrong_is_told(#[case] text: &str, #[case] words: &str) {
    let error = read(&input(text)).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn deep_json_is_refused() {
    let deep = format!(
        r#""shape": [1], "data": {}1{}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    assert!(read(&input(&deep)).is_err());
    let deep = format!(r#""shape": [1], "data": [1], "y": {}"#, "[".repeat(50_000));
    assert!(read(&input(&deep)).is_err());
}

#[rstest]
#[case("-1")]
#[case("99999999999")]
#[case("99999999999999999999999999")]
#[case("x")]
#[case("")]
fn a_length_outside_the_body_is_refused(#[case] length: &str) {
    let read: Result<(InferRequest, _), _> = json(b"{\"inputs\": []}", Some(length));
    assert!(read.unwrap_err().to_string().contains("no length within"));
}
