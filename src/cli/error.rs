/*! What a failed command says, and the exit code it becomes. */

use std::process::ExitCode;

/// Wrong use of a command: exit code 2 in place of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// An error for wrong use of a command.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// The exit code of an error: 1 for a failure, 2 for wrong use.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// An error with its context and its causes in one line.
pub fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Many errors already end with the text of their cause.
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line += ": ";
        }
        line += &text;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use rstest::rstest;

    #[rstest]
    #[case(Err(usage("--threshold 2: it may be 0 to 1")), 2)]
    #[case(Err(usage("it may be 0 to 1")).context("--threshold 2"), 2)]
    #[case(Err(anyhow::Error::msg("it may be 0 to 1")).context("--threshold 2"), 1)]
    fn wrong_use_keeps_its_exit_code_below_any_context(
        #[case] done: anyhow::Result<()>,
        #[case] code: u8,
    ) {
        let error = done.unwrap_err();
        assert_eq!(line(&error), "--threshold 2: it may be 0 to 1");
        assert_eq!(exit_code(&error), ExitCode::from(code));
    }

    #[test]
    fn says_the_whole_chain_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("a.ron: {0}")]
        struct Unread(#[source] std::io::Error);
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = anyhow::Error::new(Unread(io)).context("reading the session");
        assert_eq!(line(&error), "reading the session: a.ron: no such file");
    }
}
