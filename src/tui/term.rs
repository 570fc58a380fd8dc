/*!
The terminal, owned: raw mode, the alternate screen and bracketed paste are taken and given back here,
and one frame is one write. Signals and the end of the terminal are watched apart from the input,
whose source spins when a terminal goes away.
*/

pub mod color;
pub mod encode;
pub mod pace;
mod writer;

use super::TuiError;
use super::app::Display;
use super::message::Msg;
use color::Depth;
use encode::Screen;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{self, SetArg};
use nix::unistd::Pid;
use pace::Pace;
use ratatui::buffer::Buffer;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::ThreadId;
use std::time::{Duration, Instant};
use writer::Writer;

/// Alternate screen, no cursor, bracketed paste.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?2004h";
/// Also ends a synchronized update that was cut off.
const LEAVE: &[u8] =
    b"\x1b[?2026l\x1b[0m\x1b[?1006l\x1b[?1002l\x1b[?1000l\x1b[?2004l\x1b[?25h\x1b[?1049l";

/// Presses, drags and the wheel, in the form without bounds.
const MOUSE: &[u8] = b"\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const NO_MOUSE: &[u8] = b"\x1b[?1006l\x1b[?1002l\x1b[?1000l";

/// Whether the terminal is ours: what the panic hook needs to know.
static TAKEN: AtomicBool = AtomicBool::new(false);
static OWNER: OnceLock<ThreadId> = OnceLock::new();

/// How long the last frame may take when the terminal is given back: one that stands still is left as
/// it is.
const LAST: Duration = Duration::from_secs(1);

/// The terminal while the workbench has it; given back when dropped.
#[derive(Debug)]
pub struct Terminal {
    writer: Writer,
    screen: Screen,
    mouse: bool,
}

impl Terminal {
    /// Takes the terminal; `tell` hears when something was written.
    ///
    /// # Errors
    /// Standard input or output is no terminal, or one that can't be drawn on, or refuses.
    pub fn take(depth: Depth, tell: &Sender<Msg>) -> Result<Terminal, TuiError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(TuiError::NoTerminal);
        }
        if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return Err(TuiError::Dumb);
        }
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let pace = Pace::of(speed(&out));
        let mut terminal = Terminal {
            writer: Writer::start(out, pace, tell.clone())?,
            screen: Screen::new(depth),
            mouse: false,
        };
        hook();
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&mut self) -> io::Result<()> {
        // It remembers the modes to give back, and thinks itself done the second time; after a stop from
        // outside the shell has put its own in place.
        crossterm::terminal::enable_raw_mode()?;
        raw()?;
        TAKEN.store(true, Ordering::SeqCst);
        self.screen.invalidate();
        self.writer.write(ENTER.to_vec());
        if self.mouse {
            self.writer.write(MOUSE.to_vec());
        }
        // Written when this returns: what a panic writes to give the terminal back must not come
        // before what took it.
        self.writer.drain(LAST);
        Ok(())
    }

    fn leave(&mut self) {
        if TAKEN.swap(false, Ordering::SeqCst) {
            self.writer.write(LEAVE.to_vec());
            self.writer.drain(LAST);
            let _ = crossterm::terminal::disable_raw_mode();
        }
    }
}

