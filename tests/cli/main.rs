//! The commands as a script uses them: what they print, write and exit with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

mod exits;
mod help;
mod install;
mod networks;
mod new;
mod pages;
mod parts;
mod refused;
mod run;
mod table;
mod train;
