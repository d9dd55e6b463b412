//! A network that swallows what is sent, between a host and its database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tower_store::StoreError;
use tower_store::postgres::{self, PostgresOptions, Time};
use tower_store::work::{Answer, Command, WorkStore};
use tower_test_postgres::{Cluster, Database};

use crate::postgres_hosts::{batch, connect, shared};
use crate::world::HOST;

/// Stands between a host and the database.
struct Wire {
    url: String,
    /// Connections that were there at the last change swallow all, for good: what is lost between two ends cannot be made up for.
    generation: watch::Sender<u32>,
}

impl Wire {
    async fn to(database: &Database) -> Self {
        let (generation, seen) = watch::channel(0);
        let socket = Cluster::shared().folder().join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", listener.local_addr().unwrap().port(), database.name());
        tokio::spawn(async move {
            while let Ok((host, _)) = listener.accept().await {
                tokio::spawn(Self::join(host, socket.clone(), seen.clone()));
            }
        });
        Self { url, generation }
    }

    async fn join(host: tokio::net::TcpStream, socket: PathBuf, seen: watch::Receiver<u32>) {
        let (from_host, to_host) = host.into_split();
        let (from_database, to_database) = UnixStream::connect(socket).await.unwrap().into_split();
        tokio::join!(carry(from_host, to_database, seen.clone()), carry(from_database, to_host, seen));
    }

    /// From now on the connections that there are carry nothing.
    fn swallow(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, seen: watch::Receiver<u32>) {
    let mine = *seen.borrow();
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if *seen.borrow() == mine && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    if *seen.borrow() != mine {
        // Nor is an end told to the other side.
        std::future::pending::<()>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_into_silence_are_given_up_and_the_next_batch_has_fresh_ones() {
    let (world, database) = shared().await;
    let wire = Wire::to(&database).await;
    // One connection that writes: with a second one, a batch might begin while the first is on its way back, and make one that carries.
    let options = PostgresOptions { time: Time::OfCaller, patience: Duration::from_millis(500), writers: 1, ..PostgresOptions::at(&wire.url) };
    let store = Arc::new(postgres::open(options).await.unwrap());
    let submit = || batch(&world, HOST, vec![Command::Submit(Box::new(world.new_trace()))], 0);
    let begun = |answers: &[Answer]| matches!(answers, [Answer::Submitted { .. }]);
    assert!(begun(&store.commit(submit()).await.unwrap().answers));
    // More often than there are connections: none of them is held for good.
    for _ in 0..3 {
        wire.swallow();
        let silent = store.commit(submit()).await.unwrap_err();
        assert!(matches!(silent, StoreError::Silent(_)) && silent.is_outage(), "{silent:?}");
        assert!(begun(&store.commit(submit()).await.unwrap().answers));
        store.check_writable().await.unwrap();
    }
    let traces: i64 = sqlx::query_scalar("SELECT count(*) FROM traces").fetch_one(&mut connect(&database).await).await.unwrap();
    assert_eq!(traces, 4, "what was swallowed was not begun, and what came after it was");
    world.is_sound().await;
}
