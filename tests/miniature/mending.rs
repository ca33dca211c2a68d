//! `scaup vault check --fix` against an adversary who damages a sound vault, and against a kill behind every message:
//! what could be read before can be read after, and a second run finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use scaup::check::{CheckOptions, CheckProgress, Examination, FindingKind, examine};
use scaup::mend::{Became, Fix, MENDED, MendError, MendProgress, Plan};
use scaup::remote::{Remote, RemoteName, RemoteOpen, RemotePath, RenameHow};
use scaup::vault::{VaultSecret, open_vault};
use scaup_crypto::{CleartextName, Cryptor, DirectoryId};
use scaup_fakes::{Fault, MemoryRemote, MemoryServer};
use scaup_fuse::Filesystem;
use scaup_fuse::filesystem::{Attributes, FileKind};
use scaup_rig::dice::{Dice, from_environment};

use crate::kernel::{Place, Seen, mount, runtime};

type Tree = BTreeMap<String, Seen>;

fn name(text: &str) -> RemoteName {
    RemoteName::parse(text.as_bytes()).unwrap()
}

fn path(text: &str) -> RemotePath {
    RemotePath::parse(text.as_bytes()).unwrap()
}

/// A vault that is damaged.
struct Patient {
    server: MemoryServer,
    remote: Arc<MemoryRemote>,
    cryptor: Arc<Cryptor>,
    vault: RemotePath,
    place: Place,
}

/// What can be done to a vault.
const DAMAGES: [&str; 17] = [
    "no dirid.c9r",
    "empty dirid.c9r",
    "wrong dirid.c9r",
    "no content",
    "orphan",
    "orphan without an id",
    "orphan with a loose dir.c9r",
    "no name.c9s",
    "garbage in name.c9s",
    "trailing bytes",
    "name of another",
    "other hash",
    "empty node",
    "no node",
    "uncanonical name",
    "circle",
    "empty orphan",
];

impl Patient {
    async fn of(server: MemoryServer, place: Place) -> Self {
        let remote = MemoryRemote::connect(&server);
        let vault = place.root();
        let cryptor = Arc::new(
            open_vault(remote.as_ref(), &vault, &VaultSecret::password(crate::kernel::PASSWORD))
                .await
                .unwrap(),
        );
        Self { server, remote, cryptor, vault, place }
    }

    /// A sound vault, filled by chance.
    async fn filled(place: Place, dice: &mut Dice) -> Self {
        let server = place.server();
        let kernel = mount(&server, place).await;
        let mut directories = vec![String::new()];
        for number in 0..14 {
            let around = dice.pick(&directories);
            let long = if dice.one_in(2) { " with a name that is shortened" } else { "" };
            let at = |what: &str| {
                let name = format!("{what}{number}{long}");
                if around.is_empty() { name } else { format!("{around}/{name}") }
            };
            match dice.below(4) {
                0 | 1 => {
                    kernel.mkdir(&at("d"), 0o755).await.unwrap();
                    directories.push(at("d"));
                }
                2 => kernel.save(&at("f\u{e9}"), format!("content {number}").as_bytes()).await.unwrap(),
                _ => kernel.symlink(&at("l"), &format!("target {number}")).await.unwrap(),
            }
            // Each directory has something in it that must not be lost.
            if dice.one_in(2) {
                kernel.save(&at("x"), format!("more {number}").as_bytes()).await.unwrap();
            }
        }
        drop(kernel);
        Self::of(server, place).await
    }

    fn fork(&self) -> impl Future<Output = Self> {
        Self::of(self.server.fork(), self.place)
    }

    /// Everything that a mount shows and that can be read.
    async fn readable(&self) -> Tree {
        let kernel = mount(&self.server.fork(), self.place).await;
        let mut tree = Tree::new();
        let mut directories = vec![(String::new(), kernel.root().await.unwrap())];
        while let Some((around, directory)) = directories.pop() {
            // Of a directory without content nothing can be read.
            let Ok(names) = kernel.list(directory).await else { continue };
            for (name, Attributes { kind, inode, mode, .. }) in names {
                let path = format!("{around}/{name}");
                let seen = match kind {
                    FileKind::Directory => {
                        directories.push((path.clone(), inode));
                        Some(Seen::Directory { mode })
                    }
                    FileKind::Symlink => {
                        let target = kernel.drive.readlink(inode).await;
                        target.ok().map(|target| Seen::Symlink { target })
                    }
                    _ => kernel.content(&path).await.ok().map(|content| Seen::File { content, mode }),
                };
                tree.extend(seen.map(|seen| (path, seen)));
            }
        }
        tree
    }

