/*! Parts cut from a network, their bundles, and what is refused. */

use super::manifest::*;
use super::parts::*;
use crate::backend::Compiled;
use crate::data::Preprocessing;
use crate::engine::{Cancel, Engine, Options};
use crate::exits;
use crate::model::layers::LayerTable;
use crate::model::{Activation, Builder, Graph, Shape, fuse};
use crate::plan::{Compression, Element, Tier, TierHead, Wire};
use crate::plan::{ExitRule, Placement, Split, plan_at};
use crate::predict::Confidence;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;

fn network() -> Graph {
    let weights = |n: usize| {
        (0..n)
            .map(|i| ((i * 37 % 23) as f32 - 11.0) / 40.0)
            .collect()
    };
    let mut b = Builder::new("small");
    let x = b.input("x", Shape::batched(&[3, 8, 8]));
    let relu = Activation::RELU;
    let a = b.conv_with("a", x, weights(8 * 27), 8, 3, 1, 1, relu);
    let c = b.conv_with("c", a, weights(8 * 72), 8, 3, 1, 1, relu);
    let d = b.conv_with("d", c, weights(8 * 72), 8, 3, 1, 1, relu);
    let e = b.conv_with("e", d, weights(4 * 512), 4, 8, 1, 0, Activation::NONE);
    let to = vec![crate::model::Dim::Batch(1), crate::model::Dim::Fixed(4)];
    let op = crate::model::Op::Reshape { to };
    let y = b.node("y", op, &[e], Shape::batched(&[4]), 0);
    b.output(y);
    fuse(&b.finish())
}

/// A small network of four layers, cut behind its second into two parts with an exit each.
pub(crate) fn made() -> (Graph, Vec<Part>) {
    let graph = network();
    let table = LayerTable::new(&graph).unwrap();
    let points = exits::points(&table, &graph);
    let rule = ExitRule {
        placement: Placement::Linear,
        per_part: 1,
        at_split: false,
        threshold: 0.5,
        thresholds: vec![],
    };
    let split = table.find("c").unwrap();
    let plan = plan_at(&table, &points, vec![Split::After(split)], &rule);
    assert_eq!(plan.exits.len(), 2, "{plan:?}");
    let heads: Vec<TierHead> = points
        .iter()
        .map(|p| TierHead {
            tier: Tier::First,
            head: exits::head("[GlobalAvgPool, Linear(classes)]", p, "edge", 1).unwrap(),
            temperature: 1.5,
        })
        .collect();
    let settings = PartSettings {
        confidence: Confidence::Margin,
        exits_before: vec![],
        preprocessing: Some(Preprocessing::default()),
        wire: Wire {
            tensor: Element::U8,
            compression: Compression::Lz4,
        },
        labels: ["ant", "bee", "cat", "dog"].map(String::from).to_vec(),
    };
    let made = parts(&graph, &table, &plan, &heads, &settings).unwrap();
    (graph, made)
}

fn edge() -> PartFiles {
    PartFiles::of(&made().1[0]).unwrap()
}

fn read(bytes: &[u8]) -> Result<Part, PartError> {
    Part::read(&mut &*bytes, bytes.len() as u64)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let engine = Engine::new(graph.clone(), &Options::default()).unwrap();
    engine.run_f32(1, &[x], &Cancel::new()).unwrap().remove(0)
}

#[test]
fn parts_compose_to_the_whole_bit_for_bit_through_bundles() {
    let (graph, parts) = made();
    let x: Vec<f32> = (0..192).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut at = x.clone();
    for part in &parts {
        let bytes = part.bundle().unwrap();
        assert_eq!(address(&bytes), address(&part.bundle().unwrap()));
        let back = read(&bytes).unwrap();
        assert_eq!(back.settings, part.settings);
        let pairs = back.segments.iter().zip(&part.segments);
        for (segment, sent) in pairs {
            at = run(&segment.graph, &at);
            if let (Some(exit), Some(before)) = (&segment.exit, &sent.exit) {
                assert_eq!(run(&exit.head, &at), run(&before.head, &at));
                assert_eq!((exit.temperature, exit.threshold), (1.5, 0.5));
            }
        }
    }
    assert_eq!(at, run(&graph, &x));
}

