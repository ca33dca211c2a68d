//! Traces: what other programs of this user keep of files in a mounted vault, in the user's own directories.
//!
//! `SOURCES` says where each kind of trace lies and in which form; a form has one way to find it and one to remove it
//! (`Form`). Removing takes out only what belongs to the [`Places`] that are given. The places themselves are never
//! looked into: they lie in mounts, which may hang or be gone. The files are those of other programs, which may write
//! at the same time, and may be damaged: `files` is how they are read and changed.

mod editors;
mod files;
mod gvfs;
mod office;
mod places;
mod previews;
mod recent;
mod trash;
mod xml;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::config::paths::UserDirectories;
use files::{Folder, Found, cut};
pub use gvfs::MetadataError;
pub use places::Places;

/// What a trace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Small pictures that file managers show.
    Previews,
    /// Lists of files opened last.
    RecentFiles,
    /// What the desktop's file managers note about files.
    GvfsMetadata,
    /// Deleted files.
    Trash,
    /// Documents opened last in LibreOffice.
    LibreofficeHistory,
    /// Documents that LibreOffice wants to recover.
    LibreofficeRecovery,
    /// Content that was not saved in Vim.
    VimSwap,
    /// Earlier content of files.
    VimUndo,
    /// Vim's marks and commands.
    VimHistory,
    /// Neovim's marks and commands.
    NeovimHistory,
    /// Earlier or unsaved content of files.
    EmacsBackups,
    /// Lists of files opened in Emacs.
    EmacsHistory,
    /// What Okular notes about documents.
    OkularDocuments,
    /// KDE's record of what is used.
    KdeActivities,
    /// The indexes of search services.
    SearchIndex,
    /// Downloads and visited files of browsers.
    BrowserHistory,
    /// Commands typed in shells.
    ShellHistory,
    /// Files played last.
    PlayerHistory,
    /// Files and folders opened last in Visual Studio Code.
    CodeHistory,
}

/// What can be done about traces of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Scaup can remove them; nothing else is lost.
    Remove,
    /// Scaup can remove them, but they may be all that is left of something the user needs.
    RemoveAndLose(&'static str),
    /// Only the program that wrote them can, in this way.
    Advice(&'static str),
}

impl Kind {
    /// Returns what people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Previews => "previews of file managers",
            Self::RecentFiles => "lists of recent files",
            Self::GvfsMetadata => "notes of file managers (gvfs metadata)",
            Self::Trash => "trash",
            Self::LibreofficeHistory => "recent documents of LibreOffice",
            Self::LibreofficeRecovery => "documents that LibreOffice wants to recover",
            Self::VimSwap => "swap files of Vim",
            Self::VimUndo => "undo files of Vim",
            Self::VimHistory => "history of Vim",
            Self::NeovimHistory => "history of Neovim",
            Self::EmacsBackups => "backups of Emacs",
            Self::EmacsHistory => "history of Emacs",
            Self::OkularDocuments => "notes of Okular",
            Self::KdeActivities => "KDE's record of activities",
            Self::SearchIndex => "index of a search service",
            Self::BrowserHistory => "history of a browser",
            Self::ShellHistory => "history of a shell",
            Self::PlayerHistory => "history of a media player",
            Self::CodeHistory => "history of Visual Studio Code",
        }
    }

    /// Returns what can be done about it.
    #[must_use]
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Previews
            | Self::RecentFiles
            | Self::GvfsMetadata
            | Self::LibreofficeHistory
            | Self::VimUndo
            | Self::VimHistory
            | Self::EmacsHistory
            | Self::OkularDocuments => Remedy::Remove,
            Self::Trash => Remedy::RemoveAndLose("the deleted files can't be restored any more"),
            Self::VimSwap => Remedy::RemoveAndLose("changes that were never saved are lost"),
            Self::EmacsBackups => Remedy::RemoveAndLose("earlier and unsaved content is lost"),
            Self::LibreofficeRecovery => {
                Remedy::Advice("start LibreOffice and recover the documents, or discard them")
            }
            Self::NeovimHistory => {
                Remedy::Advice("in Neovim, clear the marks and run `:wshada!`, or delete the file")
            }
            Self::KdeActivities => {
                Remedy::Advice("in System Settings, clear the history of recent files (“Recent Files”)")
            }
            Self::SearchIndex => Remedy::Advice(
                "exclude the mount from the search, then run `balooctl purge` or `localsearch reset`",
            ),
            Self::BrowserHistory => Remedy::Advice("clear the history and the downloads in the browser"),
            Self::ShellHistory => Remedy::Advice("delete these commands from the history of the shell"),
            Self::PlayerHistory => Remedy::Advice("clear the recent files in the player"),
            Self::CodeHistory => Remedy::Advice("run “Clear Recently Opened” in Visual Studio Code"),
        }
    }
}

