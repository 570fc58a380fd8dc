/*! The `--data` argument, the same for every command that takes images. */

use crate::data::Source;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where images come from: `synthetic`, `synthetic:7`, or a folder, told by the files in it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataArg(pub Source);

impl FromStr for DataArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "synthetic" {
            return Ok(DataArg(Source::Synthetic { seed: 7 }));
        }
        if let Some(seed) = text.strip_prefix("synthetic:") {
            let seed = seed.parse().map_err(|_| "write synthetic:7")?;
            return Ok(DataArg(Source::Synthetic { seed }));
        }
        let folder = Path::new(text);
        if !folder.is_dir() {
            return Err("no such folder; name one, or write synthetic".into());
        }
        Ok(DataArg(of_folder(folder)))
    }
}

/// What a folder holds, by the files every data set of its kind has.
fn of_folder(folder: &Path) -> Source {
    let here = PathBuf::from(folder);
    let has = |name: &str| folder.join(name).is_file();
    if has("data_batch_1.bin") {
        return Source::Cifar10(here);
    }
    if has("train.bin") {
        return Source::Cifar100(here);
    }
    let idx = ["train-images-idx3-ubyte", "train-images.idx3-ubyte"];
    if idx.iter().any(|n| has(n) || has(&format!("{n}.gz"))) {
        return Source::Idx(here);
    }
    Source::ImageFolder(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_folder_is_told_by_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().to_path_buf();
        let read = || here.to_str().unwrap().parse::<DataArg>().unwrap().0;
        assert_eq!(read(), Source::ImageFolder(here.clone()));
        for (file, wanted) in [
            ("train-images-idx3-ubyte.gz", Source::Idx(here.clone())),
            ("train.bin", Source::Cifar100(here.clone())),
            ("data_batch_1.bin", Source::Cifar10(here.clone())),
        ] {
            std::fs::write(here.join(file), "").unwrap();
            assert_eq!(read(), wanted);
        }
    }

    #[test]
    fn the_synthetic_set_has_a_seed() {
        let read = |text: &str| text.parse::<DataArg>();
        assert_eq!(read("synthetic"), read("synthetic:7"));
        assert_eq!(
            read("synthetic:3").unwrap().0,
            Source::Synthetic { seed: 3 }
        );
        assert!(read("synthetic:x").is_err() && read("/no/such/folder").is_err());
    }
}