#[test]
fn each_part_keeps_what_concerns_it() {
    let (_, parts) = made();
    let of = |at: usize| PartFiles::of(&parts[at]).unwrap().manifest;
    let (edge, cloud) = (of(0), of(1));
    assert!(edge.preprocessing.is_some() && cloud.preprocessing.is_none());
    assert_eq!(edge.output.kind, OutputKind::Tensor);
    assert_eq!(cloud.output.kind, OutputKind::Logits);
    assert_eq!(cloud.output.wire, None);
    // 8×8×8 elements, and a scale and a zero point in F32.
    let wire = edge.output.wire.unwrap();
    assert_eq!((wire.elements, wire.bytes), (512, 520));
    assert_eq!(edge.output.tensor, cloud.input);
    assert_eq!(edge.labels, ["ant", "bee", "cat", "dog"]);
}

#[test]
fn other_thresholds_give_another_address_and_the_same_content() {
    let (_, mut parts) = made();
    let before = PartFiles::of(&parts[0]).unwrap();
    parts[0].segments[0].exit.as_mut().unwrap().threshold = 0.9;
    let other = PartFiles::of(&parts[0]).unwrap();
    assert_ne!(before.bundle().unwrap(), other.bundle().unwrap());
    assert_eq!(before.content(), other.content());
    parts[0].segments[0].exit.as_mut().unwrap().temperature = 2.0;
    assert_ne!(
        before.content(),
        PartFiles::of(&parts[0]).unwrap().content()
    );
}

#[test]
fn a_folder_and_an_archive_by_other_tools_read_the_same() {
    let files = edge();
    let part = read(&files.bundle().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write(MANIFEST, &files.manifest.to_json().unwrap());
    files
        .files
        .iter()
        .for_each(|(name, bytes)| write(name, bytes));
    assert_eq!(Part::open(folder.path()).unwrap(), part);
    assert_eq!(Part::open(&folder.path().join(MANIFEST)).unwrap(), part);
    // Its folder first, as `tar -C folder -cf part.tar .` has it; attributes as Python writes them.
    let mut entries = vec![
        entry("./", b'5', b""),
        entry("./x", b'x', b"25 mtime=1700000000.5123\n"),
    ];
    let json = files.manifest.to_json().unwrap();
    entries.push(entry("./manifest.json", b'0', &json));
    entries.extend(
        files
            .files
            .iter()
            .rev()
            .map(|(n, b)| entry(&format!("./{n}"), b'0', b)),
    );
    assert_eq!(read(&archive(&entries)).unwrap(), part);
    write("segment-0.onnx", b"");
    let error = Part::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("`segment-0.onnx`") && error.contains("0 bytes"),
        "{error}"
    );
}

/// An entry of an archive, whatever it is called and whatever it says of itself.
fn entry(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
    sized(name, kind, bytes, bytes.len() as u64)
}

