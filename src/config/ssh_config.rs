//! `ssh_config(5)`: the settings for a host from the user's and the system's files, and from `-o`.
//!
//! The first value of an option wins, and `-o` comes first. [`keywords`] says how each option is treated.

mod context;
mod error;
pub mod keywords;
mod lines;
mod machine;
mod reader;
mod tokens;
mod values;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use scaup_sftp::ssh::{Agent, AlgorithmKind, Algorithms, Destination, Method, Offer, StrictHostKeyChecking};

use super::paths;
use context::Context;
use error::JUMPS_MAX;
pub use error::{ExpansionError, Origin, SshConfigError};
use keywords::{KEYWORDS, Keyword};
pub use machine::{Machine, ThisMachine};
use reader::{Reader, user_directory};
use tokens::{Form, Tokens};
pub use values::NeverDone;
use values::{Hop, Value, Values, hop};

/// The directory of the system's configuration.
const SYSTEM_DIRECTORY: &str = "/etc/ssh";
/// The shortest RSA key that is accepted by default, bits; a setting can only raise it.
const RSA_BITS_MIN: u32 = 1024;

/// The destination as requested, before the files are read.
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
    /// The file to read instead of the usual ones.
    pub config_file: Option<PathBuf>,
    /// Options by their names in `ssh_config(5)`, which come before the files.
    pub options: Vec<(String, String)>,
    /// Jump hosts, by their names in the configuration or those to connect to, whose questions for a code may be
    /// answered without a person.
    pub otp_for: Vec<String>,
    /// Where relative paths begin.
    pub directory: PathBuf,
}

/// Resolves the destination to connect to, with its settings.
///
/// # Errors
///
/// If a file can't be read or may not be trusted, or if something in it is not valid or not supported.
pub fn resolve(wanted: &Wanted) -> Result<Destination, SshConfigError> {
    resolve_with(wanted, &ThisMachine)
}

/// Resolves like [`resolve`], on another machine than this one.
///
/// # Errors
///
/// As for [`resolve`].
pub fn resolve_with(wanted: &Wanted, machine: &dyn Machine) -> Result<Destination, SshConfigError> {
    resolve_at_depth(wanted, machine, 0)
}

/// Returns what the files want for a host, and Scaup never does. Each line stands there once.
///
/// # Errors
///
/// As for [`resolve`].
pub fn never_done(wanted: &Wanted) -> Result<Vec<NeverDone>, SshConfigError> {
    let (values, _) = read(wanted, &ThisMachine)?;
    let mut never_done: Vec<NeverDone> = Vec::new();
    for wish in values.never_done {
        // Files may be read twice.
        if !never_done.contains(&wish) {
            never_done.push(wish);
        }
    }
    Ok(never_done)
}

fn resolve_at_depth(
    wanted: &Wanted,
    machine: &dyn Machine,
    depth: usize,
) -> Result<Destination, SshConfigError> {
    if depth > JUMPS_MAX {
        return Err(SshConfigError::TooManyJumps);
    }
    let (values, context) = read(wanted, machine)?;
    destination(wanted, machine, &values, &context, depth)
}

/// Reads what the command line and the files say about a host.
fn read<'a>(wanted: &'a Wanted, machine: &dyn Machine) -> Result<(Values, Context<'a>), SshConfigError> {
    let local_user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".to_owned());
    let context = Context { original_host: &wanted.host, local_user, home: paths::home() };
    let mut values = Values::default();
    let port = wanted.port.map(|port| port.to_string());
    let named = [("User", wanted.user.as_deref()), ("Port", port.as_deref())];
    let named = named.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let options = wanted.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in named.chain(options) {
        let unknown = || SshConfigError::Unknown { origin: Origin::CommandLine, keyword: name.to_owned() };
        values.add(keywords::find(name).ok_or_else(unknown)?, value, &Origin::CommandLine)?;
    }
    if read_files(wanted, machine, &context, &mut values, false)? {
        // `Match final`: everything is read again, with the name to connect to, which can't change any more. `ssh`
        // writes it in lower case by then.
        let host = values.host_name(&wanted.host).to_ascii_lowercase().replace('%', "%%");
        values.fix("HostName", &host);
        read_files(wanted, machine, &context, &mut values, true)?;
    }
    Ok((values, context))
}

