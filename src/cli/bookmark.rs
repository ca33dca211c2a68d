//! `scaup bookmark`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::error::CliError;
use super::mount::looked_up;
use super::{prompt, screen};
use crate::config::bookmark::{self, Bookmark, BookmarkError, Key};
use crate::config::settings::{LoginSettings, MountSettings};
use crate::config::ssh_config;
use crate::daemon::code_maker::CodeMaker;
use crate::daemon::kept_secrets::{self, Whose};
use crate::daemon::protocol::LoginRequest;
use crate::daemon::whose_secrets;
use crate::doctor::{self, Check};

/// Keep what to mount and how under a name.
#[derive(Subcommand)]
pub(super) enum BookmarkCommand {
    /// Add a bookmark
    #[command(
        after_help = "Example:\n  scaup bookmark add hq alice@hq.example:/srv/nextcloud vaults=Private otp_command='pass otp hq'"
    )]
    Add {
        /// Its name
        name: String,
        /// What to mount
        target: String,
        /// More settings, named as the long options of mount (with `_`), and mountpoint, port, identity, ssh_config,
        /// options, vaults
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// List all bookmarks
    List,
    /// Show a bookmark
    Show {
        /// Its name
        name: String,
    },
    /// Remember in the desktop's keyring what makes the one-time codes of a bookmark's server
    #[command(
        after_help = "Scaup asks for the otpauth:// address behind the picture that the server shows when codes are set up, or for the secret \
        in letters and digits beside it. From then on Scaup makes the codes by itself: whoever gets into this computer's keyring then has \
        both factors. `scaup forget NAME` removes it again.\n\n\
        Example:\n  scaup bookmark remember-codes hq"
    )]
    RememberCodes {
        /// The bookmark's name
        name: String,
    },
    /// Change a bookmark: the settings given, or all of it in $VISUAL or $EDITOR
    Edit {
        /// Its name
        name: String,
        /// Settings to change; an empty value removes one
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Remove a bookmark
    Remove {
        /// Its name
        name: String,
    },
    /// Import the hosts of ~/.ssh/config and of what it includes, or Mountain Duck's and Cyberduck's .duck files
    Import {
        /// .duck files, or an ssh_config [default: ~/.ssh/config]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(command: BookmarkCommand) -> Result<(), CliError> {
    match command {
        BookmarkCommand::Add { name, target, settings } => {
            if bookmark::find(&name)?.is_some() {
                return Err(BookmarkError::Exists(name).into());
            }
            let new = changed(&Bookmark { target, ..Bookmark::default() }, &settings)?;
            bookmark::save(&name, &new)?;
            warn(&name, &new);
        }
        BookmarkCommand::List => {
            for name in bookmark::names()? {
                match bookmark::load(&name) {
                    Ok(found) => screen::out_columns(&[&name, &found.target]),
                    Err(error) => screen::fail(&error.to_string()),
                }
            }
        }
        BookmarkCommand::Show { name } => {
            let found = bookmark::load(&name)?;
            toml::to_string(&found).map_err(CliError::other)?.lines().for_each(screen::out);
            for secret in kept_secrets::listed(&whose_secrets(&login_of(&name)?)?)? {
                screen::out(&format!("# remembered: {secret}"));
            }
        }
        BookmarkCommand::RememberCodes { name } => remember_codes(&name)?,
        BookmarkCommand::Edit { name, settings } if settings.is_empty() => edit(&name)?,
        BookmarkCommand::Edit { name, settings } => {
            let found = bookmark::load(&name)?;
            bookmark::save(&name, &changed(&found, &settings)?)?;
        }
        BookmarkCommand::Remove { name } => bookmark::remove(&name)?,
        BookmarkCommand::Import { files } => import(&files)?,
    }
    Ok(())
}

/// Returns how a bookmark's target is reached.
fn login_of(name: &str) -> Result<LoginRequest, CliError> {
    bookmark::load(name)?;
    Ok(looked_up(name, LoginSettings::default())?.0)
}

fn remember_codes(name: &str) -> Result<(), CliError> {
    let Whose::Server { destination, .. } = whose_secrets(&login_of(name)?)? else {
        return Err(CliError::usage(format!(
            "{name} is a directory of this computer: no codes are asked for"
        )));
    };
    screen::tell(
        "This puts the second factor beside the first: whoever gets into this computer's keyring can log in without your phone.",
    );
    let text =
        prompt::ask("otpauth:// address or secret (Enter to leave it): ", false).map_err(CliError::other)?;
    if text.trim().is_empty() {
        return Err(CliError::other("nothing was remembered"));
    }
    CodeMaker::parse(&text).map_err(CliError::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept = runtime.block_on(kept_secrets::keep_codes(&destination, &text)).map_err(CliError::other)?;
    screen::tell(&format!("remembered on this computer: {kept}"));
    Ok(())
}

/// Tells what `scaup doctor` would find about a new bookmark.
fn warn(name: &str, new: &Bookmark) {
    let (others, _) = doctor::bookmarks();
    for Check { found, verdict, .. } in doctor::bookmark_checks(name, new, &others) {
        if let Some(advice) = verdict.advice() {
            screen::tell(&format!("warning: {found}"));
            screen::tell(&format!("  {advice}"));
        }
    }
}

/// Returns a bookmark with settings changed.
pub(super) fn changed(old: &Bookmark, settings: &[String]) -> Result<Bookmark, CliError> {
    let mut table = toml::Table::try_from(old).map_err(CliError::other)?;
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("{setting:?} is not of the form KEY=VALUE")))?;
        if value.is_empty() {
            table.remove(key);
        } else {
            table.insert(key.to_owned(), value_of(key, value));
        }
    }
    table.try_into().map_err(|error: toml::de::Error| CliError::usage(error.message()))
}