    fn paths(&self, ends: &str) -> Vec<RemotePath> {
        let mut paths: Vec<RemotePath> = self
            .server
            .paths()
            .into_iter()
            .filter(|path| path.as_bytes().ends_with(ends.as_bytes()))
            .collect();
        paths.sort();
        paths
    }

    /// The directories: the ids in all `dir.c9r` in nodes, with their nodes.
    fn directories(&self) -> Vec<(DirectoryId, RemotePath)> {
        let nodes = self.paths("/dir.c9r").into_iter().filter(|path| path.names().count() == 6);
        nodes
            .filter_map(|path| {
                let id = DirectoryId::parse(&self.server.content(&path).unwrap()).ok()?;
                Some((id, path.split().unwrap().0))
            })
            .collect()
    }

    fn content(&self, id: &DirectoryId) -> RemotePath {
        self.vault.below(&path(&self.cryptor.content_dir(id)))
    }

    /// The directory in whose content a path lies.
    fn around(&self, at: &RemotePath) -> Option<DirectoryId> {
        let ids = self.directories().into_iter().map(|(id, _)| id).chain([DirectoryId::root()]);
        let around = at.split()?.0;
        ids.into_iter().find(|id| self.content(id) == around)
    }

    async fn remove_all(&self, at: &RemotePath) {
        let mut below: Vec<RemotePath> =
            self.server.paths().into_iter().filter(|path| path.moved(at, at).is_some()).collect();
        below.sort_by_key(|path| std::cmp::Reverse(path.as_bytes().len()));
        for path in below {
            if self.remote.remove(&path).await.is_err() {
                self.remote.rmdir(&path).await.unwrap();
            }
        }
    }

    async fn write(&self, at: &RemotePath, content: &[u8]) {
        if self.server.content(at).is_err() {
            self.remote.open(at, RemoteOpen::CreateNew(0o644)).await.unwrap();
        }
        self.server.set_content(at, content).unwrap();
    }

