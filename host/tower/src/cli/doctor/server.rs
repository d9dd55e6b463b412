//! The address that a tower would listen on, and the tower that commands talk to.

use std::net::SocketAddr;
use std::time::Duration;

use tower_domain::clock::{Clock, SystemClock};

use super::super::Context;
use super::super::client::Client;
use super::super::failure::{Exit, Failure};
use super::Check;
use crate::api::types::{Health, Readiness};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How far its clock may be off, in milliseconds. The header has whole seconds.
const SKEW_MS_MAX: i64 = 1_000;

/// Whether the address is free, or a tower has it.
pub(super) async fn port(listen: SocketAddr) -> Check {
    match tokio::net::TcpListener::bind(listen).await {
        Ok(_) => Check::ok("port", format!("{listen} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let tower = async { Client::new(&format!("http://{listen}"))?.get("/health", &[]).await?.read::<Health>() };
            match tokio::time::timeout(PATIENCE, tower).await {
                Ok(Ok(health)) => Check::ok("port", format!("{listen} is held by a tower {}", health.version)),
                _ => Check::failed("port", format!("{listen} is taken by another program"), "stop it, or choose another address with --listen"),
            }
        }
        Err(error) => Check::failed("port", format!("{listen} cannot be listened on: {error}"), "choose another address with --listen"),
    }
}

/// Whether the server that commands talk to is there and takes work, is of this version, and has the time of this machine.
pub(super) async fn server(context: &Context) -> Result<Vec<Check>, Failure> {
    let url = context.url();
    let client = context.client()?;
    let before = SystemClock.now();
    let answered = tokio::time::timeout(PATIENCE, client.get("/health", &[])).await;
    let after = SystemClock.now();
    let reply = match answered {
        Ok(Ok(reply)) => reply,
        // Nobody said that there is one.
        Ok(Err(failure)) if failure.exit == Exit::Unreachable && !context.url_was_given() => {
            return Ok(vec![Check::skipped("server", format!("none at {url}; `tower serve` starts one"))]);
        }
        Ok(Err(failure)) => {
            return Ok(vec![Check::failed("server", failure.message(), "start one with `tower serve`, or name another with --url or TOWER_URL")]);
        }
        Err(_) => {
            return Ok(vec![Check::failed("server", format!("{url} does not answer within {}s", PATIENCE.as_secs()), "is it overloaded? its log says more")]);
        }
    };
    let health: Health = reply.read()?;
    let mut checks = vec![ready(&client, url).await];
    let ours = env!("CARGO_PKG_VERSION");
    checks.push(if health.version == ours {
        Check::ok("version", format!("{ours}, here and there"))
    } else {
        Check::warning("version", format!("the server is {}, this command {ours}", health.version), "use the tower that the server runs")
    });
    let date = reply.date.as_deref().and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok()).map(|date| date.timestamp_millis());
    if let Some(date) = date {
        checks.push(skew(before.as_micros() / 1_000, after.as_micros() / 1_000, date));
    }
    Ok(checks)
}

async fn ready(client: &Client, url: &str) -> Check {
    match tokio::time::timeout(PATIENCE, client.get("/readyz", &[])).await {
        Ok(Ok(reply)) => match reply.read::<Readiness>() {
            Ok(ready) => Check::ok("server", format!("{url} takes work: {} of {} slots are busy", ready.running, ready.slots)),
            Err(failure) => Check::failed("server", failure.message(), "is it a tower?"),
        },
        _ => Check::failed("server", format!("{url} is there, and takes no work"), "its log says why"),
    }
}

/// Compares the server's whole second with the time between question and answer, all in milliseconds.
fn skew(before: i64, after: i64, date: i64) -> Check {
    // The true time of the answer lies in date..date+1000.
    let off = if after < date {
        date - after
    } else if before > date + 1_000 {
        before - date - 1_000
    } else {
        0
    };
    if off > SKEW_MS_MAX {
        let way = if after < date { "ahead of" } else { "behind" };
        Check::warning("clock skew", format!("the server's clock is {:.0}s {way} this one", off as f64 / 1_000.0), "set both by NTP")
    } else {
        Check::ok("clock skew", "the server's clock agrees with this one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;

    #[test]
    fn a_clock_is_off_only_when_whole_seconds_cannot_explain_it() {
        for (before, after, date, verdict) in [
            (10_000, 10_010, 10_000, Verdict::Ok),
            (10_900, 10_910, 10_000, Verdict::Ok),
            (11_900, 11_910, 10_000, Verdict::Ok),
            (12_100, 12_110, 10_000, Verdict::Warning),
            (8_900, 8_910, 10_000, Verdict::Warning),
            (9_100, 9_110, 10_000, Verdict::Ok),
            (5_000, 20_000, 10_000, Verdict::Ok),
        ] {
            assert_eq!(skew(before, after, date).verdict, verdict, "{before} {after} {date}");
        }
    }
}
