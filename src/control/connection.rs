//! One connection of the control plane.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;

use super::rewound::Rewound;
use crate::limits::REQUEST_HEAD_TIMEOUT;
use crate::shard::admission::gate::HandedOver;

/// Time that a request may take altogether.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a connection to its end.
pub(super) async fn serve(
    connection: HandedOver,
    router: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _hold = connection.hold;
    let router = router.layer(axum::Extension(axum::extract::ConnectInfo(connection.peer)));
    connection.stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(connection.stream)?;
    let io = TokioIo::new(Rewound::new(connection.received, stream));
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT);
    tokio::time::timeout(
        REQUEST_TIMEOUT,
        http.serve_connection(io, TowerToHyperService::new(router)),
    )
    .await??;
    Ok(())
}
