//! `scaup mount`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::OFlags;
use scaup_fuse::is_mounted;

use super::converse::{self, DaemonReply};
use super::error::CliError;
use super::prompt;
use super::screen;
use super::service_manager::ServiceManager;
use crate::config::bookmark::{self, Bookmark};
use crate::config::settings::{LoginSettings, MountSettings, Remember};
use crate::config::ssh_config::keywords;
use crate::config::target::Target;
use crate::config::{mount_options, paths, size};
use crate::daemon::client::{self, Conversation};
use crate::daemon::log_file;
use crate::daemon::protocol::{
    FailureKind, LoginRequest, MountRequest, MountState, MountStatus, Request, UnsavedEntry,
};

/// How long a new mount waits for one of the same target that still saves at its end: that gives up after 75 s.
const EARLIER_PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a daemon may take to report that its mount is gone. If it still does not, it is mounted where this process
/// can't see it.
const SAYS_SO_WITHIN: Duration = Duration::from_secs(2);

/// Returns the text below the options in the help.
fn after_help() -> String {
    let mount = mount_options::listed().collect::<Vec<_>>().join(", ");
    let ssh = keywords::heeded().collect::<Vec<_>>().join(", ");
    format!(
        "Examples:\n  \
         scaup mount hq                                 a bookmark\n  \
         scaup mount alice@hq.example:/srv/nextcloud    a directory on a server\n  \
         scaup mount ~/Nextcloud --vault Private        a local directory, and one vault of it\n\n\
         Options (-o) for the mount: {mount}. otp_for= is explained below. without= switches off parts that make the mount fast, to \
         measure them or to find a fault. With allow_other, other users still can't open vaults, whatever modes the server shows, unless \
         umask= is given: then they may read and write what the umask leaves them.\n\n\
         Options (-o) of ssh_config(5): {ssh}. If an option is given twice, the first value counts; options of a bookmark come after \
         those of the command line. With BatchMode, no person is asked, but commands still answer. Options about terminals, forwardings, \
         compression and logs are accepted and have no effect; other options are refused.\n\n\
         Scaup offers at the terminal to unlock each vault that is the target's directory or lies directly in it; an empty password leaves \
         it locked. If a vault that was unlocked here before is missing, Scaup asks at the terminal what to do; without a terminal, reads \
         and writes at its path fail until the vault is back (see `scaup forget --help`).\n\n\
         After the connection is lost, the mount reconnects by itself. If the server then asks for a code, Scaup gets it from the first of \
         these that there is: the command for codes (--otp-command); the terminal of `mount -f` or `scaup login NAME`, whichever is \
         attached; the SSH_ASKPASS program of the time of mounting; a desktop notification that offers to run `scaup login NAME`. \
         `scaup status` always says what the mount waits for.\n\n\
         Scaup runs the command for codes when the server's prompt names a code (code, token, OTP, one-time password and the like) and no \
         password, passphrase, PIN or other secret, and is the only prompt at that time. In one login the command runs at most \
         NumberOfPasswordPrompts times. All other prompts go to a person. A jump host gets codes from the command only if -o otp_for names \
         it, as ProxyJump does or by its HostName. Scaup sends no code twice: if the command or a person gives one that was sent before, \
         Scaup waits for the next half minute.\n\n\
         The mount's process writes its log to scaup/NAME.log in $XDG_STATE_HOME (default: ~/.local/state), 4 MiB at most, and keeps the \
         log before that one as NAME.log.1. SCAUP_LOG in the environment of this command selects what is logged: scaup=info, or \
         scaup=debug, which shows each request and the SFTP messages that it causes.\n\n\
         A command that answers may itself ask a person. While `scaup mount` or `scaup login` waits for it, it has no time limit, and \
         Ctrl-C at `scaup mount` ends it. When the mount reconnects and no program waits, the command has 2 minutes."
    )
}

