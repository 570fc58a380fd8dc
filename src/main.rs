//! Parse, dispatch, exit code: 0 done, 1 failed, 2 wrong use.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    edgelesspart::cli::main(edgelesspart::cli::Cli::parse())
}
