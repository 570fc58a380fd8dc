//! Images as people bring them. What is right comes from other tools: Pillow, NumPy and tarfile made
//! the files in `tests/images/` (by `make.py` there).

use edgelesspart::data::{Calibration, DataError, Fit, LoadOptions, LoadedData, Set, Source};
use edgelesspart::engine::Cancel;
use flate2::read::GzDecoder;
use pretty_assertions::assert_eq;
use rstest::rstest;
use std::io::Read;
use std::path::{Path, PathBuf};

const MADE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images");
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/cases/images");

fn load(source: &Source, input: [usize; 3]) -> Result<LoadedData, DataError> {
    let options = LoadOptions {
        input,
        fit: Fit::Stretch,
        classes: None,
        outputs: Vec::new(),
        output_names: Vec::new(),
        calibration: Calibration::FromTest(1),
        train: None,
        test: None,
        seed: 7,
    };
    LoadedData::load(source, &options, &mut |_| {}, &Cancel::new())
}

fn made(name: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(Path::new(MADE).join(name)).unwrap();
    if name.ends_with(".gz") {
        let mut plain = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        bytes = plain;
    }
    bytes
}

/// Pixels of every image that isn't for training, by label, in one order whatever set they fell to.
fn tested(data: &LoadedData) -> Vec<(u16, Vec<u8>)> {
    let of = |set| (0..data.len(set)).map(move |i| (set, i));
    let all = of(Set::Calibration).chain(of(Set::Test));
    let mut found: Vec<(u16, Vec<u8>)> = all
        .map(|(set, i)| (data.label(set, i), data.pixels(set, i).to_vec()))
        .collect();
    found.sort();
    found
}

/// Classes a and b, each with this picture twice in train/ and test/.
fn folder_of(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for side in ["train", "test"] {
        for class in ["a", "b"] {
            let folder = dir.path().join(side).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    dir
}

#[rstest]
#[case::chroma_halved_both_ways("420", [3, 29, 37])]
#[case::chroma_halved_across("422_progressive", [3, 23, 40])]
#[case::chroma_whole("444", [3, 9, 17])]
#[case::grey("grey", [1, 33, 21])]
#[case::cmyk("cmyk", [3, 24, 24])]
#[case::stray_bytes("stray", [3, 32, 32])]
fn a_jpeg_has_the_pixels_of_libjpeg_turbo(#[case] name: &str, #[case] input: [usize; 3]) {
    let of = |ending: &str| {
        let file = format!("{name}.{ending}");
        let dir = folder_of(&file, &made(&file));
        tested(&load(&Source::ImageFolder(dir.path().to_owned()), input).unwrap())
    };
    let (found, wanted) = (of("jpg"), of("png"));
    assert_eq!(found.len(), 2);
    assert!(found == wanted, "{name}");
}

#[rstest]
#[case("cifar10_python2.pkl.gz")]
#[case("cifar10_python3.pkl.gz")]
fn cifar_of_torchvision_is_read(#[case] batch: &str) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("cifar-10-batches-py");
    std::fs::create_dir(&folder).unwrap();
    let batches = [
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
    ];
    for name in batches.into_iter().chain(["test_batch"]) {
        std::fs::write(folder.join(name), made(batch)).unwrap();
    }
    std::fs::write(folder.join("batches.meta"), made("cifar10_meta.pkl")).unwrap();
    let source = Source::recognise(root.path());
    assert_eq!(source, Source::Cifar10(root.path().to_owned()));
    let data = load(&source, [3, 32, 32]).unwrap();
    assert_eq!(
        (data.len(Set::Train), data.class_names()[9].as_str()),
        (10, "nine")
    );
    let row = |label: u16| (0..3072).map(|i| (7 * label + i / 1024) as u8).collect();
    assert_eq!(tested(&data), [(3, row(3)), (9, row(9))]);

    let cut = &made(batch)[..3000];
    std::fs::write(folder.join("data_batch_4"), cut).unwrap();
    let text = load(&source, [3, 32, 32]).unwrap_err().to_string();
    assert!(
        text.contains("data_batch_4") && text.contains("not a pickle"),
        "{text}"
    );
}

#[test]
fn medmnist_is_read() {
    let source = Source::recognise(&Path::new(MADE).join("medmnist.npz"));
    let data = load(&source, [3, 2, 2]).unwrap();
    assert_eq!(data.per_class(Set::Train), [3, 2]);
    // np.arange(12).reshape(2, 2, 3).transpose(2, 0, 1).ravel()
    let first: Vec<u8> = vec![0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11];
    let moved = |by: u8| first.iter().map(|&v| v + by).collect();
    assert_eq!(
        tested(&data),
        [(0, first.clone()), (0, moved(24)), (1, moved(12))]
    );
    let notes = data.notes().join("\n");
    assert!(notes.contains("val_images, val_labels not used"), "{notes}");
}

#[test]
fn keras_archives_are_read_in_fortran_order_too() {
    let file = Path::new(MADE).join("keras.npz");
    let options = LoadOptions {
        input: [1, 2, 2],
        fit: Fit::Stretch,
        classes: Some(4),
        outputs: Vec::new(),
        output_names: Vec::new(),
        calibration: Calibration::FromTrain(1),
        train: None,
        test: None,
        seed: 7,
    };
    let data = LoadedData::load(&Source::Npz(file), &options, &mut |_| {}, &Cancel::new()).unwrap();
    let of = |set| (0..data.len(set)).map(move |i| (set, i));
    let mut train: Vec<(u16, &[u8])> = of(Set::Train)
        .chain(of(Set::Calibration))
        .map(|(set, i)| (data.label(set, i), data.pixels(set, i)))
        .collect();
    train.sort();
    let wanted: [(u16, &[u8]); 3] = [(0, &[0, 1, 2, 3]), (1, &[4, 5, 6, 7]), (2, &[8, 9, 10, 11])];
    assert_eq!(train, wanted);
    assert!(
        data.notes()
            .join("\n")
            .contains("1 class of 4 has no image to train: 3")
    );
}

#[test]
fn a_webdataset_archive_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (train, test) = (
        dir.path().join("x-train-0.tar"),
        dir.path().join("x-val-0.tar"),
    );
    for file in [&train, &test] {
        std::fs::write(file, made("webdataset.tar.gz")).unwrap();
    }
    let red = |value: u8| [[value; 4], [0; 4], [0; 4]].concat();
    let all = [
        (0, red(0)),
        (0, red(20)),
        (0, red(40)),
        (1, red(10)),
        (1, red(30)),
        (1, red(50)),
    ];
    let data = load(&Source::recognise(dir.path()), [3, 2, 2]).unwrap();
    assert_eq!(tested(&data), all);
    assert_eq!(data.len(Set::Train), 6);
    assert!(
        data.notes()
            .join("\n")
            .contains("train trains and val tests")
    );

    let data = load(&Source::recognise(&train), [3, 2, 2]).unwrap();
    assert_eq!((data.len(Set::Train), tested(&data).len()), (4, 2));

    let whole = made("webdataset.tar.gz");
    std::fs::write(&train, &whole[..whole.len() - 16_000]).unwrap();
    assert!(load(&Source::recognise(&train), [3, 2, 2]).is_err());
    let packed = std::fs::read(Path::new(MADE).join("webdataset.tar.gz")).unwrap();
    std::fs::write(&train, packed).unwrap();
    let text = load(&Source::recognise(&train), [3, 2, 2])
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("compressed by gzip; unpack it first"),
        "{text}"
    );
}

