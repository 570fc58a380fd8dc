//! What a run refuses is refused by everything that leads to one, in the same words.

use image::RgbImage;
use pretty_assertions::assert_eq;
use rstest::rstest;
use std::path::Path;
use std::process::Command;

const ONNX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onnx");

/// What a command says of a session that it refuses.
fn refusal(folder: &Path, args: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder)
        .args(args)
        .arg("session.ron")
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{args:?}: {said}");
    // A bar may have been drawn before.
    let at = said.rfind("edgelesspart: ");
    let at = at.unwrap_or_else(|| panic!("{args:?}: {said}"));
    said[at..].to_owned()
}

/// Images of one colour, in `images` of ten classes and in `few` of three: of each class two to train and four
/// to test.
fn images(folder: &Path) {
    for (all, classes) in [("images", 10), ("few", 3)] {
        for (half, count) in [("train", 2), ("test", 4)] {
            for class in 0..classes {
                let to = folder.join(all).join(half).join(format!("c{class}"));
                std::fs::create_dir_all(&to).unwrap();
                for n in 0..count {
                    let picture = RgbImage::from_pixel(32, 32, image::Rgb([25 * class, 10 * n, 7]));
                    picture.save(to.join(format!("{n}.png"))).unwrap();
                }
            }
        }
    }
}

#[rstest]
#[case::open_size("Onnx(\"ONNX/dyn_hw.onnx\")", "", "", "leaves axis 2 open")]
#[case::two_inputs("Onnx(\"ONNX/two_inputs.onnx\")", "", "", "inputs")]
#[case::no_such_output(
    "OnnxWith(path: \"ONNX/early_exit_3out.onnx\", classifier: \"nowhere\")",
    "",
    "",
    "nowhere"
)]
#[case::no_file("Onnx(\"missing.onnx\")", "", "", "missing.onnx")]
#[case::layout("Demo", "", "preprocessing: (layout: Nhwc),", "layout")]
#[case::images_that_are_away("Demo", "nowhere", "", "nowhere")]
#[case::classes("Demo", "few", "", "the network has 10 classes, the data 3")]
#[case::a_class_without_output("Demo", "", "classes: [(\"c0\", 3)],", "no output is given")]
#[case::more_calibration_than_there_is("Demo", "", "calibration: FromTest(40),", "calibration")]
#[case::more_training_than_there_is("Demo", "", "train_samples: 30,", "train_samples")]
#[case::untrained(
    "Zoo(network: ResNet8, input: (3, 32, 32), classes: 10)",
    "",
    "exits: (training: Frozen(epochs: 1)),",
    "is untrained"
)]
#[case::a_rule_that_compares(
    "Demo",
    "",
    "split: Fastest, exits: (training: Joint(epochs: 1)),",
    "needs heads over a frozen network"
)]
#[case::a_recipe_for_no_exit(
    "Demo",
    "",
    "exits: (recipe: (heads: [(\"nowhere\", (learning_rate: 0.1))])),",
    "exits can stand after"
)]
#[case::a_head_that_fits_nowhere(
    "Demo",
    "",
    "exits: (classifier: Template(\"[GlobalAvgPool, Linear(3)]\")),",
    "classes"
)]
fn plan_and_its_kin_refuse_what_run_refuses_in_its_words(
    #[case] model: &str,
    #[case] data: &str,
    #[case] settings: &str,
    #[case] wanted: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    images(folder.path());
    let model = model.replace("ONNX", ONNX);
    let data = if data.is_empty() { "images" } else { data };
    let calibration = match settings.contains("calibration") {
        true => "",
        false => "calibration: FromTest(20),",
    };
    let session = format!(
        "Session(version: 1, model: {model}, data: ImageFolder(\"{data}\"), {calibration} {settings})"
    );
    std::fs::write(folder.path().join("session.ron"), session).unwrap();
    let run = refusal(folder.path(), &["run"]);
    assert!(run.contains(wanted), "{run}");
    for other in [
        &["plan"][..],
        &["run", "--dry-run"],
        &["explore"],
        &["sweep"],
    ] {
        assert_eq!(refusal(folder.path(), other), run, "{other:?}");
    }
}