    /// Does a damage somewhere; returns whether there was a place for it.
    async fn damage(&self, damage: &str, dice: &mut Dice) -> bool {
        let mut directories = self.directories();
        directories.retain(|(id, _)| self.server.paths().contains(&self.content(id)));
        let mut long_names = self.paths("/name.c9s");
        long_names.retain(|path| path.names().count() == 6);
        let id_file = |id: &DirectoryId| self.content(id).join(&name("dirid.c9r"));
        let pick = |dice: &mut Dice| (!directories.is_empty()).then(|| dice.pick(&directories));
        let pick_long = |dice: &mut Dice| (!long_names.is_empty()).then(|| dice.pick(&long_names));
        let noise = HEXLOWER.encode(&(0..10).map(|_| dice.below(256) as u8).collect::<Vec<_>>());
        let root = self.content(&DirectoryId::root());
        match damage {
            "empty node" => {
                let text = CleartextName::parse(format!("e{}", &noise[..6]).as_bytes()).unwrap();
                let entry = self.cryptor.encrypt_name(&text, &DirectoryId::root()).entry;
                self.remote.mkdir(&root.join(&name(&entry)), 0o755).await.is_ok()
            }
            "no node" => {
                let entry = format!("{}.c9s", "A".repeat(20) + &noise[..7] + "=");
                self.write(&root.join(&name(&entry)), b"?").await;
                true
            }
            "empty orphan" => {
                let id = DirectoryId::random().unwrap();
                let _ = self.remote.mkdir(&self.content(&id).split().unwrap().0, 0o755).await;
                self.remote.mkdir(&self.content(&id), 0o755).await.is_ok()
            }
            "uncanonical name" => {
                let entries = self.server.paths().into_iter().filter(|path| path.names().count() == 5);
                let mut entries: Vec<_> = entries
                    .filter_map(|path| {
                        let around = self.around(&path)?;
                        let entry = path.split().unwrap().1;
                        let text = std::str::from_utf8(entry.as_bytes()).unwrap();
                        let name = self.cryptor.decrypt_name(text, &around).ok()?;
                        let other = name.as_str().replace('\u{e9}', "e\u{301}");
                        (other != name.as_str())
                            .then(|| (path, self.cryptor.encrypt_raw_name(&other, &around)))
                    })
                    .filter(|(_, other)| other.long_name.is_none())
                    .collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                if entries.is_empty() {
                    return false;
                }
                let (at, other) = dice.pick(&entries);
                let to = at.split().unwrap().0.join(&name(&other.entry));
                self.remote.rename(&at, &to, RenameHow::New).await.is_ok()
            }
            "circle" => {
                let Some((id, node)) = pick(dice) else { return false };
                let below: Vec<_> = directories
                    .iter()
                    .filter(|(_, inner)| inner.split().unwrap().0 == self.content(&id))
                    .collect();
                if below.is_empty() {
                    return false;
                }
                let into = &dice.pick(&below).0;
                let text = CleartextName::parse(b"circle").unwrap();
                let to = self.content(into).join(&name(&self.cryptor.encrypt_name(&text, into).entry));
                self.remote.rename(&node, &to, RenameHow::New).await.is_ok()
            }
            "no name.c9s" | "garbage in name.c9s" | "trailing bytes" | "name of another" | "other hash" => {
                let Some(at) = pick_long(dice) else { return false };
                match damage {
                    "no name.c9s" => self.remote.remove(&at).await.unwrap(),
                    "garbage in name.c9s" => self.write(&at, noise.as_bytes()).await,
                    "trailing bytes" => {
                        let long = self.server.content(&at).unwrap();
                        self.write(&at, &[&long[..], &b"\0\n"[..]].concat()).await;
                    }
                    "name of another" => {
                        let other = self.server.content(&dice.pick(&long_names)).unwrap();
                        self.write(&at, &other).await;
                    }
                    _ => {
                        let node = at.split().unwrap().0;
                        let to = node.split().unwrap().0;
                        let to = to.join(&name(&format!("{}{}=.c9s", "B".repeat(20), &noise[..7])));
                        return self.remote.rename(&node, &to, RenameHow::New).await.is_ok();
                    }
                }
                true
            }
            _ => {
                let Some((id, node)) = pick(dice) else { return false };
                match damage {
                    "no dirid.c9r" => return self.remote.remove(&id_file(&id)).await.is_ok(),
                    "empty dirid.c9r" => self.write(&id_file(&id), b"").await,
                    "wrong dirid.c9r" => {
                        let other = self.cryptor.encrypt_small(dice.pick(&directories).0.as_bytes()).unwrap();
                        self.write(&id_file(&id), &other).await;
                    }
                    "no content" => self.remove_all(&self.content(&id)).await,
                    "orphan" => self.remove_all(&node).await,
                    "orphan without an id" => {
                        self.remove_all(&node).await;
                        let _ = self.remote.remove(&id_file(&id)).await;
                    }
                    "orphan with a loose dir.c9r" => {
                        let _ = self.remote.remove(&id_file(&id)).await;
                        let loose = node.split().unwrap().0.join(&name("dir.c9r"));
                        if self
                            .remote
                            .rename(&node.join(&name("dir.c9r")), &loose, RenameHow::New)
                            .await
                            .is_err()
                        {
                            return false;
                        }
                        self.remove_all(&node).await;
                    }
                    other => panic!("{other}"),
                }
                true
            }
        }
    }

    async fn examined(&self) -> Examination {
        let (options, progress) = (CheckOptions { content: true }, CheckProgress::default());
        examine(self.remote.as_ref(), &self.vault, &self.cryptor, options, &progress).await.unwrap()
    }

    async fn plan(&self, examined: &Examination) -> Plan {
        Plan::of(examined, &[], self.remote.as_ref(), &self.vault, &self.cryptor).await.unwrap()
    }

    async fn mend(&self, plan: &Plan) -> Result<Vec<Fix>, MendError> {
        let (aside, progress) = (name(".scaup-repair-now"), MendProgress::default());
        plan.carry_out(self.remote.as_ref(), &self.vault, &self.cryptor, &aside, &progress).await
    }

    /// Mends all, and again what one run can't see; returns the kinds that are left.
    async fn mend_all(&self, what: &str) -> BTreeSet<FindingKind> {
        for _ in 0..4 {
            let examined = self.examined().await;
            let plan = self.plan(&examined).await;
            if plan.is_empty() {
                break;
            }
            for (finding, fix) in examined.report.findings.iter().zip(self.mend(&plan).await.unwrap()) {
                assert_ne!(fix.state, Became::Failed, "{what}: {finding:?}: {}", fix.what);
            }
        }
        self.examined().await.report.findings.into_iter().map(|finding| finding.kind).collect()
    }
}

