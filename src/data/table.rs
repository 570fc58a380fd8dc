/*!
Tables of pictures and labels: CSV, tab- or semicolon-separated, or `path label` a line, with or
without a header; or labels alone, one per line, for the sorted pictures of a folder (ImageNet's
validation set). Which pictures test is told by a column (`split`), by the tables' names (train.csv,
test.csv), or by seed.
*/

use super::DataError;
use super::folder::{Entries, TEST, TRAIN, entries, is_picture, some_of};
use super::labels::Classes;
use super::pictures::{Listed, Pictures, Place};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Headers of the column of paths, of labels, and of the side a picture belongs to.
const PATH: [&str; 12] = [
    "path",
    "filepath",
    "file_path",
    "image_path",
    "file",
    "filename",
    "file_name",
    "image",
    "img",
    "image_id",
    "imageid",
    "id",
];
const LABEL: [&str; 11] = [
    "label",
    "labels",
    "class",
    "classid",
    "class_id",
    "class_name",
    "classname",
    "category",
    "target",
    "y",
    "predictionstring",
];
const SPLIT: [&str; 5] = ["split", "set", "subset", "partition", "usage"];
/// What a path may lack at its end.
const ENDINGS: [&str; 6] = ["", ".jpg", ".jpeg", ".JPEG", ".png", ".PNG"];
const REMEDY: &str = "the table must name a picture and its label per line, as CSV with the header \
                      path,label";

/// A picture and its label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub picture: PathBuf,
    pub label: String,
    split: Option<String>,
}

/// Opens a table, or a folder of tables; `known` is how many classes the network has, if known.
pub(super) fn open(path: &Path, known: Option<usize>, seed: u64) -> Result<Pictures, DataError> {
    if path.is_dir() {
        let here = entries(path)?;
        return in_folder(path, &here, known, seed)?.ok_or_else(|| {
            DataError::file(
                path,
                "no table of pictures and labels (.csv, .tsv, .txt)",
                REMEDY,
            )
        });
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let here = entries(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })?;
    one(path, read(path, folder, &here)?, known, seed)
}

