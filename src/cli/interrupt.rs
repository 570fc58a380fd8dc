/*! Ctrl-C: the first one asks the work to stop and keeps what is finished, the second ends at once. */

use crate::engine::Cancel;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A token that Ctrl-C or SIGTERM raises. Call it once a process.
pub fn token() -> std::io::Result<Cancel> {
    token_until(Arc::default())
}

/// The same; once `over` is set, signals are somebody else's (the workbench has its own way with them).
pub fn token_until(over: Arc<AtomicBool>) -> std::io::Result<Cancel> {
    let cancel = Cancel::new();
    let raised = cancel.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let Ok(mut terminate) = signal(SignalKind::terminate()) else {
                    return;
                };
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                if over.load(Ordering::Relaxed) {
                    return;
                }
                crate::cli::progress::note(format_args!(
                    "stopping; finished stages are kept (again: stop at once)"
                ));
                raised.cancel();
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                std::process::exit(130);
            });
        })?;
    Ok(cancel)
}
