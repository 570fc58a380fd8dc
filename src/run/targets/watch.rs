/*!
An eye on every target: whether it answers, and what its sensors say. A target whose own job is being
followed is left alone, since the job tells both, and nothing else should take its time.
*/

use crate::event::{Connection, Event, Vitals};
use crate::plan::Tier;
use crate::protocol::client::Client;
use crate::run::stage_cache::Reporter;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// An answer later than this is none.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest pause before one that is lost is asked again.
const LONGEST: Duration = Duration::from_secs(16);

type Place = (Tier, usize);

/// What was seen of a target.
enum Sight {
    Connection(Connection),
    Vitals(Vitals),
}

/// The eye. What it sees waits until it is told.
pub(super) struct Watch {
    seen: mpsc::UnboundedSender<(Place, Sight)>,
    told: mpsc::UnboundedReceiver<(Place, Sight)>,
    busy: Arc<Mutex<HashSet<Place>>>,
}

fn reconnecting(again: Duration, error: String) -> Sight {
    Sight::Connection(Connection::Reconnecting {
        after_ms: again.as_millis() as u64,
        error,
    })
}

impl Watch {
    pub fn new() -> Watch {
        let (seen, told) = mpsc::unbounded_channel();
        Watch {
            seen,
            told,
            busy: Arc::default(),
        }
    }

    /// Looks at a target as long as the runtime lives.
    pub fn look_at(&self, runtime: &Runtime, place: Place, client: Client) {
        let (seen, busy) = (self.seen.clone(), self.busy.clone());
        runtime.spawn(async move {
            let mut pause = EVERY;
            let mut lost = false;
            loop {
                sleep(pause).await;
                if busy
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(&place)
                {
                    continue;
                }
                let mut news = Vec::new();
                match timeout(ANSWER, client.info()).await {
                    Ok(Ok(info)) => {
                        pause = EVERY;
                        if std::mem::take(&mut lost) {
                            news.push(Sight::Connection(Connection::Reconnected));
                        }
                        news.extend(info.telemetry.map(|t| Sight::Vitals(Vitals::from(&t))));
                    }
                    Ok(Err(error)) => {
                        let after = next(&mut pause, &mut lost);
                        news.push(reconnecting(after, error.to_string()));
                    }
                    Err(_) => {
                        let after = next(&mut pause, &mut lost);
                        news.push(reconnecting(after, "it doesn't answer in time".to_owned()));
                    }
                }
                for sight in news {
                    if seen.send((place, sight)).is_err() {
                        return;
                    }
                }
            }
        });
    }

    /// Leaves a target alone, or looks at it again.
    pub fn leave_alone(&self, place: Place, busy: bool) {
        let mut all = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        match busy {
            true => all.insert(place),
            false => all.remove(&place),
        };
    }

    /// Tells what was seen: states in their order, of the sensors what they said last.
    pub fn tell(&mut self, reporter: &mut Reporter) {
        let mut last: Vec<(Place, Vitals)> = Vec::new();
        while let Ok(((part, index), sight)) = self.told.try_recv() {
            match sight {
                Sight::Connection(connection) => reporter.event(Event::Target {
                    part,
                    index,
                    connection,
                }),
                Sight::Vitals(vitals) => {
                    last.retain(|(place, _)| *place != (part, index));
                    last.push(((part, index), vitals));
                }
            }
        }
        for ((part, index), vitals) in last {
            reporter.event(Event::Vitals {
                part,
                index,
                vitals,
            });
        }
    }
}

/// The pause before one that doesn't answer is asked again: longer each time.
fn next(pause: &mut Duration, lost: &mut bool) -> Duration {
    if std::mem::replace(lost, true) {
        *pause = (*pause * 2).min(LONGEST);
    }
    *pause
}
