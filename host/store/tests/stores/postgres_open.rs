//! What makes a PostgreSQL database unusable, said clearly and before anything is changed.

use tower_store::StoreError;
use tower_store::definitions::{DefinitionFilter, DefinitionStore};
use tower_store::postgres::{self, PostgresOptions};
use tower_store::read::PageRequest;
use tower_test_postgres::{Cluster, Database, Options, Stop};

use crate::backends::host;
use crate::world::{World, definition, name};

async fn refusal(url: String) -> String {
    match postgres::open(PostgresOptions::at(url)).await {
        Ok(_) => panic!("it was opened"),
        Err(StoreError::Unusable(message) | StoreError::OtherSchema(message) | StoreError::Unreachable(message)) => message,
        Err(error) => panic!("not clear enough: {error:?}"),
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let message = refusal(Cluster::shared().url("nowhere")).await;
    assert!(message.contains("createdb nowhere"), "{message}");
    let message = refusal("postgres://ada:secret@localhost:1/tower".to_owned()).await;
    assert!(message.contains("cannot be reached") && message.contains("localhost:1") && !message.contains("secret"), "{message}");
    assert!(refusal("mysql://localhost/tower".to_owned()).await.contains("postgres://"));
    let message = refusal(Cluster::shared().url_as("nobody", "postgres")).await;
    assert!(message.contains("does not let nobody in"), "{message}");
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let database = Cluster::shared().database();
    database.run("CREATE TABLE mails (id int)");
    assert!(refusal(database.url()).await.contains("another program's"));
    database.run("SELECT 1 / (CASE WHEN count(*) = 1 THEN 1 ELSE 0 END) FROM pg_class WHERE relnamespace = 'public'::regnamespace");
    // One that counts its migrations in the same way.
    database.run("CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, checksum bytea NOT NULL)");
    database.run("INSERT INTO _sqlx_migrations VALUES (1, 'x')");
    assert!(refusal(database.url()).await.contains("another program's"));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let database = Cluster::shared().database();
    host(&database).await.close().await;
    database.run("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '', 0)");
    assert!(refusal(database.url()).await.contains("newer"));
}

#[tokio::test]
async fn an_encoding_that_cannot_hold_every_text_is_refused() {
    let database = Cluster::shared().database_with("ENCODING 'SQL_ASCII' TEMPLATE template0");
    assert!(refusal(database.url()).await.contains("UTF8"));
}

#[tokio::test]
async fn what_a_user_may_not_do_is_said() {
    let database = Cluster::shared().database();
    let user = format!("user_{}", database.name());
    Cluster::shared().run(&format!("CREATE USER {user}"));
    let url = Cluster::shared().url_as(&user, database.name());
    assert!(refusal(url.clone()).await.contains(&format!("GRANT CREATE ON SCHEMA public TO {user}")));
    // Another user has made the tables: it is enough to be let at them.
    host(&database).await.close().await;
    let message = refusal(url.clone()).await;
    assert!(message.contains("GRANT SELECT, INSERT, UPDATE, DELETE"), "{message}");
    database.run(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"));
    let store = postgres::open(PostgresOptions::at(url)).await.unwrap();
    tower_store::work::WorkStore::check_writable(&store).await.unwrap();
    store.close().await;
    database.run(&format!("DROP OWNED BY {user}; DROP USER {user}"));
}

#[tokio::test]
async fn a_database_that_may_only_be_read_is_refused() {
    let database = Cluster::shared().database();
    database.run(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name()));
    assert!(refusal(database.url()).await.contains("read only"));
}

#[tokio::test]
async fn hosts_that_start_together_make_the_schema_once() {
    let database = Cluster::shared().database();
    let opened = futures::future::join_all((0..6).map(|_| postgres::open(PostgresOptions::at(database.url())))).await;
    for store in opened {
        store.unwrap().close().await;
    }
}

/// English has the underscore before the hyphen, and both before digits.
const NAMES: [&str; 6] = ["b", "a_b", "a-b", "ab", "a1", "a.b"];

async fn names_in_order(database: &Database) -> Vec<String> {
    let store = host(database).await;
    for text in NAMES {
        let spec = &definition(text).spec;
        store.put(&name(text), spec, None, tower_domain::clock::Timestamp::from_micros(1)).await.unwrap();
    }
    let page = DefinitionStore::list(&store, &DefinitionFilter::default(), &PageRequest { after: None, limit: 10 }).await.unwrap();
    store.close().await;
    page.items.into_iter().map(|definition| definition.id.to_string()).collect()
}

#[tokio::test]
async fn lists_are_in_the_order_of_bytes_whatever_the_language() {
    let english = Cluster::shared().database_with("LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0");
    let mut expected = NAMES;
    expected.sort_unstable();
    assert_eq!(names_in_order(&english).await, expected);
}

#[tokio::test]
async fn a_database_that_was_started_anew_is_used_at_once() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options { durable: true, ..Options::default() })));
    let database = cluster.database();
    let store = host(&database).await;
    let stores = store.stores(std::sync::Arc::new(tower_store::blobs::MemoryBlobs::default()));
    let world = World::on(crate::backends::Backend { stores, inspect: std::sync::Arc::new(store), keep: Box::new(()) });
    let mut begun = Vec::new();
    for how in [Stop::Fast, Stop::Kill] {
        begun.push(world.submit().await.0);
        cluster.stop(how);
        let error = world.stores.work.check_writable().await.unwrap_err();
        assert!(error.is_outage(), "{error:?}");
        assert!(world.stores.read.ping().await.unwrap_err().is_outage());
        cluster.begin();
        begun.push(world.submit().await.0);
    }
    for trace in begun {
        world.trace(trace).await;
    }
    world.is_sound().await;
}
