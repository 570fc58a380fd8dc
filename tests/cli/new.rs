//! From a network and labelled images to a session, and on to a report, in one command.

use flate2::read::GzDecoder;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");

fn edgelesspart(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgelesspart"))
        .current_dir(folder)
        .env_remove("EDGE_TOKEN")
        .env_remove("CLOUD_TOKEN")
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    // Sentences are wrapped; what they say isn't.
    let text = String::from_utf8_lossy(bytes);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_demo_gets_a_session_and_no_file_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let new = |more: &[&str]| {
        let args = ["new", "demo", "synthetic", "--images", "60"];
        edgelesspart(folder.path(), &[&args, more].concat())
    };
    let done = new(&[]);
    let said = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(said.contains("> 0 to 1 "), "{said}");
    assert!(said.contains("edgelesspart run demo.ron"), "{said}");
    let file = folder.path().join("demo.ron");
    let written = std::fs::read_to_string(&file).unwrap();
    let again = new(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("demo.ron: is there already"));
    std::fs::write(&file, "// mine").unwrap();
    assert!(new(&["--yes"]).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    let kept = folder.path().join("demo.ron.bak");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "// mine");
    let plan = edgelesspart(folder.path(), &["plan", "demo.ron", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan["split"]["kind"], "after");
}

#[rstest]
#[case::an_agent_that_is_away(
    &["new", "demo", "synthetic", "--edge", "http://127.0.0.1:1"], 1,
    "edge: the agent at http://127.0.0.1:1 doesn't answer"
)]
#[case::no_address(
    &["new", "demo", "synthetic", "--cloud", "jetson"], 2, "write an address as https://jetson:7070"
)]
#[case::no_images(&["new", "demo", "nowhere"], 2, "no such file or folder")]
#[case::no_network(&["new", "net.onnx", "synthetic"], 1, "net.onnx")]
#[case::more_images_than_there_are(
    &["new", "demo", "synthetic", "--images", "2000"], 1, "at most 1000 can be tried"
)]
#[case::questions_in_a_script(
    &["demo", "synthetic"], 2, "in a script write `edgelesspart new demo synthetic`"
)]
#[case::a_misspelt_command(&["expolre"], 2, "did you mean `explore`?")]
fn what_can_not_be_done_is_said_and_nothing_is_written(
    #[case] args: &[&str],
    #[case] code: i32,
    #[case] wanted: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let done = edgelesspart(folder.path(), args);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert!(said.contains(wanted), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A network that guesses, and one whose session says nothing of preprocessing, are told of.
#[test]
fn a_network_that_guesses_is_told_of_and_so_is_a_session_without_preprocessing() {
    let folder = tempfile::tempdir().unwrap();
    let export = ["export", "resnet8", "net.onnx", "--width", "0.5"];
    assert!(edgelesspart(folder.path(), &export).status.success());
    let new = ["new", "net.onnx", "synthetic", "--images", "100"];
    let done = edgelesspart(folder.path(), &new);
    assert!(text(&done.stdout).contains("much better than guessing"));
    let session = "Session(version: 1, model: Onnx(\"net.onnx\"), data: Synthetic(seed: 3))";
    std::fs::write(folder.path().join("bare.ron"), session).unwrap();
    for (file, wanted) in [("bare.ron", true), ("net.ron", false)] {
        let plan = edgelesspart(folder.path(), &["plan", file]);
        let said = text(&plan.stdout);
        assert_eq!(
            said.contains("the session sets no `preprocessing`"),
            wanted,
            "{said}"
        );
    }
}

/// `train/` and `test/` with the first images of each class of CIFAR-10; each class in the folder that
/// `name` gives it. Nothing where the archives are absent.
fn photographs(train: usize, test: usize, name: impl Fn(&str) -> String) -> Option<TempDir> {
    let folder = tempfile::tempdir().unwrap();
    for (half, most) in [("train", train), ("test", test)] {
        let archive = File::open(format!("{SHARED}/data/cifar10-jpeg-{half}.tar.gz")).ok()?;
        let mut archive = tar::Archive::new(GzDecoder::new(archive));
        let mut counts: HashMap<String, usize> = HashMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().into_owned();
            let parts: Vec<&str> = path.iter().filter_map(|p| p.to_str()).collect();
            let &[_, class, file] = parts.as_slice() else {
                continue;
            };
            let count = counts.entry(class.to_string()).or_default();
            if *count == most || !file.ends_with(".jpg") {
                continue;
            }
            *count += 1;
            let to = folder.path().join("images").join(half).join(name(class));
            std::fs::create_dir_all(&to).unwrap();
            entry.unpack(to.join(file)).unwrap();
        }
    }
    Some(folder)
}

