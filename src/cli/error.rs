/*! What a command fails with, and the exit code it becomes. */

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// A failed command. Any room's error turns into one with `?`; like other catch-all error types it
/// is not itself a `std::error::Error`, which is what lets that conversion exist.
#[derive(Debug)]
pub struct CliError {
    context: Vec<String>,
    cause: Option<Box<dyn Error + Send + Sync>>,
    usage: bool,
}

impl CliError {
    /// Wrong use: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        CliError {
            context: vec![message.into()],
            cause: None,
            usage: true,
        }
    }

    /// A failure with nothing beneath it: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        CliError {
            context: vec![message.into()],
            cause: None,
            usage: false,
        }
    }

    /// Says what was being done when it failed.
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.context.insert(0, what.into());
        self
    }

    /// 1 for a failure, 2 for wrong use.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.context.join(": "))?;
        let mut cause: Option<&dyn Error> = self.cause.as_deref().map(|e| e as &dyn Error);
        let mut before = self.context.join(": ");
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors already end with the text of their cause.
            if !before.ends_with(&text) {
                if !before.is_empty() {
                    write!(f, ": ")?;
                }
                write!(f, "{text}")?;
                before = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        CliError {
            context: Vec::new(),
            cause: Some(Box::new(error)),
            usage: false,
        }
    }
}

/// `.context("reading the session")?` on any room's result.
pub trait Context<T> {
    /// Says what was being done when it failed.
    fn context(self, what: impl Into<String>) -> Result<T, CliError>;
}

impl<T, E: Into<CliError>> Context<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T, CliError> {
        self.map_err(|e| e.into().context(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_whole_chain_once() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = CliError::from(io)
            .context("a.ron")
            .context("reading the session");
        assert_eq!(
            error.to_string(),
            "reading the session: a.ron: no such file"
        );
    }
}