/// The data set of a folder with tables, if it has any: one table, or one for each side.
pub(super) fn in_folder(
    folder: &Path,
    here: &Entries,
    known: Option<usize>,
    seed: u64,
) -> Result<Option<Pictures>, DataError> {
    let found = tables(folder, here)?;
    let name = |(path, _): &(PathBuf, Vec<Row>)| {
        path.file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let of_side = |tests: bool| {
        let names = if tests { &TEST[..] } else { &TRAIN[..] };
        names.iter().find_map(|wanted| {
            found.iter().find(|table| {
                let name = name(table).to_ascii_lowercase();
                name.split(|c: char| !c.is_ascii_alphabetic()).next() == Some(wanted)
            })
        })
    };
    match (of_side(false), of_side(true)) {
        (Some(train), Some(test)) => {
            let used = [name(train), name(test)];
            let unused: Vec<String> = found
                .iter()
                .map(name)
                .filter(|n| !used.contains(n))
                .collect();
            let mut notes = vec![format!(
                "{}: {} trains and {} tests",
                folder.display(),
                used[0],
                used[1]
            )];
            notes.extend(some_of(&unused).map(|names| format!("not used: {names}")));
            sides(folder, &train.1, &test.1, known, notes).map(Some)
        }
        _ => match found.len() {
            0 => Ok(None),
            1 => {
                let (path, rows) = found.into_iter().next().unwrap_or_default();
                one(&path, rows, known, seed).map(Some)
            }
            _ => {
                let names: Vec<String> = found.iter().map(name).collect();
                Err(DataError::file(
                    folder,
                    format!("several tables of labels: {}", names.join(", ")),
                    "name one of them, as Table(\"labels.csv\")",
                ))
            }
        },
    }
}

/// The rows of the only table of a folder.
pub(super) fn only_one(folder: &Path, here: &Entries) -> Result<Option<Vec<Row>>, DataError> {
    let mut found = tables(folder, here)?;
    Ok(if found.len() == 1 {
        found.pop().map(|(_, rows)| rows)
    } else {
        None
    })
}

/// Every table of labels in a folder.
///
/// # Errors
/// The only file that could be one isn't.
fn tables(folder: &Path, here: &Entries) -> Result<Vec<(PathBuf, Vec<Row>)>, DataError> {
    let could_be = |path: &&PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        ["csv", "tsv", "txt"].contains(&extension.to_ascii_lowercase().as_str())
    };
    let candidates: Vec<&PathBuf> = here
        .files
        .iter()
        .map(|(_, path)| path)
        .filter(could_be)
        .collect();
    let mut found = Vec::new();
    let mut failed = None;
    for path in &candidates {
        match read(path, folder, here) {
            Ok(rows) => found.push(((*path).clone(), rows)),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if candidates.len() == 1 => Err(error),
        _ => Ok(found),
    }
}

/// A data set of one table.
fn one(
    path: &Path,
    rows: Vec<Row>,
    known: Option<usize>,
    seed: u64,
) -> Result<Pictures, DataError> {
    if rows.iter().all(|row| row.split.is_none()) {
        let classes = classes(path, &rows, known)?;
        let listed = listed(&rows, &classes);
        let mut notes = vec![format!(
            "{}: a fifth of each class is held out to test",
            path.display()
        )];
        notes.extend(classes.note);
        return Ok(Pictures::held_out(classes.names, &listed, seed, notes));
    }
    let words: BTreeSet<&str> = rows.iter().filter_map(|row| row.split.as_deref()).collect();
    let of_side = |tests: bool| {
        let names = if tests { &TEST[..] } else { &TRAIN[..] };
        names.iter().find_map(|wanted| {
            words
                .iter()
                .copied()
                .find(|word| word.eq_ignore_ascii_case(wanted))
        })
    };
    let (Some(train), Some(test)) = (of_side(false), of_side(true)) else {
        let words: Vec<&str> = words.into_iter().collect();
        return Err(DataError::file(
            path,
            format!("its column of sides says {}", words.join(", ")),
            "it must say train and test (or val)",
        ));
    };
    let part = |word: &str| -> Vec<Row> {
        rows.iter()
            .filter(|row| row.split.as_deref() == Some(word))
            .cloned()
            .collect()
    };
    let mut notes = Vec::new();
    let unused = rows
        .iter()
        .filter(|row| ![Some(train), Some(test)].contains(&row.split.as_deref()));
    let unused = unused.count();
    if unused > 0 || test != "test" {
        notes.push(format!(
            "{}: {train} trains and {test} tests; {unused} lines of other sides not used",
            path.display()
        ));
    }
    sides(path, &part(train), &part(test), known, notes)
}

fn sides(
    path: &Path,
    train: &[Row],
    test: &[Row],
    known: Option<usize>,
    mut notes: Vec<String>,
) -> Result<Pictures, DataError> {
    let classes = classes(path, &[train, test].concat(), known)?;
    notes.extend(classes.note.clone());
    Ok(Pictures {
        train: listed(train, &classes),
        test: listed(test, &classes),
        names: classes.names,
        notes,
    })
}

fn classes(path: &Path, rows: &[Row], known: Option<usize>) -> Result<Classes, DataError> {
    Classes::by_label(rows.iter().map(|row| row.label.as_str()).collect(), known)
        .map_err(|problem| DataError::file(path, problem, REMEDY))
}

fn listed(rows: &[Row], classes: &Classes) -> Listed {
    let mut listed = Listed::default();
    for row in rows {
        // Every label was among those counted.
        if let Some(label) = classes.of(&row.label) {
            listed.push(Place::File(row.picture.clone()), label);
        }
    }
    listed
}

/// Reads a table whose pictures lie in `folder` or below.
fn read(path: &Path, folder: &Path, here: &Entries) -> Result<Vec<Row>, DataError> {
    let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error, REMEDY))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| DataError::file(path, "not a text in UTF-8", "save it as UTF-8"))?;
    let records = records(path, text.trim_start_matches('\u{feff}'))?;
    let Some(first) = records.first() else {
        return Err(DataError::file(path, "an empty table", REMEDY));
    };
    if first.cells.len() == 1 {
        return labels_alone(path, here, &records);
    }
    let mut finder = Finder::new(path, folder);
    // A header names columns, the first line of a table without one a picture.
    let columns = match finder.find(first.cells[0].trim()) {
        Some(_) => Columns::default(),
        None => Columns::of(path, &first.cells)?,
    };
    let mut rows = Vec::new();
    for record in &records[usize::from(columns.header)..] {
        let cell = |column: usize| record.cells.get(column).map(|cell| cell.trim());
        let bad = |problem: String| {
            DataError::file(path, format!("line {}: {problem}", record.line), REMEDY)
        };
        let (Some(name), Some(label)) = (cell(columns.path), cell(columns.label)) else {
            return Err(bad(format!(
                "{} columns where {} were expected",
                record.cells.len(),
                first.cells.len()
            )));
        };
        // ImageNet's of Kaggle adds boxes behind the label.
        let label = if columns.first_word {
            label.split(' ').next().unwrap_or("")
        } else {
            label
        };
        if label.is_empty() {
            return Err(bad("no label".into()));
        }
        let picture = finder.find(name).ok_or_else(|| {
            bad(format!(
                "no picture {name} beside the table, in images/ or in a folder of its name"
            ))
        })?;
        rows.push(Row {
            picture,
            label: label.to_owned(),
            split: columns.split.and_then(cell).map(str::to_owned),
        });
    }
    if rows.is_empty() {
        return Err(DataError::file(path, "a header and nothing else", REMEDY));
    }
    Ok(rows)
}

