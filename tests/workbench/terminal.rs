//! A terminal for the workbench: a real one, read on a thread, as fast as a line lets it.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{BaudRate, SetArg, cfsetspeed, tcgetattr, tcsetattr};
use nix::unistd::{Pid, ttyname};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Long enough for a machine that builds something else meanwhile; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What is started, and the line to it.
pub struct Start<'a> {
    pub program: PathBuf,
    pub args: &'a [&'a str],
    pub env: &'a [(&'a str, &'a str)],
    /// Columns and rows.
    pub size: (u16, u16),
    /// What the terminal says its speed is.
    pub speed: Option<BaudRate>,
    /// How much is read of it.
    pub bytes_per_second: Option<usize>,
}

impl Default for Start<'_> {
    /// The demo at 80×24.
    fn default() -> Self {
        Start {
            program: env!("CARGO_BIN_EXE_edgelesspart").into(),
            args: &[],
            env: &[],
            size: (80, 24),
            speed: None,
            bytes_per_second: None,
        }
    }
}

pub struct Terminal {
    pub child: Child,
    pub keys: Option<File>,
    pub output: Receiver<Vec<u8>>,
    pub parser: vt100::Parser,
    /// All that came.
    pub raw: Vec<u8>,
    pub tty: PathBuf,
    pub folder: tempfile::TempDir,
}

impl Terminal {
    /// The demo, in a session and on a terminal of its own; `None` where no `setsid` is.
    pub fn open() -> Option<Terminal> {
        Terminal::start(tempfile::tempdir().unwrap(), &Start::default())
    }

    /// The program with arguments in a folder.
    pub fn with(folder: tempfile::TempDir, args: &[&str]) -> Option<Terminal> {
        let start = Start {
            args,
            ..Start::default()
        };
        Terminal::start(folder, &start)
    }

    pub fn start(folder: tempfile::TempDir, start: &Start) -> Option<Terminal> {
        // A terminal's own end must not be open in any child, or it never hangs up.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap();
        let (columns, rows) = start.size;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        let slave = File::from(slave);
        if let Some(speed) = start.speed {
            let mut settings = tcgetattr(&slave).unwrap();
            cfsetspeed(&mut settings, speed).unwrap();
            tcsetattr(&slave, SetArg::TCSANOW, &settings).unwrap();
        }
        let tty = ttyname(&slave).unwrap();
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let spawned = Command::new("setsid")
            .arg("--ctty")
            .arg(&start.program)
            .args(start.args)
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .envs(start.env.iter().copied())
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn();
        let Ok(child) = spawned else {
            println!("skipped: no setsid");
            return None;
        };
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (tell, output) = channel();
        // Twenty times a second.
        let at_once = start.bytes_per_second.map_or(4096, |rate| rate / 20);
        let pause = start.bytes_per_second.map(|_| Duration::from_millis(50));
        std::thread::spawn(move || {
            let mut bytes = vec![0; at_once];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if tell.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
                if let Some(pause) = pause {
                    std::thread::sleep(pause);
                }
            }
        });
        Some(Terminal {
            child,
            keys: Some(master),
            output,
            parser: vt100::Parser::new(rows, columns, 0),
            raw: Vec::new(),
            tty,
            folder,
        })
    }

    pub fn press(&mut self, keys: &str) {
        let line = self.keys.as_mut().unwrap();
        line.write_all(keys.as_bytes()).unwrap();
    }

    fn take(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.raw.extend(bytes);
    }

    /// Reads until the screen is as it should be.
    pub fn wait_until(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is(&self.contents()) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("no {what} in\n{}", self.contents());
            };
            self.take(&bytes);
        }
    }

    /// Reads until the screen has a text.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(&format!("`{text}`"), |screen| screen.contains(text));
    }

    /// Types, and reads until the screen has a text.
    pub fn say(&mut self, keys: &str, text: &str) {
        self.press(keys);
        self.wait_for(text);
    }

    /// Reads what comes until nothing has for so long.
    pub fn read_on(&mut self, quiet: Duration) {
        let until = Instant::now() + PATIENCE;
        while let Ok(bytes) = self.output.recv_timeout(quiet) {
            self.take(&bytes);
            assert!(Instant::now() < until, "never quiet:\n{}", self.contents());
        }
    }

    pub fn contents(&self) -> String {
        self.parser.screen().contents()
    }

    /// The numbers behind a label in its line.
    pub fn numbers(&self, label: &str) -> Vec<f64> {
        let screen = self.contents();
        let line = screen
            .lines()
            .find_map(|l| l.split_once(label).map(|(_, rest)| rest));
        let line = line.unwrap_or_else(|| panic!("no `{label}` in\n{screen}"));
        let words = line.split_whitespace();
        words.filter_map(|w| w.parse().ok()).collect()
    }

    /// Sets the size, as a terminal does; false where no `stty` is.
    pub fn resize(&mut self, columns: u16, rows: u16) -> bool {
        let [columns_text, rows_text] = [columns, rows].map(|n| n.to_string());
        let stty = Command::new("stty")
            .args(["rows", &rows_text, "cols", &columns_text, "-F"])
            .arg(&self.tty)
            .status();
        // A frame that was under way is for the size before: where it wraps at a height of one, vt100
        // doesn't survive it.
        let screen = self.parser.screen_mut();
        screen.set_size(rows.max(2), columns.max(2));
        stty.is_ok_and(|s| s.success())
    }

    /// Reads until the program has ended; gives its folder, in which nothing goes on.
    pub fn end(mut self) -> tempfile::TempDir {
        assert!(self.wait().success());
        let folder = self.leave();
        nothing_left(folder.path());
        folder
    }

    /// Waits for its end, reading what it says: a full line would hold it up.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it goes on:\n{}", self.contents());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.take(&bytes);
            }
        }
    }

    /// Its folder, whatever still goes on there.
    pub fn leave(mut self) -> tempfile::TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// `R`, `S`, `T`, … as the system has it.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    pub fn wait_for_state(&self, wanted: char) {
        for _ in 0..600 {
            if self.state() == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the process is in state {}, not {wanted}", self.state());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in processes_of(self.folder.path()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Processes that were started, by whomever, for a folder that is their home.
pub fn processes_of(home: &Path) -> Vec<Pid> {
    let home = format!("HOME={}", home.display());
    let own = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&b| b == 0).any(|v| v == home.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| own(pid)).map(Pid::from_raw).collect()
}

/// Waits until nothing goes on for a folder: runs and agents end when nobody needs them.
pub fn nothing_left(home: &Path) {
    for _ in 0..PATIENCE.as_secs() * 10 {
        if processes_of(home).is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = processes_of(home);
    for pid in &left {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    panic!("{left:?} were left behind");
}
