//! `scaup mount`.

use std::path::PathBuf;

use clap::Args;
use rustix::fs::OFlags;

use super::converse::{self, Answer};
use super::exit::CliError;
use super::prompt;
use super::screen;
use crate::config::bookmark::{self, Bookmark};
use crate::config::ssh_config::keywords;
use crate::config::target::{ServerTarget, Target};
use crate::config::{mount_options, paths, size};
use crate::daemon::client::{self, Conversation};
use crate::daemon::protocol::{MountRequest, Request};

/// The whole budget for cached and unsent content, if none is given.
const MEMORY: &str = "128M";
/// How long names and attributes are believed, seconds, if nothing is given.
const ATTR_TIMEOUT: u64 = 5;
/// How long an operation waits for a lost server, seconds, if nothing is given.
const TIMEOUT: u64 = 60;

/// What stands below the options in the help.
fn after_help() -> String {
    let ssh = keywords::heeded().collect::<Vec<_>>().join(", ");
    format!(
        "Examples:\n  \
         scaup mount hq                                 a bookmark\n  \
         scaup mount alice@hq.example:/srv/nextcloud    a directory on a server\n  \
         scaup mount ~/Nextcloud --vault Private        a local directory, and one vault of it\n\n\
         Options (-o) for the mount: ro, allow_other, noexec, uid=, gid=, umask=, fsname=, subtype=, idmap=none, \
         otp_for=HOST[:HOST…] (see below), and without=PART[:PART…], which leaves out parts that make it fast, to measure them or to find a \
         fault. With allow_other, nobody else gets into vaults, whatever modes the server shows, unless umask= is given: then others may read \
         and write what it leaves them.\n\n\
         Options (-o) of ssh_config(5): {ssh}. With BatchMode, commands still answer. Those about terminals, forwardings, compression and \
         logs are taken, and change nothing; others are refused.\n\n\
         Vaults that are the directory or lie directly in it are offered at the terminal; an empty password leaves one locked. One \
         that was unlocked here before and is not there any more is asked about at the terminal; else nothing is read or written in its place \
         until it is back (see `scaup forget --help`).\n\n\
         A lost connection is made anew by itself. If the server then wants a code, a command named here gives it; else it is asked \
         for at the terminal of `mount -f` or `scaup login NAME`, whichever is attached; else by the program that SSH_ASKPASS named \
         when it was mounted; else a desktop notification offers to run `scaup login NAME`. `scaup status` always says what is waited \
         for.\n\n\
         The command for codes is run for a question of the server whose words name a code (code, token, OTP, one-time password and the like) \
         and no password, passphrase, PIN or other secret, where it is the only one at that time, and as often as NumberOfPasswordPrompts says \
         in one login. A person is asked for everything else. Jump hosts get no code from it unless -o otp_for names them as ProxyJump does, or \
         by their HostName. No code is sent twice, whoever gives it: if the one that was sent is given again, the next half minute is waited \
         for.\n\n\
         A command that answers may ask somebody itself. It may take as long as that takes while `scaup mount` or `scaup login` waits \
         for it, and Ctrl-C at `scaup mount` ends it. Where a lost connection is made anew and nobody waits, it has 2 minutes."
    )
}

/// Mount a directory of a server, and unlock the vaults in it.
#[derive(Args)]
#[command(after_help = after_help())]
pub(super) struct Arguments {
    /// A bookmark, [user@]host[:dir], sftp://[user@]host[:port]/dir, or a local directory that begins with /, ./ or ../
    target: String,
    /// Where to mount [default: ~/Scaup/NAME]; made if missing
    mountpoint: Option<PathBuf>,
    /// The server's port
    #[arg(short)]
    port: Option<u16>,
    /// The identity file: a private key
    #[arg(short, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Read this instead of ~/.ssh/config
    #[arg(short = 'F', value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// SSH options by their ssh_config names, and mount options; see below
    #[arg(short, value_name = "KEY=VALUE,…")]
    options: Vec<String>,
    /// Stay in the foreground until unmounted
    #[arg(short)]
    foreground: bool,
    /// Never change anything on the server
    #[arg(long)]
    read_only: bool,
    /// Unlock this vault while mounting, by its path below the directory (`.` for itself); may be repeated
    #[arg(long, value_name = "PATH")]
    vault: Vec<String>,
    /// Never look for vaults
    #[arg(long, conflicts_with = "vault")]
    no_vaults: bool,
    /// Ask for the key's passphrase again when the connection was lost, instead of holding the key in locked memory
    #[arg(long)]
    forget_key: bool,
    /// A command that prints the passphrase of the key
    #[arg(long, value_name = "CMD")]
    passphrase_command: Option<String>,
    /// A command that prints the one-time code, for questions of the server that name a code and nothing else; see below
    #[arg(long, value_name = "CMD")]
    otp_command: Option<String>,
    /// A command that prints the password of the vault named by $SCAUP_VAULT
    #[arg(long, value_name = "CMD")]
    vault_password_command: Option<String>,
    /// The whole budget for cached and unsent content [default: 128M]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// How long names and attributes are believed [default: 5]
    #[arg(long, value_name = "SECONDS")]
    attr_timeout: Option<u64>,
    /// How long an operation waits for a lost server before it fails [default: 60]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Let closing a file wait until the server has it on its disk, however small it is, and removing until it is done
    #[arg(long)]
    sync_on_close: bool,
    /// Follow links in vaults wherever they lead; without this, one that leads out of its vault is refused
    #[arg(long)]
    follow_outside: bool,
    /// Let the log hold clear names, and lines of the libraries that SCAUP_LOG asks for
    #[arg(long)]
    log_names: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), CliError> {
    let (foreground, quiet) = (arguments.foreground, arguments.quiet);
    let request = resolve(arguments)?;
    let (logs, log) = (paths::logs()?, format!("{}.log", request.name));
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let (mut conversation, mut daemon) = Conversation::start(logs.open(&log, flags)?)?;
    // Before it is mounted: a signal that comes at that very moment must not end this process alone.
    let _forwarding = foreground.then(|| super::unmount::forward_signals(daemon.id())).transpose()?;
    let mounted = converse::ask(&mut conversation, &Request::Mount(Box::new(request)), quiet);
    let Answer::Mounted { name, mountpoint } = mounted? else {
        return Err(CliError::other("the mount's process answered something else"));
    };
    if !quiet {
        screen::tell(&format!("{name} is mounted at {}", mountpoint.display()));
    }
    if !foreground {
        return Ok(());
    }
    converse::until_the_end(&mut conversation);
    match daemon.wait()?.code() {
        Some(0) => Ok(()),
        Some(8) => Err(CliError::new(
            crate::daemon::protocol::FailureKind::Unsaved,
            "what could not be saved is lost",
        )),
        _ => Err(CliError::other(format!(
            "the mount's process failed; its log is {}",
            logs.path().join(log).display()
        ))),
    }
}

