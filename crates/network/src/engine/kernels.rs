/*!
The hot loops, and all that is `unsafe` in the engine: each block with the reason why it holds.
*/

pub(crate) mod gather;
pub(crate) mod loops;
pub(crate) mod matmul;
pub(crate) mod memory;
mod pages;
pub(crate) mod planes;
mod simd;
pub(crate) mod step;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