/// Reads all files; returns whether they are to be read again.
fn read_files(
    wanted: &Wanted,
    machine: &dyn Machine,
    context: &Context<'_>,
    values: &mut Values,
    is_final: bool,
) -> Result<bool, SshConfigError> {
    let own = user_directory(&context.home);
    let mut reader = Reader::new(machine, context, values, is_final);
    match &wanted.config_file {
        Some(file) if file == Path::new("none") => {}
        // As in `ssh`, a user who names a file vouches for it, but not for files that it includes.
        Some(file) => {
            if !reader.read(file, false, &own)? {
                let source = io::ErrorKind::NotFound.into();
                return Err(SshConfigError::File { path: file.clone(), source });
            }
        }
        None => {
            let system = PathBuf::from(SYSTEM_DIRECTORY);
            for (directory, name, is_checked) in [(own, "config", true), (system, "ssh_config", false)] {
                let path = directory.join(name);
                match reader.read(&path, is_checked, &directory) {
                    // A system file that the user may not read counts as empty, as in `ssh`.
                    Err(SshConfigError::File { path: failed, source })
                        if failed == path && source.kind() == io::ErrorKind::PermissionDenied => {}
                    read => drop(read?),
                }
            }
        }
    }
    Ok(reader.wants_final)
}

/// Refuses options that Scaup does not support.
fn check_supported(values: &Values) -> Result<(), SshConfigError> {
    let refused = |keyword: &Keyword| {
        let (said, value) = (values.value(keyword.name)?, values.get(keyword.name)?);
        Some(SshConfigError::Unsupported {
            origin: said.origin.clone(),
            keyword: keyword.name,
            value: value.to_owned(),
            way_out: keyword.refusal(value)?,
        })
    };
    KEYWORDS.iter().find_map(refused).map_or(Ok(()), Err)
}

fn algorithms(values: &Values) -> Result<Algorithms, SshConfigError> {
    fn offer<K: AlgorithmKind>(values: &Values, name: &'static str) -> Result<Offer<K>, SshConfigError> {
        Ok(values.parsed(name, |list| Offer::from_str(list).ok())?.unwrap_or_default())
    }
    Ok(Algorithms {
        kex: offer(values, "KexAlgorithms")?,
        ciphers: offer(values, "Ciphers")?,
        message_codes: offer(values, "MACs")?,
        host_keys: offer(values, "HostKeyAlgorithms")?,
        authority_signatures: offer(values, "CASignatureAlgorithms")?,
        user_keys: offer(values, "PubkeyAcceptedAlgorithms")?,
    })
}

