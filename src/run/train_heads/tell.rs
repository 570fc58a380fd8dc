/*! What a training tells, in sentences. */

use crate::event::Event;
use crate::run::stage_cache::Reporter;
use crate::train;

/// What a training tells, told on.
pub(in crate::run) fn tell(reporter: &mut Reporter, event: train::Event) {
    match event {
        train::Event::Resumed { epoch } => reporter.say(format!("goes on after epoch {epoch}")),
        train::Event::StaleCheckpoint => reporter.say("a checkpoint of another training is replaced"),
        train::Event::Features { done, total } => reporter.progress(done, total, "images through the network"),
        train::Event::KeptFeatures { places } => {
            let s = if places == 1 { "" } else { "s" };
            reporter.say(format!("features of {places} place{s} in the network are there from before"));
        }
        train::Event::UnkeptFeatures { why } => reporter.say(format!(
            "the features can't be kept ({why}): the next training computes them again"
        )),
        train::Event::Stopped { name, epoch, best } => reporter.say(format!(
            "{name}: stopped after epoch {epoch}, as it was best after epoch {best} on calibration images"
        )),
        train::Event::NoCache {
            bytes,
            bound,
            seconds,
        } => reporter.say(format!(
            "the features take {}, more than the {} there are for them: the network runs again \
             in every epoch, {seconds:.0} s each",
            crate::units::bytes(bytes as f64),
            crate::units::bytes(bound as f64)
        )),
        train::Event::Phase { name, epochs } => {
            reporter.say(match name {
                "backbone" => format!("the network alone, {epochs} epochs"),
                _ => format!("network and exits together, {epochs} epochs"),
            });
        }
        train::Event::Epoch {
            epoch,
            epochs,
            scores,
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
            });
        }
    }
}
