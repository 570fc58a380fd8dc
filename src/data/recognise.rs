/*! Which kind of data set a path is, by the files every set of that kind has. */

use super::Source;
use std::path::{Path, PathBuf};

impl Source {
    /// The kind of data set at `path`; a folder of pictures unless it is told to be another.
    pub fn recognise(path: &Path) -> Source {
        if path.is_file() {
            return of_file(path);
        }
        let has = |name: &str| path.join(name).is_file();
        let below = |folder: &str, name: &str| path.join(folder).join(name).is_file();
        if has("data_batch_1.bin")
            || has("data_batch_1")
            || below("cifar-10-batches-bin", "data_batch_1.bin")
            || below("cifar-10-batches-py", "data_batch_1")
        {
            return Source::Cifar10(path.to_owned());
        }
        if has("train.bin")
            || has("train") && has("test") && has("meta")
            || below("cifar-100-binary", "train.bin")
            || below("cifar-100-python", "train")
        {
            return Source::Cifar100(path.to_owned());
        }
        // torchvision keeps MNIST and its kin in MNIST/raw, FashionMNIST/raw, ...
        let raw = [
            "",
            "raw",
            "MNIST/raw",
            "FashionMNIST/raw",
            "KMNIST/raw",
            "QMNIST/raw",
        ];
        for folder in raw.map(|below| path.join(below)) {
            let idx = ["train-images-idx3-ubyte", "train-images.idx3-ubyte"];
            let there = |name: String| folder.join(name).is_file();
            if idx
                .iter()
                .any(|n| there(n.to_string()) || there(format!("{n}.gz")))
            {
                // Joined with "", a path ends in a slash.
                return Source::Idx(folder.components().collect());
            }
        }
        let holds = |extension: &str| {
            std::fs::read_dir(path).is_ok_and(|entries| {
                let file = |entry: std::io::Result<std::fs::DirEntry>| Some(entry.ok()?.path());
                let ends = |path: PathBuf| path.extension().is_some_and(|e| e == extension);
                entries.filter_map(file).any(ends)
            })
        };
        if holds("tar") {
            return Source::Tar(path.to_owned());
        }
        Source::ImageFolder(path.to_owned())
    }
}

fn of_file(path: &Path) -> Source {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match extension.to_ascii_lowercase().as_str() {
        "npz" => Source::Npz(path.to_owned()),
        "tar" => Source::Tar(path.to_owned()),
        _ => Source::Table(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("", Source::ImageFolder)]
    #[case::idx("train-images-idx3-ubyte.gz", Source::Idx)]
    #[case::cifar100("train.bin", Source::Cifar100)]
    #[case::cifar10("data_batch_1.bin", Source::Cifar10)]
    #[case::cifar10_python("data_batch_1", Source::Cifar10)]
    #[case::cifar10_root("cifar-10-batches-py/data_batch_1", Source::Cifar10)]
    #[case::cifar100_root("cifar-100-python/train", Source::Cifar100)]
    #[case::tar("train-0000.tar", Source::Tar)]
    #[case::table("labels.csv", Source::ImageFolder)]
    fn a_folder_is_told_by_its_files(#[case] file: &str, #[case] kind: fn(PathBuf) -> Source) {
        let dir = tempfile::tempdir().unwrap();
        if !file.is_empty() {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        assert_eq!(Source::recognise(dir.path()), kind(dir.path().to_owned()));
    }

    #[rstest]
    #[case("a.npz", Source::Npz)]
    #[case("a.TAR", Source::Tar)]
    #[case("a.csv", Source::Table)]
    fn a_file_is_told_by_its_extension(#[case] name: &str, #[case] kind: fn(PathBuf) -> Source) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, "").unwrap();
        assert_eq!(Source::recognise(&file), kind(file));
    }

    #[test]
    fn torchvision_keeps_idx_files_deeper() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("MNIST/raw");
        std::fs::create_dir_all(&raw).unwrap();
        std::fs::write(raw.join("train-images-idx3-ubyte"), "").unwrap();
        assert_eq!(Source::recognise(dir.path()), Source::Idx(raw));
    }
}