fn destination(
    wanted: &Wanted,
    machine: &dyn Machine,
    values: &Values,
    context: &Context<'_>,
    depth: usize,
) -> Result<Destination, SshConfigError> {
    check_supported(values)?;
    // As `ssh` does, so that tokens and known hosts have it that way.
    let host = values.host_name(&wanted.host).to_ascii_lowercase();
    let user = values.get("User").unwrap_or(&context.local_user).to_owned();
    let port = values.parsed("Port", values::port)?.unwrap_or(values::PORT);
    let tokens = Tokens::of_host(context, values, &host);
    let file = |keyword, value: &Value, word: &str, form| match tokens.path(word, form) {
        Ok(path) => Ok(wanted.directory.join(path)),
        Err(source) => Err(not_expanded(keyword, value, source)),
    };
    let files = |keyword, values: &[Value], form| -> Result<Vec<PathBuf>, SshConfigError> {
        let words = values.iter().flat_map(|value| value.words.iter().map(move |word| (value, word)));
        let named = words.filter(|(_, word)| !word.eq_ignore_ascii_case("none"));
        named.map(|(value, word)| file(keyword, value, word, form)).collect()
    };
    let known_hosts = |keyword, form, default: [&str; 2]| match values.value(keyword) {
        Some(value) => files(keyword, std::slice::from_ref(value), form),
        None => Ok(default.iter().map(|name| context.home.join(name)).collect()),
    };
    let revoked: Vec<Value> = values.value("RevokedHostKeys").cloned().into_iter().collect();
    let attempts = values.parsed("NumberOfPasswordPrompts", values::count)?.unwrap_or(3);
    let rsa_bits_min = values.parsed("RequiredRSASize", |bits| bits.parse().ok())?;
    Ok(Destination {
        port,
        address_family: values.parsed("AddressFamily", values::address_family)?.unwrap_or_default(),
        host_key_alias: values.get("HostKeyAlias").map(str::to_owned),
        user_known_hosts: known_hosts(
            "UserKnownHostsFile",
            Form::Path,
            [".ssh/known_hosts", ".ssh/known_hosts2"],
        )?,
        global_known_hosts: known_hosts(
            "GlobalKnownHostsFile",
            Form::SharedPath,
            ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
        )?,
        revoked_host_keys: files("RevokedHostKeys", &revoked, Form::Path)?.pop(),
        rsa_bits_min: rsa_bits_min.unwrap_or(RSA_BITS_MIN).max(RSA_BITS_MIN),
        strict_host_key_checking: values
            .parsed("StrictHostKeyChecking", values::strict_host_key_checking)?
            .unwrap_or(StrictHostKeyChecking::Ask),
        hash_known_hosts: values.parsed("HashKnownHosts", values::flag)?.unwrap_or(false),
        methods: methods(values)?,
        // If no attempt is allowed, no question is asked (`batch_mode`).
        attempts: attempts.max(1),
        // A jump host gets a code only where the user says so.
        unattended_codes: depth == 0
            || wanted.otp_for.iter().any(|name| [&wanted.host, &host].contains(&name)),
        batch_mode: values.parsed("BatchMode", values::flag)?.unwrap_or(false) || attempts == 0,
        kbd_interactive_devices: values.get("KbdInteractiveDevices").map(str::to_owned),
        algorithms: algorithms(values)?,
        rekeying: values.parsed_words("RekeyLimit", values::rekeying)?.unwrap_or_default(),
        identities: wanted
            .identity
            .iter()
            .cloned()
            .chain(files("IdentityFile", &values.identities, Form::Path)?)
            .collect(),
        default_identities: ["id_ed25519", "id_ecdsa", "id_rsa"]
            .iter()
            .map(|name| context.home.join(".ssh").join(name))
            .collect(),
        certificates: files("CertificateFile", &values.certificates, Form::Path)?,
        // A key named on the command line is the one to use.
        identities_only: values.parsed("IdentitiesOnly", values::flag)?.unwrap_or(false)
            || wanted.identity.is_some(),
        agent: match values.value("IdentityAgent") {
            None => Agent::FromEnvironment,
            Some(value) => match value.words.concat().as_str() {
                "SSH_AUTH_SOCK" => Agent::FromEnvironment,
                "none" => Agent::None,
                // The old form of a variable, which may be unset.
                word if word.starts_with('$') && !word.starts_with("${") => {
                    let path = std::env::var_os(word.trim_start_matches('$'));
                    path.map_or(Agent::None, |path| Agent::Socket(path.into()))
                }
                word => Agent::Socket(file("IdentityAgent", value, word, Form::Path)?),
            },
        },
        server_alive_interval: values
            .parsed("ServerAliveInterval", values::time)?
            .unwrap_or(Duration::from_secs(4)),
        server_alive_count_max: values.parsed("ServerAliveCountMax", values::count)?.unwrap_or(2),
        connect_timeout: Some(
            values.parsed("ConnectTimeout", values::time)?.unwrap_or(Duration::from_secs(15)),
        )
        .filter(|limit| !limit.is_zero()),
        jumps: jumps((values, &tokens), wanted, machine, depth)?,
        host,
        user,
    })
}

fn not_expanded(keyword: &'static str, value: &Value, source: ExpansionError) -> SshConfigError {
    let (origin, value) = (value.origin.clone(), value.words.join(" "));
    SshConfigError::Expansion { origin, keyword, value, source }
}

