//! Binds the port and serves, until told to stop.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Requests under way when the station stops get so long to end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Returns only when cancelled.
pub async fn serve(listen: &str, router: Router, cancel: CancellationToken) {
    while let Some(listener) = bind(listen, &cancel).await {
        let server = axum::serve(listener, router.clone()).with_graceful_shutdown(cancel.clone().cancelled_owned());
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            ended = server.into_future() => if let Err(error) = ended {
                tracing::error!(%error, "the console's port failed; opening it again");
            },
            () = overdue => tracing::info!("a reader of the console did not hang up in time"),
        }
        if cancel.is_cancelled() {
            return;
        }
    }
}

/// The open port; none when cancelled before it could be had.
async fn bind(listen: &str, cancel: &CancellationToken) -> Option<TcpListener> {
    let mut said = None;
    loop {
        let error = match TcpListener::bind(listen).await {
            Ok(listener) => {
                tracing::info!("the console is at http://{listen}");
                return Some(listener);
            }
            Err(error) => error,
        };
        // Once for each reason, not every five seconds.
        if said.replace(error.kind()) != Some(error.kind()) {
            let remedy = match error.kind() {
                std::io::ErrorKind::AddrInUse => "another program has it: stop that one or choose another port",
                std::io::ErrorKind::PermissionDenied => "choose a port above 1023",
                _ => "give an address of this machine",
            };
            tracing::error!(key = "console.listen", address = listen, %error, remedy, "the console has no port; trying again every 5 s, the rest of the station runs on");
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(TRY_AGAIN) => {}
        }
    }
}
