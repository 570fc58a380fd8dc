//! The workbench in a real terminal. A binary of its own: no other test may start a process while a
//! terminal is being opened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

mod story;
mod terminal;
