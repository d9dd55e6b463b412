//! `tower sessions`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use tower_domain::id::SessionId;

use super::Context;
use super::client::{Client, Reply};
use super::codes;
use super::failure::Failure;
use super::inspect::size;
use super::output::{PageArgs, ago, fields};
use super::params::pairs;
use crate::api::types::{FileBody, FileKind, FilesStaged, List, SessionBody};

/// Sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsVerb {
    /// Begin one, and print its id
    New(NewArgs),
    /// List them
    Ls(ListArgs),
    /// Show one
    Show {
        /// The session
        id: SessionId,
    },
    /// Close one: it takes no more traces, and its files are removed after a while
    Close {
        /// The session
        id: SessionId,
    },
    /// List what is in its workspace
    Files {
        /// The session
        id: SessionId,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Bring a file, a fetched one, or a git repository into its workspace
    Put(PutArgs),
    /// Download a file of its workspace
    Get {
        /// The session
        id: SessionId,
        /// The file, from the workspace
        path: String,
        /// Where to write it; default: standard output
        #[arg(long, short = 'f', value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Delete a file of its workspace, or a folder with all that is in it
    Rm {
        /// The session
        id: SessionId,
        /// The file or folder, from the workspace
        path: String,
    },
}

/// What to begin.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Whose it is
    user: String,
    /// What the code that goes on from trace to trace calls it
    #[arg(long, value_name = "ID")]
    sdk_session: Option<String>,
    /// A label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Bytes that its workspace may hold; default: what the host says
    #[arg(long, value_name = "BYTES")]
    quota: Option<u64>,
}

/// Which sessions.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this user
    #[arg(long)]
    user: Option<String>,
    /// Standing there: ACTIVE, IDLE, ARCHIVED or CLOSED
    #[arg(long)]
    status: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

/// What to bring where.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct PutArgs {
    /// The session
    id: SessionId,
    /// Where it is to be in the workspace, such as input/data.csv; of a repository, a folder that is not there yet
    path: String,
    /// The file to upload
    #[arg(group = "source", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Have the server fetch it from this address, if its operator allows that
    #[arg(long, group = "source", value_name = "URL")]
    from_url: Option<String>,
    /// Have the server fetch this git repository, if its operator allows that
    #[arg(long, group = "source", value_name = "URL")]
    from_git: Option<String>,
    /// The branch or tag of the repository
    #[arg(long = "ref", value_name = "NAME", requires = "from_git")]
    reference: Option<String>,
    /// Commits of its history
    #[arg(long, default_value_t = 1, requires = "from_git", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    depth: u32,
}

pub(crate) async fn run(verb: SessionsVerb, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        SessionsVerb::New(args) => {
            let body = json!({
                "user_id": args.user, "sdk_session_id": args.sdk_session, "labels": pairs(&args.labels, "--label")?, "quota_bytes": args.quota,
            });
            let reply = client.json(Method::POST, "/sessions", &[], &body, None).await?;
            let session: SessionBody = reply.read()?;
            context.out.one(&reply, &session.session_id.to_string(), |_| format!("{}\n", session.session_id));
            Ok(())
        }
        SessionsVerb::Ls(args) => list(&client, args, context).await,
        SessionsVerb::Show { id } => show(&client.get(&format!("/sessions/{id}"), &[]).await?, context),
        SessionsVerb::Close { id } => show(&client.delete(&format!("/sessions/{id}")).await?, context),
        SessionsVerb::Files { id, page } => {
            let reply = client.get(&format!("/sessions/{id}/files"), &page.query()).await?;
            let files: List<FileBody> = reply.read()?;
            let paths: Vec<String> = files.items.iter().map(|file| file.path.clone()).collect();
            let rows: Vec<_> = files.items.iter().map(file_row).collect();
            context.out.list(&reply, &["PATH", "SIZE", "CHANGED"], &rows, &paths)
        }
        SessionsVerb::Put(args) => put(&client, args, context).await,
        SessionsVerb::Get { id, path, file } => {
            let reply = client.get(&format!("/sessions/{id}/files/{path}"), &[]).await?;
            match file {
                Some(file) => std::fs::write(&file, &reply.body).map_err(|error| Failure::own(&codes::FAILED, format!("{}: {error}", file.display()))),
                None => {
                    context.out.bytes(&reply.body);
                    Ok(())
                }
            }
        }
        SessionsVerb::Rm { id, path } => client.delete(&format!("/sessions/{id}/files/{path}")).await.map(drop),
    }
}

