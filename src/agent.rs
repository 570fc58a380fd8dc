/*! The server on a target: holds parts, runs them, runs jobs, keeps their records. */

pub mod paced;
pub mod runner;
pub mod wait;
