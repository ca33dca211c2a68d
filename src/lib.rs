//! Scaup mounts encrypted vaults that live on an SSH server as an ordinary folder.
//!
//! A request of the kernel walks one way: `scaup_fuse`, then [`drive`], then [`vault`] for what lies in one, then
//! `scaup_crypto` and [`remote`]. Around that stand the [`daemon`], one process per mount, and the [`cli`], its front
//! end. [`check`] looks a vault over without mounting it.

pub mod check;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod drive;
pub mod vault;

pub use scaup_remote as remote;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::path::{Path, PathBuf};

    /// What each module may use of the others. None leads back. `remote`, a crate of its own, lies below all of them.
    const ALLOWED: [(&str, &[&str]); 6] = [
        ("config", &[]),
        ("vault", &["config"]),
        ("check", &["vault"]),
        ("drive", &["config", "vault"]),
        ("daemon", &["config", "drive", "vault"]),
        ("cli", &["check", "config", "daemon", "vault"]),
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
}
