/*!
A part as data, the files it travels in, and running it: segments and heads compiled once and run in
order until every sample has left. Knows no HTTP: an agent, a command and a test run parts alike.

| file       | what it is                                                       |
|------------|------------------------------------------------------------------|
| `parts`    | a plan's parts, cut out of the network                           |
| `manifest` | what a part says of itself, and its files in memory              |
| `bundle`   | a part in one file (tar), read with everything checked           |
| `runner`   | a part made ready, and run                                       |
| `trail`    | what the exits said so far, where an exit looks back at them     |
*/

mod bundle;
pub mod emulation;
mod error;
pub mod manifest;
pub mod memory;
pub mod parts;
pub mod runner;
#[cfg(test)]
pub(crate) mod tests;
pub mod trail;

pub use bundle::is_bundle;
pub use error::RunnerError;