impl Display for Terminal {
    /// Something sane where the terminal doesn't know.
    fn size(&self) -> (u16, u16) {
        match crossterm::terminal::size() {
            Ok((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
            _ => (80, 24),
        }
    }

    fn free(&self) -> Option<Instant> {
        self.writer.free()
    }

    /// One write, or none.
    fn show(&mut self, next: Buffer) {
        let bytes = self.screen.frame(next);
        if !bytes.is_empty() {
            self.writer.write(bytes);
        }
    }

    /// Bytes beside a frame, such as a copy by OSC 52.
    fn send(&mut self, bytes: &[u8]) {
        self.writer.write(bytes.to_vec());
    }

    /// Takes the mouse, or leaves it to the terminal.
    fn mouse(&mut self, ours: bool) {
        self.mouse = ours;
        self.writer
            .write(if ours { MOUSE } else { NO_MOUSE }.to_vec());
    }

    /// Gives the terminal back, stops the process group as the shell expects of Ctrl-Z, and takes
    /// the terminal again when somebody continues it.
    fn suspend(&mut self) -> io::Result<()> {
        self.leave();
        kill(Pid::from_raw(0), Signal::SIGSTOP)?;
        self.enter()
    }

    /// After a stop we didn't ask for, the shell may have changed everything.
    fn resume(&mut self) -> io::Result<()> {
        self.enter()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Every key comes at once, and as it is.
fn raw() -> io::Result<()> {
    let input = io::stdin();
    let mut modes = termios::tcgetattr(&input)?;
    termios::cfmakeraw(&mut modes);
    termios::tcsetattr(&input, SetArg::TCSANOW, &modes)?;
    Ok(())
}

/// Whether the terminal shows more than ASCII, by the locale; `variable` looks an environment variable
/// up. Where none is set, as in many containers, it is taken for one of today.
pub fn shows_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let mut set = names.into_iter().filter_map(variable);
    let locale = set.find(|value| !value.is_empty());
    locale.is_none_or(|value| {
        let value = value.to_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// Bits a second, where the terminal names them.
fn speed(out: &File) -> Option<u32> {
    let settings = termios::tcgetattr(out).ok()?;
    let speed = termios::cfgetospeed(&settings);
    // Linux has a number for each speed, other systems the speed itself.
    let name = format!("{speed:?}");
    name.strip_prefix('B').unwrap_or(&name).parse().ok()
}

/// A panic gives the terminal back first, leaves a report, and then says where. A panic in a job's
/// thread only leaves the report: the job fails, the workbench goes on.
fn hook() {
    let _ = OWNER.set(std::thread::current().id());
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        std::panic::set_hook(Box::new(|info| {
            let ours = OWNER.get() == Some(&std::thread::current().id());
            let was_taken = TAKEN.load(Ordering::SeqCst);
            if ours && TAKEN.swap(false, Ordering::SeqCst) {
                let _ = io::stdout().write_all(LEAVE);
                let _ = io::stdout().flush();
                let _ = crossterm::terminal::disable_raw_mode();
            }
            let trace = std::backtrace::Backtrace::force_capture();
            let version = env!("CARGO_PKG_VERSION");
            let report = format!("edgelesspart {version}\n{info}\n\n{trace}\n");
            let file = report_file();
            // A new file: what others may have planted under that name is left alone.
            let new = File::create_new(&file);
            let kept = new.and_then(|mut file| file.write_all(report.as_bytes()));
            if ours || !was_taken {
                let mut out = io::stderr().lock();
                let _ = writeln!(out, "edgelesspart: {info}");
                if kept.is_ok() {
                    let _ = writeln!(out, "edgelesspart: the report is in {}", file.display());
                }
            }
        }));
    });
}

/// Where a panic's report goes.
fn report_file() -> PathBuf {
    std::env::temp_dir().join(format!("edgelesspart-panic-{}.txt", std::process::id()))
}

/// Watches signals and the terminal's end, each on a thread of its own.
///
/// # Errors
/// No thread or no signal handler is to be had.
pub fn watch(tell: &Sender<Msg>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let told = tell.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(signals(&told)))?;
    let told = tell.clone();
    std::thread::Builder::new()
        .name("hang-up".into())
        .spawn(move || {
            let input = io::stdin();
            loop {
                let mut watched = [PollFd::new(input.as_fd(), PollFlags::empty())];
                match poll(&mut watched, PollTimeout::NONE) {
                    Err(nix::errno::Errno::EINTR) | Ok(0) => {}
                    _ => break,
                }
            }
            give_up(&told);
        })?;
    Ok(())
}

async fn signals(tell: &Sender<Msg>) {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |signal_number: Signal| signal(SignalKind::from_raw(signal_number as i32));
    let (Ok(mut hang_up), Ok(mut terminate), Ok(mut stop), Ok(mut go_on)) = (
        listen(Signal::SIGHUP),
        listen(Signal::SIGTERM),
        listen(Signal::SIGTSTP),
        listen(Signal::SIGCONT),
    ) else {
        return;
    };
    loop {
        tokio::select! {
            _ = hang_up.recv() => { let told = tell.clone(); std::thread::spawn(move || give_up(&told)); }
            _ = terminate.recv() => { let told = tell.clone(); std::thread::spawn(move || give_up(&told)); }
            _ = stop.recv() => { let _ = tell.send(Msg::Suspend); }
            _ = go_on.recv() => { let _ = tell.send(Msg::Resume); }
        }
    }
}

/// The loop is asked to save and end; where it is stuck in a write to a terminal that is gone, the
/// journal of edits is on disk already, and the process ends all the same.
fn give_up(tell: &Sender<Msg>) {
    let _ = tell.send(Msg::HangUp);
    std::thread::sleep(Duration::from_millis(1500));
    std::process::exit(129);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], true)]
    #[case(&[("LANG", "C")], false)]
    #[case(&[("LANG", "POSIX")], false)]
    #[case(&[("LANG", "en_US.UTF-8")], true)]
    #[case(&[("LANG", "C.utf8")], true)]
    #[case(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false)]
    #[case(&[("LC_ALL", ""), ("LC_CTYPE", "de_DE.UTF-8"), ("LANG", "C")], true)]
    #[case(&[("LANG", "de_DE.ISO-8859-1")], false)]
    fn the_locale_says_what_can_be_shown(#[case] set: &[(&str, &str)], #[case] unicode: bool) {
        let look = |name: &str| {
            let found = set.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.to_string())
        };
        assert_eq!(shows_unicode(look), unicode);
    }
}