/// Fails where something that could be read can't any more.
fn holds_all(what: &str, before: &Tree, after: &Tree) {
    let everything: Vec<&Seen> = after.values().collect();
    for (path, seen) in before {
        let is_kept = match (seen, after.get(path)) {
            (Seen::File { content, .. }, Some(Seen::File { content: now, .. })) if content == now => true,
            (Seen::Symlink { target }, Some(Seen::Symlink { target: now })) if target == now => true,
            (Seen::Directory { .. }, Some(Seen::Directory { .. })) => true,
            (Seen::File { content, .. }, _) => {
                everything.iter().any(|now| matches!(now, Seen::File { content: now, .. } if now == content))
            }
            (Seen::Symlink { target }, _) => {
                everything.iter().any(|now| matches!(now, Seen::Symlink { target: now } if now == target))
            }
            // What matters of a directory that is elsewhere now is what is in it.
            (Seen::Directory { .. }, _) => true,
            (Seen::Unreadable { .. }, _) => true,
        };
        assert!(is_kept, "{what}: {path} could be read before: {:#?}", after.keys());
    }
}

fn is_of_mended_kind(kind: &FindingKind) -> bool {
    MENDED.contains(kind)
}

#[test]
fn whatever_is_damaged_what_could_be_read_still_can_and_a_second_run_has_nothing_to_do() {
    let games = from_environment("SCAUP_MENDS", 60);
    let (mut done, mut mended) = (BTreeSet::new(), BTreeSet::new());
    for seed in 1..=games {
        runtime().block_on(async {
            let mut dice = Dice::new(seed);
            let place = if seed % 4 == 0 { Place::Ctrmac } else { Place::Gcm };
            let patient = Patient::filled(place, &mut dice).await;
            let sound = patient.readable().await;
            let mut damages = Vec::new();
            for _ in 0..=dice.below(6) {
                let damage = dice.pick(&DAMAGES);
                if patient.damage(damage, &mut dice).await {
                    damages.push(damage);
                }
            }
            let what = format!("seed {seed}, {damages:?}");
            done.extend(damages.iter().copied());
            let before = patient.readable().await;
            let found = patient.examined().await.report.findings;
            mended.extend(found.iter().map(|finding| finding.kind).filter(is_of_mended_kind));
            let left = patient.mend_all(&what).await;
            let after = patient.readable().await;
            holds_all(&what, &before, &after);
            if !damages.contains(&"no content") {
                holds_all(&format!("{what}: nothing was destroyed"), &sound, &after);
            }
            let left: Vec<_> = left.into_iter().filter(is_of_mended_kind).collect();
            let again = patient.examined().await;
            assert!(left.is_empty(), "{what}: {left:?}, {:#?}, before {found:#?}", again.report.findings);
            assert!(patient.plan(&again).await.is_empty(), "{what}");
        });
    }
    assert_eq!(done.len(), DAMAGES.len(), "each damage was tried: {done:?}");
    // A name that can't be shown takes somebody with the keys, and one that is too long more than these vaults have.
    assert!(mended.len() >= 14, "{mended:?}");
}

/// All that is in a vault's files is told apart by what it is.
async fn one_of_each(place: Place) -> Patient {
    let mut dice = Dice::new(7);
    let patient = loop {
        let patient = Patient::filled(place, &mut dice).await;
        if patient.directories().len() >= 7 && patient.paths("/name.c9s").len() >= 5 {
            break patient;
        }
    };
    for damage in DAMAGES {
        for _ in 0..10 {
            if patient.damage(damage, &mut dice).await {
                break;
            }
        }
    }
    patient
}

#[test]
fn killed_behind_any_message_nothing_is_lost_and_the_next_run_does_the_rest() {
    for applied in [true, false] {
        runtime().block_on(async {
            let damaged = one_of_each(Place::Gcm).await;
            let before = damaged.readable().await;
            let whole = damaged.fork().await;
            let examined = whole.examined().await;
            let plan = whole.plan(&examined).await;
            let first = whole.remote.messages().len();
            whole.mend(&plan).await.unwrap();
            let messages = whole.remote.messages().split_off(first);
            assert!(messages.len() > 60, "{}", messages.len());
            for (n, message) in messages.iter().enumerate() {
                let what = format!("killed at message {n}, applied {applied}, {message:?}");
                let patient = damaged.fork().await;
                let plan = patient.plan(&patient.examined().await).await;
                patient.remote.fault_at(n, Fault::Cut { applied });
                let killed = patient.mend(&plan).await;
                assert!(killed.is_err(), "{what}");
                holds_all(&what, &before, &patient.readable().await);
                let next = patient.fork().await;
                let left = next.mend_all(&what).await;
                holds_all(&what, &before, &next.readable().await);
                let left: Vec<_> = left.into_iter().filter(is_of_mended_kind).collect();
                assert!(left.is_empty(), "{what}: {left:?}: {:#?}", next.examined().await.report.findings);
            }
        });
    }
}
