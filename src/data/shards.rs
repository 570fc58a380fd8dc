/*!
Tar archives as WebDataset writes them: the files of a sample share the name up to the first dot,
`000017.jpg` with `000017.cls`. One archive or a folder of them; those called train-... and
test-... (or val-...) are the sides, else a part is held out by seed.
*/

use super::DataError;
use super::error::FETCH_AGAIN;
use super::folder::{TEST, TRAIN, entries, is_picture, some_of};
use super::labels::Classes;
use super::pictures::{Listed, Pictures, Place};
use crate::model::Signature;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest label, in bytes.
const LABEL: u64 = 256;
const REMEDY: &str = "each picture needs a label of the same name, as 000017.jpg and 000017.cls";

/// A picture and its label while an archive is listed.
#[derive(Debug, Default)]
struct Sample {
    picture: Option<Place>,
    label: Option<String>,
}

type Samples = Vec<(Place, String)>;

/// Opens an archive or a folder of them; `known` is how many classes the network has, if known.
pub(super) fn open(path: &Path, known: Option<usize>, seed: u64) -> Result<Pictures, DataError> {
    let archives: Vec<(String, PathBuf)> = if path.is_dir() {
        let is_tar = |(name, _): &(String, PathBuf)| name.ends_with(".tar");
        entries(path)?.files.into_iter().filter(is_tar).collect()
    } else {
        vec![(String::new(), path.to_owned())]
    };
    if archives.is_empty() {
        return Err(DataError::file(
            path,
            "no .tar archive in this folder",
            REMEDY,
        ));
    }
    let of_side = |names: &[&'static str]| {
        let begins = |wanted: &str, name: &str| {
            let mut words = name.split(|c: char| !c.is_ascii_alphabetic());
            words.any(|word| word.eq_ignore_ascii_case(wanted))
        };
        names.iter().find_map(|wanted| {
            let found: Vec<&(String, PathBuf)> = archives
                .iter()
                .filter(|(name, _)| begins(wanted, name))
                .collect();
            (!found.is_empty()).then_some((*wanted, found))
        })
    };
    let all = |of: &[&(String, PathBuf)]| -> Result<Samples, DataError> {
        let mut samples = Vec::new();
        for (_, archive) in of {
            samples.extend(samples_of(archive)?);
        }
        Ok(samples)
    };
    let (train, test, note) = match (of_side(&TRAIN), of_side(&TEST)) {
        (Some((train, train_files)), Some((test, test_files))) => {
            let is_used = |path: &PathBuf| {
                train_files
                    .iter()
                    .chain(&test_files)
                    .any(|(_, used)| used == path)
            };
            let unused: Vec<String> = archives
                .iter()
                .filter(|(_, path)| !is_used(path))
                .map(|(name, _)| name.clone())
                .collect();
            let rest = some_of(&unused).map_or(String::new(), |n| format!("; not used: {n}"));
            let note = format!("{train} trains and {test} tests{rest}");
            (all(&train_files)?, Some(all(&test_files)?), note)
        }
        _ => {
            let every: Vec<&(String, PathBuf)> = archives.iter().collect();
            let note = "a fifth of each class is held out to test".to_string();
            (all(&every)?, None, note)
        }
    };
    let every = train.iter().chain(test.iter().flatten());
    let classes = Classes::by_label(every.map(|(_, label)| label.as_str()).collect(), known)
        .map_err(|problem| DataError::file(path, problem, REMEDY))?;
    let mut notes = vec![format!("{}: {note}", path.display())];
    notes.extend(classes.note.clone());
    let train = listed(train, &classes);
    Ok(match test {
        None => Pictures::held_out(classes.names, &train, seed, notes),
        Some(test) => Pictures {
            train,
            test: listed(test, &classes),
            names: classes.names,
            notes,
        },
    })
}

fn listed(samples: Samples, classes: &Classes) -> Listed {
    let mut listed = Listed::default();
    for (place, label) in samples {
        // Every label was among those counted.
        if let Some(label) = classes.of(&label) {
            listed.push(place, label);
        }
    }
    listed
}

/// Lists one archive, in the order of the samples' names.
fn samples_of(path: &Path) -> Result<Samples, DataError> {
    let io = |error| DataError::io(path, error, FETCH_AGAIN);
    let bad = |problem: String| DataError::file(path, problem, REMEDY);
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head).map_err(io)?;
    match Signature::of(&head) {
        None | Some(Signature::Tar) => {}
        Some(other) => {
            return Err(DataError::file(
                path,
                other.to_string(),
                other.remedy_for_data(),
            ));
        }
    }
    let shared = Arc::new((path.to_owned(), File::open(path).map_err(io)?));
    let mut archive = tar::Archive::new(File::open(path).map_err(io)?);
    let mut samples: BTreeMap<String, Sample> = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(io)? {
        let mut entry = entry.map_err(io)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(DataError::file(
                path,
                format!("cut off within {name}"),
                FETCH_AGAIN,
            ));
        }
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", &name));
        // Hidden files are what a system adds (._000017.jpg of macOS).
        let Some((key, extension)) = file.split_once('.').filter(|(key, _)| !key.is_empty()) else {
            continue;
        };
        let key = format!("{folder}/{key}");
        if ["cls", "label"].contains(&extension) {
            let mut label = String::new();
            let read = (&mut entry).take(LABEL).read_to_string(&mut label);
            read.map_err(|error| bad(format!("{name}: {error}")))?;
            samples.entry(key).or_default().label = Some(label.trim().to_owned());
        } else if !extension.contains('.') && is_picture(&path.join(&name))? {
            let place = Place::Within {
                archive: Arc::clone(&shared),
                entry: name,
                offset,
                length,
            };
            let sample = samples.entry(key.clone()).or_default();
            if sample.picture.replace(place).is_some() {
                return Err(bad(format!("{key}: two pictures")));
            }
        }
    }
    if samples.values().all(|sample| sample.label.is_none()) {
        return Err(DataError::file(
            path,
            "no labels (.cls) in the archive",
            "unpack it and name the folder, if it holds class folders",
        ));
    }
    let whole = |(key, sample): (String, Sample)| match (sample.picture, sample.label) {
        (Some(picture), Some(label)) if !label.is_empty() => Ok((picture, label)),
        (None, _) => Err(bad(format!("{key}: a label without a picture"))),
        _ => Err(bad(format!("{key}: a picture without a label"))),
    };
    samples.into_iter().map(whole).collect()
}