/// Mount a directory of a server, and unlock the vaults in it.
#[derive(Args)]
#[command(after_help = after_help())]
pub(super) struct MountArguments {
    /// A bookmark, [user@]host[:dir], sftp://[user@]host[:port]/dir, or a local directory that begins with /, ./ or ../
    target: String,
    /// Where to mount [default: ~/Scaup/NAME]; created if missing
    mountpoint: Option<PathBuf>,
    #[command(flatten)]
    login: LoginSettings,
    #[command(flatten)]
    mount: MountSettings,
    /// Stay in the foreground until unmounted
    #[arg(short)]
    foreground: bool,
    /// Print only errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(arguments: MountArguments) -> Result<(), CliError> {
    let (foreground, quiet) = (arguments.foreground, arguments.quiet);
    let request = resolve(arguments)?;
    let (logs, log) = (paths::logs()?, log_file::name_of(&request.name));
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let (mut conversation, mut daemon) = Conversation::start(logs.open(&log, flags)?)?;
    // Signals are forwarded before the mount is made: one that comes at that very moment must not end this process
    // alone.
    let _forwarding = foreground.then(|| super::unmount::forward_signals(daemon.id())).transpose()?;
    let mounted = converse::ask(&mut conversation, &Request::Mount(Box::new(request)), quiet);
    let DaemonReply::Mounted { name, mountpoint } = mounted? else {
        return Err(CliError::other("the mount's process sent an unexpected reply"));
    };
    if !quiet {
        screen::tell(&format!("{name} is mounted at {}", mountpoint.display()));
    }
    if !foreground {
        return Ok(());
    }
    match ServiceManager::connect() {
        Ok(Some(manager)) => manager.follow(name),
        Ok(None) => {}
        Err(error) => screen::tell(&format!("systemd can't be told that the mount is ready: {error}")),
    }
    converse::until_the_end(&mut conversation);
    match daemon.wait()?.code() {
        Some(0) => Ok(()),
        code if code == Some(FailureKind::Unsaved.exit_code().into()) => {
            Err(CliError::new(FailureKind::Unsaved, "content that could not be saved is lost"))
        }
        _ => Err(CliError::other(format!(
            "the mount's process failed; its log is {}",
            logs.path().join(log).display()
        ))),
    }
}

/// Returns how the target of this name is reached, with the bookmark if it is one.
pub(super) fn looked_up(
    named: &str,
    settings: LoginSettings,
) -> Result<(LoginRequest, Option<Bookmark>), CliError> {
    let bookmark = bookmark::find(named)?;
    let (target, below) = match &bookmark {
        Some(bookmark) => (bookmark.target.as_str(), bookmark.login.clone()),
        None => (named, LoginSettings::default()),
    };
    let settings = settings.over(below).map_err(CliError::usage)?;
    let login = LoginRequest {
        target: Target::parse(target).map_err(CliError::usage)?,
        directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        settings: LoginSettings {
            remember: settings.remember.or_else(|| prompt::is_at_terminal().then_some(Remember::Ask)),
            ..settings
        },
    };
    Ok((login, bookmark))
}

/// Builds a request from the arguments and the bookmark that they name.
pub(super) fn resolve(arguments: MountArguments) -> Result<MountRequest, CliError> {
    let MountArguments { target, mountpoint, login, mount, foreground, quiet } = arguments;
    let (login, bookmark) = looked_up(&target, login)?;
    wait_for_earlier(&login.target, quiet)?;
    let name = free_name(&if bookmark.is_some() { target } else { login.target.name() })?;
    let bookmark = bookmark.unwrap_or_default();
    let mountpoint = match mountpoint.or(bookmark.mountpoint.map(paths::expand_home)) {
        Some(path) => std::path::absolute(path)?,
        None => paths::mounts().join(&name),
    };
    Ok(MountRequest {
        name,
        login,
        settings: mount.over(bookmark.mount),
        mountpoint: mountpoint.components().collect(),
        interactive: prompt::is_possible(),
        terminal: prompt::is_at_terminal(),
        foreground,
    })
}

