/*! Questions on a terminal, line by line: numbered choices, defaults that Enter takes. */

use crate::engine::Cancel;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write as _};
use std::os::fd::AsFd;

/// Milliseconds between two looks at the cancel token while nobody types.
const LOOK_MS: u16 = 100;
/// Columns of a sentence.
const WIDTH: usize = 78;

/// Asks, and waits for answers.
pub(super) struct Asker<'a> {
    cancel: &'a Cancel,
}

impl<'a> Asker<'a> {
    pub fn new(cancel: &'a Cancel) -> Asker<'a> {
        Asker { cancel }
    }

    /// Says something, wrapped.
    pub fn say(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        // A terminal that is gone ends the next question.
        let _ = writeln!(out);
        for line in textwrap::wrap(text, WIDTH) {
            let _ = writeln!(out, "{line}");
        }
    }

    /// One of `options`, by its number; the first if Enter alone is pressed. Gives its place, from 0.
    pub fn choose(&mut self, question: &str, options: &[&str]) -> anyhow::Result<usize> {
        self.say(question);
        for (at, option) in options.iter().enumerate() {
            let mark = format!("  {}) ", at + 1);
            let indent = " ".repeat(mark.len());
            let wrap = textwrap::Options::new(WIDTH)
                .initial_indent(&mark)
                .subsequent_indent(&indent);
            for line in textwrap::wrap(option, wrap) {
                self.put(&format!("{line}\n"))?;
            }
        }
        let most = options.len();
        loop {
            let answer = self.answer("1")?;
            match answer.parse::<usize>() {
                Ok(number) if (1..=most).contains(&number) => return Ok(number - 1),
                _ => self.put(&format!("  a number from 1 to {most}, please\n"))?,
            }
        }
    }

    /// An answer that `read` takes; asked again, with what is wrong, until there is one.
    pub fn until<T, E: std::fmt::Display>(
        &mut self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> anyhow::Result<T> {
        self.say(question);
        loop {
            let answer = self.answer(default.unwrap_or(""))?;
            if answer.is_empty() {
                continue;
            }
            match read(&answer) {
                Ok(value) => return Ok(value),
                Err(why) => self.put(&format!("  {why}\n"))?,
            }
        }
    }

    /// Waits for Enter.
    pub fn pause(&mut self, what: &str) -> anyhow::Result<()> {
        self.put(&format!("[{what}] "))?;
        self.line().map(drop)
    }

    fn answer(&mut self, default: &str) -> anyhow::Result<String> {
        let prompt = match default {
            "" => "> ".to_string(),
            default => format!("[{default}] > "),
        };
        self.put(&prompt)?;
        let line = self.line()?;
        Ok(match line.trim() {
            "" => default.to_string(),
            text => text.to_string(),
        })
    }

    fn put(&mut self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.context("asking")
    }

    /// A line as typed. Byte by byte, so that nothing is read ahead of what the workbench is to get.
    fn line(&mut self) -> anyhow::Result<String> {
        let ended = || anyhow::Error::msg("ended; nothing was written");
        let input = io::stdin();
        let mut line = Vec::new();
        loop {
            let mut waits = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waits, PollTimeout::from(LOOK_MS)) {
                _ if self.cancel.is_cancelled() => return Err(ended()),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let mut byte = [0];
            match nix::unistd::read(input.as_fd(), &mut byte) {
                Ok(0) => return Err(ended()),
                Ok(_) if byte[0] == b'\n' => {
                    return Ok(String::from_utf8_lossy(&line).into_owned());
                }
                Ok(_) => line.push(byte[0]),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
