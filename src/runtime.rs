/*!
A part as data, the bundle it travels in, and running it: segments and heads compiled once and run in
order until every sample has left. Knows no HTTP: an agent, a command and a test run parts alike.
*/

pub mod emulation;
mod error;
pub mod memory;
pub mod parts;
pub mod runner;
#[cfg(test)]
mod tests;

pub use error::RunnerError;
