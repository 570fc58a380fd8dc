/*!
The engine's kernels as the crate has them (the folder `engine` is a link to the crate's), with the
little of the engine that they know, so that their tests can be built by themselves.
*/

#![allow(dead_code, unused_imports, reason = "what uses the kernels isn't here")]

mod engine {
    mod cancel;
    mod isa;
    pub(crate) mod kernels;

    pub use cancel::Cancel;
    pub use isa::Isa;
}