/// One label per line, for the sorted pictures of the folder.
fn labels_alone(path: &Path, here: &Entries, records: &[Record]) -> Result<Vec<Row>, DataError> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_ascii_lowercase());
    if name.is_some_and(|name| name.contains("validation_ground_truth")) {
        return Err(DataError::file(
            path,
            "numbers in the order of ImageNet's development kit, which isn't that of its networks",
            "take a table of synsets (n01440764, ...) or val.txt in its place",
        ));
    }
    let mut pictures = Vec::new();
    let images = here.folders.iter().find(|(name, _)| name == "images");
    let files = match images {
        Some((_, folder)) => entries(folder)?.files,
        None => here.files.clone(),
    };
    for (_, file) in files {
        if is_picture(&file)? {
            pictures.push(file);
        }
    }
    if pictures.len() != records.len() {
        return Err(DataError::file(
            path,
            format!("{} labels for {} pictures", records.len(), pictures.len()),
            REMEDY,
        ));
    }
    let row = |(picture, record): (PathBuf, &Record)| Row {
        picture,
        label: record.cells[0].trim().to_owned(),
        split: None,
    };
    Ok(pictures.into_iter().zip(records).map(row).collect())
}

struct Record {
    line: u64,
    /// Cells of the row, one or more.
    cells: Vec<String>,
}

/// The lines of a table, cut at the separator its first line has.
fn records(path: &Path, text: &str) -> Result<Vec<Record>, DataError> {
    let first = text.lines().next().unwrap_or("");
    let Some(separator) = ['\t', ';', ','].into_iter().find(|&c| first.contains(c)) else {
        // `path label`: a path may have spaces, a label hasn't.
        let record = |(at, line): (usize, &str)| Record {
            line: at as u64 + 1,
            cells: match line.trim().rsplit_once(char::is_whitespace) {
                Some((path, label)) => vec![path.trim().to_owned(), label.to_owned()],
                None => vec![line.trim().to_owned()],
            },
        };
        let full = |(_, line): &(usize, &str)| !line.trim().is_empty();
        return Ok(text.lines().enumerate().filter(full).map(record).collect());
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator as u8)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| DataError::file(path, error.to_string(), REMEDY))?;
        found.push(Record {
            line: record.position().map_or(0, csv::Position::line),
            cells: record.iter().map(str::to_owned).collect(),
        });
    }
    Ok(found)
}

