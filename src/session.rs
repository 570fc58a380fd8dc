/*!
The session: the RON file that holds settings and, once there are some, results.

What may live here: the types of the file, reading and checking it, our own commented form of it and
how it is written without ever losing one. A user's file is never rewritten by a run.
*/

pub mod catalog;
mod doubts;
mod migrate;
mod model;
mod parse;
pub mod records;
pub mod results;
mod save;
mod settings;
pub mod stages;
pub mod tables;
mod validate;

pub use model::{BuiltIn, ModelError, ModelSource};
pub use parse::{SessionError, VERSION};
pub use results::Results;
pub use save::{open_plain, read_plain, write_atomically};
pub use settings::*;
