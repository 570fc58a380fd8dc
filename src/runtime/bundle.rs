/*!
A part in one file, as it travels: a tar archive of the manifest and the ONNX files that it names, the
manifest first. Any tool that writes tar can make one.
*/

use super::manifest::{FileEntry, MANIFEST, Manifest, PartFiles, bad, plain_name};
use super::parts::{Part, PartError};
use crate::model::fuse::fused;
use crate::model::onnx::import_reader;
use crate::model::{Graph, Signature};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use tar::EntryType;

/// The most bytes a manifest has: a thousand classes with names take 20 KB.
const LONGEST_MANIFEST: u64 = 1 << 20;
/// The most bytes that a header of extended attributes has.
const LONGEST_HEADER: u64 = 1 << 16;
/// The first bytes of a bundle of release 0.1.
const OLD: &[u8] = b"ELPPART";
/// Bytes of a header of an archive.
const BLOCK: u64 = 512;

/// Whether a file that starts like this is a bundle, rather than a network.
pub fn is_bundle(start: &[u8]) -> bool {
    start.starts_with(OLD) || Signature::of(start) == Some(Signature::Tar)
}

impl PartFiles {
    /// The bundle's bytes; the same part always gives the same bytes.
    ///
    /// # Errors
    /// Where the manifest can't be written.
    pub fn bundle(&self) -> Result<Vec<u8>, PartError> {
        let json = self.manifest.to_json()?;
        let files = self.files.iter().map(|(_, bytes)| bytes.len());
        let room = files.sum::<usize>() + json.len() + (self.files.len() + 4) * 2 * BLOCK as usize;
        let mut builder = tar::Builder::new(Vec::with_capacity(room));
        let manifest = std::iter::once((MANIFEST, json.as_slice()));
        let files = self.files.iter().map(|(n, b)| (n.as_str(), b.as_slice()));
        for (name, bytes) in manifest.chain(files) {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let added = builder.append_data(&mut header, name, bytes);
            added.map_err(|e| PartError::Export {
                file: name.to_string(),
                what: e.to_string(),
            })?;
        }
        builder.into_inner().map_err(|e| PartError::Export {
            file: "the bundle".to_string(),
            what: e.to_string(),
        })
    }
}

impl Part {
    /// The part's bundle; the same part always gives the same bytes.
    ///
    /// # Errors
    /// Where a graph can't be written as ONNX.
    pub fn bundle(&self) -> Result<Vec<u8>, PartError> {
        PartFiles::of(self)?.bundle()
    }

    /// Reads a bundle of `length` bytes, tensor by tensor, so that its weights are never there twice;
    /// every name, length, hash and shape is checked. The graphs come fused.
    ///
    /// # Errors
    /// Where anything doesn't fit; the error names the file.
    pub fn read(source: &mut dyn Read, length: u64) -> Result<Part, PartError> {
        let mut start = Vec::new();
        let first = (&mut *source).take(BLOCK).read_to_end(&mut start);
        first.map_err(|e| PartError::Damaged(e.to_string()))?;
        if start.starts_with(OLD) {
            return Err(PartError::Old);
        }
        match Signature::of(&start) {
            None | Some(Signature::Tar) => {}
            Some(other) => return Err(PartError::Damaged(format!("it is {other}"))),
        }
        let mut whole = start.chain(source).take(length);
        let part = unpacked(&mut whole, length)?;
        if !is_padding(&mut whole)? {
            let what = "there is more behind the last file";
            return Err(PartError::Damaged(what.to_string()));
        }
        Ok(part)
    }

