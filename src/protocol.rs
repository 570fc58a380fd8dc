/*!
The wire between workbench, edge and cloud: messages, tensor encoding, the client. Both sides of
every exchange are described here once; `agent` serves it, `cli` and `tui` call it.
*/

pub(crate) mod cause;
pub mod client;
pub mod codec;
pub mod dataset;
pub mod message;
pub mod record;
pub mod tls;
pub mod v2;
pub mod wire;

pub use client::{Client, ClientError};
pub use tls::TlsTrust;