/// Which column is what.
#[derive(Debug, Clone, Copy)]
struct Columns {
    header: bool,
    path: usize,
    label: usize,
    split: Option<usize>,
    /// The label is the first word of its cell.
    first_word: bool,
}

/// Paths, then labels, without a header.
impl Default for Columns {
    fn default() -> Self {
        Columns {
            header: false,
            path: 0,
            label: 1,
            split: None,
            first_word: false,
        }
    }
}

impl Columns {
    fn of(path: &Path, first: &[String]) -> Result<Columns, DataError> {
        let cells: Vec<String> = first
            .iter()
            .map(|cell| cell.trim().to_ascii_lowercase())
            .collect();
        let column = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| cells.iter().position(|cell| cell == name))
        };
        match (column(&PATH), column(&LABEL)) {
            (None, None) => Ok(Columns::default()),
            (Some(file), Some(label)) => Ok(Columns {
                header: true,
                path: file,
                label,
                split: column(&SPLIT),
                first_word: cells[label] == "predictionstring",
            }),
            (file, _) => {
                let lacks = if file.is_none() { "path" } else { "label" };
                Err(DataError::file(
                    path,
                    format!("no column `{lacks}`; its columns are {}", first.join(", ")),
                    REMEDY,
                ))
            }
        }
    }
}

/// Finds pictures by how a table writes them.
struct Finder {
    roots: Vec<PathBuf>,
    /// Root and ending that fitted last: mostly they fit all.
    last: (usize, usize),
}

impl Finder {
    fn new(table: &Path, folder: &Path) -> Self {
        let mut roots = vec![folder.to_owned(), folder.join("images")];
        roots.extend(table.file_stem().map(|stem| folder.join(stem)));
        Finder {
            roots,
            last: (0, 0),
        }
    }

