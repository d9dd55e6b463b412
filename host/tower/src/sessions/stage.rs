//! Files from elsewhere: from an address or a git repository, if the operator allows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tower_workspaces::{Quota, Usage, Workspace, WorkspaceError, WorkspacePath, Workspaces};

use super::blocking;

/// How long fetching something may take in all.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a repository on its way in is held against the quota.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Of what git says, as much is repeated.
const SAID_BYTES_MAX: u64 = 2_000;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// The operator does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The source did not give it.
    #[error("{0}")]
    Failed(String),
    /// There is no git here.
    #[error("this host has no `git` program")]
    NoGit,
    /// The workspace does not take it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

/// A source that the operator allows: everything below an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source(Url);

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("`{text}`: an address such as https://example.com/data, or file:///srv/git for git alone");
        let url = Url::parse(text).map_err(|_| rule())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let known = match url.scheme() {
            "http" | "https" => url.has_host(),
            "file" => !url.has_host() && url.path().len() > 1,
            _ => false,
        };
        if plain && known { Ok(Self(url)) } else { Err(rule()) }
    }
}

impl Source {
    /// Whether an address is below this one.
    fn allows(&self, url: &Url) -> bool {
        let same = self.0.scheme() == url.scheme() && self.0.host() == url.host() && self.0.port_or_known_default() == url.port_or_known_default();
        let below = url.path().strip_prefix(self.0.path().trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same && below
    }

    /// Whether the operator named the machine itself, so that it may be one that is not public.
    fn names_a_machine(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    }
}

/// The address, and where it may be looked for.
fn allowed(sources: &[Source], text: &str) -> Result<(Url, bool), StageError> {
    let url = Url::parse(text).map_err(|error| StageError::Refused(format!("this is no address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StageError::Refused("an address with a user or a password in it is not taken: it would be kept in logs".to_owned()));
    }
    let path = url.path().to_ascii_lowercase();
    if path.contains("%2f") || path.contains("%5c") || path.contains("%2e") || path.contains("//") {
        return Err(StageError::Refused("an address with encoded slashes or dots, or an empty segment, in its path is not taken".to_owned()));
    }
    let source = sources.iter().find(|source| source.allows(&url));
    let source = source.ok_or_else(|| StageError::Refused("this host stages nothing from there: its operator allows sources with --stage-from".to_owned()))?;
    Ok((url.clone(), source.names_a_machine()))
}

/// Addresses of a host, once its name was looked up: what is connected to is what was looked at.
async fn addresses(url: &Url, any: bool) -> Result<Vec<SocketAddr>, StageError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(|error| StageError::Failed(format!("{host} was not found: {error}")))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() {
        return Err(StageError::Failed(format!("{host} has no address")));
    }
    if !any && let Some(inner) = found.iter().find(|address| !is_public(address.ip())) {
        return Err(StageError::Refused(format!(
            "{host} is at {}, which is not public: the operator may name a machine by its number in --stage-from",
            inner.ip()
        )));
    }
    Ok(found)
}

/// Whether an address is one that everybody reaches.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let inner = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_documentation();
    // This network, shared addresses, protocol assignments, old relays, benchmarks, and what is reserved.
    let special = a == 0 || (a == 100 && b & 0xC0 == 64) || (a, b, c) == (192, 0, 0) || (a, b, c) == (192, 88, 99) || (a == 198 && b & 0xFE == 18) || a >= 240;
    !(inner || special)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // All that is given out to the public begins with 001; of that, tunnels and documentation lead elsewhere or nowhere.
    let [first, second, ..] = address.segments();
    let tunnels = first == 0x2002 || (first == 0x2001 && second < 0x200) || (first == 0x2001 && second == 0xDB8) || first == 0x3FFF;
    first & 0xE000 == 0x2000 && !tunnels
}

/// Fetches a file into a workspace.
pub(crate) async fn from_url(sources: &[Source], text: &str, workspace: &Workspace, path: WorkspacePath) -> Result<(u64, Usage), StageError> {
    let (url, any) = allowed(sources, text)?;
    if url.scheme() == "file" {
        return Err(StageError::Refused("file: is for git repositories alone".to_owned()));
    }
    let found = addresses(&url, any).await?;
    let failed =
        |error: reqwest::Error| StageError::Failed(format!("{} cannot be fetched: {}", host_of(&url), crate::api::problem::causes(&error.without_url())));
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .resolve_to_addrs(url.host_str().unwrap_or_default(), &found)
        .user_agent(concat!("tower/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)?;
    let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
    if answer.status().as_u16() != 200 {
        let hint = if answer.status().is_redirection() { "; redirects are not followed" } else { "" };
        return Err(StageError::Failed(format!("{} answered {}{hint}", host_of(&url), answer.status().as_u16())));
    }
    let begun = workspace.clone();
    let mut incoming = blocking(move || begun.begin(&path)).await?;
    while let Some(piece) = answer.chunk().await.map_err(failed)? {
        incoming = blocking(move || incoming.write(&piece).map(|()| incoming)).await?;
    }
    Ok(blocking(move || incoming.finish()).await?)
}

fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or("the source").to_owned()
}

/// A git repository to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) url: String,
    /// A branch or a tag; none: what the repository has for its default.
    pub(crate) reference: Option<String>,
    /// Commits of its history.
    pub(crate) depth: u32,
}

/// Fetches a repository into a folder of a workspace, where nothing is yet.
pub(crate) async fn from_git(
    sources: &[Source],
    wanted: &Repository,
    all: &Workspaces,
    workspace: &Workspace,
    path: WorkspacePath,
) -> Result<Usage, StageError> {
    let (url, any) = allowed(sources, &wanted.url)?;
    let reference = wanted.reference.as_deref();
    if reference.is_some_and(|name| name.is_empty() || name.len() > 256 || name.starts_with('-') || name.chars().any(|c| c.is_control() || c == ' ')) {
        return Err(StageError::Refused("ref is the name of a branch or a tag".to_owned()));
    }
    let found = if url.scheme() == "file" { Vec::new() } else { addresses(&url, any).await? };
    let folders = all.clone();
    let (folder, name) = blocking(move || folders.new_folder()).await?;
    let quota = workspace.quota();
    let fetched = match clone(&url, &found, wanted, &folder, all, &name, quota).await {
        Ok(()) => {
            let (workspace, name) = (workspace.clone(), name.clone());
            blocking(move || workspace.adopt(&name, &path)).await.map_err(StageError::from)
        }
        Err(error) => Err(error),
    };
    // Taken in, it is there no more.
    let all = all.clone();
    let dropped = blocking(move || all.drop_folder(&name)).await;
    let used = fetched?;
    dropped?;
    Ok(used)
}

async fn clone(
    url: &Url,
    found: &[SocketAddr],
    wanted: &Repository,
    folder: &std::path::Path,
    all: &Workspaces,
    name: &str,
    quota: Quota,
) -> Result<(), StageError> {
    let mut git = Command::new("git");
    // Nothing of this machine's settings, and nobody to ask.
    git.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    git.env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1");
    git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "/bin/false").env("GIT_ALLOW_PROTOCOL", url.scheme()).env("LC_ALL", "C");
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        // Links become files that say where they would lead.
        "core.symlinks=false",
        "credential.helper=",
        "http.followRedirects=false",
        "http.proxy=",
        "submodule.recurse=false",
        "fetch.fsckObjects=true",
        "transfer.bundleURI=false",
        "gc.auto=0",
        "safe.directory=*",
    ] {
        git.args(["-c", setting]);
    }
    if let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) {
        let addresses = found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(",");
        git.args(["-c", &format!("http.curloptResolve={host}:{port}:{addresses}")]);
    }
    git.args(["clone", "--quiet", "--single-branch", "--no-tags", "--no-recurse-submodules", "--no-local", "--template=", "--depth"])
        .arg(wanted.depth.to_string());
    if let Some(reference) = &wanted.reference {
        git.arg(format!("--branch={reference}"));
    }
    git.arg("--").arg(url.as_str()).arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    // Of its own, so that what it starts ends with it.
    git.process_group(0);
    let mut child = git.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StageError::NoGit,
        _ => StageError::Failed(format!("git cannot be started: {error}")),
    })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let said = child.stderr.take();
    let said = tokio::spawn(async move {
        let mut text = Vec::new();
        if let Some(mut said) = said {
            let _ = (&mut said).take(SAID_BYTES_MAX).read_to_end(&mut text).await;
            let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let ended = tokio::time::timeout(PATIENCE, ended(&mut child, all, name, quota)).await;
    if !matches!(ended, Ok(Ok(_)))
        && let Some(group) = group
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = child.wait().await;
    }
    match ended {
        Err(_) => Err(StageError::Failed(format!("the repository did not come within {}s", PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(error),
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(StageError::Failed(format!("git: {}", said.await.unwrap_or_default()))),
    }
}

/// Whether it ended well; an error as soon as there is more than the workspace may hold.
async fn ended(child: &mut tokio::process::Child, all: &Workspaces, name: &str, quota: Quota) -> Result<bool, StageError> {
    loop {
        tokio::select! {
            status = child.wait() => {
                return status.map(|status| status.success()).map_err(|error| StageError::Failed(format!("git was lost: {error}")));
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let (all, name) = (all.clone(), name.to_owned());
        // Files come and go under git's hands; one that is gone is no failure.
        if let Ok(used) = blocking(move || all.measure_folder(&name, quota)).await
            && used.is_over(quota)
        {
            return Err(WorkspaceError::Quota { used, quota }.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sources: &[&str], url: &str) -> bool {
        let sources: Vec<Source> = sources.iter().map(|text| text.parse().unwrap()).collect();
        matches!(allowed(&sources, url), Err(StageError::Refused(_)))
    }

    #[test]
    fn only_what_is_below_an_allowed_address_is_fetched() {
        let sources = &["https://example.com/data", "http://127.0.0.1:9/"];
        for good in ["https://example.com/data", "https://example.com/data/a?x=1", "https://EXAMPLE.com:443/data/a", "http://127.0.0.1:9/x"] {
            assert!(!refused(sources, good), "{good}");
        }
        for bad in [
            "https://example.com/database",
            "https://example.com/data/../secret",
            "https://example.com/data/%2e%2e/secret",
            "https://example.com/data%2f..%2fsecret",
            "http://example.com/data",
            "https://example.com:444/data",
            "https://example.com.evil.org/data",
            "https://example.com@evil.org/data",
            "https://me:pass@example.com/data",
            "file:///etc/passwd",
            "ext::sh",
            "nonsense",
        ] {
            assert!(refused(sources, bad), "{bad}");
        }
        assert!(refused(&[], "https://example.com/data"), "nothing is allowed unless the operator says so");
    }

    #[test]
    fn sources_are_addresses_without_more() {
        for bad in ["example.com", "https://a@b/", "https://b/?q", "https://b/#f", "ssh://b/", "file:///", "file://host/x", "https://"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_known() {
        for inner in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(inner.parse().unwrap()), "{inner}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2001:4860:4860::8888"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
