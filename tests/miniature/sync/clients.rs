//! Sync clients as data: what each leaves where two ends changed the same thing. Syncthing, Unison and rclone are as
//! seen with real ones (1.19, 2.52, 1.60); where the rules of another client are not known to that detail, its row says
//! what is worst for a vault.

/// What a client leaves in place of two versions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// One version keeps the name, the other one gets the name of a copy.
    OfOne,
    /// Neither keeps the name.
    OfBoth(&'static str, &'static str),
}

/// What it leaves where a file meets a directory of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clash {
    /// The directory keeps the name, the file becomes a copy.
    FileGivesWay,
    /// Chance decides: a directory may become the copy.
    EitherGivesWay,
    /// The file becomes a copy if the directory is the newer one. Else each end keeps its own, and where the directory
    /// is, an unfinished file of this name holds what could not take its place.
    Stuck(&'static str),
    /// It ends in the midst of its work: of all that it had to do, chance decides what was done.
    Ends,
}

/// What it leaves of a directory that one end removed, while the other end changed something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovedDirectory {
    /// It looks at each file: what was changed stays, the rest goes.
    EachFile,
    /// It looks at the directory: all of it stays, or all of it gets the name of a copy.
    AsAWhole,
}

/// What becomes of a directory whose last file was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// It goes with the files, if an end removed it.
    Goes,
    /// It stays at the end that did not remove it.
    Stays,
}

/// A sync client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// How it calls a copy: `{stem}` and `{ext}` are what stands before the last dot and from there on.
    pub(crate) names: &'static [&'static str],
    pub(crate) copies: Copies,
    /// How it may call what one end removed, while the other end changed it.
    pub(crate) removed: &'static [&'static str],
    pub(crate) clash: Clash,
    pub(crate) removed_directory: RemovedDirectory,
    pub(crate) emptied: Emptied,
    /// Whether a file that both ends wrote is a conflict though both wrote the same.
    pub(crate) looks_at_times: bool,
}

const USUAL: Client = Client {
    name: "",
    names: &[],
    copies: Copies::OfOne,
    removed: &["{stem}{ext}"],
    clash: Clash::FileGivesWay,
    removed_directory: RemovedDirectory::EachFile,
    emptied: Emptied::Goes,
    looks_at_times: false,
};

pub(crate) const CLIENTS: [Client; 13] = [
    Client {
        name: "Nextcloud",
        names: &[
            "{stem} (conflicted copy 2024-01-02 123456){ext}",
            "{stem} (conflicted copy anna 2024-01-02 123456){ext}",
        ],
        ..USUAL
    },
    Client {
        name: "ownCloud",
        names: &[
            "{stem}_conflict-20240102-123456{ext}",
            "{stem} (conflicted copy anna 2024-01-02 123456){ext}",
        ],
        ..USUAL
    },
    Client {
        name: "Dropbox",
        names: &[
            "{stem} (Anna's conflicted copy 2024-01-02){ext}",
            "{stem} (anna-laptop's conflicted copy 2024-01-02 (1)){ext}",
        ],
        clash: Clash::EitherGivesWay,
        emptied: Emptied::Stays,
        ..USUAL
    },
    Client {
        name: "OneDrive",
        names: &["{stem}-DESKTOP-4AB2C9{ext}", "{stem}-LAPTOP{ext}", "{stem}-LAPTOP-2{ext}"],
        clash: Clash::EitherGivesWay,
        ..USUAL
    },
    Client { name: "iCloud", names: &["{stem} 2{ext}"], clash: Clash::EitherGivesWay, ..USUAL },
    Client { name: "Google Drive", names: &["{stem} (1){ext}"], clash: Clash::EitherGivesWay, ..USUAL },
    Client {
        name: "Syncthing",
        names: &["{stem}.sync-conflict-20240102-123456-IPX6NPU{ext}"],
        clash: Clash::Stuck(".syncthing.{stem}{ext}.tmp"),
        ..USUAL
    },
    Client {
        name: "Unison",
        names: &["{stem} (conflict_on_2024-01-02){ext}", "{stem} (conflict #1_on_2024-01-02){ext}"],
        removed: &[
            "{stem} (conflict_on_2024-01-02){ext}",
            "{stem} (conflict_on_2024-01-02_was_deleted){ext}",
        ],
        clash: Clash::EitherGivesWay,
        removed_directory: RemovedDirectory::AsAWhole,
        ..USUAL
    },
    // Up to 1.65.
    Client {
        name: "rclone 1.60",
        names: &["{stem}{ext}..path2"],
        copies: Copies::OfBoth("{stem}{ext}..path1", "{stem}{ext}..path2"),
        clash: Clash::Ends,
        emptied: Emptied::Stays,
        looks_at_times: true,
        ..USUAL
    },
    Client {
        name: "rclone",
        names: &["{stem}{ext}.conflict2"],
        copies: Copies::OfBoth("{stem}{ext}.conflict1", "{stem}{ext}.conflict2"),
        clash: Clash::Ends,
        looks_at_times: true,
        emptied: Emptied::Stays,
        ..USUAL
    },
    Client { name: "Resilio", names: &["{stem}.Conflict{ext}", "{stem}.Conflict1{ext}"], ..USUAL },
    Client {
        name: "Seafile",
        names: &[
            "{stem} (SFConflict anna@example.org 2024-01-02-12-34-56){ext}",
            "{stem} (SFConflict 2024-01-02-12-34-56){ext}",
        ],
        ..USUAL
    },
    Client {
        name: "Synology",
        names: &[
            "{stem}_DESKTOP_Jan-02-1234-2024_Conflict{ext}",
            "{stem}_ds_Jan-02-1234-2024_Conflict_1{ext}",
        ],
        clash: Clash::EitherGivesWay,
        ..USUAL
    },
];

/// A name as a pattern has it.
pub(crate) fn named(pattern: &str, name: &str) -> String {
    let (stem, ext) = name.rfind('.').filter(|&at| at > 0).map_or((name, ""), |at| name.split_at(at));
    pattern.replace("{stem}", stem).replace("{ext}", ext)
}
