//! `tower api`: any route, with the body as it comes.

use std::io::Read;

use bytes::Bytes;
use clap::Args;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::client::Reply;
use super::failure::{Exit, Failure};
use super::{Context, codes, project};
use crate::api::problem::ProblemBody;

/// Pages that are followed; a list with more is not for one command.
const PAGES_MAX: u32 = 10_000;

/// What to ask.
#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(value_parser = method)]
    method: Method,
    /// The path; where it does not begin with /api/, /api/v1 is put before it: `/traces?limit=5`
    path: String,
    /// Take the path as it is, for what lies beside the API: `/readyz`, `/openapi.json`
    #[arg(long)]
    root: bool,
    /// A body: JSON text, @FILE, or - for standard input
    #[arg(short = 'd', long, value_name = "BODY")]
    data: Option<String>,
    /// A header (repeatable)
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Follow next_cursor to the end, and print a body after the other
    #[arg(long)]
    paginate: bool,
}

fn method(text: &str) -> Result<Method, String> {
    match text.to_ascii_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "HEAD" => Ok(Method::HEAD),
        _ => Err("GET, POST, PUT, PATCH, DELETE or HEAD is expected".to_owned()),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("NAME: VALUE is expected")?;
    let name = name.trim().parse().map_err(|_| "this is not the name of a header")?;
    let value = value.trim().parse().map_err(|_| "this is not the value of a header")?;
    Ok((name, value))
}

pub(crate) async fn run(args: ApiArgs, context: &Context) -> Result<(), Failure> {
    if args.paginate && args.method != Method::GET {
        return Err(Failure::usage("--paginate is for GET"));
    }
    let client = context.client()?;
    let body = args.data.as_deref().map(body).transpose()?;
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    let first = if args.root || args.path.starts_with("/api/") || !args.path.starts_with('/') { args.path.clone() } else { format!("/api/v1{}", args.path) };
    let mut path = first.clone();
    for _ in 0..PAGES_MAX {
        let reply = client.raw(args.method.clone(), &path, headers.clone(), body.clone()).await?;
        context.out.bytes(&reply.body);
        if !(200..400).contains(&reply.status) {
            return Err(refused(&reply));
        }
        match next(&reply).filter(|_| args.paginate) {
            Some(cursor) => {
                // Bodies end without a line of their own.
                context.out.text("\n");
                path = with_cursor(&first, &cursor);
            }
            None => return Ok(()),
        }
    }
    Err(Failure::own(&codes::FAILED, format!("there are more than {PAGES_MAX} pages")))
}

fn body(text: &str) -> Result<Bytes, Failure> {
    match text.strip_prefix('@') {
        Some(file) => project::read(std::path::Path::new(file)),
        None if text == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            Ok(bytes.into())
        }
        None => Ok(text.to_owned().into()),
    }
}

/// The body was printed and says why.
fn refused(reply: &Reply) -> Failure {
    let code = serde_json::from_slice::<ProblemBody>(&reply.body).map(|problem| problem.code).unwrap_or_default();
    Failure::silent(Exit::of_problem(reply.status, &code))
}

fn next(reply: &Reply) -> Option<String> {
    serde_json::from_slice::<Value>(&reply.body).ok()?.get("next_cursor")?.as_str().map(str::to_owned)
}

/// The path with this cursor instead of the one that it may have had.
fn with_cursor(path: &str, cursor: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query: Vec<String> = kept.map(str::to_owned).chain(std::iter::once(format!("cursor={cursor}"))).collect();
    format!("{path}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_in_place_of_the_one_before() {
        assert_eq!(with_cursor("/traces", "x"), "/traces?cursor=x");
        assert_eq!(with_cursor("/traces?limit=2&cursor=a", "b"), "/traces?limit=2&cursor=b");
    }
}
