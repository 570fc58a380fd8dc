use super::*;
use crate::runtime::parts::address;
use axum::body::Body;
use futures_util::stream;
use hyper::body::Bytes;
use pretty_assertions::assert_eq;
use rstest::rstest;

fn store(folder: &tempfile::TempDir, max: u64) -> Store {
    Store::open(folder.path(), max).unwrap()
}

async fn put(store: &Store, address: &str, bytes: &[u8]) -> Result<Upload, Refused> {
    let mut body = Body::from(bytes.to_vec());
    store.put(address, None, &mut body, 1000).await
}

async fn piece(store: &Store, whole: &[u8], from: usize, to: usize) -> Result<Upload, Refused> {
    let mut body = Body::from(whole[from..to].to_vec());
    let range = format!("bytes {from}-{}/{}", to - 1, whole.len());
    let range = Piece::parse(&range).unwrap();
    let name = address(whole);
    store.put(&name, Some(range), &mut body, 1000).await
}

/// A body whose connection breaks after these bytes.
fn cut(bytes: &[u8]) -> Body {
    let came = Ok(Bytes::copy_from_slice(bytes));
    let lost = Err(std::io::Error::other("the connection broke"));
    Body::from_stream(stream::iter([came, lost]))
}

fn files(folder: &tempfile::TempDir) -> usize {
    std::fs::read_dir(folder.path()).unwrap().count()
}

#[tokio::test]
async fn the_oldest_goes_first_and_one_in_use_never() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 100);
    let blobs: Vec<Vec<u8>> = (0..4u8).map(|i| vec![i; 40]).collect();
    let names: Vec<String> = blobs.iter().map(|b| address(b)).collect();
    let put = async |i: usize| put(&store, &names[i], &blobs[i]).await;
    put(0).await.unwrap();
    put(1).await.unwrap();
    let held = store.get(&names[0]).unwrap();
    put(2).await.unwrap();
    assert!(store.get(&names[1]).is_none(), "0 is in use, so 1 went");
    assert_eq!(store.read(&names[0]).unwrap(), blobs[0]);
    let other = store.get(&names[2]).unwrap();
    let full = put(3).await.unwrap_err();
    assert_eq!(full.kind, RefusalKind::StorageFull);
    drop((held, other));
    put(3).await.unwrap();
    // A new process finds what is there.
    let again = Store::open(folder.path(), 100).unwrap();
    assert!(again.get(&names[3]).is_some());
}

#[tokio::test]
async fn nothing_stays_of_what_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 10_000);
    let name = address(b"right");
    for (name, bytes) in [
        (name.as_str(), &b"wrong"[..]),
        (name.as_str(), &[0; 1001][..]),
        ("../../etc/passwd", &b"right"[..]),
    ] {
        let refused = put(&store, name, bytes).await;
        assert!(refused.unwrap_err().status().is_client_error());
    }
    // One that doesn't announce how much it is.
    let pieces = (0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; 100])));
    let mut body = Body::from_stream(stream::iter(pieces));
    let refused = store.put(&name, None, &mut body, 1000).await;
    assert_eq!(refused.unwrap_err().kind, RefusalKind::TooLarge);
    assert_eq!(files(&folder), 0);
}

#[tokio::test]
async fn a_damaged_file_is_not_believed_and_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 100);
    let name = address(b"right");
    for check in [
        |s: &Store, name: &str| s.read(name).map(drop),
        |s: &Store, name: &str| s.checked(name).map(drop),
    ] {
        put(&store, &name, b"right").await.unwrap();
        check(&store, &name).unwrap();
        std::fs::write(folder.path().join(&name), b"wrong").unwrap();
        let error = check(&store, &name).unwrap_err().error;
        assert!(error.contains("send it again"), "{error}");
        let gone = Upload {
            received: 0,
            whole: false,
        };
        assert_eq!(store.state(&name).await, gone);
    }
}

#[tokio::test]
async fn a_file_comes_in_pieces_and_goes_on_where_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole: Vec<u8> = (0..900u32).map(|i| (i * 7) as u8).collect();
    let name = address(&whole);
    {
        let store = store(&folder, 1000);
        let state = piece(&store, &whole, 0, 300).await.unwrap();
        assert_eq!((state.received, state.whole), (300, false));
        // The connection breaks in the middle of the second.
        let range = Piece::parse("bytes 300-599/900").unwrap();
        let mut body = cut(&whole[300..450]);
        let lost = store.put(&name, Some(range), &mut body, 1000).await;
        assert_eq!(lost.unwrap_err().kind, RefusalKind::Incomplete);
        assert_eq!(store.state(&name).await.received, 450);
        // Neither a gap nor the same again.
        for from in [600, 300] {
            let refused = piece(&store, &whole, from, 900).await.unwrap_err();
            assert_eq!(refused.kind, RefusalKind::Conflict);
            assert!(refused.error.contains("450 bytes"), "{}", refused.error);
        }
    }
    // Another life of the agent knows it, too.
    let store = store(&folder, 1000);
    assert_eq!(store.state(&name).await.received, 450);
    let done = piece(&store, &whole, 450, 900).await.unwrap();
    assert_eq!((done.received, done.whole), (900, true));
    assert_eq!(store.read(&name).unwrap(), whole);
    assert_eq!(files(&folder), 1);
    // What is there is not taken again.
    let mut body = Body::from("anything");
    let again = store.put(&name, None, &mut body, 1000).await.unwrap();
    assert!(again.whole);
}

