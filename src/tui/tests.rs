//! Keys in, screen out.

mod bytes;
mod driver;
mod evidence;
mod explored;
mod faults;
mod loops;
mod recorded;
mod running;
mod screens;
mod settings;
mod sizes;
mod story;
