/*!
The hot loops, and all that is `unsafe` in the engine: each block with the reason why it holds.
*/

pub(crate) mod matmul;
pub(crate) mod memory;
