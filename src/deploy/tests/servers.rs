/*! Parts as other people's servers take them. `scripts/check-servers` serves them by those. */

use super::super::kserve::{Server, Service, service_name, services};
use super::super::serving::Serving;
use super::super::triton::{Files, repository};
use super::*;
use crate::plan::Tier;
use pretty_assertions::assert_eq;
use serde_json::Value;

fn text<'a>(files: &'a Files, name: &str) -> &'a str {
    let found = files.iter().find(|(path, _)| path == Path::new(name));
    let (_, bytes) = found.unwrap_or_else(|| panic!("{name} is not among the files"));
    std::str::from_utf8(bytes).unwrap()
}

fn names(files: &Files) -> Vec<String> {
    let mut names: Vec<String> = files.iter().map(|(p, _)| p.display().to_string()).collect();
    names.sort();
    names
}

fn serving() -> Serving {
    Serving {
        tier: Tier::Second,
        threads: 2,
        gpu: false,
        part_ms: Some(1.2),
        memory_mib: Some(256),
    }
}

/// Labels of which one would end its line.
fn labelled(part: &Part) -> Part {
    let mut part = part.clone();
    let labels = (0..part.classes).map(|class| format!("\"class\"\n{class}"));
    part.settings.labels = labels.collect();
    part
}

#[test]
fn a_part_in_triton_is_its_segments_and_what_stops_between_them() {
    let (_, parts) = made();
    let (files, manifest, without) = repository(&labelled(&parts[1]), "cloud", &serving()).unwrap();
    assert_eq!(without, None);
    assert_eq!(
        names(&files),
        [
            "cloud-progressive/1/model.onnx",
            "cloud-progressive/config.pbtxt",
            "cloud-progressive/labels.txt",
            "cloud-segment-0/1/model.onnx",
            "cloud-segment-0/config.pbtxt",
            "cloud-segment-1/1/model.onnx",
            "cloud-segment-1/config.pbtxt",
            "cloud/1/model.py",
            "cloud/config.pbtxt",
            "cloud/labels.txt",
        ]
    );
    let config = text(&files, "cloud/config.pbtxt");
    let temperature = manifest.segments[0].exit.as_ref().unwrap().temperature;
    let segment = format!(
        r#"{{\"model\":\"cloud-segment-0\",\"input\":\"c\",\"output\":\"d\",\"logits\":\"exit_0_logits\",\"temperature\":{:?}}}"#,
        f64::from(temperature)
    );
    for wanted in [
        "backend: \"python\"",
        // A quarter of 1.2 ms.
        "dynamic_batching {\n  max_queue_delay_microseconds: 300\n}",
        "max_batch_size: 32",
        "instance_group {\n  count: 2\n  kind: KIND_CPU\n}",
        "key: \"threshold_0\"\n  value {\n    string_value: \"0.5\"",
        "label_filename: \"labels.txt\"",
        &segment,
    ] {
        assert!(config.contains(wanted), "{wanted} isn't in\n{config}");
    }
    let labels: Vec<&str> = text(&files, "cloud/labels.txt").lines().collect();
    assert_eq!(labels.len(), parts[1].classes);
    assert_eq!(labels[1], "\"class\" 1");
    let segment = text(&files, "cloud-segment-0/config.pbtxt");
    assert!(segment.contains("key: \"intra_op_thread_count\"\n  value {\n    string_value: \"2\""));
    assert!(segment.contains("dynamic_batching {}"), "{segment}");
}

#[test]
fn a_part_that_sends_a_tensor_on_takes_one_sample_at_a_time() {
    let (_, parts) = made();
    let (files, manifest, _) = repository(&parts[0], "edge", &serving()).unwrap();
    let config = text(&files, "edge/config.pbtxt");
    let tensor = &manifest.output.tensor.name;
    let last = format!("output {{\n  name: \"{tensor}\"\n  data_type: TYPE_FP32\n  dims: -1\n");
    assert!(
        config.contains("max_batch_size: 0") && config.contains(&last),
        "{config}"
    );
    assert!(!config.contains("dynamic_batching"), "{config}");
}

