//! Scaup mounts encrypted vaults that live on an SSH server as an ordinary folder.
//!
//! A request of the kernel walks one way: `scaup_fuse`, then [`drive`], then [`vault`] for what lies in one, then
//! `scaup_crypto` and [`remote`]. Around that stand the [`daemon`], one process per mount, and the [`cli`], its front
//! end. [`share`] hands a file out of a vault to others by a link, through an [`account`] on a Nextcloud server, to
//! which [`dav`] talks. [`check`] looks a vault over without mounting it, [`mend`] repairs what
//! it finds, [`doctor`] examines the machine, the login
//! and the server, and [`traces`] finds and removes what other programs keep of a vault.

pub mod account;
pub mod check;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dav;
pub mod doctor;
pub mod drive;
pub mod mend;
pub mod share;
pub mod traces;
pub mod vault;

pub use scaup_remote as remote;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    /// What each module may use of the others. None leads back. `remote`, a crate of its own, lies below all of them.
    const ALLOWED: [(&str, &[&str]); 12] = [
        ("config", &[]),
        ("traces", &["config"]),
        ("vault", &["config"]),
        ("check", &["vault"]),
        ("mend", &["check", "vault"]),
        ("drive", &["config", "vault"]),
        ("daemon", &["config", "drive", "traces", "vault"]),
        ("doctor", &["config", "daemon", "traces", "vault"]),
        ("dav", &[]),
        ("account", &["config", "daemon", "dav"]),
        ("share", &["account", "config", "daemon", "dav"]),
        (
            "cli",
            &["account", "check", "config", "daemon", "dav", "doctor", "mend", "share", "traces", "vault"],
        ),
    ];

    /// What each wing of the drive may use of the others. None leads back.
    const WINGS: [(&str, &[&str]); 6] = [
        ("places", &[]),
        ("content", &["places"]),
        ("tree", &["content", "places"]),
        ("ahead", &["content", "places", "tree"]),
        ("names", &["ahead", "content", "places", "tree"]),
        ("vaults", &["ahead", "content", "names", "places", "tree"]),
    ];

    /// Folders whose files do not import from each other in a circle. (Elsewhere in the drive, `Drive`, `File` and
    /// `Nodes` have their methods in several files, which name each other's types.)
    const WITHOUT_CIRCLES: [&str; 23] = [
        "fuse/src",
        "remote/src",
        "remote/src/sftp",
        "sftp/src/client",
        "sftp/src/ssh",
        "src/account",
        "src/check",
        "src/cli",
        "src/cli/demo",
        "src/config",
        "src/config/ssh_config",
        "src/daemon",
        "src/dav",
        "src/doctor/login",
        "src/doctor/machine",
        "src/drive/ahead",
        "src/drive/names",
        "src/drive/places",
        "src/drive/vaults",
        "src/mend",
        "src/share",
        "src/traces",
        "src/vault",
    ];

    fn files(at: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(at) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    /// Fails where a file of a module in `at` uses another one that it may not, by a path that begins with `root`.
    fn check(at: &Path, root: &str, allowed: &[(&str, &[&str])]) {
        for (module, below) in allowed {
            let mut all = files(&at.join(module));
            all.push(at.join(format!("{module}.rs")));
            for path in all {
                let text = fs::read_to_string(&path).unwrap();
                for (other, _) in
                    allowed.iter().filter(|(other, _)| other != module && !below.contains(other))
                {
                    let uses = text.contains(&format!("{root}::{other}::"))
                        || text.contains(&format!("{root}::{{{other}"));
                    assert!(!uses, "{}: {module} may not use {other}", path.display());
                }
            }
        }
    }

    #[test]
    fn each_module_uses_only_those_below_it() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        check(&source, "crate", &ALLOWED);
    }

    #[test]
    fn each_wing_of_the_drive_uses_only_those_below_it() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/drive");
        check(&source, "crate::drive", &WINGS);
        // The content of files reaches the drive only through the trait that says what it needs.
        for path in files(&source.join("content")).into_iter().chain(files(&source.join("places"))) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("crate::drive::Drive"), "{}", path.display());
        }
    }

    /// Returns the first name behind `prefix` wherever it stands in `code`, and of each path in braces behind it.
    fn names_behind(prefix: &str, code: &str) -> BTreeSet<String> {
        let behind = code.match_indices(prefix).flat_map(|(at, _)| {
            let path = code[at + prefix.len()..].split(';').next().unwrap();
            let Some(group) = path.strip_prefix('{') else { return vec![path] };
            let mut depth = 0;
            let is_between = |c: char| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                c == ',' && depth == 0
            };
            group.split(is_between).collect()
        });
        let name =
            |path: &str| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        behind.map(name).collect()
    }

    /// Returns the files of a folder that import from each other in a circle, and those that need them, each with what
    /// it imports from. What a file imports from the folder's head counts as the head's, even where the head only
    /// passes it on.
    fn circles(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let (_, below) = folder.split_once("src").unwrap();
        let from_root = format!("crate{}::", below.replace('/', "::"));
        let head = if below.is_empty() { at.join("lib.rs") } else { at.with_extension("rs") };
        let rust =
            fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let modules: BTreeSet<PathBuf> = rust.filter(|path| *path != head).collect();
        let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
        let names: BTreeSet<String> = modules.iter().map(|path| name(path)).collect();
        let code = |path: &Path| {
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("mod tests {").next().unwrap();
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>()
        };
        let of_module = |path: &PathBuf| {
            let code = code(path);
            let mut imported = names_behind("super::", &code);
            imported.append(&mut names_behind(&from_root, &code));
            imported.remove("super");
            let of_head = |name: String| if names.contains(&name) { name } else { "the head".to_owned() };
            (name(path), imported.into_iter().map(of_head).collect())
        };
        let in_head = code(&head);
        let of_head = names_behind("use ", &in_head).intersection(&names).cloned().collect();
        let mut left: BTreeMap<String, BTreeSet<String>> = modules.iter().map(of_module).collect();
        left.insert("the head".to_owned(), of_head);
        loop {
            let (free, bound): (BTreeMap<_, _>, _) = left.into_iter().partition(|(_, uses)| uses.is_empty());
            left = bound;
            if free.is_empty() {
                return left;
            }
            left.values_mut().for_each(|uses| uses.retain(|name| !free.contains_key(name)));
        }
    }

    #[test]
    fn no_files_import_from_each_other_in_a_circle() {
        for folder in WITHOUT_CIRCLES {
            let circles = circles(folder);
            assert!(circles.is_empty(), "{folder}: {circles:#?}");
        }
    }
}
