/*!
What a file is by its first bytes. A download that went wrong, or a file of another program, then
gets an error that names it, whether it was given as a network or as images.
*/

use std::fmt;

/// Bytes that [`Signature::of`] looks at; a shorter head may be recognised less well.
pub const HEAD: usize = 512;

/// A kind of file that is told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Signature {
    /// The text that Git keeps in place of a large file.
    LfsPointer,
    /// Usually the error or login page of a download.
    Html,
    /// What `torch.save` writes: a ZIP with a pickle, or before 1.6 a pickle alone.
    PyTorch,
    Pickle,
    TfLite,
    OrtFormat,
    Safetensors,
    Hdf5,
    Gguf,
    TensorRt,
    Rknn,
    Npz,
    Npy,
    Zip,
    Gzip,
    Tar,
    Zstandard,
    Xz,
    Bzip2,
    SevenZip,
    Jpeg,
    Png,
    Gif,
    Bmp,
    Tiff,
    WebP,
    /// HEIC or AVIF image: an ISO media file with a still picture.
    Heif,
    Pdf,
    Xml,
}

impl Signature {
    /// The kind of a file that begins with `head`, if it is one of those known here.
    pub fn of(head: &[u8]) -> Option<Signature> {
        use Signature::*;
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..)
                .is_some_and(|rest| rest.starts_with(magic))
        };
        if let Some(text) = of_text(head) {
            return Some(text);
        }
        if at(0, b"PK\x03\x04") {
            return Some(of_zip(head));
        }
        let table: &[(usize, &[u8], Signature)] = &[
            (4, b"TFL3", TfLite),
            (4, b"ORTM", OrtFormat),
            (0, b"\x89HDF\r\n\x1a\n", Hdf5),
            (0, b"GGUF", Gguf),
            (0, b"ftrt", TensorRt),
            (0, b"RKNN", Rknn),
            (0, b"\x93NUMPY", Npy),
            (0, &[0x1f, 0x8b], Gzip),
            (257, b"ustar", Tar),
            (0, &[0x28, 0xb5, 0x2f, 0xfd], Zstandard),
            (0, b"\xfd7zXZ\0", Xz),
            (0, b"BZh", Bzip2),
            (0, b"7z\xbc\xaf\x27\x1c", SevenZip),
            (0, &[0xff, 0xd8, 0xff], Jpeg),
            (0, b"\x89PNG\r\n\x1a\n", Png),
            (0, b"GIF8", Gif),
            (0, b"II*\0", Tiff),
            (0, b"MM\0*", Tiff),
            (0, b"%PDF-", Pdf),
        ];
        if let Some((.., found)) = table.iter().find(|(offset, magic, _)| at(*offset, magic)) {
            return Some(*found);
        }
        // The length of its JSON header comes first, as a u64 that stays far below 2^40.
        if at(5, b"\0\0\0{\"") {
            return Some(Safetensors);
        }
        if at(0, b"RIFF") && at(8, b"WEBP") {
            return Some(WebP);
        }
        let heif: [&[u8]; 5] = [b"heic", b"heix", b"mif1", b"avif", b"avis"];
        if at(4, b"ftyp") && heif.iter().any(|brand| at(8, brand)) {
            return Some(Heif);
        }
        // Two letters alone are a weak sign; a BMP also has four reserved zeros.
        if at(0, b"BM") && at(6, &[0; 4]) {
            return Some(Bmp);
        }
        // Protocols 2 to 5; `torch.save` of old began with its magic number as a long of ten bytes.
        if matches!(head, [0x80, 2..=5, ..]) {
            return Some(if at(2, b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20") {
                PyTorch
            } else {
                Pickle
            });
        }
        None
    }

    /// What to do when a network was asked for.
    pub fn remedy_for_network(self) -> &'static str {
        use Signature::*;
        match self {
            LfsPointer => LFS,
            Html => PAGE,
            PyTorch | Pickle | Safetensors => {
                "write the network as ONNX in Python: torch.onnx.export(model, example, \"model.onnx\")"
            }
            TfLite => {
                "convert it to ONNX: python -m tf2onnx.convert --tflite FILE --output model.onnx"
            }
            Hdf5 => {
                "convert it to ONNX: python -m tf2onnx.convert --keras FILE --output model.onnx"
            }
            OrtFormat | TensorRt | Rknn | Gguf => {
                "it was compiled for one runtime: take the ONNX file it was made from"
            }
            Gzip | Zip | Tar | Zstandard | Xz | Bzip2 | SevenZip => "unpack it first",
            _ => "name an ONNX file",
        }
    }

    /// What to do when a picture or a data set was asked for.
    pub fn remedy_for_data(self) -> &'static str {
        use Signature::*;
        match self {
            LfsPointer => LFS,
            Html => PAGE,
            Gzip | Zip | Tar | Zstandard | Xz | Bzip2 | SevenZip => "unpack it first",
            Gif | Tiff | WebP | Heif => "convert it to PNG or JPEG",
            _ => "replace it, or move it out of the data set",
        }
    }
}

