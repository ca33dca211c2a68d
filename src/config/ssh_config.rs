//! `ssh_config(5)`: what the user's and the system's files, and `-o`, say about a host.
//!
//! The first value of a keyword wins, and `-o` comes first. Keywords that are not listed in [`resolve`] are skipped.

mod values;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use scaup_sftp::ssh::{Agent, Destination, Method, StrictHostKeyChecking};

use super::paths;
use values::Values;

/// Where the system's configuration lies.
const SYSTEM_DIRECTORY: &str = "/etc/ssh";
/// Deepest chain of Include files.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Longest chain of jump hosts.
const JUMPS_MAX: usize = 8;

/// What was asked for, before the files are read.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The host, as the user wrote it.
    pub host: String,
    /// The user, if one was named.
    pub user: Option<String>,
    /// The port, if one was named.
    pub port: Option<u16>,
    /// The identity file, if one was named.
    pub identity: Option<PathBuf>,
    /// Read this instead of the usual files.
    pub config_file: Option<PathBuf>,
    /// Options by their names here, which come before the files.
    pub options: Vec<(String, String)>,
    /// Jump hosts, by their names here or those to connect to, whose questions for a code may be answered without a person.
    pub otp_for: Vec<String>,
    /// Where paths that are not absolute begin.
    pub directory: PathBuf,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SshConfigError {
    /// A file that was named can't be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value is not of the form it has to have.
    #[error("{keyword} {value:?} is not valid")]
    Value {
        /// The keyword.
        keyword: String,
        /// The value.
        value: String,
    },
    /// Something that would lead elsewhere if it were passed over.
    #[error("ProxyCommand is not supported; if it goes through another SSH server, name that with ProxyJump")]
    ProxyCommand,
    /// Jump hosts that lead in a circle, or too far.
    #[error("more than {JUMPS_MAX} jump hosts")]
    TooManyJumps,
}

/// Who asks: what patterns are matched against.
struct Context<'a> {
    original_host: &'a str,
    user: String,
    local_user: String,
    home: PathBuf,
}

/// Works out where to connect to, and how.
///
/// # Errors
///
/// If a file that was named can't be read, or a value is not valid.
pub fn resolve(wanted: &Wanted) -> Result<Destination, SshConfigError> {
    resolve_at_depth(wanted, 0)
}

fn resolve_at_depth(wanted: &Wanted, depth: usize) -> Result<Destination, SshConfigError> {
    if depth > JUMPS_MAX {
        return Err(SshConfigError::TooManyJumps);
    }
    let local_user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".to_owned());
    let mut context = Context {
        original_host: &wanted.host,
        user: wanted.user.clone().unwrap_or_else(|| local_user.clone()),
        local_user,
        home: paths::home(),
    };
    let mut values = Values::default();
    if let Some(user) = &wanted.user {
        values.add("user", user);
    }
    if let Some(port) = wanted.port {
        values.add("port", &port.to_string());
    }
    for (keyword, value) in &wanted.options {
        values.add(&keyword.to_ascii_lowercase(), value);
    }
    if let Some(user) = values.get("user") {
        context.user = user.to_owned();
    }
    let own = user_directory(&context.home);
    match &wanted.config_file {
        Some(file) if file == Path::new("none") => {}
        Some(file) => read_file(file, &own, &context, &mut values, 0)
            .map_err(|source| SshConfigError::File { path: file.clone(), source })?,
        None => {
            let system = PathBuf::from(SYSTEM_DIRECTORY);
            for (directory, name) in [(own, "config"), (system, "ssh_config")] {
                // One that is missing or not ours to read says nothing.
                let _ = read_file(&directory.join(name), &directory, &context, &mut values, 0);
            }
        }
    }
    destination(wanted, &values, &context, depth)
}