fn sized(name: &str, kind: u8, bytes: &[u8], says: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(says);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.write_all(bytes).unwrap();
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

/// The manifest and the files, then others.
fn with(more: &[Vec<u8>]) -> Vec<u8> {
    let files = edge();
    let mut entries = vec![entry(MANIFEST, b'0', &files.manifest.to_json().unwrap())];
    entries.extend(files.files.iter().map(|(n, b)| entry(n, b'0', b)));
    entries.extend_from_slice(more);
    archive(&entries)
}

#[rstest]
#[case::out_of_the_folder(entry("../evil.onnx", b'0', b"x"), "`../evil.onnx`", "side by side")]
#[case::absolute(entry("/etc/passwd", b'0', b"x"), "`/etc/passwd`", "side by side")]
#[case::in_a_folder(entry("a/b.onnx", b'0', b"x"), "`a/b.onnx`", "side by side")]
#[case::hidden(entry(".bashrc", b'0', b"x"), "`.bashrc`", "side by side")]
#[case::a_link(entry("x.onnx", b'2', b""), "`x.onnx`", "a symbolic link")]
#[case::a_hard_link(entry("x.onnx", b'1', b""), "`x.onnx`", "a hard link")]
#[case::a_folder(entry("x/", b'5', b""), "`x/`", "a folder")]
#[case::a_device(entry("x", b'3', b""), "`x`", "a device")]
#[case::holes(entry("x.onnx", b'S', b""), "`x.onnx`", "a file with holes")]
#[case::a_long_name(
    entry("././@LongLink", b'L', b"x"),
    "@LongLink",
    "more than 100 letters"
)]
#[case::twice(entry("head-0.onnx", b'0', b"x"), "`head-0.onnx`", "there twice")]
#[case::a_stranger(entry("x.onnx", b'0', b"x"), "`x.onnx`", "doesn't name it")]
#[case::a_second_manifest(entry(MANIFEST, b'0', b"{}"), "manifest.json", "doesn't name it")]
#[case::longer_than_all(sized("x.onnx", b'0', b"x", 1 << 32), "`x.onnx`", "ends inside it")]
#[case::attributes(entry("x", b'x', b"13 size=9999\n"), "`x`", "sets `size`")]
#[case::long_attributes(sized("x", b'x', b"", 1 << 32), "`x`", "too long")]
fn hostile_entries_are_refused(#[case] hostile: Vec<u8>, #[case] file: &str, #[case] what: &str) {
    let error = refusal(&with(&[hostile]));
    assert!(error.contains(file) && error.contains(what), "{error}");
    assert!(error.contains("edgelesspart export parts"), "{error}");
}

