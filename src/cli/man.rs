/*! `man`: pages for man(1), made of the same definitions as the parser and the help. */

use super::printed;
use crate::protocol::message::TOKEN_VARIABLE;
use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{self, Write};
use std::path::PathBuf;

/// Print the manual page of this program, or write a page per command.
///
/// To read it: edgelesspart man | man -l -
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder for the pages of all commands, made if it isn't there: edgelesspart.1,
    /// edgelesspart-run.1 and so on; pages that are there are replaced.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Exit codes, as a script may rely on.
const STATUS: [(&str, &str); 3] = [
    ("0", "The command is done."),
    ("1", "The command failed; standard error says why."),
    (
        "2",
        "Wrong use: an option, a session or a value that can't be taken.",
    ),
];

const ENVIRONMENT: [(&str, &str); 5] = [
    (
        TOKEN_VARIABLE,
        "Token that an agent asks its clients for, where no --token-file is given.",
    ),
    (
        "EDGELESSPART_SIMD",
        "Kernels in place of the fastest that the processor has: portable, avx2, avx512 or neon.",
    ),
    (
        "RUST_LOG",
        "What an agent logs: error, warn, info (its default), debug or trace, for all or by module.",
    ),
    (
        "XDG_CONFIG_HOME",
        "Folder of edgelesspart/config.ron (theme and keys of the workbench); ~/.config if unset.",
    ),
    (
        "XDG_STATE_HOME",
        "Folder of unsaved edits to the demo; ~/.local/state if unset.",
    ),
];

/// Runs the command.
///
/// # Errors
/// Where the folder, a page in it or standard output can't be written to.
pub fn run(args: &ManArgs) -> anyhow::Result<()> {
    let mut command = super::Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.out else {
        let page = page(&command, true).context("making the page")?;
        return printed(io::stdout().write_all(&page));
    };
    std::fs::create_dir_all(folder).context(folder.display().to_string())?;
    let mut pages = Vec::new();
    all(&command, &mut pages).context("making the pages")?;
    for (name, page) in &pages {
        let file = folder.join(name);
        std::fs::write(&file, page).context(file.display().to_string())?;
    }
    super::progress::note(format_args!("{}: {} pages", folder.display(), pages.len()));
    Ok(())
}

/// Adds file name and text of the page of a command and of each one below it.
fn all(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let top = pages.is_empty();
    let name = man(command).get_filename();
    pages.push((name, page(command, top)?));
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        all(below, pages)?;
    }
    Ok(())
}

/// The page's form, with program and version at its foot.
fn man(command: &Command) -> Man {
    let source = concat!("edgelesspart ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone())
        .source(source)
        .manual("EdgeLessPart")
}

/// The page of a command; what is true of all of them stands on the program's own.
fn page(command: &Command, top: bool) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man(command).render(&mut page)?;
    if top {
        let mut more = Roff::new();
        for (title, terms) in [("EXIT STATUS", &STATUS[..]), ("ENVIRONMENT", &ENVIRONMENT)] {
            more.control("SH", [title]);
            for (term, meaning) in terms {
                more.control("TP", []);
                more.text([bold(*term)]);
                more.text([roman(*meaning)]);
            }
        }
        more.to_writer(&mut page)?;
    }
    Ok(page)
}