fn destination(
    wanted: &Wanted,
    values: &Values,
    context: &Context<'_>,
    depth: usize,
) -> Result<Destination, SshConfigError> {
    if values.get("proxycommand").is_some_and(|command| !command.eq_ignore_ascii_case("none")) {
        return Err(SshConfigError::ProxyCommand);
    }
    let host = host_name(values, &wanted.host);
    let user = values.get("user").unwrap_or(&context.local_user).to_owned();
    let port = values.parsed("port", values::port)?.unwrap_or(22);
    let expand = |path: &str| wanted.directory.join(expand(path, context, &host, &user));
    let files = |keyword: &str, default: &[&str]| -> Vec<PathBuf> {
        match values.get(keyword) {
            Some("none") => Vec::new(),
            Some(list) => words(list).iter().map(|path| expand(path)).collect(),
            None => default.iter().map(|path| expand(path)).collect(),
        }
    };
    let attempts = values.parsed("numberofpasswordprompts", values::count)?.unwrap_or(3);
    let named = values.identities.iter().filter(|path| *path != "none").map(|path| expand(path));
    Ok(Destination {
        port,
        host_key_alias: values.get("hostkeyalias").map(str::to_owned),
        user_known_hosts: files("userknownhostsfile", &["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]),
        global_known_hosts: files(
            "globalknownhostsfile",
            &["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
        ),
        strict_host_key_checking: values
            .parsed("stricthostkeychecking", values::strict_host_key_checking)?
            .unwrap_or(StrictHostKeyChecking::Ask),
        hash_known_hosts: values.parsed("hashknownhosts", values::flag)?.unwrap_or(false),
        methods: methods(values)?,
        // Who may be asked no time is not asked.
        attempts: attempts.max(1),
        // A jump host learns a code only where the user says so.
        unattended_codes: depth == 0
            || wanted.otp_for.iter().any(|name| [&wanted.host, &host].contains(&name)),
        batch_mode: values.parsed("batchmode", values::flag)?.unwrap_or(false) || attempts == 0,
        ciphers: values.parsed("ciphers", values::ciphers)?.unwrap_or_default(),
        identities: wanted.identity.iter().cloned().chain(named).collect(),
        default_identities: ["id_ed25519", "id_ecdsa", "id_rsa"]
            .iter()
            .map(|name| context.home.join(".ssh").join(name))
            .collect(),
        certificates: values.certificates.iter().map(|path| expand(path)).collect(),
        // A key named on the command line is the one that is meant.
        identities_only: values.parsed("identitiesonly", values::flag)?.unwrap_or(false)
            || wanted.identity.is_some(),
        agent: match values.get("identityagent") {
            None | Some("SSH_AUTH_SOCK") => Agent::FromEnvironment,
            Some("none") => Agent::None,
            Some(variable) if variable.starts_with('$') => {
                let name = variable.trim_start_matches('$').trim_matches(['{', '}']);
                std::env::var_os(name).map_or(Agent::None, |path| Agent::Socket(path.into()))
            }
            Some(path) => Agent::Socket(expand(path)),
        },
        server_alive_interval: values
            .parsed("serveraliveinterval", values::time)?
            .unwrap_or(Duration::from_secs(4)),
        server_alive_count_max: values.parsed("serveralivecountmax", values::count)?.unwrap_or(2),
        connect_timeout: Some(
            values.parsed("connecttimeout", values::time)?.unwrap_or(Duration::from_secs(15)),
        )
        .filter(|limit| !limit.is_zero()),
        jumps: jumps(values.get("proxyjump"), wanted, depth)?,
        host,
        user,
    })
}

/// The name to connect to: `HostName`, in which `%h` is the host as the user wrote it, or that itself.
fn host_name(values: &Values, original: &str) -> String {
    let expand = |part: &str| part.replace("%h", original);
    values.get("hostname").map_or_else(
        || original.to_owned(),
        |name| name.split("%%").map(expand).collect::<Vec<_>>().join("%"),
    )
}

fn jumps(value: Option<&str>, wanted: &Wanted, depth: usize) -> Result<Vec<Destination>, SshConfigError> {
    let Some(value) = value.filter(|value| !value.eq_ignore_ascii_case("none")) else {
        return Ok(Vec::new());
    };
    let mut chain: Vec<Destination> = Vec::new();
    for (index, hop) in value.split(',').enumerate() {
        let invalid = || SshConfigError::Value { keyword: "proxyjump".to_owned(), value: hop.to_owned() };
        let hop = hop.trim().trim_start_matches("ssh://");
        let (user, place) = hop.rsplit_once('@').map_or((None, hop), |(user, place)| (Some(user), place));
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
                (host, rest.strip_prefix(':'))
            }
            None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.starts_with('-') {
            return Err(invalid());
        }
        let port = port.map(|port| port.parse().map_err(|_| invalid())).transpose()?;
        // What was said for the target alone does not hold for the way there.
        let shared = [
            "userknownhostsfile",
            "globalknownhostsfile",
            "stricthostkeychecking",
            "identityagent",
            "identityfile",
        ];
        let options = wanted
            .options
            .iter()
            .filter(|(keyword, _)| shared.contains(&keyword.to_ascii_lowercase().as_str()));
        let next = Wanted {
            host: host.to_owned(),
            user: user.map(str::to_owned),
            port,
            identity: wanted.identity.clone(),
            config_file: wanted.config_file.clone(),
            options: options.cloned().collect(),
            otp_for: wanted.otp_for.clone(),
            directory: wanted.directory.clone(),
        };
        let next = resolve_at_depth(&next, depth + 1)?;
        // The first hop may itself need others before it.
        if index == 0 {
            chain.extend(next.jumps.iter().cloned());
        }
        chain.push(Destination { jumps: Vec::new(), ..next });
        if chain.len() > JUMPS_MAX {
            return Err(SshConfigError::TooManyJumps);
        }
    }
    Ok(chain)
}

/// The methods that may be tried, in the order that is preferred.
fn methods(values: &Values) -> Result<Vec<Method>, SshConfigError> {
    let mut methods = values
        .get("preferredauthentications")
        .map_or_else(|| Method::ALL.to_vec(), |list| list.split(',').filter_map(method).collect());
    for (keyword, method) in [
        ("pubkeyauthentication", Method::PublicKey),
        ("kbdinteractiveauthentication", Method::KeyboardInteractive),
        ("passwordauthentication", Method::Password),
    ] {
        if values.parsed(keyword, values::permission)? == Some(false) {
            methods.retain(|other| *other != method);
        }
    }
    Ok(methods)
}

/// A method by its name; `None` for those that are not supported here, such as `gssapi-with-mic`.
fn method(name: &str) -> Option<Method> {
    match name.trim() {
        "publickey" => Some(Method::PublicKey),
        "keyboard-interactive" => Some(Method::KeyboardInteractive),
        "password" => Some(Method::Password),
        _ => None,
    }
}

/// `~`, and the tokens that paths may hold.
fn expand(path: &str, context: &Context<'_>, host: &str, user: &str) -> PathBuf {
    let home = context.home.to_string_lossy();
    let path = match path.strip_prefix("~/") {
        Some(below) => format!("{home}/{below}"),
        None => path.to_owned(),
    };
    let mut expanded = String::new();
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        match characters.next() {
            Some('d') => expanded.push_str(&home),
            Some('h') => expanded.push_str(host),
            Some('n') => expanded.push_str(context.original_host),
            Some('r') => expanded.push_str(user),
            Some('u') => expanded.push_str(&context.local_user),
            Some('%') => expanded.push('%'),
            Some(other) => expanded.extend(['%', other]),
            None => expanded.push('%'),
        }
    }
    PathBuf::from(expanded)
}

/// The user's own directory of `ssh`.
fn user_directory(home: &Path) -> PathBuf {
    home.join(".ssh")
}

/// Takes in what a file says about the host. Its Includes are relative to `base`.
fn read_file(
    path: &Path,
    base: &Path,
    context: &Context<'_>,
    values: &mut Values,
    depth: usize,
) -> io::Result<()> {
    let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    let mut holds = true;
    for line in text.lines() {
        let Some((keyword, value)) = split_line(line) else { continue };
        match keyword.as_str() {
            "host" => holds = matches_list(context.original_host, words(&value).iter().map(String::as_str)),
            "match" => holds = matches_conditions(&value, context, values),
            _ if !holds => {}
            "include" if depth < INCLUDE_DEPTH_MAX => {
                for pattern in words(&value) {
                    for file in included(&pattern, base, &context.home) {
                        let _ = read_file(&file, base, context, values, depth + 1);
                    }
                }
            }
            keyword => values.add_from_file(keyword, &value),
        }
    }
    Ok(())
}

/// The words of a value: separated by blanks, unless these stand in quotes; up to a comment.
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    words
}

