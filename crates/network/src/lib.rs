/*!
Networks: what a graph is, how it is read, run and trained. Four rooms, in the order in which they know of one
another; `edgelesspart` shows them as its own, and its map names them.
*/

pub mod autograd;
pub mod backend;
pub mod engine;
pub mod model;