fn jumps(
    (values, tokens): (&Values, &Tokens<'_>),
    wanted: &Wanted,
    machine: &dyn Machine,
    depth: usize,
) -> Result<Vec<Destination>, SshConfigError> {
    let Some(said) = values.value("ProxyJump") else { return Ok(Vec::new()) };
    let value = said.words.concat();
    if value.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let value =
        tokens.expand(&value, Form::Jumps).map_err(|source| not_expanded("ProxyJump", said, source))?;
    let mut chain: Vec<Destination> = Vec::new();
    for (index, text) in value.split(',').enumerate() {
        let invalid = || SshConfigError::Value {
            origin: said.origin.clone(),
            keyword: "ProxyJump",
            value: text.to_owned(),
        };
        let Hop { user, host, port } = hop(text).ok_or_else(invalid)?;
        // Settings for the target alone do not hold for the jump hosts; those about trust do.
        let shared = [
            "UserKnownHostsFile",
            "GlobalKnownHostsFile",
            "StrictHostKeyChecking",
            "RevokedHostKeys",
            "RequiredRSASize",
            "KexAlgorithms",
            "Ciphers",
            "MACs",
            "HostKeyAlgorithms",
            "CASignatureAlgorithms",
            "PubkeyAcceptedAlgorithms",
            "IdentityAgent",
            "IdentityFile",
            "IgnoreUnknown",
        ];
        let is_shared =
            |name: &str| keywords::find(name).is_some_and(|keyword| shared.contains(&keyword.name));
        let options = wanted.options.iter().filter(|(name, _)| is_shared(name));
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
        let next = resolve_at_depth(&next, machine, depth + 1)?;
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

/// Returns the methods that may be tried, in the preferred order.
fn methods(values: &Values) -> Result<Vec<Method>, SshConfigError> {
    let mut methods = values
        .get("PreferredAuthentications")
        .map_or_else(|| Method::ALL.to_vec(), |list| list.split(',').filter_map(method).collect());
    for (keyword, method) in [
        ("PubkeyAuthentication", Method::PublicKey),
        ("KbdInteractiveAuthentication", Method::KeyboardInteractive),
        ("PasswordAuthentication", Method::Password),
    ] {
        if values.parsed(keyword, values::permission)? == Some(false) {
            methods.retain(|other| *other != method);
        }
    }
    Ok(methods)
}

/// Returns a method by its name; `None` for those that are not supported here, such as `gssapi-with-mic`.
fn method(name: &str) -> Option<Method> {
    match name.trim() {
        "publickey" => Some(Method::PublicKey),
        "keyboard-interactive" => Some(Method::KeyboardInteractive),
        "password" => Some(Method::Password),
        _ => None,
    }
}

/// Returns the hosts that a file, and those that it includes, name without patterns, in their order.
///
/// # Errors
///
/// If the file can't be read.
pub fn host_names(file: &Path) -> Result<Vec<String>, SshConfigError> {
    let all = reader::host_names(&ThisMachine, file, &paths::home())?;
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
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
        let config = "Host *.org !bad.org\n  User a\nMatch host \"x\"\nMatch originalhost x user root\n  Port 5\nMatch all\n  Port 7\n";
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
    fn what_a_file_wants_in_vain_for_the_host_is_listed_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = "Host h\n  GSSAPIAuthentication yes\n  Tunnel no\n  LogLevel DEBUG\nHost other\n  HostbasedAuthentication yes\nMatch final\n  Port 5\n";
        std::fs::write(file.path(), config).unwrap();
        let wanted = Wanted { host: "h".into(), config_file: Some(file.path().into()), ..Wanted::default() };
        let found = never_done(&wanted).unwrap();
        let [only] = &found[..] else { panic!("{found:?}") };
        assert_eq!(only.keyword, "GSSAPIAuthentication");
        assert_eq!(only.origin, Origin::Line(file.path().to_owned(), 2));
    }

    #[test]
    fn hosts_without_patterns_can_be_listed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Host a b *.c\nHost a\nHost=d\n").unwrap();
        assert_eq!(host_names(file.path()).unwrap(), ["a", "b", "d"]);
    }
}
