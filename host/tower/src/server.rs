//! Connections: accepted up to a cap, with time limits, and ended in order.

mod descriptors;
mod socket;
mod unix;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) use descriptors::room_for;
pub(crate) use socket::Patience;
use socket::{Held, Phase, Timed};
pub(crate) use unix::serve_containers;

/// How long answers that are under way may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
/// How long a connection above the cap is kept to hear that it is, and how many are at a time; those above that are cut.
const TURN_AWAY_WAIT: Duration = Duration::from_secs(1);
const TURN_AWAY_MAX: usize = 64;
/// What a connection above the cap is told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 151\r\n\r\n\
{\"type\":\"/problems/unavailable\",\"title\":\"Host is not available\",\"status\":503,\"code\":\"UNAVAILABLE\",\"detail\":\"too many connections\",\"hint\":\"try again\"}  ";

/// A socket that is being listened on.
pub(crate) struct Server {
    listener: TcpListener,
    connections_max: usize,
    patience: Patience,
}

impl Server {
    /// Takes the address.
    pub(crate) async fn bind(address: SocketAddr, connections_max: usize, patience: Patience) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, connections_max, patience })
    }

    /// The address that was taken.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets answers that are under way finish for a while.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.connections_max));
        let waiting_room = Arc::new(Semaphore::new(TURN_AWAY_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((socket, _)) => match places.clone().try_acquire_owned() {
                    Ok(place) => serve_connection(socket, self.patience, router.clone(), &graceful, place),
                    Err(_) => {
                        if let Ok(seat) = waiting_room.clone().try_acquire_owned() {
                            tokio::spawn(turn_away(socket, seat));
                        }
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("some connections were cut");
        }
    }
}

fn serve_connection(socket: TcpStream, patience: Patience, router: Router, graceful: &GracefulShutdown, place: OwnedSemaphorePermit) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = socket.set_nodelay(true);
    let phase = Phase::default();
    let socket = Timed::new(socket, phase.clone(), patience);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let exchange = phase.exchange();
        let answer = router.call(request);
        async move { answer.await.map(|answer| answer.map(|body| Body::new(Held::new(body, exchange)))) }
    });
    // The socket keeps the time, since it alone tells a silent connection from a slow head.
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}

/// Says that there is no room. What the client is sending is taken until it has read that: closed earlier, the system would throw the
/// answer away.
async fn turn_away(mut socket: TcpStream, seat: OwnedSemaphorePermit) {
    let told = async {
        socket.write_all(BUSY).await?;
        socket.shutdown().await?;
        let mut sink = [0; 4096];
        while socket.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(TURN_AWAY_WAIT, told).await;
    drop(seat);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_answer_says_its_length() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