#[rstest]
#[case::no_exit(false, Confidence::MaxProbability, "no exit")]
#[case::looks_back(true, Confidence::Patience, "exits before")]
fn what_cannot_stop_in_triton_is_one_model(
    #[case] exits: bool,
    #[case] confidence: Confidence,
    #[case] words: &str,
) {
    let (_, mut parts) = made();
    let part = &mut parts[1];
    part.settings.confidence = confidence;
    if !exits {
        part.segments.iter_mut().for_each(|s| s.exit = None);
    }
    let (files, _, without) = repository(part, "cloud", &serving()).unwrap();
    assert!(without.unwrap().contains(words), "{without:?}");
    assert_eq!(
        names(&files),
        [
            "cloud/1/model.onnx",
            "cloud/config.pbtxt",
            "cloud/labels.txt"
        ]
    );
    assert!(text(&files, "cloud/config.pbtxt").contains("max_queue_delay_microseconds: 300"));
}

#[test]
fn on_a_gpu_segments_run_there_and_what_runs_them_does_not() {
    let (_, parts) = made();
    let gpu = Serving {
        gpu: true,
        ..serving()
    };
    let (files, ..) = repository(&parts[1], "cloud", &gpu).unwrap();
    let of = |name: &str| text(&files, name).contains("KIND_GPU");
    let models = ["cloud", "cloud-segment-0", "cloud-progressive"];
    let found = models.map(|model| of(&format!("{model}/config.pbtxt")));
    assert_eq!(found, [false, true, true]);
}

