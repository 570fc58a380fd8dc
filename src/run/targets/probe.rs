/*! One look at a target, before there is a run. */

use super::secrets::{believed, read_token};
use super::unless_stopped;
use crate::backend::BackendId;
use crate::engine::Cancel;
use crate::protocol::client::Client;
use crate::protocol::message::AgentInfo;
use crate::run::RunError;
use crate::session::Target;

/// Refuses an agent that runs parts by another engine than the session wants; any is right where the
/// session wants none.
///
/// # Errors
/// Names both engines, and how to start the agent.
pub(super) fn has_engine(
    url: &str,
    wanted: Option<BackendId>,
    info: &AgentInfo,
) -> Result<(), RunError> {
    match wanted {
        Some(wanted) if wanted != info.engine => Err(RunError::OtherEngine {
            url: url.to_string(),
            wanted,
            found: info.engine,
        }),
        _ => Ok(()),
    }
}

/// Asks an agent who it is; `None` for a target that isn't one: a child of this program is started by
/// the run, and a server of the Open Inference Protocol tells nothing.
///
/// # Errors
/// It can't be reached, refuses the token, its token isn't set, or it has another engine; [`RunError::Stopped`] when told to.
pub fn probe(target: &Target, cancel: &Cancel) -> Result<Option<AgentInfo>, RunError> {
    let Target::Agent {
        url,
        token,
        trust,
        engine,
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
        let info = client.info().await?;
        has_engine(url, *engine, &info)?;
        Ok(Some(info))
    }))
}