    /// Reads a part from a file: a bundle, or the manifest in a folder of files.
    ///
    /// # Errors
    /// Where it can't be read, or anything doesn't fit.
    pub fn open(path: &Path) -> Result<Part, PartError> {
        let read = |file: &Path, source| PartError::Read {
            file: file.to_path_buf(),
            source,
        };
        let path = if path.is_dir() {
            path.join(MANIFEST)
        } else {
            path.to_path_buf()
        };
        let (mut file, length) = open(&path)?;
        if path.extension().is_none_or(|e| e != "json") {
            return Part::read(&mut BufReader::new(file), length);
        }
        if length > LONGEST_MANIFEST {
            return Err(bad(MANIFEST, "it is too long for a manifest"));
        }
        let mut json = Vec::new();
        file.read_to_end(&mut json).map_err(|e| read(&path, e))?;
        let manifest = Manifest::parse(&json)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut graphs = HashMap::new();
        for name in manifest.graphs() {
            let beside = folder.join(name);
            let (file, length) = open(&beside)?;
            // `parse` has seen to it that each has an entry.
            let Some(entry) = manifest.file(name) else {
                continue;
            };
            let found = graph(&mut BufReader::new(file), length, entry)?;
            graphs.insert(name.to_string(), found);
        }
        manifest.part(graphs)
    }
}

/// A plain file and its length: opening anything else may wait for ever, or never end.
fn open(path: &Path) -> Result<(File, u64), PartError> {
    let read = |source| PartError::Read {
        file: path.to_path_buf(),
        source,
    };
    let about = path.metadata().map_err(read)?;
    if !about.is_file() {
        let what = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no plain file");
        return Err(read(what));
    }
    Ok((File::open(path).map_err(read)?, about.len()))
}

/// The part in an archive of `length` bytes.
fn unpacked(source: &mut dyn Read, length: u64) -> Result<Part, PartError> {
    let damaged = |e: std::io::Error| PartError::Damaged(e.to_string());
    let mut archive = tar::Archive::new(source);
    let mut manifest: Option<Manifest> = None;
    let (mut seen, mut graphs) = (HashSet::new(), HashMap::new());
    // Raw, so that no header sets aside what it says: names that need one of their own are refused.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        let size = entry.size();
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            // Archives of a folder begin with it.
            EntryType::Directory if name.is_empty() || name == "." => continue,
            EntryType::XHeader if size <= LONGEST_HEADER => {
                attributes(&mut entry, name)?;
                continue;
            }
            other => {
                let what = format!("it is {}; a part holds plain files alone", kind(other));
                return Err(bad(&name.escape_debug().to_string(), what));
            }
        }
        plain_name(name)?;
        // A length is only believed as far as there are bytes: the import goes by it.
        let end = entry.raw_file_position().checked_add(size);
        if end.is_none_or(|end| end > length) {
            return Err(bad(name, "the bundle ends inside it"));
        }
        let Some(known) = &manifest else {
            if name != MANIFEST {
                let what = format!("it stands before `{MANIFEST}`, which must come first");
                return Err(bad(name, what));
            }
            if size > LONGEST_MANIFEST {
                return Err(bad(
                    MANIFEST,
                    format!("{size} bytes are too long for a manifest"),
                ));
            }
            let mut json = Vec::new();
            entry.read_to_end(&mut json).map_err(damaged)?;
            manifest = Some(Manifest::parse(&json)?);
            continue;
        };
        let found = known.file(name);
        let file = found.ok_or_else(|| bad(name, "the manifest doesn't name it"))?;
        if !seen.insert(name.to_string()) {
            return Err(bad(name, "it is there twice"));
        }
        if known.graphs().any(|graph| graph == name) {
            graphs.insert(name.to_string(), graph(&mut entry, size, file)?);
        } else {
            check(&mut entry, size, file)?;
        }
    }
    let manifest = manifest.ok_or_else(|| {
        let what = format!("there is no `{MANIFEST}` in it");
        PartError::Damaged(what)
    })?;
    let missing = manifest.files.iter().find(|f| !seen.contains(&f.name));
    match missing {
        Some(file) => Err(bad(&file.name, "it is named in the manifest and not there")),
        None => manifest.part(graphs),
    }
}

