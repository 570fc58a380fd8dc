/*!
The seam between networks and what runs them: a [`Backend`] compiles a graph, a [`Compiled`] network
runs into its caller's buffers.

What may live here: the two traits (`compiled`), the names of backends (`id`), and one file per backend:
`native` for our own engine, `candle` for candle's devices, `onnxruntime` for ONNX Runtime. A backend may fuse layers, keep its memory
to itself and know the time of whole runs only; nothing in the traits says otherwise. To add one,
implement both traits in a file of its own and give it a name in [`BackendId`].
*/

mod buffer;
mod candle;
mod compiled;
mod id;
mod native;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;

pub use candle::Candle;
pub use compiled::{Backend, CompileOptions, Compiled, CompiledMemory, TimedSteps, Timing};
pub use id::{BackendError, BackendId, CandleDevice, Provider};
pub use native::Native;
#[cfg(feature = "onnxruntime")]
pub use onnxruntime::OnnxRuntime;

impl BackendId {
    /// The backend itself.
    ///
    /// # Errors
    /// Where its device or its library isn't there, or this build doesn't know it.
    pub fn open(self) -> Result<Box<dyn Backend>, BackendError> {
        Ok(match self {
            BackendId::Native => Box::new(Native::default()),
            BackendId::Candle(device) => Box::new(Candle::open(device)?),
            #[cfg(feature = "onnxruntime")]
            BackendId::OnnxRuntime(provider) => Box::new(OnnxRuntime::open(provider)?),
            #[cfg(not(feature = "onnxruntime"))]
            BackendId::OnnxRuntime(_) => {
                return Err(BackendError::NotBuilt {
                    name: self,
                    feature: "onnxruntime",
                });
            }
        })
    }
}