#[test]
fn a_trained_network_and_photographs_lead_to_a_report_in_one_command() {
    let model = format!("{SHARED}/models/cifar10/resnet20_cifar10.onnx");
    let Some(folder) = photographs(8, 40, str::to_owned).filter(|_| Path::new(&model).exists())
    else {
        eprintln!("skipped: shared/models/cifar10 or shared/data is not beside the checkout");
        return;
    };
    let args = ["new", &model, "images", "--out", "my.ron", "--run"];
    let done = edgelesspart(folder.path(), &args);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let out = folder.path().join("runs/my");
    let report = std::fs::read_to_string(out.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    // ONNX Runtime has 81.5 % on all 10,000 with ImageNet's means and deviations, and far less with
    // pixels from 0 to 1.
    let unmodified = report["unmodified_accuracy"].as_f64().unwrap();
    assert!((0.72..0.9).contains(&unmodified), "{unmodified}");
    let session = std::fs::read_to_string(folder.path().join("my.ron")).unwrap();
    assert!(session.contains("calibration: FromTest(200)"), "{session}");
}

#[test]
fn classes_in_another_order_are_found() {
    let model = format!("{SHARED}/models/cifar10/resnet20_cifar10.onnx");
    // Each class is called like the one that comes three later.
    let names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ];
    let later = |class: &str| {
        let at = names.iter().position(|n| *n == class).unwrap();
        names[(at + 3) % 10].to_string()
    };
    let Some(folder) = photographs(1, 40, later).filter(|_| Path::new(&model).exists()) else {
        eprintln!("skipped: shared/models/cifar10 or shared/data is not beside the checkout");
        return;
    };
    let done = edgelesspart(folder.path(), &["new", &model, "images", "--out", "my.ron"]);
    let said = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(said.contains("likely in another order"), "{said}");
    let session = std::fs::read_to_string(folder.path().join("my.ron")).unwrap();
    let wanted: Vec<String> = (0..10)
        .map(|at| format!("(\"{}\", {})", names[at], (at + 7) % 10))
        .collect();
    assert!(
        session.contains(&format!("classes: [{}]", wanted.join(", "))),
        "{session}"
    );
}

