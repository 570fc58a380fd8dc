//! Keys in, screen out.

mod bytes;
mod driver;
mod screens;
mod sizes;
mod story;