#[test]
fn a_damaged_bundle_is_refused_wherever_it_was_hit() {
    let files = edge();
    let bytes = files.bundle().unwrap();
    let end = bytes.iter().rposition(|&b| b != 0).unwrap() + 1;
    for cut in [0, 7, 512, 600, end / 2, end - 1] {
        assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut flipped = bytes.clone();
    flipped[end - 1] ^= 1;
    let error = refusal(&flipped);
    assert!(
        error.contains("SHA-256") && error.contains(".onnx`"),
        "{error}"
    );
    let error = refusal(&[&bytes[..], b"more"].concat());
    assert!(error.contains("more behind the last file"), "{error}");
    let error = refusal(&archive(&[entry("segment-0.onnx", b'0', b"x")]));
    assert!(error.contains("must come first"), "{error}");
    assert!(refusal(&[0; 1024]).contains("no `manifest.json`"));
    let json = files.manifest.to_json().unwrap();
    let error = refusal(&archive(&[entry(MANIFEST, b'0', &json)]));
    assert!(
        error.contains("`segment-0.onnx`") && error.contains("not there"),
        "{error}"
    );
    let long = vec![b' '; (1 << 20) + 1];
    let error = refusal(&archive(&[entry(MANIFEST, b'0', &long)]));
    assert!(error.contains("too long for a manifest"), "{error}");
}

#[rstest]
#[case::old(b"ELPPART1\x20\0\0\0\0\0\0\0{}", "the form of release 0.1")]
#[case::gzip(b"\x1f\x8b\x08\0", "compressed by gzip")]
#[case::text(b"not a bundle", "damaged or no bundle")]
#[case::nothing(b"", "no `manifest.json`")]
fn what_is_no_bundle_is_called_so(#[case] bytes: &[u8], #[case] what: &str) {
    let error = refusal(bytes);
    assert!(
        error.contains(what) && error.contains("export parts"),
        "{error}"
    );
}

/// The bundle, its manifest's value at a pointer replaced.
fn forged(at: &str, value: Value) -> Vec<u8> {
    let files = edge();
    let mut manifest = serde_json::to_value(&files.manifest).unwrap();
    *manifest.pointer_mut(at).unwrap() = value;
    let json = serde_json::to_vec(&manifest).unwrap();
    let mut entries = vec![entry(MANIFEST, b'0', &json)];
    entries.extend(files.files.iter().map(|(n, b)| entry(n, b'0', b)));
    archive(&entries)
}

#[rstest]
#[case::newer("/version", json!(3), "`manifest.json` has version 3")]
#[case::other_format("/format", json!("mine"), "its format is `mine`")]
#[case::a_length("/files/0/bytes", json!(1_u64 << 52), "the manifest says 4503599627370496")]
#[case::a_hash("/files/0/sha256", json!("00"), "`segment-0.onnx` of the part: its SHA-256")]
#[case::a_path("/files/0/name", json!("../x"), "side by side")]
#[case::no_hash("/segments/0/file", json!("x.onnx"), "`x.onnx` of the part: it has no hash")]
#[case::one_for_two("/segments/0/exit/file", json!("segment-0.onnx"), "used twice")]
#[case::no_segment("/segments", json!([]), "no segment")]
#[case::labels("/labels", json!(["a"]), "1 labels for 4 classes")]
#[case::no_wire("/output/wire", json!(null), "a wire belongs to")]
#[case::other_input("/segments/0/input/name", json!("y"), "`segment-0.onnx` of the part: takes `x`")]
#[case::other_type("/input/dtype", json!("float16"), "float16")]
#[case::other_shape("/output/tensor/shape/1", json!(7), "N×7×8×8")]
#[case::threshold("/segments/0/exit/threshold", json!(1.5), "`head-0.onnx` of the part: threshold 1.5")]
#[case::temperature("/segments/0/exit/temperature", json!(0.0), "temperature 0 is out of range")]
#[case::classes("/classes", json!(3), "labels for 3 classes")]
#[case::a_stranger("/output", json!({"a": 1}), "unknown field")]
fn a_manifest_that_does_not_fit_is_refused(
    #[case] at: &str,
    #[case] value: Value,
    #[case] what: &str,
) {
    let error = refusal(&forged(at, value));
    assert!(
        error.contains(what) && error.contains("export parts"),
        "{error}"
    );
}

#[test]
fn a_length_within_a_file_is_not_believed() {
    // A graph, a tensor in it and its elements, each said to be longer than any memory.
    let mut onnx = Vec::new();
    for (key, bits) in [(0x3a, 50), (0x2a, 49), (0x4a, 48)] {
        onnx.push(key);
        prost::encoding::encode_varint(1 << bits, &mut onnx);
    }
    let files = edge();
    let mut manifest = files.manifest.clone();
    manifest.files[0].bytes = onnx.len() as u64;
    manifest.files[0].sha256 = address(&onnx);
    let mut entries = vec![entry(MANIFEST, b'0', &manifest.to_json().unwrap())];
    entries.push(entry("segment-0.onnx", b'0', &onnx));
    entries.extend(files.files[1..].iter().map(|(n, b)| entry(n, b'0', b)));
    let error = refusal(&archive(&entries));
    assert!(error.contains("`segment-0.onnx`"), "{error}");
}

#[test]
fn what_is_no_plain_file_is_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let made = edge();
    std::fs::write(
        folder.path().join(MANIFEST),
        made.manifest.to_json().unwrap(),
    )
    .unwrap();
    let pipe = nix::sys::stat::Mode::S_IRWXU;
    for (name, _) in &made.files {
        nix::unistd::mkfifo(&folder.path().join(name), pipe).unwrap();
    }
    let bundle = folder.path().join("part.elp");
    nix::unistd::mkfifo(&bundle, pipe).unwrap();
    for path in [folder.path(), &bundle] {
        let error = Part::open(path).unwrap_err().to_string();
        assert!(error.contains("no plain file"), "{error}");
    }
}
