//! `edgelesspart exits` as a script uses it.

use pretty_assertions::assert_eq;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn exits(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .arg("exits")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that doesn't read its input may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_source_that_fails_is_told_with_a_caret_and_exit_code_1() {
    let source = "[\n    GlobalAvgPool,\n    Linaer(classes),\n]\n";
    let output = exits(&["check", "-"], source);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let told = "-:3:5: there is no layer `Linaer`\n3 |     Linaer(classes),\n  |     ^^^^^^\n  \
                = did you mean `Linear`?\n";
    assert!(text.contains(told), "{text}");
    assert!(text.contains("at all 9 exit points"), "{text}");
    let output = exits(&["check", "-", "--json"], source);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    assert_eq!(found["points"].as_array().unwrap().len(), 9);
    assert_eq!(found["points"][8]["errors"][0]["line"], 3);
}

#[test]
fn a_source_that_fits_some_points_names_the_others() {
    let source = "[MaxPool2d(16), Flatten, Linear(classes)]";
    let output = exits(&["check", "-"], source);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("error after `layer3.0.conv2`, `layer3.1.conv2`"),
        "{text}"
    );
    assert!(text.contains("after conv1: "), "{text}");
}

#[test]
fn check_passes_what_builds_and_warns_of_what_is_too_heavy() {
    let output = exits(
        &["check", "-"],
        "[Conv2d(96), GlobalAvgPool, Linear(classes)]",
    );
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.starts_with("warning "), "{text}");
    assert!(text.contains("of the whole network before it"), "{text}");
    let output = exits(&["check"], "");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let (heads, costs): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|l| l.starts_with("after "));
    assert_eq!((heads.len(), costs.len()), (9, 9), "{text}");
    let timed = |l: &&str| l.contains(" ms on this machine (measured), ");
    assert!(costs.iter().all(timed), "{text}");
}

#[test]
fn render_tells_shapes_line_by_line_at_one_point() {
    let output = exits(&["render", "linear-probe", "--at", "layer2.0.conv2"], "");
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("after layer2.0.conv2 (exit point 5 of 9): 250 parameters, 240 MACs"),
        "{text}"
    );
    let columns = |i: usize| lines[i].split_whitespace().collect::<Vec<_>>();
    assert_eq!(columns(1), ["input", "24×16×16", "params", "MACs"]);
    assert_eq!(columns(2), ["GlobalAvgPool", "24", "0", "0"]);
    assert_eq!(columns(3), ["Linear(10)", "10", "250", "240"]);
}

#[test]
fn a_layer_without_exits_is_refused_with_its_reason() {
    let output = exits(&["render", "--at", "layer1.0.conv1"], "");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("no exit may stand behind `layer1.0.conv1`: "),
        "{text}"
    );
    let output = exits(&["render", "--at", "layer1.0.conv3"], "");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no layer named `layer1.0.conv3`"), "{text}");
}

#[test]
fn a_head_is_written_as_onnx_and_comes_back_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.onnx");
    let at = ["--at", "layer2.0.conv2"];
    let onnx = ["render", "gap-mlp", "--onnx", path.to_str().unwrap()];
    assert!(exits(&[&onnx[..], &at[..]].concat(), "").status.success());
    let source = folder.path().join("own.ron.j2");
    std::fs::write(&source, "[Onnx(\"head.onnx\")]").unwrap();
    let check = ["check", source.to_str().unwrap()];
    let output = exits(&[&check[..], &at[..]].concat(), "");
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    let params = 24 * 48 + 48 + 48 * 10 + 10;
    assert!(text.contains(&format!("{params} parameters")), "{text}");
    let output = exits(&["render", "gap-mlp", "--onnx", path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(2), "--onnx without --at");
}

#[test]
fn own_templates_are_included_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("mine.ron.j2"),
        "{% macro wide(n) %}Linear({{ n }}), Relu{% endmacro %}",
    )
    .unwrap();
    let source = "{% from \"mine\" import wide %}[GlobalAvgPool, {{ wide(5) }}, Linear(classes)]";
    let args = [
        "render",
        "-",
        "--templates",
        folder.path().to_str().unwrap(),
        "--json",
    ];
    let rows = json(&exits(&args, source));
    assert!(rows[0]["rendered"].as_str().unwrap().contains("Linear(5)"));
    assert_eq!(rows[0]["layers"][1]["output"], serde_json::json!([5]));
}

#[test]
fn pytorch_source_and_templates_are_printed() {
    let output = exits(&["render", "se", "--at", "conv1", "--pytorch"], "");
    assert!(stdout(&output).contains("class Head(nn.Sequential):"));
    let listed = stdout(&exits(&["templates"], ""));
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert_eq!(names.len(), 10, "{listed}");
    for name in names {
        assert!(!exits(&["templates", name], "").stdout.is_empty(), "{name}");
    }
    assert_eq!(exits(&["templates", "nothing"], "").status.code(), Some(2));
    let reference = stdout(&exits(&["templates", "--reference"], ""));
    assert_eq!(reference, include_str!("../../assets/exits/reference.md"));
}