/// Waits for mounts of the same target that are ending: until they have saved everything, a new one would show old
/// content.
fn wait_for_earlier(target: &Target, quiet: bool) -> Result<(), CliError> {
    let target = target.to_string();
    let began = Instant::now();
    let end = began + EARLIER_PATIENCE;
    let mut is_told = quiet;
    loop {
        let mut mounts = converse::all()?.replying.into_iter().map(|(_, status)| status);
        let is_ending = |mount: &MountStatus| match mount.state {
            MountState::Unmounting => true,
            // It may have been unmounted just now.
            MountState::Connected | MountState::Reconnecting => {
                began.elapsed() < SAYS_SO_WITHIN && !is_mounted(&mount.mountpoint)
            }
            MountState::Connecting | MountState::WaitingForAnswer => false,
        };
        let is_earlier = |mount: &MountStatus| mount.target == target && is_ending(mount);
        let Some(earlier) = mounts.find(is_earlier) else { return Ok(()) };
        let UnsavedEntry { files, bytes, .. } = earlier.unsaved;
        let left = format!(
            "an earlier mount of {target} ({}) has ended and is still saving {files} {}, {}",
            earlier.name,
            if files == 1 { "file" } else { "files" },
            size::show(bytes)
        );
        if end <= Instant::now() {
            let text = format!(
                "{left}; mount again when it is done, or discard what is not saved with `scaup unmount --force {}`",
                earlier.name
            );
            return Err(CliError::new(FailureKind::Unsaved, text));
        }
        if !is_told {
            screen::tell(&format!("{left}; waiting for it"));
            is_told = true;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Returns the name, with a number behind it if a mount has it already.
fn free_name(wanted: &str) -> Result<String, CliError> {
    let clean: String =
        wanted.chars().map(|c| if c.is_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect();
    let clean = clean.trim_start_matches('.').to_owned();
    let base = if clean.is_empty() { "mount".to_owned() } else { clean };
    let taken: Vec<String> =
        client::names()?.into_iter().filter(|name| client::is_mounted(name).unwrap_or(true)).collect();
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(|name| !taken.contains(name))
        .ok_or_else(|| CliError::other("there is no free name for the mount"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{ArgAction, Args, Command, FromArgMatches};

    use super::*;

    /// Arguments that are no settings, and why.
    const NO_SETTINGS: [(&str, &str); 4] = [
        ("target", "what a bookmark is about"),
        ("mountpoint", "a key of bookmarks beside the settings"),
        ("foreground", "how this command is used"),
        ("quiet", "how this command is used"),
    ];

    fn parsed(line: &[&str]) -> Option<(LoginSettings, MountSettings)> {
        let line = ["mount", "host"].iter().chain(line);
        let matches = MountArguments::augment_args(Command::new("mount")).try_get_matches_from(line).ok()?;
        let MountArguments { login, mount, .. } = MountArguments::from_arg_matches(&matches).ok()?;
        Some((login, mount))
    }

    fn kept(setting: String) -> (LoginSettings, MountSettings) {
        let bookmark = Bookmark { target: "host".to_owned(), ..Bookmark::default() };
        let changed = super::super::bookmark::changed(&bookmark, &[setting]).unwrap();
        let text = toml::to_string(&changed).unwrap();
        let Bookmark { login, mount, .. } = bookmark::parse(&text).unwrap();
        (login, mount)
    }

    #[test]
    fn each_option_is_a_key_of_bookmarks_and_comes_to_the_daemon_and_the_command_line_counts_first() {
        let command = MountArguments::augment_args(Command::new("mount"));
        let settings =
            || command.get_arguments().filter(|it| !NO_SETTINGS.iter().any(|(name, _)| it.get_id() == name));
        assert_eq!(settings().count() + NO_SETTINGS.len(), command.get_arguments().count());
        for argument in settings() {
            let key = argument.get_id().as_str();
            let flag = match (argument.get_long(), argument.get_short()) {
                (Some(long), _) => format!("--{long}"),
                (None, short) => format!("-{}", short.unwrap()),
            };
            let has_value = !matches!(argument.get_action(), ArgAction::SetTrue);
            let (one, other) = match key {
                "options" => ("uid=7", "uid=8"),
                "remember" => ("session", "always"),
                "lock_on" => ("sleep,idle=7m", "never"),
                _ if has_value => ("7", "8"),
                _ => ("true", "true"),
            };
            let given = if has_value { parsed(&[&flag, one]) } else { parsed(&[&flag]) }.unwrap();
            assert_ne!(given, parsed(&[]).unwrap(), "{key}");
            assert_eq!(kept(format!("{key}={one}")), given, "{key}");

            let request = MountRequest {
                name: "host".to_owned(),
                login: LoginRequest {
                    target: Target::parse("host").unwrap(),
                    directory: "/".into(),
                    settings: given.0.clone(),
                },
                settings: given.1.clone(),
                mountpoint: "/mnt".into(),
                interactive: false,
                terminal: false,
                foreground: false,
            };
            let sent = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<MountRequest>(&sent).unwrap(), request, "{key}");

            let over = |above: (LoginSettings, MountSettings), below: (LoginSettings, MountSettings)| {
                (above.0.over(below.0).unwrap(), above.1.over(below.1))
            };
            let below = kept(format!("{key}={other}"));
            assert_eq!(over(parsed(&[]).unwrap(), below.clone()), below, "{key}");
            let both = over(given.clone(), below);
            // The list of options has both; its own rule is that the first counts.
            assert_eq!(both.0.options.uid, given.0.options.uid, "{key}");
            assert!(key == "options" || both == given, "{key}");
        }
    }
}