/// The keyword in lower case, and its value as it stands; separated by blanks, or by one `=`.
fn split_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=')?;
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    Some((keyword.to_ascii_lowercase(), value.to_owned()))
}

fn matches_list<'a>(text: &str, patterns: impl Iterator<Item = &'a str>) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if matches_pattern(text, negated) => return false,
            Some(_) => {}
            None => found |= matches_pattern(text, pattern),
        }
    }
    found
}

/// `Match`: all conditions have to hold. Those that would run a command or need the final host name do not.
fn matches_conditions(conditions: &str, context: &Context<'_>, values: &Values) -> bool {
    let mut words = words(conditions).into_iter();
    while let Some(word) = words.next() {
        let (negated, criterion) = word.strip_prefix('!').map_or((false, word.as_str()), |word| (true, word));
        let criterion = criterion.to_ascii_lowercase();
        if criterion == "all" {
            if negated {
                return false;
            }
            continue;
        }
        let Some(patterns) = words.next() else { return false };
        let host = host_name(values, context.original_host);
        let text = match criterion.as_str() {
            "host" => &host,
            "originalhost" => context.original_host,
            "user" => values.get("user").unwrap_or(&context.user),
            "localuser" => &context.local_user,
            _ => return false,
        };
        if matches_list(text, patterns.split(',')) == negated {
            return false;
        }
    }
    true
}