/// Returns the value for a key that a text means: a number or a word of TOML, a list separated by commas, or the text
/// itself, whichever the key takes.
fn value_of(key: &str, text: &str) -> toml::Value {
    let takes = |sample: toml::Value| {
        let target = ("target".to_owned(), toml::Value::from("host"));
        let table: toml::Table = [target, (key.to_owned(), sample)].into_iter().collect();
        table.try_into::<Bookmark>().is_ok()
    };
    if takes(toml::Value::Array(Vec::new())) {
        return text.split(',').collect::<Vec<_>>().into();
    }
    let is_plain = !takes(true.into()) && !takes(1.into());
    let parsed = format!("x = {text}").parse::<toml::Table>().ok().filter(|_| !is_plain);
    parsed.and_then(|mut table| table.remove("x")).unwrap_or_else(|| text.into())
}

/// Returns what the editor shows: the bookmark, and in comments all keys that it does not have.
fn template(bookmark: &Bookmark) -> Result<String, CliError> {
    let table = toml::Table::try_from(bookmark).map_err(CliError::other)?;
    let mut text = toml::to_string(bookmark).map_err(CliError::other)?;
    text.push_str(
        "\n# More keys (man 5 scaup-bookmark). Texts are written in quotes. Comments are not kept.\n",
    );
    for Key { name, form, help } in bookmark::keys() {
        if !table.contains_key(&name) {
            text.push_str(&format!("# {name} = {form}: {help}\n"));
        }
    }
    Ok(text)
}

/// Opens a copy in the user's editor and keeps it if it is a valid bookmark.
fn edit(name: &str) -> Result<(), CliError> {
    let old = bookmark::load(name)?;
    let path = bookmark::path(name)?.with_extension("toml.edit");
    std::fs::write(&path, template(&old)?)?;
    let editor = ["VISUAL", "EDITOR"].iter().find_map(std::env::var_os).unwrap_or_else(|| "vi".into());
    // The editor may have arguments, as in git.
    let status = std::process::Command::new("sh")
        .arg("-c")
        .arg("exec $SCAUP_EDITOR \"$1\"")
        .arg("sh")
        .arg(&path)
        .env("SCAUP_EDITOR", &editor)
        .status();
    let edited = status.map_err(CliError::from).and_then(|status| {
        if !status.success() {
            return Err(CliError::other("the editor failed; the bookmark is as it was"));
        }
        let text = std::fs::read_to_string(&path)?;
        let new = bookmark::parse(&text).map_err(|error| CliError::other(format!("not kept: {error}")))?;
        Ok(bookmark::save(name, &new)?)
    });
    let _ = std::fs::remove_file(&path);
    edited
}