/// A JPEG of 32 by 32 pixels becomes a PNG with a frame around it, whose middle 7/8 is what it was.
fn framed(path: &Path) {
    use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};
    let bytes = std::fs::read(path).unwrap();
    let mut decoder = Decoder::new_with_limits(&bytes, DecodeLimits::default()).unwrap();
    decoder.set_output_format(PixelFormat::Rgb);
    let decoded = decoder.decode_image().unwrap().into_vec();
    let picture = image::RgbImage::from_fn(48, 36, |x, y| {
        let inside = (8..40).contains(&x) && (2..34).contains(&y);
        let at = if inside {
            3 * ((y - 2) * 32 + x - 8) as usize
        } else {
            0
        };
        image::Rgb(if inside {
            [decoded[at], decoded[at + 1], decoded[at + 2]]
        } else {
            [200, 30, 90]
        })
    });
    picture.save(path.with_extension("png")).unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_middle_of_larger_pictures_is_found() {
    let model = format!("{SHARED}/models/cifar10/resnet20_cifar10.onnx");
    let folder = photographs(1, 40, str::to_owned).filter(|_| Path::new(&model).exists());
    let Some(folder) = folder else {
        eprintln!("skipped: shared/models/cifar10 or shared/data is not beside the checkout");
        return;
    };
    for half in ["train", "test"] {
        for class in std::fs::read_dir(folder.path().join("images").join(half)).unwrap() {
            for file in std::fs::read_dir(class.unwrap().path()).unwrap() {
                framed(&file.unwrap().path());
            }
        }
    }
    let done = edgelesspart(folder.path(), &["new", &model, "images", "--out", "my.ron"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let session = std::fs::read_to_string(folder.path().join("my.ron")).unwrap();
    let line = session
        .lines()
        .find(|l| l.contains("preprocessing: ("))
        .unwrap();
    // Of torchvision's kind, on the part of the pictures that is the photograph.
    assert!(line.contains("fit: CentreCrop(keep: 0.875)"), "{session}");
    assert!(
        line.contains("mean: [0.4") || line.contains("mean: [0.5071"),
        "{session}"
    );
    assert!(!line.contains("Bgr"), "{session}");
}

/// Three of the network's ten classes in few images: said, with what fits, and a session all the same.
#[rstest]
#[case::to_test_alone(1, 3, "images are too few to tell which output")]
#[case::more_to_train(
    40,
    3,
    "tried on 119 of the training images, because only 4 of the test images"
)]
fn few_images_lead_to_a_session_that_says_so(
    #[case] train: usize,
    #[case] test: usize,
    #[case] wanted: &str,
) {
    let model = format!("{SHARED}/models/cifar10/resnet20_cifar10.onnx");
    let folder = photographs(train, test, str::to_owned).filter(|_| Path::new(&model).exists());
    let Some(folder) = folder else {
        eprintln!("skipped: shared/models/cifar10 or shared/data is not beside the checkout");
        return;
    };
    for half in ["train", "test"] {
        for class in std::fs::read_dir(folder.path().join("images").join(half)).unwrap() {
            let class = class.unwrap();
            let name = class.file_name();
            if !["cat", "ship", "truck"].iter().any(|kept| name == *kept) {
                std::fs::remove_dir_all(class.path()).unwrap();
            }
        }
    }
    let done = edgelesspart(folder.path(), &["new", &model, "images", "--out", "my.ron"]);
    let said = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(said.contains(wanted), "{said}");
    assert!(said.contains("only 4 images to tune thresholds"), "{said}");
    let plan = edgelesspart(folder.path(), &["plan", "my.ron"]);
    assert!(plan.status.success(), "{}", text(&plan.stderr));
}

/// The exits that a file has as further outputs are proposed, and run as they are.
#[test]
fn exits_of_the_networks_own_file_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/onnx/early_exit_3out.onnx"
    );
    let done = edgelesspart(
        folder.path(),
        &[
            "new",
            model,
            "synthetic",
            "--images",
            "60",
            "--out",
            "my.ron",
        ],
    );
    let said = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(
        said.contains("2 trained exits along (exit0, exit1)"),
        "{said}"
    );
    let session = std::fs::read_to_string(folder.path().join("my.ron")).unwrap();
    assert!(session.contains("classifier: OwnExits"), "{session}");
    let few = ["--set", "train_samples=20", "--set", "test_samples=60"];
    let done = edgelesspart(folder.path(), &[&["run", "my.ron"][..], &few].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let kept = std::fs::read_to_string(folder.path().join("runs/my/report.json")).unwrap();
    let report: Value = serde_json::from_str(&kept).unwrap();
    let exits = report["plan"]["exits"].as_array().unwrap().len();
    assert_eq!(exits, 2, "{}", report["plan"]);
}