/// What doesn't fit a schema: the excerpts know types, fields, and fields that must be there.
fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if let Some(wanted) = schema["type"].as_str().filter(|wanted| *wanted != kind) {
        return vec![format!("{path} is of the type {kind}, not {wanted}")];
    }
    let mut found = Vec::new();
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(misfits(
            &schema["items"],
            item,
            &format!("{path}[{number}]"),
        ));
    }
    for (key, one) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        let known = match schema.get("properties") {
            Some(properties) => properties.get(key),
            None => schema.get("additionalProperties"),
        };
        match known {
            Some(schema) => found.extend(misfits(schema, one, &path)),
            None => found.push(format!("{path} is no field")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten();
    for key in required.filter_map(Value::as_str) {
        if value.get(key).is_none() {
            found.push(format!("{path}.{key} is missing"));
        }
    }
    found
}

fn schema(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schemas/{name}.json"));
    let excerpt: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    excerpt["schema"].clone()
}

#[test]
fn a_misfit_is_found() {
    let json = |text| serde_json::from_str::<Value>(text).unwrap();
    let manifest = json(
        r#"{"metadata": {"name": 1}, "spec": {"predictor": {"minReplica": 0, "containers": [{"env": [{}]}]}}}"#,
    );
    let mut found = misfits(&schema("kserve"), &manifest, "");
    found.sort();
    assert_eq!(
        found,
        [
            ".metadata.name is of the type integer, not string",
            ".spec.predictor.containers[0].env[0].name is missing",
            ".spec.predictor.containers[0].name is missing",
            ".spec.predictor.minReplica is no field",
        ]
    );
}

#[rstest]
#[case::cpu(serving())]
#[case::gpu(Serving { gpu: true, ..serving() })]
#[case::unknown(Serving::unknown(Tier::Second))]
fn manifests_fit_the_published_schemas(#[case] serving: Serving) {
    let places = Places::default();
    for server in [Server::Agent, Server::Triton] {
        let service = Service::new(server, "My_Cloud", "0123", &serving, &places);
        for (file, head, manifest) in service.manifests() {
            let name = file.strip_suffix(".yaml").unwrap();
            let found = misfits(&schema(name), &manifest, "");
            assert!(found.is_empty(), "{file}: {found:?}");
            assert!(
                head.contains(&format!("apply -f {file}")) || head.contains("replace cloud-run")
            );
            assert_eq!(head.contains("guess"), serving.memory_mib.is_none());
        }
    }
}

#[test]
fn a_service_scales_to_none_and_asks_for_its_token() {
    let (_, parts) = made();
    let places = Places {
        images: "example.com/a".to_string(),
        models: "gs://b/c".to_string(),
    };
    let (files, ..) = services(&parts[1], "My_Cloud", &serving(), &places).unwrap();
    let version = crate::runtime::parts::address(&parts[1].bundle().unwrap())[..12].to_string();
    let wanted = |name: &str, all: &[&str]| {
        let text = text(&files, name);
        for wanted in all {
            let wanted = wanted.replace("VERSION", &version);
            assert!(text.contains(&wanted), "{name}: {wanted} isn't in\n{text}");
        }
    };
    let token = "secretKeyRef:\n              key: ";
    let probes = ["path: /v2/health/ready", "path: /v2/health/live"];
    wanted("agent/knative.yaml", &probes);
    wanted(
        "agent/knative.yaml",
        &[
            "autoscaling.knative.dev/min-scale: \"0\"",
            "containerConcurrency: 2",
            "image: example.com/a/my-cloud-agent:VERSION",
            "cpu: \"2\"",
            "memory: 256Mi",
            &format!("{token}token"),
            "runAsNonRoot: true",
        ],
    );
    wanted("agent/cloud-run.yaml", &probes);
    wanted(
        "agent/cloud-run.yaml",
        // The least that Cloud Run gives.
        &[
            "autoscaling.knative.dev/minScale: \"0\"",
            "memory: 512Mi",
            &format!("{token}latest"),
        ],
    );
    wanted(
        "agent/kserve.yaml",
        &["minReplicas: 0", "name: my-cloud-agent"],
    );
    wanted(
        "triton/kserve.yaml",
        &[
            "storageUri: gs://b/c/my-cloud-VERSION",
            "minReplicas: 0",
            "memory: 768Mi",
        ],
    );
    wanted(
        "agent/Containerfile",
        &["USER 65532:65532", "My_Cloud=/parts/My_Cloud.tar"],
    );
    wanted(
        "triton/Containerfile",
        &["COPY models /models", "USER 1000:1000"],
    );
    wanted(
        "triton/models/My_Cloud/config.pbtxt",
        &["name: \"My_Cloud\""],
    );
}

#[rstest]
#[case("cloud", "cloud")]
#[case("My_Cloud-", "my-cloud")]
#[case("-2_b", "tier-2-b")]
fn a_service_is_called_as_kubernetes_takes_it(#[case] tier: &str, #[case] name: &str) {
    assert_eq!(service_name(tier), name);
}

#[test]
fn a_cluster_serves_what_is_behind_the_first_tier() {
    let (_, parts) = made();
    let folder = tempfile::tempdir().unwrap();
    let (servings, places) = ([serving()], Places::default());
    let form = Form::Kserve(&servings, &places);
    let refused = export(&parts[..1], form, &folder.path().join("a")).unwrap_err();
    assert!(matches!(refused, DeployError::NothingBehind), "{refused}");
    assert_eq!(files(folder.path()), [""; 0]);
    let written = export(&parts, form, &folder.path().join("a")).unwrap();
    assert_eq!(files(&folder.path().join("a")), ["cloud"]);
    assert_eq!(
        written[0].address,
        crate::runtime::parts::address(&parts[1].bundle().unwrap())
    );
    let bytes = std::fs::read(folder.path().join("a/cloud/agent/cloud.tar")).unwrap();
    assert_eq!(bytes, parts[1].bundle().unwrap());
    for file in &written[0].files {
        let bytes = std::fs::read(folder.path().join("a").join(&file.name)).unwrap();
        assert_eq!(crate::runtime::parts::address(&bytes), file.sha256);
    }
}
