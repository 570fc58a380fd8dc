/*! Compressed bodies, both ways. What is unpacked is bounded, so that a bomb goes off as a refusal. */

use super::error::Refused;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::Compression;
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{Read, Write};

/// An answer smaller than this isn't worth packing.
const SMALL: usize = 512;

/// The body as its `Content-Encoding` says, at most `max` bytes of it.
///
/// # Errors
/// 413 beyond that, 400 where it is damaged, 415 for an encoding that isn't spoken here.
pub(super) fn unpack(headers: &HeaderMap, body: Bytes, max: usize) -> Result<Bytes, Refused> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoding = encoding.map(|v| v.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => Ok(body),
        Some("gzip" | "x-gzip") => read(GzDecoder::new(&body[..]), max),
        // The name means zlib's framing; some send the bare stream.
        Some("deflate") => match body.first() {
            Some(first) if first & 0x0f == 8 => read(ZlibDecoder::new(&body[..]), max),
            _ => read(DeflateDecoder::new(&body[..]), max),
        },
        Some(other) => Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the encoding `{other}` isn't spoken here; use gzip, deflate or none"),
        )),
    }
}

fn read(reader: impl Read, max: usize) -> Result<Bytes, Refused> {
    let mut out = Vec::new();
    let read = reader.take(max as u64 + 1).read_to_end(&mut out);
    read.map_err(|e| Refused::bad(format!("the body can't be unpacked: {e}")))?;
    if out.len() > max {
        return Err(Refused::too_large(max));
    }
    Ok(Bytes::from(out))
}

/// The body packed as the client takes it, and that encoding's name.
pub(super) fn pack(headers: &HeaderMap, body: Vec<u8>) -> (Vec<u8>, Option<&'static str>) {
    let accepted = headers.get(header::ACCEPT_ENCODING);
    let accepted = accepted.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let takes = |name: &str| {
        accepted.split(',').any(|one| {
            let mut words = one.split(';').map(str::trim);
            words.next().is_some_and(|n| n.eq_ignore_ascii_case(name))
                && words.all(|w| !matches!(w, "q=0" | "q=0.0"))
        })
    };
    if body.len() < SMALL {
        return (body, None);
    }
    // Fast: a tensor's bytes hardly shrink, and somebody waits.
    let level = Compression::fast();
    let packed = if takes("gzip") {
        let mut out = GzEncoder::new(Vec::new(), level);
        out.write_all(&body)
            .and_then(|()| out.finish())
            .map(|b| (b, "gzip"))
    } else if takes("deflate") {
        let mut out = ZlibEncoder::new(Vec::new(), level);
        out.write_all(&body)
            .and_then(|()| out.finish())
            .map(|b| (b, "deflate"))
    } else {
        return (body, None);
    };
    // Writing to memory doesn't fail.
    packed.map_or((body, None), |(packed, name)| (packed, Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[rstest]
    #[case("gzip", Some("gzip"))]
    #[case("br, deflate;q=0.5", Some("deflate"))]
    #[case("gzip;q=0, deflate", Some("deflate"))]
    #[case("br", None)]
    #[case("", None)]
    fn comes_back_as_it_was(#[case] accepted: &str, #[case] name: Option<&str>) {
        let body: Vec<u8> = (0..5000u32).map(|i| (i / 7) as u8).collect();
        let (packed, found) = pack(&headers(header::ACCEPT_ENCODING, accepted), body.clone());
        assert_eq!(found, name);
        let encoding = headers(header::CONTENT_ENCODING, name.unwrap_or("identity"));
        let packed = Bytes::from(packed);
        assert_eq!(unpack(&encoding, packed.clone(), 5000).unwrap(), body);
        if name.is_some() {
            let refused = unpack(&encoding, packed.clone(), 4999).unwrap_err();
            assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
            let cut = packed.slice(..packed.len() / 2);
            let refused = unpack(&encoding, cut, 5000).unwrap_err();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn an_unknown_encoding_is_refused() {
        let refused = unpack(&headers(header::CONTENT_ENCODING, "br"), Bytes::new(), 10);
        assert_eq!(
            refused.unwrap_err().status,
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        );
    }
}