/// The files that an Include names, in the order of their names: relative to `base`, with patterns in any part of the path (glob(7)).
fn included(pattern: &str, base: &Path, home: &Path) -> Vec<PathBuf> {
    let below = |directory: &Path, pattern: &str| {
        format!("{}/{pattern}", glob::Pattern::escape(&directory.to_string_lossy()))
    };
    let mut pattern = match pattern.strip_prefix("~/") {
        Some(pattern) => below(home, pattern),
        None if pattern.starts_with('/') => pattern.to_owned(),
        None => below(base, pattern),
    };
    // Two stars are as good as one; to the library they would be directories at any depth.
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    // A name that begins with a dot is only meant where the pattern has it, too. The library's own option for that misses those, and
    // does not live with names that are no UTF-8.
    let is_meant = |path: &PathBuf| {
        let starts_with_dot = |part: Component<'_>| part.as_os_str().as_bytes().starts_with(b".");
        let mut parts = path.components().zip(Path::new(&pattern).components());
        parts.all(|(name, pattern)| !starts_with_dot(name) || starts_with_dot(pattern))
    };
    match glob::glob(&pattern) {
        Ok(paths) => paths.flatten().filter(is_meant).collect(),
        // What is no pattern stands for itself.
        Err(_) => vec![PathBuf::from(pattern)],
    }
}

/// Whether a name is what a pattern of hosts or users means (`ssh_config(5)`, PATTERNS), in capitals or not.
fn matches_pattern(text: &str, pattern: &str) -> bool {
    scaup_sftp::ssh::matches_pattern(&text.to_lowercase(), &pattern.to_lowercase())
}