/// A file that holds traces of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What they are.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// How many entries it has.
    pub count: u64,
}

/// A file that could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct Failure {
    /// The file or directory.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Search {
    /// The traces.
    pub traces: Vec<Trace>,
    /// Where nothing could be found.
    pub failures: Vec<Failure>,
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Removal {
    /// How many entries.
    pub count: u64,
    /// Where nothing could be removed.
    pub failures: Vec<Failure>,
}

/// The parts of a list that belong to the places.
type Entries = fn(&[u8], &Places) -> Vec<Range<usize>>;

/// How a file holds traces.
#[derive(Clone, Copy)]
enum Form {
    /// All of it is one, if this returns true.
    File(fn(&Found<'_>, &Places) -> io::Result<bool>),
    /// It describes a deleted file, which lies elsewhere in the trash.
    Trashed,
    /// It is a list, with these entries.
    List(Entries),
    /// It belongs to a service, which has to be asked to remove entries.
    Gvfs,
    /// It is only searched for the places' paths.
    Searched,
}

/// The directory of the user in which a source lies.
#[derive(Clone, Copy)]
enum Base {
    Home,
    Cache,
    Config,
    Data,
    State,
}

/// Where traces of a kind lie: a path below a directory of the user, in which a `*` stands for any text in a name.
struct Source(Kind, Base, &'static str, Form);

const SOURCES: &[Source] = &[
    Source(Kind::Previews, Base::Cache, "thumbnails/*/*.png", Form::File(previews::is_of)),
    Source(Kind::Previews, Base::Cache, "thumbnails/fail/*/*.png", Form::File(previews::is_of)),
    Source(Kind::Previews, Base::Home, ".thumbnails/*/*.png", Form::File(previews::is_of)),
    Source(Kind::Previews, Base::Home, ".thumbnails/fail/*/*.png", Form::File(previews::is_of)),
    Source(Kind::RecentFiles, Base::Data, "recently-used.xbel", Form::List(recent::bookmarks)),
    Source(Kind::RecentFiles, Base::Home, ".recently-used.xbel", Form::List(recent::bookmarks)),
    Source(Kind::RecentFiles, Base::Data, "RecentDocuments/*.desktop", Form::File(recent::is_link)),
    Source(Kind::GvfsMetadata, Base::Data, "gvfs-metadata/*", Form::Gvfs),
    Source(Kind::Trash, Base::Data, "Trash/info/*.trashinfo", Form::Trashed),
    Source(Kind::LibreofficeHistory, Base::Config, LIBREOFFICE, Form::List(office::history)),
    Source(Kind::LibreofficeRecovery, Base::Config, LIBREOFFICE, Form::List(office::recovery)),
    Source(Kind::VimSwap, Base::State, "vim/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::State, "vim/swap/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::State, "nvim/swap/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::Data, "nvim/swap/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::Cache, "vim/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::Cache, "vim/swap/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::Home, ".vim/swap/*", Form::File(editors::is_swap)),
    Source(Kind::VimSwap, Base::Home, ".vim/swapfiles/*", Form::File(editors::is_swap)),
    Source(Kind::VimUndo, Base::State, "vim/undo/*", Form::File(editors::is_named_by_percent)),
    Source(Kind::VimUndo, Base::State, "nvim/undo/*", Form::File(editors::is_named_by_percent)),
    Source(Kind::VimUndo, Base::Data, "nvim/undo/*", Form::File(editors::is_named_by_percent)),
    Source(Kind::VimUndo, Base::Cache, "vim/undo/*", Form::File(editors::is_named_by_percent)),
    Source(Kind::VimUndo, Base::Home, ".vim/undo/*", Form::File(editors::is_named_by_percent)),
    Source(Kind::VimUndo, Base::Home, ".vim/undodir/*", Form::File(editors::is_named_by_percent)),
    Source(Kind::VimHistory, Base::Home, ".viminfo", Form::List(editors::in_viminfo)),
    Source(Kind::VimHistory, Base::Home, ".vim/viminfo", Form::List(editors::in_viminfo)),
    Source(Kind::VimHistory, Base::State, "vim/viminfo", Form::List(editors::in_viminfo)),
    Source(Kind::NeovimHistory, Base::State, "nvim/shada/*", Form::Searched),
    Source(Kind::NeovimHistory, Base::Data, "nvim/shada/*", Form::Searched),
    Source(Kind::EmacsBackups, Base::Home, ".emacs.d/*/!*", Form::File(editors::is_named_by_exclamation)),
    Source(Kind::EmacsBackups, Base::Home, ".emacs.d/*/#!*", Form::File(editors::is_named_by_exclamation)),
    Source(Kind::EmacsBackups, Base::Config, "emacs/*/!*", Form::File(editors::is_named_by_exclamation)),
    Source(Kind::EmacsBackups, Base::Config, "emacs/*/#!*", Form::File(editors::is_named_by_exclamation)),
    Source(
        Kind::EmacsHistory,
        Base::Home,
        ".emacs.d/auto-save-list/*",
        Form::List(editors::in_auto_save_list),
    ),
    Source(
        Kind::EmacsHistory,
        Base::Config,
        "emacs/auto-save-list/*",
        Form::List(editors::in_auto_save_list),
    ),
    Source(Kind::EmacsHistory, Base::Home, ".emacs.d/recentf", Form::List(editors::in_recentf)),
    Source(Kind::EmacsHistory, Base::Config, "emacs/recentf", Form::List(editors::in_recentf)),
    Source(Kind::OkularDocuments, Base::Data, "okular/docdata/*.xml", Form::File(office::is_of_okular)),
    Source(Kind::KdeActivities, Base::Data, "kactivitymanagerd/resources/database*", Form::Searched),
    Source(Kind::SearchIndex, Base::Data, "baloo/index", Form::Searched),
    Source(Kind::SearchIndex, Base::Cache, "tracker3/files/*", Form::Searched),
    Source(Kind::SearchIndex, Base::Cache, "localsearch3/files/*", Form::Searched),
    Source(Kind::BrowserHistory, Base::Home, ".mozilla/firefox/*/places.sqlite*", Form::Searched),
    Source(Kind::BrowserHistory, Base::Config, "mozilla/firefox/*/places.sqlite*", Form::Searched),
    Source(
        Kind::BrowserHistory,
        Base::Home,
        "snap/firefox/common/.mozilla/firefox/*/places.sqlite*",
        Form::Searched,
    ),
    Source(
        Kind::BrowserHistory,
        Base::Home,
        ".var/app/org.mozilla.firefox/.mozilla/firefox/*/places.sqlite*",
        Form::Searched,
    ),
    Source(Kind::BrowserHistory, Base::Config, "chromium/*/History*", Form::Searched),
    Source(Kind::BrowserHistory, Base::Config, "google-chrome/*/History*", Form::Searched),
    Source(Kind::BrowserHistory, Base::Config, "BraveSoftware/Brave-Browser/*/History*", Form::Searched),
    Source(Kind::ShellHistory, Base::Home, ".bash_history", Form::Searched),
    Source(Kind::ShellHistory, Base::Home, ".zsh_history", Form::Searched),
    Source(Kind::ShellHistory, Base::State, "bash/history", Form::Searched),
    Source(Kind::ShellHistory, Base::State, "zsh/history", Form::Searched),
    Source(Kind::ShellHistory, Base::Data, "fish/fish_history", Form::Searched),
    Source(Kind::PlayerHistory, Base::Config, "vlc/vlc-qt-interface.conf", Form::Searched),
    Source(Kind::CodeHistory, Base::Config, "Code/User/globalStorage/*", Form::Searched),
];

/// LibreOffice's settings, with its history.
const LIBREOFFICE: &str = "libreoffice/4/user/registrymodifications.xcu";

/// What is swept when a vault is locked: what the desktop writes by itself while the vault is used.
const SWEPT: [Kind; 2] = [Kind::Previews, Kind::RecentFiles];

/// Which files are looked at.
#[derive(Clone, Copy, Default)]
struct Limits {
    /// The work ends then.
    until: Option<Instant>,
    /// Previews that are older are not looked at.
    since: Option<SystemTime>,
}

/// Finds all traces.
#[must_use]
pub fn find(directories: &UserDirectories, places: &Places) -> Search {
    find_those(|_| true, directories, places)
}

fn find_those(is_meant: impl Fn(Kind) -> bool, directories: &UserDirectories, places: &Places) -> Search {
    let mut traces = Vec::new();
    let failures = each(directories, is_meant, Limits::default(), |&Source(kind, _, _, form), found| {
        let count = match form {
            Form::File(is_trace) => is_trace(found, places)?.into(),
            Form::Trashed => trash::is_of(found, places)?.into(),
            Form::List(entries) => entries(&found.text()?, places).len() as u64,
            Form::Gvfs => gvfs::count(found, places)?,
            Form::Searched => places.count_in(&found.file)?,
        };
        if count > 0 {
            traces.push(Trace { kind, path: found.path(), count });
        }
        Ok(())
    });
    traces.sort_by(|one, other| (one.kind, &one.path).cmp(&(other.kind, &other.path)));
    Search { traces, failures }
}

/// Removes the traces of a kind that lie in files. Those of [`Kind::GvfsMetadata`] are removed by
/// [`remove_gvfs_metadata`], and those of kinds for which there is only advice not at all.
#[must_use]
pub fn remove(kind: Kind, directories: &UserDirectories, places: &Places) -> Removal {
    remove_within(&[kind], directories, places, Limits::default())
}

/// Has gvfs remove what it holds about the places; returns how many entries there were. Without any, its service is not
/// called.
///
/// # Errors
///
/// If there is no session bus, or no such service on it.
pub async fn remove_gvfs_metadata(
    directories: &UserDirectories,
    places: &Places,
) -> Result<u64, MetadataError> {
    let found = {
        let (directories, places) = (directories.clone(), places.clone());
        // A file system may hang.
        let find = move || find_those(|kind| kind == Kind::GvfsMetadata, &directories, &places);
        tokio::task::spawn_blocking(find).await?
    };
    let count = found.traces.iter().map(|trace| trace.count).sum();
    if count > 0 {
        let files: Vec<PathBuf> = found.traces.into_iter().map(|trace| trace.path).collect();
        gvfs::remove(&files, places).await?;
    }
    Ok(count)
}

/// Removes previews written after `since` and entries of recent files. It stops when it has taken as long as `most`.
#[must_use]
pub fn sweep(directories: &UserDirectories, places: &Places, since: SystemTime, most: Duration) -> Removal {
    let limits = Limits { until: Some(Instant::now() + most), since: Some(since) };
    remove_within(&SWEPT, directories, places, limits)
}

fn remove_within(kinds: &[Kind], directories: &UserDirectories, places: &Places, limits: Limits) -> Removal {
    let mut count = 0;
    let is_meant = |kind: Kind| kinds.contains(&kind) && !matches!(kind.remedy(), Remedy::Advice(_));
    let failures = each(directories, is_meant, limits, |&Source(_, _, _, form), found| {
        count += match form {
            Form::File(is_trace) => (is_trace(found, places)? && found.remove()?).into(),
            Form::Trashed => (trash::is_of(found, places)? && trash::remove(found)?).into(),
            Form::List(entries) => cut(found.folder, &found.name, |text| entries(text, places))?,
            Form::Gvfs | Form::Searched => 0,
        };
        Ok(())
    });
    Removal { count, failures }
}

/// Does something with each file of the wanted kinds; returns where that failed.
fn each(
    directories: &UserDirectories,
    is_meant: impl Fn(Kind) -> bool,
    limits: Limits,
    mut work: impl FnMut(&Source, &Found<'_>) -> io::Result<()>,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    for source in SOURCES.iter().filter(|Source(kind, ..)| is_meant(*kind)) {
        let &Source(_, base, pattern, _) = source;
        let base = match base {
            Base::Home => &directories.home,
            Base::Cache => &directories.cache,
            Base::Config => &directories.config,
            Base::Data => &directories.data,
            Base::State => &directories.state,
        };
        match Folder::at(base) {
            Ok(Some(folder)) => walk(&folder, pattern, source, limits, &mut work, &mut failures),
            Ok(None) => {}
            Err(error) => failures.push(failure(base)(error)),
        }
    }
    failures
}

fn failure(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    |source| Failure { path, source }
}

fn walk(
    folder: &Folder,
    pattern: &str,
    source: &Source,
    limits: Limits,
    work: &mut impl FnMut(&Source, &Found<'_>) -> io::Result<()>,
    failures: &mut Vec<Failure>,
) {
    let (pattern, below) = match pattern.split_once('/') {
        Some((first, below)) => (first, Some(below)),
        None => (pattern, None),
    };
    let names = match folder.names(pattern) {
        Ok(names) => names,
        Err(error) => return failures.push(failure(&folder.path_of(pattern.as_ref()))(error)),
    };
    for name in names {
        let path = folder.path_of(&name);
        if limits.until.is_some_and(|until| Instant::now() >= until) {
            let late = io::Error::new(io::ErrorKind::TimedOut, "there was no time left to look at all files");
            return failures.push(failure(&path)(late));
        }
        let done = match below {
            Some(below) => match folder.below(&name) {
                Ok(Some(folder)) => {
                    walk(&folder, below, source, limits, work, failures);
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            None => look_at(folder, name, source, limits, work),
        };
        if let Err(error) = done {
            failures.push(failure(&path)(error));
        }
    }
}

fn look_at(
    folder: &Folder,
    name: std::ffi::OsString,
    source: &Source,
    limits: Limits,
    work: &mut impl FnMut(&Source, &Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if source.0 == Kind::Previews
        && let Some(since) = limits.since
        && folder.modified(&name)? < since
    {
        return Ok(());
    }
    match folder.open(name)? {
        Some(found) => work(source, &found),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
