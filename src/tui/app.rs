/*!
The loop: messages in, frames out. Input is answered at once, up to twenty frames a second; progress is
gathered to five. Nothing is drawn, and nothing written, while nothing happens; on a slow line no frame
follows another that isn't through, and the next one is the newest.
*/

use super::effects::Runner;
use super::message::{Effect, Msg, Timer};
use super::state::State;
use super::views;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::collections::HashMap;
use std::io;
use std::iter;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

const INPUT_FRAME: Duration = Duration::from_millis(50);
const PROGRESS_FRAME: Duration = Duration::from_millis(200);

/// What the loop shows frames on.
pub trait Display {
    /// Gives the size in columns and rows.
    fn size(&self) -> (u16, u16);
    /// When a frame may be shown; `None` while the one before isn't written, whose end is told.
    fn free(&self) -> Option<Instant>;
    fn show(&mut self, next: Buffer);
    fn send(&mut self, bytes: &[u8]);
    fn mouse(&mut self, ours: bool);
    fn suspend(&mut self) -> io::Result<()>;
    fn resume(&mut self) -> io::Result<()>;
}

/// Runs until the user leaves or the terminal does.
///
/// # Errors
/// The terminal can't be given to the shell, or taken back.
pub fn run(
    state: &mut State,
    terminal: &mut impl Display,
    messages: &Receiver<Msg>,
    runner: &mut Runner,
    first: Vec<Effect>,
) -> io::Result<()> {
    let mut timers: HashMap<Timer, Instant> = HashMap::new();
    state.size = terminal.size();
    let mut queue = first;
    let mut shown: Option<Instant> = None;
    // When the next frame is due; `None` while the screen is as it should be.
    let mut due: Option<Instant> = Some(Instant::now());
    loop {
        for effect in queue.drain(..) {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Suspend => {
                    terminal.suspend()?;
                    due = Some(Instant::now());
                }
                Effect::Later { timer, ms } => {
                    timers.insert(timer, Instant::now() + Duration::from_millis(ms));
                }
                Effect::Mouse(ours) => terminal.mouse(ours),
                Effect::Copy => copy(state, terminal, runner),
                Effect::Clip(text) => {
                    clip(terminal, &text);
                    state.say(format!("copied: {text}"));
                }
                other => runner.run(other),
            }
        }
        // While a frame is being written its end is what is waited for.
        let mut frame = due.zip(terminal.free()).map(|(due, free)| due.max(free));
        if frame.is_some_and(|at| at <= Instant::now()) && !state.gone {
            terminal.show(views::draw(state, whole(state)));
            shown = Some(Instant::now());
            (due, frame) = (None, None);
        }
        let wake = timers.values().copied().chain(frame).min();
        let message = match wake {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => messages.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match message {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(first) => {
                // What has come meanwhile is folded into the same frame.
                let mut pause = None;
                for message in iter::once(first).chain(messages.try_iter().take(1000)) {
                    let message = match message {
                        Msg::Written(Ok(())) => continue,
                        // Nobody reads any more: what is unsaved is kept, and this ends.
                        Msg::Written(Err(_)) => Msg::HangUp,
                        other => other,
                    };
                    if matches!(message, Msg::Resume) {
                        terminal.resume()?;
                        state.size = terminal.size();
                    }
                    let longest = pause_of(&message);
                    pause = Some(pause.map_or(longest, |p: Duration| p.min(longest)));
                    queue.extend(fold(state, message));
                }
                if let Some(pause) = pause {
                    let earliest = shown.map_or(Instant::now(), |s| s + pause);
                    due = Some(due.map_or(earliest, |due| due.min(earliest)));
                }
            }
        }
        let now = Instant::now();
        let ripe: Vec<Timer> = timers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(t, _)| *t)
            .collect();
        for timer in ripe {
            timers.remove(&timer);
            queue.extend(state.update(Msg::Timer(timer)));
            due = Some(due.unwrap_or(now));
        }
    }
}

/// Folds a message in; what the mouse means, the views know.
fn fold(state: &mut State, message: Msg) -> Vec<Effect> {
    match message {
        Msg::Mouse(event) => match views::hit(state, whole(state), event) {
            Some(hit) => state.update(Msg::Hit(hit)),
            None => Vec::new(),
        },
        other => state.update(other),
    }
}

fn whole(state: &State) -> Rect {
    Rect::new(0, 0, state.size.0, state.size.1)
}

/// How long after the last frame a message may be shown.
fn pause_of(message: &Msg) -> Duration {
    match message {
        Msg::Run(..) => PROGRESS_FRAME,
        _ => INPUT_FRAME,
    }
}

/// The screen as text: to the clipboard by OSC 52, and to a file, since tmux may drop the former.
fn copy(state: &mut State, terminal: &mut impl Display, runner: &mut Runner) {
    let text = text(&views::draw(state, whole(state)));
    clip(terminal, &text);
    runner.run(Effect::Write {
        file: "edgelesspart-screen.txt".into(),
        text,
        over: true,
    });
}

/// Puts a text into the terminal's clipboard.
fn clip(terminal: &mut impl Display, text: &str) {
    use base64::Engine as _;
    let packed = base64::engine::general_purpose::STANDARD.encode(text);
    terminal.send(format!("\x1b]52;c;{packed}\x07").as_bytes());
}

/// A frame's symbols, line by line.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in area.top()..area.bottom() {
        let row: String = (area.left()..area.right())
            .map(|x| buffer[(x, y)].symbol())
            .collect();
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}
