//! `scaup which`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use scaup_sftp::text::Line;

use super::converse::{self, Mounts};
use super::error::CliError;
use super::screen;
use crate::daemon::client::Conversation;
use crate::daemon::protocol::{
    Event, FailureKind, MountStatus, REQUEST_LEN_MAX, Request, WhichEntry, WhichOf,
};
use crate::share::resolved;

/// Find the file on the server behind a file of a mount, and the other way.
#[derive(Args)]
#[command(
    after_help = "For a path in a mount, the command prints the path on the server: of a file the file that holds its content, of a \
    directory in a vault its node (X.c9r), or with --content the directory d/AA/BBB… that holds what lies in it. For a path of the \
    server, it prints the path in the mount. A path of the server may be whole, or below the directory that is mounted, or stand in a \
    log or a backup, or come from Nextcloud's trash (X.c9r.d1690000000). The file need not be there any more, as long as its directory \
    is; a shortened name (X.c9s) is lost with its file.\n\n\
    There is one line of output for each path, empty for one that is nowhere; messages say why. The vault has to be unlocked.\n\n\
    Examples:\n  \
    scaup which ~/Scaup/hq.example/Vault/report.odt\n  \
    scaup which Vault/d/4K/7XJ3…/kVb1….c9r\n  \
    grep -o 'd/../[^ ]*' rsync.log | scaup which -"
)]
pub(super) struct WhichArguments {
    /// Paths in mounts or of a server; `-` reads them from standard input, one a line
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Of directories in vaults, print the directory with their content
    #[arg(long)]
    content: bool,
    /// Separate paths by NUL characters instead of lines, on standard input, too
    #[arg(short = '0')]
    nul: bool,
}

/// A path that is asked for, and where it is.
struct Asked {
    path: String,
    found: WhichEntry,
    /// The mount that says so.
    mount: Option<String>,
}

pub(super) fn run(arguments: &WhichArguments) -> Result<(), CliError> {
    let Mounts { mut replying, of_other_versions } = converse::all()?;
    for (_, error) in &of_other_versions {
        screen::fail(&error.message);
    }
    if replying.is_empty() {
        return Err(CliError::other("nothing is mounted; `scaup mount` mounts a directory of a server"));
    }
    let mut all: Vec<Asked> = paths(arguments)?
        .into_iter()
        .map(|path| Asked { path, found: WhichEntry::Nowhere { is_partial: false }, mount: None })
        .collect();
    let mut in_mounts: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
    let mut of_servers = Vec::new();
    for (number, asked) in all.iter().enumerate() {
        match place_in_mount(&asked.path, &replying) {
            Some((mount, below)) => in_mounts.entry(mount).or_default().push((number, below)),
            None => of_servers.push(number),
        }
    }
    let of = if arguments.content { WhichOf::Content } else { WhichOf::Node };
    for (mount, (conversation, status)) in replying.iter_mut().enumerate() {
        let shown = in_mounts.remove(&mount).unwrap_or_default();
        ask(conversation, status, of, &shown, &mut all)?;
        let is_open =
            |number: &usize| all.get(*number).is_some_and(|asked| !matches!(asked.found, WhichEntry::At(_)));
        let open = of_servers.iter().filter(|number| is_open(number));
        let stored: Vec<(usize, String)> =
            open.filter_map(|&number| Some((number, all.get(number)?.path.clone()))).collect();
        ask(conversation, status, WhichOf::Shown, &stored, &mut all)?;
    }
    tell(&all, arguments.nul)
}

/// Prints what was found, and says what was not.
fn tell(all: &[Asked], nul: bool) -> Result<(), CliError> {
    let mut failures = Vec::new();
    for Asked { path, found, mount } in all {
        let name = Line::of(path);
        let (line, failure) = match found {
            WhichEntry::At(there) => (there.as_str(), None),
            WhichEntry::Locked(vault) => {
                let (mount, vault) = (mount.as_deref().unwrap_or_default(), Line::of(vault));
                let text = format!(
                    "{name}: the vault {vault} of {mount} is locked: unlock it with `scaup unlock {mount} {vault}`"
                );
                ("", Some(CliError::new(FailureKind::Vault, text)))
            }
            WhichEntry::Nowhere { is_partial: false } => {
                ("", Some(CliError::other(format!("{name}: it is in no mount, and on the server of none"))))
            }
            WhichEntry::Nowhere { is_partial: true } => {
                let text = format!(
                    "{name}: not found, but not all directories could be read; `scaup vault check` says more"
                );
                ("", Some(CliError::other(text)))
            }
        };
        if nul {
            let written = std::io::stdout().write_all(&[line.as_bytes(), b"\0"].concat());
            written.map_err(|error| CliError::other(format!("the output can't be written: {error}")))?;
        } else {
            screen::deliver_unbroken(line)?;
        }
        failures.extend(failure);
    }
    let is_locked = failures.iter().any(|failure| failure.kind == FailureKind::Vault);
    let Some(CliError { kind, message }) = failures.pop() else { return Ok(()) };
    for failure in failures {
        screen::fail(&failure.message);
    }
    Err(CliError { kind: if is_locked { FailureKind::Vault } else { kind }, message })
}