const LFS: &str = "fetch the file itself: git lfs pull, or the download link of the file";
const PAGE: &str = "the download gave a page in place of the file: download it again";

fn of_text(head: &[u8]) -> Option<Signature> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = text.trim_ascii_start();
    let begins = |word: &str| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    if begins("version https://git-lfs") {
        Some(Signature::LfsPointer)
    } else if begins("<!doctype html") || begins("<html") || begins("<head") {
        Some(Signature::Html)
    } else if begins("<?xml") {
        Some(Signature::Xml)
    } else {
        None
    }
}

/// Which program wrote a ZIP: told by the name of its first entry (30 bytes into the file).
fn of_zip(head: &[u8]) -> Signature {
    let length = head
        .get(26..28)
        .map_or(0, |n| usize::from(u16::from_le_bytes([n[0], n[1]])));
    let name = head.get(30..30 + length).unwrap_or(&[]);
    if name.ends_with(b"data.pkl") {
        Signature::PyTorch
    } else if name.ends_with(b".npy") {
        Signature::Npz
    } else {
        Signature::Zip
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Signature::*;
        f.write_str(match self {
            LfsPointer => "a Git LFS pointer, not the file it stands for",
            Html => "a web page (HTML)",
            PyTorch => "a PyTorch checkpoint (.pt)",
            Pickle => "a Python pickle",
            TfLite => "a TensorFlow Lite network",
            OrtFormat => "a network in ONNX Runtime's own format (.ort)",
            Safetensors => "weights alone (safetensors)",
            Hdf5 => "an HDF5 file (Keras)",
            Gguf => "a GGUF file",
            TensorRt => "a TensorRT engine",
            Rknn => "an RKNN network",
            Npz => "a NumPy archive (.npz)",
            Npy => "a NumPy array (.npy)",
            Zip => "a ZIP archive",
            Gzip => "compressed by gzip",
            Tar => "a tar archive",
            Zstandard => "compressed by Zstandard",
            Xz => "compressed by xz",
            Bzip2 => "compressed by bzip2",
            SevenZip => "a 7z archive",
            Jpeg => "a JPEG picture",
            Png => "a PNG picture",
            Gif => "a GIF picture",
            Bmp => "a BMP picture",
            Tiff => "a TIFF picture",
            WebP => "a WebP picture",
            Heif => "a HEIC or AVIF picture",
            Pdf => "a PDF document",
            Xml => "an XML file",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::lfs(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        Some(Signature::LfsPointer)
    )]
    #[case::html(b"\n<!DOCTYPE html><html>", Some(Signature::Html))]
    #[case::html_bom(b"\xef\xbb\xbf<HTML>", Some(Signature::Html))]
    // As torch 2.x, numpy and zip wrote them.
    #[case::torch(
        b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0archive/data.pklFB",
        Some(Signature::PyTorch)
    )]
    #[case::old_torch(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", Some(Signature::PyTorch))]
    #[case::pickle(b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}", Some(Signature::Pickle))]
    #[case::npz(b"PK\x03\x04-\0\0\0\0\0\0\0!\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x05\0\x14\0x.npy", Some(Signature::Npz))]
    #[case::zip(
        b"PK\x03\x04\n\0\0\0\0\0\x91\x9d\x7d\x5b\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\x1c\0a/",
        Some(Signature::Zip)
    )]
    #[case::tflite(b"\x1c\0\0\0TFL3\x14\0", Some(Signature::TfLite))]
    #[case::safetensors(b"\x58\0\0\0\0\0\0\0{\"w\":{", Some(Signature::Safetensors))]
    #[case::gzip(b"\x1f\x8b\x08\0", Some(Signature::Gzip))]
    #[case::webp(b"RIFF\x24\0\0\0WEBPVP8 ", Some(Signature::WebP))]
    // The first fields of an ONNX file: ir_version 8, producer "pytorch".
    #[case::onnx(b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xb2", None)]
    #[case::text(b"not a model", None)]
    #[case::empty(b"", None)]
    fn the_first_bytes_tell(#[case] head: &[u8], #[case] wanted: Option<Signature>) {
        assert_eq!(Signature::of(head), wanted);
    }
}
