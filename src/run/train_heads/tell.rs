/*! What a training tells, told on. */

use crate::event::Event;
use crate::run::stage_cache::Reporter;
use crate::train;

/// Passes on what a training tells.
pub(in crate::run) fn tell(reporter: &mut Reporter, event: train::Event) {
    if let Some(remark) = event.remark() {
        reporter.say(remark);
    }
    match event {
        train::Event::Features { done, total } => {
            reporter.progress(done, total, "images through the network");
        }
        train::Event::Epoch {
            epoch,
            epochs,
            scores,
            validation,
            ..
        } => {
            let last = scores.last();
            let note = last.map_or_else(String::new, |(name, loss, accuracy)| {
                format!("{name}: loss {loss:.3}, {:.1} % right", 100.0 * accuracy)
            });
            reporter.progress(epoch, epochs, &note);
            let stage = reporter.stage;
            reporter.event(Event::Epoch {
                stage,
                epoch,
                epochs,
                scores,
                validation,
            });
        }
        _ => {}
    }
}
