//! The accept loop: a fixed number of connections, a time limit on silent ones, and a graceful end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::AppState;

/// Connections served at once; further ones wait in the listener's backlog. Each serves one request at a time.
const CONNECTIONS_MAX: usize = 256;
/// A connection that does not send the whole head of its next request within this time is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests in progress may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves on a bound listener until `shutdown` completes, then finishes the requests in progress.
pub async fn serve(
    mut listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = TcpListener::local_addr(&listener)?;
    tracing::info!(%address, "serving");
    let service = TowerToHyperService::new(crate::router(state));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            // `Listener::accept` waits out a lack of file descriptors instead of failing.
            (permit, Listener::accept(&mut listener).await)
        };
        let (permit, (stream, _)) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that went away is its own affair.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in progress at the end and were cut off");
    }
    Ok(())
}