async fn list(client: &Client, args: ListArgs, context: &Context) -> Result<(), Failure> {
    let mut query = args.page.query();
    query.extend(args.user.map(|user| ("user_id", user)));
    query.extend(args.status.map(|status| ("status", status.to_ascii_uppercase())));
    let reply = client.get("/sessions", &query).await?;
    let sessions: List<SessionBody> = reply.read()?;
    let ids: Vec<String> = sessions.items.iter().map(|session| session.session_id.to_string()).collect();
    let rows: Vec<_> = sessions.items.iter().map(row).collect();
    context.out.list(&reply, &["SESSION", "STATE", "USER", "SIZE", "FILES", "USED"], &rows, &ids)
}

fn row(session: &SessionBody) -> Vec<String> {
    vec![
        session.session_id.to_string(),
        session.status.to_string(),
        session.user_id.clone(),
        size(session.bytes),
        session.files.to_string(),
        ago(session.last_used_at),
    ]
}

fn file_row(file: &FileBody) -> Vec<String> {
    let (path, bytes) = match file.kind {
        FileKind::File => (file.path.clone(), size(file.bytes)),
        FileKind::Folder => (format!("{}/", file.path), String::new()),
        FileKind::Other => (format!("{} (not a file)", file.path), String::new()),
    };
    vec![path, bytes, ago(file.modified_at)]
}

fn show(reply: &Reply, context: &Context) -> Result<(), Failure> {
    let session: SessionBody = reply.read()?;
    let id = session.session_id.to_string();
    context.out.one(reply, &id, |term| {
        let labels = session.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        let quota = session.quota_bytes.map_or_else(String::new, |bytes| format!(" of {}", size(bytes)));
        let pairs = [
            ("session", id.clone()),
            ("state", session.status.to_string()),
            ("user", session.user_id.clone()),
            ("sdk session", session.sdk_session_id.clone().unwrap_or_default()),
            ("labels", labels),
            ("workspace", format!("{}{quota} in {} files and folders", size(session.bytes), session.files)),
            ("begun", ago(session.created_at)),
            ("used", ago(session.last_used_at)),
            ("closed", session.closed_at.map_or_else(String::new, ago)),
        ];
        fields(term, &pairs)
    });
    Ok(())
}

async fn put(client: &Client, args: PutArgs, context: &Context) -> Result<(), Failure> {
    let at = format!("/sessions/{}/files", args.id);
    let reply = match args.file {
        Some(file) => {
            let failed = |error: std::io::Error| Failure::own(&codes::FAILED, format!("{}: {error}", file.display()));
            let opened = tokio::fs::File::open(&file).await.map_err(failed)?;
            let bytes = opened.metadata().await.map_err(failed)?.len();
            client.upload_file(&at, &[("path", args.path)], opened, bytes).await?
        }
        None => {
            let git = args.from_git.map(|url| json!({ "url": url, "ref": args.reference, "depth": args.depth }));
            let body = json!({ "path": args.path, "from_url": args.from_url, "from_git": git });
            client.json(Method::POST, &at, &[], &body, None).await?
        }
    };
    let staged: FilesStaged = reply.read()?;
    context.out.one(&reply, &staged.path, |_| {
        format!("{}  the workspace holds {} in {} files and folders\n", staged.path, size(staged.workspace_bytes), staged.workspace_files)
    });
    Ok(())
}