/// Refuses extended attributes that change what the next header says.
fn attributes(entry: &mut dyn Read, name: &str) -> Result<(), PartError> {
    let mut bytes = Vec::new();
    let read = entry.read_to_end(&mut bytes);
    read.map_err(|e| PartError::Damaged(e.to_string()))?;
    for pair in tar::PaxExtensions::new(&bytes) {
        let key = pair.map_err(|e| PartError::Damaged(e.to_string()))?;
        let key = String::from_utf8_lossy(key.key_bytes()).into_owned();
        if ["path", "linkpath", "size"].contains(&key.as_str()) || key.starts_with("GNU.sparse") {
            let key = key.escape_debug();
            let what =
                format!("it sets `{key}` apart from the file; a part holds plain files alone");
            return Err(bad(&name.escape_debug().to_string(), what));
        }
    }
    Ok(())
}

fn kind(found: EntryType) -> String {
    match found {
        EntryType::Symlink => "a symbolic link".to_string(),
        EntryType::Link => "a hard link".to_string(),
        EntryType::Directory => "a folder".to_string(),
        EntryType::Char | EntryType::Block | EntryType::Fifo => "a device".to_string(),
        EntryType::GNUSparse => "a file with holes".to_string(),
        EntryType::GNULongName | EntryType::GNULongLink => {
            "a name of more than 100 letters".to_string()
        }
        EntryType::XHeader => "a header that is too long".to_string(),
        other => format!("an entry of the kind {:?}", char::from(other.as_byte())),
    }
}

/// The graph in a file of `length` bytes.
fn graph(source: &mut dyn Read, length: u64, file: &FileEntry) -> Result<Graph, PartError> {
    let name = &file.name;
    if length != file.bytes {
        let wanted = file.bytes;
        return Err(bad(
            name,
            format!("it has {length} bytes, the manifest says {wanted}"),
        ));
    }
    let mut hashed = Hashed::new(source, length);
    let graph = import_reader(&mut hashed, length, name);
    // What the import left, where it stopped early: a damaged file is called so.
    hashed.finish(file)?;
    graph.map(fused).map_err(|e| bad(name, e.to_string()))
}

/// Compares a file that nobody runs with its entry.
fn check(source: &mut dyn Read, length: u64, file: &FileEntry) -> Result<(), PartError> {
    if length != file.bytes {
        let wanted = file.bytes;
        return Err(bad(
            &file.name,
            format!("it has {length} bytes, the manifest says {wanted}"),
        ));
    }
    Hashed::new(source, length).finish(file)
}

/// Digests what is read through it.
struct Hashed<R> {
    source: R,
    digest: Sha256,
    length: u64,
}

impl<'a> Hashed<std::io::Take<&'a mut dyn Read>> {
    fn new(source: &'a mut dyn Read, length: u64) -> Self {
        Hashed {
            source: source.take(length),
            digest: Sha256::new(),
            length: 0,
        }
    }

    /// Reads the rest, and compares all of it with the manifest.
    fn finish(mut self, file: &FileEntry) -> Result<(), PartError> {
        let rest = std::io::copy(&mut self, &mut std::io::sink());
        rest.map_err(|e| bad(&file.name, e.to_string()))?;
        if self.length != file.bytes {
            return Err(bad(&file.name, "the bundle ends inside it"));
        }
        if hex::encode(self.digest.finalize()) != file.sha256 {
            return Err(bad(
                &file.name,
                "its SHA-256 is not the manifest's: it was damaged or replaced",
            ));
        }
        Ok(())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.digest.update(&buffer[..n]);
        self.length += n as u64;
        Ok(n)
    }
}

/// Whether nothing but zeros is left, with which archives are filled up.
fn is_padding(source: &mut dyn Read) -> Result<bool, PartError> {
    let mut block = [0; BLOCK as usize];
    loop {
        let read = source.read(&mut block);
        match read.map_err(|e| PartError::Damaged(e.to_string()))? {
            0 => return Ok(true),
            n if block[..n].iter().any(|&b| b != 0) => return Ok(false),
            _ => {}
        }
    }
}
