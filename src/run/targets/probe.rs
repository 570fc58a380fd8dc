/*! One look at a target, before there is a run. */

use super::secrets::{believed, read_token};
use super::unless_stopped;
use crate::engine::Cancel;
use crate::protocol::client::Client;
use crate::protocol::message::AgentInfo;
use crate::run::RunError;
use crate::session::Target;

/// Asks an agent who it is; `None` for a target that isn't one: a child of this program is started by
/// the run, and a server of the Open Inference Protocol tells nothing.
///
/// # Errors
/// It can't be reached, refuses the token, or its token isn't set; [`RunError::Stopped`] when told to.
pub fn probe(target: &Target, cancel: &Cancel) -> Result<Option<AgentInfo>, RunError> {
    let Target::Agent {
        url, token, trust, ..
    } = target
    else {
        return Ok(None);
    };
    let believed = believed(trust)?;
    let token = token.as_ref().map(read_token).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(unless_stopped(cancel, async {
        let client = Client::connect_to(url, token.as_deref(), &believed).await?;
        Ok(Some(client.info().await?))
    }))
}