/// A folder in which commands run as a user runs them.
struct Here {
    folder: tempfile::TempDir,
}

impl Here {
    /// With a network, a head as an ONNX file, a source that takes it in for the first exit, and a
    /// session of them all.
    fn with_a_head_from_a_file() -> Here {
        let folder = tempfile::tempdir().unwrap();
        let here = Here { folder };
        here.succeeds(&["export", "resnet8", "net.onnx", "--width", "0.5"]);
        let at = ["--model", "net.onnx", "--at", "conv1"];
        let render = ["exits", "render", "gap-mlp", "--onnx", "first.onnx"];
        here.succeeds(&[&render[..], &at[..]].concat());
        here.write(
            "own.ron.j2",
            "{% from \"mine\" import last %}\n[{% if index == 0 %}Onnx(\"first.onnx\"){% else %}\
             GlobalAvgPool, {{ last() }}{% endif %}]",
        );
        here.write(
            "mine.j2",
            "{% macro last() %}Linear({{ classes }}){% endmacro %}",
        );
        here.write(
            "small.ron",
            "Session(
                version: 1,
                model: Onnx(\"net.onnx\"),
                data: Synthetic(seed: 3),
                calibration: FromTrain(60),
                train_samples: 200,
                test_samples: 60,
                edge: [Local(cores: [0], slowdown: 2.0)],
                cloud: [Local(cores: [0])],
                exits: (
                    at: [\"conv1\"], classifier: File(\"own.ron.j2\"), training: Frozen(epochs: 4),
                    recipe: (patience: 2, distill: (temperature: 2)),
                ),
            )",
        );
        here
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A command that must succeed.
    fn succeeds(&self, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
            .current_dir(self.folder.path())
            .args(args)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {told}");
        output
    }
}

/// A run of a small session whose first exit is a network from a file, and what is known of its heads
/// from then on.
#[test]
fn a_network_from_a_file_runs_as_a_head_and_its_cost_is_known_afterwards() {
    let here = Here::with_a_head_from_a_file();
    let report = json(&here.succeeds(&["run", "small.ron", "--json"]));
    assert_eq!(report["equality"]["differing"], 0);
    let notes = report.to_string();
    assert!(
        notes.contains("stopped early on the calibration images"),
        "{notes}"
    );
    // The session that the run wrote lies elsewhere and still finds the source and what it names.
    let session = "runs/small/session.ron";
    trained_heads_are_measured(&here, session);
    other_heads_are_predicted(&here, session);
    heads_are_written_again(&here, session);
}

fn trained_heads_are_measured(here: &Here, session: &str) {
    let rows = json(&here.succeeds(&["exits", "render", "--session", session, "--json"]));
    let rows = rows.as_array().unwrap();
    let first = &rows[0]["cost"];
    assert!(first["here_ms"]["median"].as_f64().unwrap() > 0.0);
    let targets = first["targets"].as_array().unwrap();
    let kinds: Vec<_> = targets
        .iter()
        .map(|t| {
            (
                t["part"].as_str().unwrap(),
                t["kind"].as_str().unwrap(),
                t["emulated"] == true,
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [("edge", "measured", true), ("cloud", "measured", false)]
    );
    assert_eq!(first["worth"]["in_plan"], true);
    assert!(first["worth"]["pays"].is_boolean());
    // Trained, but not in the plan.
    assert_eq!(rows[1]["cost"]["worth"]["in_plan"], false);
    let check = ["exits", "check", "--session", session, "--at", "conv1"];
    let text = stdout(&here.succeeds(&check));
    for word in [
        "on this machine (measured)",
        "edge",
        "(measured, emulated)",
        "predicted on calibration",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// Another source: its time is told from the layers', its worth only after training.
fn other_heads_are_predicted(here: &Here, session: &str) {
    let check = [
        "exits",
        "check",
        "conv-pool",
        "--session",
        session,
        "--json",
    ];
    let cost = &json(&here.succeeds(&check))["points"][0]["heads"][0]["cost"];
    assert_eq!(cost["targets"][0]["kind"], "predicted");
    assert!(cost["targets"][0]["ms"].as_f64().unwrap() > 0.0);
    assert!(cost["worth"].is_null());
}

/// As ONNX and as PyTorch source.
fn heads_are_written_again(here: &Here, session: &str) {
    let render = |form: &[&str]| {
        let at = ["--session", session, "--at", "conv1"];
        here.succeeds(&[&["exits", "render"], form, &at].concat())
    };
    render(&["--onnx", "again.onnx"]);
    assert!(here.folder.path().join("again.onnx").is_file());
    let pytorch = stdout(&render(&["--pytorch"]));
    assert!(pytorch.contains("class Onnx1(nn.Module):"), "{pytorch}");
}

#[test]
fn a_session_and_a_network_together_are_wrong_use() {
    let both = ["--session", "none.ron", "--model", "demo"];
    let output = exits(&[&["check", "replica"], &both[..]].concat(), "");
    assert_eq!(output.status.code(), Some(2));
}