fn case(name: &str) -> Option<PathBuf> {
    let folder = Path::new(CASES).join(name);
    if !folder.exists() {
        println!("{} is not there", folder.display());
        return None;
    }
    Some(folder)
}

#[rstest]
#[case("train_val", [6, 8], &["a_red", "b_green", "c_blue"])]
#[case("Training_Testing", [6, 8], &["a_red", "b_green", "c_blue"])]
#[case("nested", [6, 8], &["a_red", "b_green", "c_blue"])]
#[case("jpeg_stray", [6, 8], &["a_red", "b_green", "c_blue"])]
#[case("luma", [6, 12], &["a_red", "b_grey"])]
#[case("voc_train_class", [9, 3], &["bus", "car", "train"])]
fn known_layouts_load(#[case] name: &str, #[case] each: [usize; 2], #[case] classes: &[&str]) {
    let Some(folder) = case(name) else { return };
    let data = load(&Source::ImageFolder(folder), [3, 16, 16]).unwrap();
    assert_eq!(data.class_names(), classes);
    let tested = tested(&data);
    let count = |class| tested.iter().filter(|(label, _)| *label == class).count();
    for class in 0..classes.len() as u16 {
        // The stray JPEG is one more of the first class.
        let more = usize::from(name == "jpeg_stray" && class == 0);
        assert_eq!(count(class), each[1] + more, "{class}");
        assert_eq!(data.per_class(Set::Train)[usize::from(class)], each[0]);
    }
}

#[test]
fn grey_of_the_case_is_rec_601() {
    let Some(folder) = case("luma") else { return };
    let file = std::fs::read_dir(folder.join("test/a_red"))
        .unwrap()
        .next()
        .unwrap();
    let file = image::open(file.unwrap().path()).unwrap().to_rgb8();
    let (width, height) = (file.width() as usize, file.height() as usize);
    let data = load(&Source::ImageFolder(folder), [1, height, width]).unwrap();
    let grey: Vec<u8> = file
        .pixels()
        .map(|p| {
            (0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2])).round()
                as u8
        })
        .collect();
    let close = |pixels: &[u8]| pixels.iter().zip(&grey).all(|(a, b)| a.abs_diff(*b) <= 1);
    assert!(tested(&data).iter().any(|(_, pixels)| close(pixels)));
}
