/*! `completions`: what a shell needs to complete commands and options. */

use super::printed;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};

/// Print a script that makes a shell complete this program's commands and options.
///
/// bash: edgelesspart completions bash > ~/.local/share/bash-completion/completions/edgelesspart
///
/// zsh: edgelesspart completions zsh > DIR/_edgelesspart, where DIR is in $fpath
///
/// fish: edgelesspart completions fish > ~/.config/fish/completions/edgelesspart.fish
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell that reads the script.
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// Where standard output can't be written to.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut command = super::Cli::command();
    let mut script = Vec::new();
    let name = command.get_name().to_string();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    printed(io::stdout().write_all(&script))
}