fn import(files: &[PathBuf]) -> Result<(), CliError> {
    let own = [crate::config::paths::home().join(".ssh/config")];
    let mut failed = 0;
    for file in if files.is_empty() { &own[..] } else { files } {
        let imported = if file.extension().is_some_and(|extension| extension == "duck") {
            duck(file).map(|found| vec![found])
        } else {
            hosts(file)
        };
        match imported {
            Ok(found) => {
                for (name, new) in found {
                    match bookmark::find(&name) {
                        Ok(None) => {
                            bookmark::save(&name, &new)?;
                            screen::out_columns(&[&name, &new.target]);
                        }
                        Ok(Some(_)) => {
                            screen::fail(&format!("there is a bookmark {name:?} already; left as it is"));
                        }
                        Err(error) => screen::fail(&error.to_string()),
                    }
                }
            }
            Err(error) => {
                screen::fail(&format!("{}: {}", file.display(), error.message));
                failed += 1;
            }
        }
    }
    if failed > 0 { Err(CliError::other(format!("{failed} files were not imported"))) } else { Ok(()) }
}

/// Returns a bookmark for each host that an `ssh_config` names without patterns; everything else stays in that file.
fn hosts(file: &Path) -> Result<Vec<(String, Bookmark)>, CliError> {
    let names = ssh_config::host_names(file).map_err(CliError::other)?;
    let valid = names.into_iter().filter(|name| bookmark::is_valid_name(name));
    Ok(valid.map(|name| (name.clone(), Bookmark { target: name, ..Bookmark::default() })).collect())
}

/// Returns a bookmark from a `.duck` file: a property list with the connection's settings.
fn duck(file: &Path) -> Result<(String, Bookmark), CliError> {
    let list = plist::Value::from_file(file)
        .map_err(|error| CliError::other(format!("not a .duck file: {error}")))?;
    let list = list.into_dictionary().ok_or_else(|| CliError::other("not a .duck file"))?;
    let text = |key: &str| list.get(key).and_then(plist::Value::as_string).map(str::to_owned);
    let protocol = text("Protocol").unwrap_or_default();
    if !protocol.eq_ignore_ascii_case("sftp") {
        let text = format!("its protocol is {protocol:?}; only SFTP bookmarks can be imported");
        return Err(CliError::other(text));
    }
    let host = text("Hostname").ok_or_else(|| CliError::other("it names no host"))?;
    let user = text("Username").map_or_else(String::new, |user| format!("{user}@"));
    let path = text("Path").unwrap_or_default();
    let port = match list.get("Port") {
        Some(plist::Value::String(port)) => port.parse().ok(),
        Some(plist::Value::Integer(port)) => port.as_unsigned().and_then(|port| u16::try_from(port).ok()),
        _ => None,
    };
    let identity = list
        .get("Private Key File Dictionary")
        .and_then(|file| file.as_dictionary()?.get("Path")?.as_string().map(str::to_owned))
        .or_else(|| text("Private Key File"));
    let identity = identity.map(|path| crate::config::paths::expand_home(PathBuf::from(path)));
    let read_only = matches!(list.get("Readonly"), Some(plist::Value::Boolean(true)))
        || text("Readonly").is_some_and(|value| value == "true");
    let name: String = text("Nickname")
        .unwrap_or_else(|| host.clone())
        .chars()
        .map(|c| if c.is_alphanumeric() || ".-_".contains(c) { c } else { '-' })
        .collect();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let target = format!("{user}{host}:{path}");
    let name = name.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let login = LoginSettings { port: port.filter(|&port| port != 22), identity, ..LoginSettings::default() };
    let mount = MountSettings { read_only, ..MountSettings::default() };
    Ok((name, Bookmark { target, mountpoint: None, login, mount }))
}
