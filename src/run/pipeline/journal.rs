/*! What of a run's events its journal keeps. */

use crate::event::{Event, Stage};
use crate::plan::Tier;

/// Which events a journal wants: of a stage's progress five a second, and the last; of a target's
/// sensors one in five seconds.
#[derive(Default)]
pub(super) struct JournalThrottle {
    progress: Option<(Stage, f64)>,
    vitals: Vec<((Tier, usize), f64)>,
}

impl JournalThrottle {
    pub(super) fn is(&mut self, event: &Event, seconds: f64) -> bool {
        match event {
            Event::Progress {
                stage, done, total, ..
            } => {
                let last = self.progress;
                let late = last.is_none_or(|(s, at)| s != *stage || seconds - at >= 0.2);
                let due = done == total || late;
                if due {
                    self.progress = Some((*stage, seconds));
                }
                due
            }
            Event::Vitals { part, index, .. } => {
                let place = (*part, *index);
                let last = self.vitals.iter().position(|(p, _)| *p == place);
                match last {
                    Some(i) if seconds - self.vitals[i].1 < 5.0 => return false,
                    Some(i) => self.vitals[i].1 = seconds,
                    None => self.vitals.push((place, seconds)),
                }
                true
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Vitals;

    #[test]
    fn a_journal_keeps_five_steps_a_second_and_the_last() {
        let step = |done| Event::Progress {
            stage: Stage::Tables,
            done,
            total: 1000,
            note: String::new(),
        };
        let mut due = JournalThrottle::default();
        let kept = (1..=1000).filter(|&i| due.is(&step(i), i as f64 / 1024.0));
        assert_eq!(kept.collect::<Vec<u64>>(), [1, 206, 411, 616, 821, 1000]);
        assert!(due.is(&Event::Started(Stage::Plan), 0.0));
        let vitals = |index| Event::Vitals {
            part: Tier::First,
            index,
            vitals: Vitals::default(),
        };
        let kept = [(0, 1.0), (1, 2.0), (0, 3.0), (1, 7.0), (0, 7.5)];
        let kept = kept.map(|(index, at)| due.is(&vitals(index), at));
        assert_eq!(kept, [true, true, false, true, true]);
    }
}
