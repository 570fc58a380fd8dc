//! Agents as their clients meet them, and a run over several of them. One file a story; `network` and
//! `serving` are what they share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failure should stop a test

mod attacks;
mod chain;
mod demo;
mod distributed;
mod encrypted;
mod events;
mod exhaust;
mod faults;
mod garbage;
mod hops;
mod network;
mod part;
mod refusals;
mod serving;
mod targets;
mod training;
mod uploads;
mod v2;
mod v2_json;
