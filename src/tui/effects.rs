/*!
How effects are carried out. Everything that may take longer than a frame runs
on a thread and comes back as a message; of questions that supersede one another only the latest waits.
*/

mod evidence;
mod files;
mod questions;
mod runner;

pub use runner::Runner;
#[cfg(test)]
pub(super) use {files::Files, questions::make_heads};
