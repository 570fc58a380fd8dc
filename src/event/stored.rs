/*!
Events as journals hold them. Up to release 0.1 a connection and what a target said were sentences; here,
and nowhere else, those are read back into data.
*/

use super::{Note, Stage, TargetId};
use crate::plan::Tier;
use serde::Deserialize;

/// A connection, as data or as the sentence of an old journal.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Connection {
    Data(Data),
    Words(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Data {
    Connecting {
        url: String,
    },
    Connected {
        device: String,
        processor: Option<String>,
        threads: Option<usize>,
        slowdown: f64,
    },
    Reconnected,
    Reconnecting {
        after_ms: u64,
        error: String,
    },
    LeftOut,
    Lost,
}

impl From<Connection> for super::Connection {
    fn from(stored: Connection) -> super::Connection {
        match stored {
            Connection::Data(Data::Connecting { url }) => super::Connection::Connecting { url },
            Connection::Data(Data::Connected {
                device,
                processor,
                threads,
                slowdown,
            }) => super::Connection::Connected {
                device,
                processor,
                threads,
                slowdown,
            },
            Connection::Data(Data::Reconnected) => super::Connection::Reconnected,
            Connection::Data(Data::Reconnecting { after_ms, error }) => {
                super::Connection::Reconnecting { after_ms, error }
            }
            Connection::Data(Data::LeftOut) => super::Connection::LeftOut,
            Connection::Data(Data::Lost) => super::Connection::Lost,
            Connection::Words(words) => read(&words),
        }
    }
}

/// A connection as release 0.1 wrote it.
fn read(words: &str) -> super::Connection {
    if words == "connected again" {
        return super::Connection::Reconnected;
    }
    if let Some(device) = words.strip_prefix("connected: ") {
        return super::Connection::Connected {
            device: device.to_owned(),
            processor: None,
            threads: None,
            slowdown: 1.0,
        };
    }
    if let Some(url) = words.strip_prefix("connecting to ") {
        return super::Connection::Connecting {
            url: url.to_owned(),
        };
    }
    if let Some(rest) = words.strip_prefix("reconnecting in ") {
        let (seconds, error) = rest.split_once(" s: ").unwrap_or(("0", rest));
        return super::Connection::Reconnecting {
            after_ms: seconds.parse::<u64>().unwrap_or(0) * 1000,
            error: error.to_owned(),
        };
    }
    match words {
        "not reached; tried again later" => super::Connection::LeftOut,
        _ => super::Connection::Lost,
    }
}

/// What was said, as data or as the sentence of an old journal.
#[derive(Deserialize)]
pub(super) struct Said {
    stage: Stage,
    #[serde(default)]
    origin: Option<TargetId>,
    #[serde(default)]
    note: Option<Note>,
    /// Of an old journal.
    #[serde(default)]
    text: String,
}

impl From<Said> for super::Said {
    fn from(stored: Said) -> super::Said {
        let stage = stored.stage;
        if let Some(note) = stored.note {
            return super::Said {
                stage,
                origin: stored.origin,
                note,
            };
        }
        match whom(&stored.text) {
            Some((target, rest)) => super::Said {
                stage,
                origin: Some(target),
                note: rest.into(),
            },
            None => super::Said {
                stage,
                origin: None,
                note: stored.text.into(),
            },
        }
    }
}

/// Whom a line of an old log is about, where it begins as `edge 0: `, and what it says of it.
fn whom(text: &str) -> Option<(TargetId, &str)> {
    let (whom, what) = text.split_once(": ")?;
    let (side, index) = whom.split_once(' ')?;
    let part = match side {
        "edge" => Tier::First,
        "cloud" => Tier::Second,
        _ => return None,
    };
    let index = index.parse().ok()?;
    Some((TargetId { part, index }, what))
}

#[cfg(test)]
mod tests {
    use super::super::{Connection, Event, Note, Said, Stage, TargetId};
    use crate::plan::Tier;
    use rstest::rstest;

    fn edge(index: usize) -> TargetId {
        TargetId {
            part: Tier::First,
            index,
        }
    }

    #[rstest]
    #[case("connecting to https://a", Connection::Connecting { url: "https://a".into() })]
    #[case("connected again", Connection::Reconnected)]
    #[case("connected: a board, 1 thread", Connection::Connected {
        device: "a board, 1 thread".into(), processor: None, threads: None, slowdown: 1.0 })]
    #[case("reconnecting in 2 s: no route", Connection::Reconnecting {
        after_ms: 2000, error: "no route".into() })]
    #[case("not reached; tried again later", Connection::LeftOut)]
    #[case("lost; its samples go to the others", Connection::Lost)]
    fn the_words_of_old_journals_are_read_into_data_that_says_the_same(
        #[case] words: &str,
        #[case] connection: Connection,
    ) {
        let old = serde_json::json!({"Target": {"part": "edge", "index": 1, "state": words}});
        let read: Event = serde_json::from_value(old).unwrap();
        let (part, index) = (Tier::First, 1);
        assert_eq!(connection.to_string(), words);
        assert_eq!(
            read,
            Event::Target {
                part,
                index,
                connection
            }
        );
    }

    #[rstest]
    #[case("edge 1: waits", Some(edge(1)), "waits")]
    #[case("edge: kept", None, "edge: kept")]
    #[case("the edge 1: no", None, "the edge 1: no")]
    fn what_was_said_in_old_journals_keeps_whom_it_is_about(
        #[case] text: &str,
        #[case] origin: Option<TargetId>,
        #[case] note: &str,
    ) {
        let old = serde_json::json!({"Say": {"stage": "run", "text": text}});
        let read: Event = serde_json::from_value(old).unwrap();
        let said = Said {
            stage: Stage::Run,
            origin,
            note: note.into(),
        };
        assert_eq!(said.to_string(), text);
        assert_eq!(read, Event::Say(said));
    }

    #[rstest]
    #[case(Event::Say(Said { stage: Stage::Run, origin: Some(edge(2)), note: Note::Rejoined }))]
    #[case(Event::Say(Said { stage: Stage::Run, origin: None, note: Note::WaitsFor { pid: 7 } }))]
    #[case(Event::Say(Said { stage: Stage::Run, origin: None, note: "edge 1: words".into() }))]
    #[case(Event::Target { part: Tier::First, index: 0, connection: Connection::Lost })]
    #[case(Event::Target { part: Tier::Second, index: 3, connection: Connection::Reconnecting {
        after_ms: 1500, error: "no route".into() } })]
    #[case(Event::Paused(true))]
    fn what_is_written_is_read_again(#[case] event: Event) {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn a_pause_of_an_old_journal_is_one() {
        let read: Event = serde_json::from_str(r#"{"Held":true}"#).unwrap();
        assert_eq!(read, Event::Paused(true));
    }
}