/// Returns the paths that are asked for.
fn paths(arguments: &WhichArguments) -> Result<Vec<String>, CliError> {
    let mut paths = Vec::new();
    for path in &arguments.paths {
        if path.as_os_str() != "-" {
            paths.push(text(path.as_os_str().as_encoded_bytes().to_vec())?);
            continue;
        }
        let end = if arguments.nul { 0 } else { b'\n' };
        for path in std::io::stdin().lock().split(end) {
            let path = text(path?)?;
            paths.extend((!path.is_empty()).then_some(path));
        }
    }
    Ok(paths)
}

fn text(path: Vec<u8>) -> Result<String, CliError> {
    String::from_utf8(path).map_err(|error| {
        CliError::usage(format!("{}: not in UTF-8", String::from_utf8_lossy(error.as_bytes())))
    })
}

/// Returns the mount that a path lies in, and where in it. A relative path that does not exist here is of a server.
fn place_in_mount(path: &str, mounts: &[(Conversation, MountStatus)]) -> Option<(usize, String)> {
    let whole = std::path::absolute(path).ok()?;
    // The last name may be that of a link, which is asked for itself.
    let whole = match (whole.parent(), whole.file_name()) {
        (Some(around), Some(name)) => resolved(around).join(name),
        _ => whole,
    };
    if Path::new(path).is_relative() && whole.symlink_metadata().is_err() {
        return None;
    }
    let around = mounts.iter().enumerate().filter(|(_, (_, mount))| whole.starts_with(&mount.mountpoint));
    let (number, (_, mount)) = around.max_by_key(|(_, (_, mount))| mount.mountpoint.components().count())?;
    let below = whole.strip_prefix(&mount.mountpoint).ok()?.to_str()?;
    Some((number, below.to_owned()))
}

/// Asks a mount for paths, in as few requests as it takes, and notes where they are.
fn ask(
    conversation: &mut Conversation,
    mount: &MountStatus,
    of: WhichOf,
    paths: &[(usize, String)],
    all: &mut [Asked],
) -> Result<(), CliError> {
    /// What a request holds besides paths, bytes.
    const AROUND: usize = 100;
    let mut rest = paths;
    while !rest.is_empty() {
        let mut len = AROUND;
        let fits = rest.iter().take_while(|(_, path)| {
            len += serde_json::to_string(path).map_or(0, |text| text.len()) + 1;
            len <= REQUEST_LEN_MAX
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        rest = later;
        let request = Request::Which { of, paths: now.iter().map(|(_, path)| path.clone()).collect() };
        conversation.say(&request)?;
        let entries = loop {
            match conversation.hear()? {
                Some(Event::Which(entries)) => break entries,
                Some(Event::Failed(failure)) => return Err(failure.into()),
                Some(_) => {}
                None => {
                    return Err(CliError::other(format!(
                        "{}: the mount's process closed the connection: it is older than this program, or has ended",
                        mount.name
                    )));
                }
            }
        };
        for ((number, _), entry) in now.iter().zip(entries) {
            let Some(asked) = all.get_mut(*number) else { continue };
            let found = match entry {
                WhichEntry::At(below) if of == WhichOf::Shown => {
                    WhichEntry::At(mount.mountpoint.join(below).to_string_lossy().into_owned())
                }
                entry => entry,
            };
            if matches!(found, WhichEntry::At(_)) || !matches!(asked.found, WhichEntry::Locked(_)) {
                asked.found = found;
                asked.mount = Some(mount.name.clone());
            }
        }
    }
    Ok(())
}
