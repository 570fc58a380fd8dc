//! Networks and their images in this process: read, cut, run and trained, and held against what other
//! tools computed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

mod answer;
mod brought;
mod conformance;
mod demo;
mod images;
mod light;
mod memory;
mod parts;
mod reference;
