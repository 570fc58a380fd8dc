/*! The MODEL argument, the same for every command that takes a network. */

use super::{CliError, error::Context};
use crate::model::Graph;
use crate::model::fuse::fuse;
use crate::model::layers::LayerTable;
use crate::model::onnx::import_file;
use std::path::PathBuf;

/// Which network.
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    /// The network: an ONNX file.
    model: PathBuf,
}

/// A network as the commands use it.
#[derive(Debug)]
pub struct Network {
    /// As it runs.
    pub fused: Graph,
}

impl NetworkArgs {
    /// Imports and fuses the network.
    pub fn load(&self) -> Result<Network, CliError> {
        let imported = import_file(&self.model)?;
        Ok(Network {
            fused: fuse(&imported),
        })
    }
}

impl Network {
    /// Its layers.
    pub fn table(&self) -> Result<LayerTable, CliError> {
        LayerTable::new(&self.fused).context("listing the layers")
    }
}
