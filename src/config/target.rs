//! The target of a mount, as the user writes it.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// A target to mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A directory of this machine.
    Local(PathBuf),
    /// A directory on an SSH server.
    Server(ServerTarget),
}

/// A directory on an SSH server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTarget {
    /// The user to log in as; `None` leaves it to `ssh_config`.
    pub user: Option<String>,
    /// A name that `ssh_config` may know, or an address.
    pub host: String,
    /// The port; `None` leaves it to `ssh_config`.
    pub port: Option<u16>,
    /// The directory; empty for the login directory, relative to that without a leading slash.
    pub directory: String,
}

impl Target {
    /// Parses `[user@]host[:dir]`, `sftp://[user@]host[:port]/dir`, or a directory that begins with `/`, `./` or `../`.
    ///
    /// # Errors
    ///
    /// A sentence that describes the problem.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "." || text == ".." || ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            let path = std::path::absolute(text).map_err(|error| format!("{text}: {error}"))?;
            return Ok(Self::Local(path));
        }
        match text.strip_prefix("sftp://") {
            Some(url) => Self::parse_url(url),
            None => Self::parse_scp(text),
        }
    }

    fn parse_scp(text: &str) -> Result<Self, String> {
        let (user, rest) = split_user(text);
        let (host, directory) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) =
                    rest.split_once(']').ok_or_else(|| format!("{text:?}: the ] is missing"))?;
                (host, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        // As `scp` takes it: `~` is the login directory. One that is really called so is `./~`.
        let directory = match directory.strip_prefix('~') {
            None => directory,
            Some(below) if below.is_empty() || below.starts_with('/') => below.trim_start_matches('/'),
            Some(_) => {
                return Err(format!(
                    "{text:?}: the home directory of another user is not known; write it in full, or ./{directory}"
                ));
            }
        };
        Self::server(user, host, None, directory.to_owned())
    }

    fn parse_url(url: &str) -> Result<Self, String> {
        let (authority, path) = url.split_once('/').unwrap_or((url, ""));
        let (user, rest) = split_user(authority);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) =
                    rest.split_once(']').ok_or_else(|| format!("sftp://{url}: the ] is missing"))?;
                (host, rest.strip_prefix(':'))
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port
            .map(|port| port.parse().map_err(|_| format!("sftp://{url}: {port:?} is no port")))
            .transpose()?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        // `/~/dir` is a directory in the login directory; without a path it is the login directory.
        let directory = match path.strip_prefix("~/").or(path.eq("~").then_some("")) {
            Some(below_home) => decode(below_home),
            None if path.is_empty() => String::new(),
            None => format!("/{}", decode(path)),
        };
        Self::server(user.map(decode).as_deref(), host, port, directory)
    }

    fn server(user: Option<&str>, host: &str, port: Option<u16>, directory: String) -> Result<Self, String> {
        // A program that gets such a name as an argument would take it for an option, and a shell for a command:
        // commands of `ssh_config` may hold it (`Match exec`).
        let safe = |name: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && !name
                    .contains(|c: char| c.is_whitespace() || c.is_control() || "/'`\"$;&<>|(){}".contains(c))
                && !name.ends_with('\\')
        };
        if !safe(host) {
            let way_out = if host.contains('/') {
                format!("; for a directory on this machine write ./{host}")
            } else {
                String::new()
            };
            return Err(format!("{host:?} is not a host name{way_out}"));
        }
        if user.is_some_and(|user| !safe(user)) {
            return Err(format!("{:?} is not a user name", user.unwrap_or_default()));
        }
        Ok(Self::Server(ServerTarget {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            directory,
        }))
    }

    /// Returns a name for the mount: the host, or the last part of a local path.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Local(path) => {
                path.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
            }
            Self::Server(server) => server.host.clone(),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => write!(formatter, "{}", path.display()),
            Self::Server(ServerTarget { user, host, directory, .. }) => {
                if let Some(user) = user {
                    write!(formatter, "{user}@")?;
                }
                write!(formatter, "{host}:{directory}")
            }
        }
    }
}

fn split_user(text: &str) -> (Option<&str>, &str) {
    // A user name may itself hold an @.
    match text.split_once(':').map_or(text, |(before, _)| before).rsplit_once('@') {
        Some((user, _)) => (Some(user), text.get(user.len() + 1..).unwrap_or_default()),
        None => (None, text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn targets_are_read_as_ssh_and_sshfs_read_them() {
        let server = |user: Option<&str>, host: &str, port, directory: &str| {
            Target::Server(ServerTarget {
                user: user.map(str::to_owned),
                host: host.to_owned(),
                port,
                directory: directory.to_owned(),
            })
        };
        for (text, expected) in [
            ("host", server(None, "host", None, "")),
            ("alice@host:", server(Some("alice"), "host", None, "")),
            ("alice@host:/srv/files", server(Some("alice"), "host", None, "/srv/files")),
            ("host:files", server(None, "host", None, "files")),
            ("host:~", server(None, "host", None, "")),
            ("host:~/files", server(None, "host", None, "files")),
            ("host:~//files", server(None, "host", None, "files")),
            ("host:~/", server(None, "host", None, "")),
            ("host:./~/files", server(None, "host", None, "./~/files")),
            ("host:files~", server(None, "host", None, "files~")),
            ("a@b@host:x@y", server(Some("a@b"), "host", None, "x@y")),
            ("[::1]:dir", server(None, "::1", None, "dir")),
            ("sftp://bob@host:2222/a%20b", server(Some("bob"), "host", Some(2222), "/a b")),
            ("sftp://host", server(None, "host", None, "")),
            ("sftp://host/~/docs", server(None, "host", None, "docs")),
            ("sftp://[::1]:22/x", server(None, "::1", Some(22), "/x")),
            ("/srv/x", Target::Local("/srv/x".into())),
        ] {
            assert_eq!(Target::parse(text).unwrap_or_else(|error| panic!("{error}")), expected, "{text}");
        }
        for name in ["x;id", "$(id)", "`id`", "a|b", "a&b", "a'b", "a\"b", "{a,b}", "a>b", "a\\"] {
            Target::parse(name).unwrap_err();
            Target::parse(&format!("{name}@host")).unwrap_err();
            Target::parse(&format!("sftp://{name}@host/")).unwrap_err();
        }
        assert!(Target::parse("DOMAIN\\alice@host").is_ok());
        for text in ["", "-oProxyCommand=x", "a b:", "-x@host", "sftp://host:port/", "[::1:dir"] {
            Target::parse(text).unwrap_err();
        }
        assert!(Target::parse("host:~bob/x").unwrap_err().contains("write it in full, or ./~bob/x"));
        assert!(Target::parse("files/Vault").unwrap_err().ends_with("write ./files/Vault"));
        assert_eq!(Target::parse("./files/Vault").unwrap().name(), "Vault");
    }
}