    fn find(&mut self, name: &str) -> Option<PathBuf> {
        let path = |(root, ending): (usize, usize)| {
            self.roots[root].join(format!("{name}{}", ENDINGS[ending]))
        };
        let all = (0..self.roots.len()).flat_map(|root| (0..ENDINGS.len()).map(move |e| (root, e)));
        let found = std::iter::once(self.last)
            .chain(all)
            .find(|&place| path(place).is_file())?;
        let path = path(found);
        self.last = found;
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    /// A folder with empty pictures 1.jpg to 4.jpg in `images`, a/1.png, and a table of this text.
    fn folder(name: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "images/1.jpg",
            "images/2.jpg",
            "images/3.jpg",
            "images/4.jpg",
            "a/1 b.png",
        ] {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        std::fs::write(dir.path().join(name), text).unwrap();
        dir
    }

    /// Picture and label of each line, or what is wrong.
    #[rstest]
    #[case::header(
        "path,label\nimages/1.jpg,7\na/1 b.png,cat\n",
        "images/1.jpg=7 a/1 b.png=cat"
    )]
    #[case::kaggle("image_id,label\n1,0\n2,1\n", "images/1.jpg=0 images/2.jpg=1")]
    #[case::other_order("class;filename\nx;1.jpg\ny;2.jpg\n", "images/1.jpg=x images/2.jpg=y")]
    #[case::no_header("1.jpg,0\n2.jpg,1\n", "images/1.jpg=0 images/2.jpg=1")]
    #[case::label_like_a_header("1.jpg,class\n2.jpg,y\n", "images/1.jpg=class images/2.jpg=y")]
    #[case::spaces("a/1 b.png 5\n1.jpg 6\n", "a/1 b.png=5 images/1.jpg=6")]
    #[case::tiny_imagenet("1.jpg\tn03\t0\t0\t62\t62\n", "images/1.jpg=n03")]
    #[case::boxes(
        "ImageId,PredictionString\n1,n01 10 20 30 40 n01 1 2 3 4\n",
        "images/1.jpg=n01"
    )]
    #[case::labels_alone(
        "n01\nn02\nn01\nn03\n",
        "images/1.jpg=n01 images/2.jpg=n02 images/3.jpg=n01 images/4.jpg=n03"
    )]
    #[case::bom("\u{feff}path,label\n1.jpg,0\n", "images/1.jpg=0")]
    #[case::missing("path,label\n1.jpg,0\n9.jpg,1\n", "line 3: no picture 9.jpg")]
    #[case::no_label("path,label\n1.jpg,\n", "line 2: no label")]
    #[case::no_column(
        "path,breed\n1.jpg,0\n",
        "no column `label`; its columns are path, breed"
    )]
    #[case::too_few("n01\nn02\n", "2 labels for 4 pictures")]
    #[case::empty("", "an empty table")]
    fn tables_as_people_write_them(#[case] text: &str, #[case] wanted: &str) {
        let dir = folder("labels.csv", text);
        let table = dir.path().join("labels.csv");
        let found = read(&table, dir.path(), &entries(dir.path()).unwrap());
        match found {
            Ok(rows) => {
                let row = |row: &Row| {
                    let path = row.picture.strip_prefix(dir.path()).unwrap();
                    format!("{}={}", path.display(), row.label)
                };
                let rows: Vec<String> = rows.iter().map(row).collect();
                assert_eq!(rows.join(" "), wanted);
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("labels.csv") && text.contains(wanted),
                    "{text}"
                );
            }
        }
    }

    #[rstest]
    #[case::column("labels.csv", "path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,a,val\n4.jpg,b,holdout\n", [2, 1], "val tests; 1 lines of other sides not used")]
    #[case::by_seed("labels.csv", "1.jpg,a\n2.jpg,b\n3.jpg,a\n4.jpg,b\n", [2, 2], "a fifth of each class")]
    fn sides_of_one_table(
        #[case] name: &str,
        #[case] text: &str,
        #[case] wanted: [usize; 2],
        #[case] says: &str,
    ) {
        let dir = folder(name, text);
        for path in [dir.path().to_owned(), dir.path().join(name)] {
            let found = open(&path, None, 7).unwrap();
            assert_eq!([found.train.labels.len(), found.test.labels.len()], wanted);
            assert_eq!(found.names, ["a", "b"]);
            assert!(found.notes.join("\n").contains(says), "{:?}", found.notes);
        }
    }

    #[test]
    fn a_table_for_each_side() {
        let dir = folder("train.csv", "path,label\n1.jpg,0\n2.jpg,1\n");
        std::fs::write(dir.path().join("val_labels.csv"), "path,label\n3.jpg,1\n").unwrap();
        std::fs::write(dir.path().join("sample_submission.csv"), "id,label\n9,0\n").unwrap();
        let found = open(dir.path(), Some(3), 7).unwrap();
        assert_eq!(
            (found.train.labels, found.test.labels),
            (vec![0, 1], vec![1])
        );
        assert_eq!(found.names, ["0", "1", "2"]);
        std::fs::write(dir.path().join("more.csv"), "path,label\n3.jpg,1\n").unwrap();
        std::fs::remove_file(dir.path().join("train.csv")).unwrap();
        let text = open(dir.path(), None, 7).unwrap_err().to_string();
        assert!(
            text.contains("several tables of labels: more.csv, val_labels.csv"),
            "{text}"
        );
    }

    #[test]
    fn the_numbers_of_imagenets_development_kit_are_refused() {
        let name = "ILSVRC2012_validation_ground_truth.txt";
        let dir = folder(name, "490\n361\n171\n822\n");
        let text = open(dir.path(), None, 7).unwrap_err().to_string();
        assert!(
            text.contains("the order of ImageNet's development kit"),
            "{text}"
        );
    }
}