/// From words to a request: bookmarks looked up, defaults filled in, paths made absolute.
pub(super) fn resolve(arguments: Arguments) -> Result<MountRequest, CliError> {
    let bookmark = bookmark::find(&arguments.target)?;
    let (text, bookmark_name) = match &bookmark {
        Some(bookmark) => (bookmark.target.clone(), Some(arguments.target.clone())),
        None => (arguments.target.clone(), None),
    };
    let bookmark = bookmark.unwrap_or_default();
    let target = Target::parse(&text).map_err(CliError::usage)?;
    let target = match (target, arguments.port.or(bookmark.port)) {
        (Target::Server(server), Some(port)) => Target::Server(ServerTarget { port: Some(port), ..server }),
        (target, _) => target,
    };
    let options: Vec<String> = arguments.options.into_iter().chain(bookmark.options.clone()).collect();
    let options = mount_options::sort(&options).map_err(CliError::usage)?;
    let name = free_name(&bookmark_name.unwrap_or_else(|| target.name()))?;
    let mountpoint = match arguments.mountpoint.or(bookmark.mountpoint.clone().map(paths::expand_home)) {
        Some(path) => std::path::absolute(path)?,
        None => paths::mounts().join(&name),
    };
    let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
    // `none` is no file: as for ssh, it means that none is read.
    let ssh_config = match arguments.ssh_config {
        Some(none) if none.as_os_str() == "none" => Some(none),
        file => absolute(file)?,
    };
    let Bookmark { vaults, memory, attr_timeout, timeout, .. } = bookmark;
    let memory = arguments.memory.or(memory).unwrap_or_else(|| MEMORY.to_owned());
    Ok(MountRequest {
        name,
        target,
        mountpoint: mountpoint.components().collect(),
        directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        identity: absolute(arguments.identity.or(bookmark.identity.map(paths::expand_home)))?,
        ssh_config,
        options,
        read_only: arguments.read_only || bookmark.read_only,
        vaults: if arguments.vault.is_empty() && !arguments.no_vaults { vaults } else { arguments.vault },
        no_vaults: arguments.no_vaults,
        forget_key: arguments.forget_key || bookmark.forget_key,
        passphrase_command: arguments.passphrase_command.or(bookmark.passphrase_command),
        otp_command: arguments.otp_command.or(bookmark.otp_command),
        vault_password_command: arguments.vault_password_command.or(bookmark.vault_password_command),
        memory: size::parse(&memory).map_err(CliError::usage)?,
        attr_timeout: arguments.attr_timeout.or(attr_timeout).unwrap_or(ATTR_TIMEOUT),
        timeout: arguments.timeout.or(timeout).unwrap_or(TIMEOUT).max(1),
        sync_on_close: arguments.sync_on_close,
        follow_outside: arguments.follow_outside || bookmark.follow_outside,
        log_names: arguments.log_names,
        interactive: prompt::is_possible(),
        terminal: prompt::is_at_terminal(),
        foreground: arguments.foreground,
    })
}

/// The name, or with a number behind it if a mount has it already.
fn free_name(wanted: &str) -> Result<String, CliError> {
    let clean: String =
        wanted.chars().map(|c| if c.is_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect();
    let clean = clean.trim_start_matches('.').to_owned();
    let base = if clean.is_empty() { "mount".to_owned() } else { clean };
    let taken: Vec<String> =
        client::names()?.into_iter().filter(|name| Conversation::with(name).is_ok()).collect();
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(|name| !taken.contains(name))
        .ok_or_else(|| CliError::other("no free name"))
}