#[tokio::test]
async fn pieces_that_are_not_the_file_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 1000);
    let whole = vec![1u8; 500];
    let name = address(&whole);
    let wrong = async |range: &str, bytes: usize| {
        let mut body = Body::from(vec![2; bytes]);
        let range = Piece::parse(range).unwrap();
        store.put(&name, Some(range), &mut body, 1000).await
    };
    wrong("bytes 0-249/500", 250).await.unwrap();
    let refused = wrong("bytes 250-499/500", 250).await.unwrap_err();
    assert!(refused.error.contains("damaged on the way"));
    assert_eq!(files(&folder), 0);
    // More than the piece, or less.
    assert!(wrong("bytes 0-9/500", 11).await.is_err());
    assert!(wrong("bytes 0-9/500", 9).await.is_err());
    assert!(wrong("bytes 0-9/2000", 10).await.is_err());
}

#[rstest]
#[case("bytes 0-9/10", true)]
#[case("bytes 0-10/10", false)]
#[case("bytes 5-4/10", false)]
#[case("bytes */10", false)]
#[case("bytes 0-9/*", false)]
#[case("bytes -1-9/10", false)]
#[case("bytes 0-18446744073709551615/18446744073709551615", false)]
#[case("bytes 0-99999999999999999999/999999999999999999999", false)]
#[case("pixels 0-9/10", false)]
#[case("", false)]
fn a_piece_is_read_or_refused(#[case] text: &str, #[case] good: bool) {
    assert_eq!(Piece::parse(text).is_ok(), good);
}

#[tokio::test]
async fn the_later_of_two_who_send_the_same_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(store(&folder, 1000));
    let whole: Vec<u8> = (0..400u32).map(|i| i as u8).collect();
    let name = address(&whole);
    // The first has sent a hundred bytes, and then nothing for a while.
    let (more, rest) = tokio::sync::oneshot::channel::<()>();
    let (begun, began) = tokio::sync::oneshot::channel::<()>();
    let bytes = Bytes::from(whole.clone());
    let slow = stream::unfold((0, Some(begun), Some(rest)), move |(step, begun, rest)| {
        let bytes = bytes.clone();
        async move {
            match step {
                0 => Some((
                    Ok::<_, std::io::Error>(bytes.slice(..100)),
                    (1, begun, rest),
                )),
                1 => {
                    let _ = begun?.send(());
                    let _ = rest?.await;
                    Some((Ok(bytes.slice(100..)), (2, None, None)))
                }
                _ => None,
            }
        }
    });
    let (first_store, first_name) = (store.clone(), name.clone());
    let first = tokio::spawn(async move {
        let range = Piece::parse("bytes 0-399/400").unwrap();
        let mut body = Body::from_stream(slow);
        first_store
            .put(&first_name, Some(range), &mut body, 1000)
            .await
    });
    began.await.unwrap();
    let have = store.state(&name).await.received;
    assert_eq!(have, 100);
    let done = piece(&store, &whole, 100, 400).await.unwrap();
    assert!(done.whole);
    more.send(()).unwrap();
    let late = first.await.unwrap().unwrap_err();
    assert_eq!(late.kind, RefusalKind::Conflict);
    assert_eq!(store.read(&name).unwrap(), whole);
}

#[tokio::test]
async fn what_is_coming_counts_in_full_and_makes_room_when_it_is_idle() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder, 1000);
    let (first, second) = (vec![1u8; 800], vec![2u8; 300]);
    piece(&store, &first, 0, 10).await.unwrap();
    // 10 bytes are here and 800 are promised: there is no room for 300, so the idle one goes.
    put(&store, &address(&second), &second).await.unwrap();
    assert_eq!(store.state(&address(&first)).await.received, 0);
    assert_eq!(files(&folder), 1);
    // And one that is used stays, whatever is announced.
    let held = store.get(&address(&second)).unwrap();
    let full = piece(&store, &first, 0, 10).await.unwrap_err();
    assert_eq!(full.kind, RefusalKind::StorageFull);
    drop(held);
}

#[tokio::test]
async fn what_waits_in_vain_is_swept_away() {
    let folder = tempfile::tempdir().unwrap();
    let whole = vec![3u8; 500];
    let open = |stale| Store::with(folder.path(), 1000, stale).unwrap();
    let patient = open(Duration::from_secs(3600));
    piece(&patient, &whole, 0, 100).await.unwrap();
    patient.sweep();
    assert_eq!(patient.state(&address(&whole)).await.received, 100);
    let impatient = open(Duration::ZERO);
    assert_eq!(impatient.state(&address(&whole)).await.received, 0);
    assert_eq!(files(&folder), 0);
    // While it runs, too.
    piece(&impatient, &whole, 0, 100).await.unwrap();
    assert_eq!(files(&folder), 1);
    impatient.sweep();
    assert_eq!(files(&folder), 0);
}