/// The hosts that a file, and those that it includes, name without patterns, in their order.
///
/// # Errors
///
/// If the file can't be read.
pub fn host_names(file: &Path) -> Result<Vec<String>, SshConfigError> {
    let all = host_names_at_depth(file, &paths::home(), 0)
        .map_err(|source| SshConfigError::File { path: file.to_owned(), source })?;
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn host_names_at_depth(file: &Path, home: &Path, depth: usize) -> io::Result<Vec<String>> {
    let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
    let mut names = Vec::new();
    // Which hosts the lines are about. Behind a Match it may be any.
    let mut about = vec!["*".to_owned()];
    for (keyword, value) in text.lines().filter_map(split_line) {
        match keyword.as_str() {
            "host" => {
                about = words(&value);
                names.extend(about.iter().filter(|name| !name.contains(['*', '?', '!'])).cloned());
            }
            "match" => about = vec!["*".to_owned()],
            "include" if depth < INCLUDE_DEPTH_MAX => {
                let files =
                    words(&value).into_iter().flat_map(|path| included(&path, &user_directory(home), home));
                for file in files {
                    // One that is missing or not ours to read says nothing.
                    let found = host_names_at_depth(&file, home, depth + 1).unwrap_or_default();
                    let is_meant = |name: &String| matches_list(name, about.iter().map(String::as_str));
                    names.extend(found.into_iter().filter(is_meant));
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolved(config: &str, host: &str) -> Destination {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let wanted =
            Wanted { host: host.to_owned(), config_file: Some(file.path().to_owned()), ..Wanted::default() };
        resolve(&wanted).unwrap()
    }

    #[test]
    fn the_first_value_wins_and_patterns_choose() {
        let config = "Port 2200\nHost hq !not-this\n  HostName = %h.example.org\n\tUser\talice\nHost *\n  User bob\n  Port 1\n";
        let hq = resolved(config, "hq");
        assert_eq!((hq.host.as_str(), hq.user.as_str(), hq.port), ("hq.example.org", "alice", 2200));
        assert_eq!(resolved(config, "else").user, "bob");
    }

    #[test]
    fn negated_patterns_and_match_blocks() {
        let config = "Host *.org !bad.org\n  User a\nMatch host \"x\"\nMatch originalhost x user root\n  Port 5\nMatch exec true\n  Port 6\nMatch all\n  Port 7\n";
        assert_eq!(resolved(config, "good.org").user, "a");
        assert_ne!(resolved(config, "bad.org").user, "a");
        assert_eq!(resolved(config, "good.org").port, 7);
    }

    #[test]
    fn identities_add_up_and_the_agent_can_be_chosen() {
        let config = "IdentityFile %d/one\nIdentityFile \"/two\"\nIdentitiesOnly yes\nIdentityAgent none\n";
        let found = resolved(config, "h");
        assert_eq!(found.identities, [paths::home().join("one"), PathBuf::from("/two")]);
        assert!(found.identities_only);
        assert_eq!(found.agent, Agent::None);
    }

    #[test]
    fn jumps_are_resolved_like_hosts_and_bounded() {
        let config = "Host inner\n  ProxyJump me@outer:99,second\nHost outer\n  HostName gate.example\nHost circle\n  ProxyJump circle\n";
        let found = resolved(config, "inner");
        assert_eq!(found.jumps.len(), 2);
        let [outer, second] = &found.jumps[..] else { unreachable!() };
        assert_eq!((outer.host.as_str(), outer.user.as_str(), outer.port), ("gate.example", "me", 99));
        assert_eq!(second.host, "second");
        assert!(found.unattended_codes && !outer.unattended_codes && !second.unattended_codes);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let wanted =
            Wanted { host: "circle".into(), config_file: Some(file.path().into()), ..Wanted::default() };
        assert!(matches!(resolve(&wanted), Err(SshConfigError::TooManyJumps)));
    }

    #[test]
    fn includes_are_read_in_place() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.conf"), "Port 42\n").unwrap();
        let config = format!("Include {}/*.conf\nPort 1\n", directory.path().display());
        assert_eq!(resolved(&config, "h").port, 42);
    }

    #[test]
    fn hosts_without_patterns_can_be_listed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Host a b *.c\nHost a\nHost=d\n").unwrap();
        assert_eq!(host_names(file.path()).unwrap(), ["a", "b", "d"]);
    }
}
