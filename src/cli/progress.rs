/*!
Progress on standard error: a bar a stage on a terminal, a plain line every few seconds elsewhere
(a log of a script should stay readable).
*/

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Writes a line to standard error, cleaned of what would steer a terminal: names from files and the
/// words of servers are in it. That nobody reads it, or that the disk behind it is full, ends nothing.
pub fn note(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", clean(&line.to_string()));
}

/// A text with what would steer a terminal made visible.
fn clean(text: &str) -> String {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.replace(steers, "\u{fffd}")
}

/// How much is said of what goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loudness {
    /// Errors alone are printed.
    Quiet,
    /// Stages, their progress, and what of it stays.
    #[default]
    Usual,
    /// Every step of a stage is printed too.
    Verbose,
}

/// How much a command says, the same for all that take long.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct LoudnessArgs {
    /// Say nothing of what goes on; errors are said, and results printed.
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
    /// Say each epoch and each reading of the sensors too.
    #[arg(long, short)]
    verbose: bool,
}

/// What this process was asked for; a process carries out one command.
static LOUDNESS: OnceLock<Loudness> = OnceLock::new();

impl LoudnessArgs {
    /// Makes it what this process says from here on.
    pub fn apply(self) {
        let _ = LOUDNESS.set(match (self.quiet, self.verbose) {
            (true, _) => Loudness::Quiet,
            (false, true) => Loudness::Verbose,
            (false, false) => Loudness::Usual,
        });
    }
}

/// How much is to be said.
pub fn loudness() -> Loudness {
    LOUDNESS.get().copied().unwrap_or_default()
}

/// A line of what goes on, where that is wanted.
pub fn tell(line: std::fmt::Arguments<'_>) {
    if loudness() != Loudness::Quiet {
        note(line);
    }
}

const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one stage.
#[derive(Debug)]
pub struct Bar {
    name: String,
    started: Instant,
    total: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// When this count was first told, and how far it was.
    first: Option<(Instant, u64)>,
}

impl Bar {
    /// Starts a stage of `total` steps (0: unknown).
    pub fn start(name: &str, total: u64) -> Self {
        let shown = std::io::stderr().is_terminal() && loudness() != Loudness::Quiet;
        let bar = shown.then(|| {
            let bar = if total > 0 {
                ProgressBar::new(total)
            } else {
                ProgressBar::new_spinner()
            };
            bar.set_style(style(total));
            bar.set_prefix(name.to_string());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Bar {
            name: name.to_string(),
            started: now,
            total,
            bar,
            last_line: now,
            first: None,
        }
    }

    /// How far it is, how much there is (0: unknown), and a word about it.
    pub fn set(&mut self, position: u64, total: u64, note: &str) {
        if self.first.is_none_or(|(_, done)| position < done) || total != self.total {
            self.first = Some((Instant::now(), position));
        }
        match &self.bar {
            Some(bar) => {
                if total != self.total {
                    bar.set_style(style(total));
                    bar.set_length(total);
                }
                bar.set_position(position);
                bar.set_message(clean(note));
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                let of = if total > 0 {
                    format!("/{total}")
                } else {
                    String::new()
                };
                let left = self.first.and_then(|(began, first)| {
                    left(
                        began.elapsed().as_secs_f64(),
                        position.checked_sub(first)?,
                        total.checked_sub(position)?,
                    )
                });
                let left = left.map_or(String::new(), |s| format!(", {s:.0} s left"));
                tell(format_args!("{}: {position}{of}{left} {note}", self.name));
            }
            None => {}
        }
        self.total = total;
    }

    /// Moves the bar only: for a stage that says a sentence at each step.
    pub fn step(&mut self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// A sentence that stays: a fallback taken, a dropped target.
    pub fn say(&self, sentence: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("  {}", clean(sentence))),
            None => tell(format_args!("{}: {sentence}", self.name)),
        }
    }

    /// Ends the stage without a word: what came of it is said elsewhere.
    pub fn clear(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Ends the stage with what came of it.
    pub fn done(self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        tell(format_args!("{:<22} {outcome} ({seconds:.1} s)", self.name));
    }
}

/// Seconds that the rest takes at the pace so far; unknown before anything is done, or of no total.
fn left(seconds: f64, done: u64, rest: u64) -> Option<f64> {
    (done > 0 && rest > 0).then(|| seconds * rest as f64 / done as f64)
}

fn style(total: u64) -> ProgressStyle {
    let template = match total {
        0 => "{prefix:<22} {spinner} {pos} {wide_msg}",
        _ => "{prefix:<22} [{bar:24}] {pos}/{len} {eta:>4} {wide_msg}",
    };
    // Both templates are constants known to parse; the default style is a harmless way out.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_did() {
        assert_eq!(left(4.0, 20, 80), Some(16.0));
        assert_eq!(left(4.0, 0, 80), None);
        assert_eq!(left(4.0, 80, 0), None);
    }

    #[test]
    fn what_steers_a_terminal_is_made_visible() {
        assert_eq!(
            clean("a \u{1b}[31mred\r\n\tb"),
            "a \u{fffd}[31mred\u{fffd}\n\tb"
        );
    }
}
