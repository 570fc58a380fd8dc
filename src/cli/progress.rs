/*!
Progress on standard error: a bar a stage on a terminal, a plain line every few seconds elsewhere
(a log of a script should stay readable).
*/

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
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

const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one stage.
#[derive(Debug)]
pub struct Stage {
    name: String,
    started: Instant,
    total: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Stage {
    /// Starts a stage of `total` steps (0: unknown).
    pub fn start(name: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
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
        Stage {
            name: name.to_string(),
            started: now,
            total,
            bar,
            last_line: now,
        }
    }

    /// How far it is, how much there is (0: unknown), and a word about it.
    pub fn set(&mut self, position: u64, total: u64, note: &str) {
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
                self::note(format_args!("{}: {position}{of} {note}", self.name));
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
            None => note(format_args!("{}: {sentence}", self.name)),
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
        note(format_args!("{:<22} {outcome} ({seconds:.1} s)", self.name));
    }
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
    fn what_steers_a_terminal_is_made_visible() {
        assert_eq!(
            clean("a \u{1b}[31mred\r\n\tb"),
            "a \u{fffd}[31mred\u{fffd}\n\tb"
        );
    }
}
