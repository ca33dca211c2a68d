//! Who holds the server: exchanges, hides, links, swaps and replays what lies there, and puts it back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use scaup::remote::{
    Remote, RemoteError, RemoteKind, RemoteOpen, RemotePath, RemoteSetAttributes, RenameHow,
};

use scaup_rig::dice::Dice;

type Done = Result<(), RemoteError>;

/// Where what was taken away lies meanwhile.
const ATTIC: &str = ".attic";
/// What stands for a vault's place in the end.
const MARKERS: [&str; 2] = ["vault.cryptomator", "masterkey.cryptomator"];

pub(crate) fn path(text: &str) -> RemotePath {
    RemotePath::parse(text.as_bytes()).unwrap()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

pub(crate) async fn kind(remote: &dyn Remote, at: &str) -> Option<RemoteKind> {
    remote.stat(&path(at)).await.ok().map(|attributes| attributes.kind)
}

async fn names(remote: &dyn Remote, at: &str) -> Vec<String> {
    let listed = remote.list(&path(at)).await.unwrap_or_default();
    listed.iter().map(|entry| String::from_utf8(entry.name.as_bytes().to_vec()).unwrap()).collect()
}

async fn content(remote: &dyn Remote, at: &str) -> Result<Bytes, RemoteError> {
    remote.read_small(&path(at), 1 << 20).await
}

/// Gives a file other content in place, or makes it.
async fn write(remote: &dyn Remote, at: &str, content: Bytes) -> Done {
    let file = match remote.open(&path(at), RemoteOpen::ReadWrite).await {
        Err(RemoteError::NotFound) => remote.open(&path(at), RemoteOpen::CreateNew(0o644)).await?,
        opened => opened?,
    };
    file.set_attributes(RemoteSetAttributes { size: Some(0), ..RemoteSetAttributes::default() }).await?;
    file.write_at(0, content).await?;
    file.close().await
}

fn remove_all<'a>(remote: &'a dyn Remote, at: &'a str) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        match kind(remote, at).await {
            Some(RemoteKind::Directory) => {
                for name in names(remote, at).await {
                    remove_all(remote, &join(at, &name)).await;
                }
                let _ = remote.rmdir(&path(at)).await;
            }
            Some(_) => {
                let _ = remote.remove(&path(at)).await;
            }
            None => {}
        }
    })
}

/// Copies a tree from a server to another, or the same one.
pub(crate) fn copy_all<'a>(
    from: &'a dyn Remote,
    at: &'a str,
    to: &'a dyn Remote,
    there: &'a str,
) -> BoxFuture<'a, Done> {
    Box::pin(async move {
        match from.stat(&path(at)).await?.kind {
            RemoteKind::Directory => {
                if !there.is_empty() {
                    to.mkdir(&path(there), 0o755).await?;
                }
                for name in names(from, at).await {
                    copy_all(from, &join(at, &name), to, &join(there, &name)).await?;
                }
                Ok(())
            }
            RemoteKind::Symlink => to.symlink(&path(there), &from.readlink(&path(at)).await?).await,
            _ => write(to, there, content(from, at).await?).await,
        }
    })
}

/// All paths below a directory, from there.
fn below<'a>(remote: &'a dyn Remote, at: &'a str, from: &'a str) -> BoxFuture<'a, Vec<String>> {
    Box::pin(async move {
        let mut found = Vec::new();
        if kind(remote, at).await != Some(RemoteKind::Directory) {
            return found;
        }
        for name in names(remote, at).await {
            let path = join(from, &name);
            let deeper = below(remote, &join(at, &name), &path).await;
            found.push(path);
            found.extend(deeper);
        }
        found
    })
}

/// Where the names of a path end.
pub(crate) fn ends(path: &str) -> Vec<usize> {
    path.match_indices('/').map(|(end, _)| end).chain([path.len()]).collect()
}

/// What was taken away: from where, and where it lies.
struct Taken {
    from: String,
    attic: String,
}

/// What the attacker may do in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Only the places of vaults, with what is new.
    Places,
    /// Old and copied vaults, too, in which what is saved is lost when the true one is back.
    Copies,
    /// The content of the vault, too.
    Everything,
}

pub(crate) struct Attacker {
    remote: Arc<dyn Remote>,
    aim: Aim,
    /// A server with another vault.
    other: Arc<dyn Remote>,
    taken: Vec<Taken>,
    not_put_back: Vec<String>,
    number: u32,
    /// How the server looked before.
    old: Vec<Arc<dyn Remote>>,
    /// What lies in the vault and is never touched in it, by paths from the vault's directory.
    spared: BTreeSet<String>,
    /// The content directory of the vault's root, from the vault's directory.
    content: String,
}

impl Attacker {
    /// An attacker of a vault with empty content that lies at `vault`; another vault lies at `Vault` on the server
    /// `other`.
    pub(crate) async fn new(remote: Arc<dyn Remote>, other: Arc<dyn Remote>, aim: Aim, vault: &str) -> Self {
        remote.mkdir(&path(ATTIC), 0o755).await.unwrap();
        let nodes = below(remote.as_ref(), vault, "").await;
        let is_content = |node: &&String| node.split('/').count() == 3 && node.starts_with("d/");
        // The root's directory is the only one before there are others.
        let content = nodes.iter().find(is_content).unwrap().clone();
        Self {
            remote,
            aim,
            other,
            taken: Vec::new(),
            not_put_back: Vec::new(),
            number: 0,
            old: Vec::new(),
            spared: BTreeSet::new(),
            content,
        }
    }

    /// What lies in the vault now is never touched in it.
    pub(crate) async fn spare(&mut self, vault: &str) {
        self.spared = self.nodes(vault).await.into_iter().collect();
    }

    async fn nodes(&self, vault: &str) -> Vec<String> {
        below(self.remote.as_ref(), vault, "").await
    }

    /// Whether there is no way to the content of a vault at that path: something on the way to the vault is no
    /// directory, or its content is missing. Where a link leads in the vault nobody looks: names and content are
    /// encrypted there whatever it is.
    pub(crate) async fn is_closed(&self, vault: &str) -> bool {
        let whole = join(vault, &self.content);
        for end in ends(&whole) {
            match kind(self.remote.as_ref(), &whole[..end]).await {
                Some(RemoteKind::Directory) => {}
                Some(RemoteKind::Symlink) => return end <= vault.len(),
                _ => return true,
            }
        }
        false
    }

    pub(crate) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// The mount renamed a directory.
    pub(crate) fn note_renamed(&mut self, from: &str, to: &str) {
        for Taken { from: at, .. } in &mut self.taken {
            if let Some(rest) = at.strip_prefix(from)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *at = format!("{to}{rest}");
            }
        }
    }

    /// Has a server to show that is as this one was.
    pub(crate) fn remember(&mut self, old: Arc<dyn Remote>) {
        /// Old states that are kept: the first one, and the last ones.
        const OLD_MAX: usize = 3;
        if self.old.len() == OLD_MAX {
            self.old.remove(1);
        }
        self.old.push(old);
    }

    /// Does one deed; says what.
    pub(crate) async fn act(&mut self, dice: &mut Dice, vault: &str) -> String {
        if self.has_taken() && !dice.one_in(5) {
            return self.put_back().await;
        }
        if self.aim == Aim::Everything && dice.one_in(3) {
            return self.meddle(dice, vault).await;
        }
        let end = dice.pick(&ends(vault));
        let at = &vault[..end];
        let below = &vault[end..];
        match dice.below(12) {
            0 => self.take_markers(dice, vault).await,
            1 => {
                let content = join(vault, &self.content);
                self.exchange(dice, &content, "").await
            }
            2 => {
                let data = join(vault, "d");
                self.exchange(dice, &data, "").await
            }
            _ => self.exchange(dice, at, below).await,
        }
    }

    async fn rename(&self, from: &str, to: &str) -> Done {
        self.remote.rename(&path(from), &path(to), RenameHow::Replace).await
    }

    async fn link(&self, at: &str, to: &str) -> Done {
        self.remote.symlink(&path(at), to.as_bytes()).await
    }

    async fn copy(&self, from: &str, to: &str) -> Done {
        copy_all(self.remote.as_ref(), from, self.remote.as_ref(), to).await
    }

    async fn remove(&self, at: &str) {
        remove_all(self.remote.as_ref(), at).await;
    }

    async fn write(&self, at: &str, content: &'static [u8]) -> Done {
        write(self.remote.as_ref(), at, Bytes::from_static(content)).await
    }

    async fn take(&mut self, from: &str) -> Option<String> {
        self.number += 1;
        let attic = join(ATTIC, &self.number.to_string());
        self.rename(from, &attic).await.ok()?;
        self.taken.push(Taken { from: from.to_owned(), attic: attic.clone() });
        Some(attic)
    }

    /// Puts what was taken last back in its place.
    async fn put_back(&mut self) -> String {
        /// How often it is tried: the mount may be making something in what is just being removed.
        const TRIES: usize = 50;
        let Some(Taken { from, attic }) = self.taken.pop() else { return "nothing".to_owned() };
        let mut done = Ok(());
        for _ in 0..TRIES {
            self.remove(&from).await;
            done = self.rename(&attic, &from).await;
            match done {
                Err(RemoteError::NotEmpty | RemoteError::NotADirectory | RemoteError::IsADirectory) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                _ => break,
            }
        }
        let said = format!("puts {from} back: {done:?}");
        if done.is_err() {
            self.not_put_back.push(said.clone());
        }
        said
    }

    /// What could not be put back: it is missing where it was from then on.
    pub(crate) fn not_put_back(&self) -> &[String] {
        &self.not_put_back
    }

    pub(crate) async fn put_all_back(&mut self) {
        while self.has_taken() {
            self.put_back().await;
        }
    }

    async fn take_markers(&mut self, dice: &mut Dice, vault: &str) -> String {
        let marker = join(vault, dice.pick(&MARKERS));
        if self.take(&marker).await.is_none() {
            return format!("finds no {marker}");
        }
        let other = dice.below(3);
        let done = match other {
            0 => Ok(()),
            1 => {
                copy_all(
                    self.other.as_ref(),
                    &join("Vault", &marker[vault.len() + 1..]),
                    self.remote.as_ref(),
                    &marker,
                )
                .await
            }
            _ => self.write(&marker, b"{}").await,
        };
        format!("takes {marker}, in its place {other}: {done:?}")
    }

    /// Puts something else in the place of a directory; `below` is the way from there to the vault.
    async fn exchange(&mut self, dice: &mut Dice, at: &str, below: &str) -> String {
        let Some(attic) = self.take(at).await else { return format!("finds no {at}") };
        let up = "../".repeat(at.matches('/').count());
        let has_copies = self.aim != Aim::Places;
        let (what, done) = match dice.below(if has_copies { 13 } else { 9 }) {
            0 => ("nothing", Ok(())),
            1 => ("a directory", self.directories(at).await),
            2 => ("the same names", self.directories(&format!("{at}{below}")).await),
            3 => {
                let place = format!("{at}{below}");
                let done = self.directories(&format!("{place}/d")).await;
                let markers =
                    MARKERS.map(|marker| (format!("{attic}{below}/{marker}"), format!("{place}/{marker}")));
                for (from, to) in markers {
                    let _ = self.copy(&from, &to).await;
                }
                ("a vault without content", done)
            }
            4 => ("a link to a directory", self.link(at, &format!("{up}plain")).await),
            5 => ("a link to where it is now", self.link(at, &format!("{up}{attic}")).await),
            6 => ("a link out", self.link(at, dice.pick(&["/etc", "../../../..", "/"])).await),
            7 => ("a file", self.write(at, b"a file").await),
            8 => {
                let place = format!("{at}{below}");
                let parent = place.rsplit_once('/').map_or("", |(parent, _)| parent);
                let _ = self.directories(parent).await;
                ("another vault", copy_all(self.other.as_ref(), "Vault", self.remote.as_ref(), &place).await)
            }
            9 => ("a copy", self.copy(&attic, at).await),
            10 => {
                let copy = format!("{attic}-copy");
                let _ = self.copy(&attic, &copy).await;
                ("a link to a copy", self.link(at, &format!("{up}{copy}")).await)
            }
            _ => {
                let old = dice.pick(&self.old);
                ("what was there before", copy_all(old.as_ref(), at, self.remote.as_ref(), at).await)
            }
        };
        format!("takes {at}, in its place {what}: {done:?}")
    }

    async fn directories(&self, at: &str) -> Done {
        let mut made = Ok(());
        for end in ends(at) {
            if end > 0 && kind(self.remote.as_ref(), &at[..end]).await.is_none() {
                made = self.remote.mkdir(&path(&at[..end]), 0o755).await;
            }
        }
        made
    }

    /// Meddles with the encrypted content.
    async fn meddle(&self, dice: &mut Dice, vault: &str) -> String {
        let remote = self.remote.as_ref();
        let mut nodes = self.nodes(vault).await;
        nodes.retain(|node| !self.spared.contains(node));
        if nodes.is_empty() {
            return "finds no content".to_owned();
        }
        let (one, other) = (join(vault, &dice.pick(&nodes)), join(vault, &dice.pick(&nodes)));
        if one.starts_with(&format!("{other}/")) || other.starts_with(&format!("{one}/")) {
            return "finds only one way down".to_owned();
        }
        let up = "../".repeat(one.matches('/').count());
        let hidden = join(ATTIC, "hidden");
        let (what, done) = match dice.below(9) {
            0 => {
                let _ = self.rename(&one, &hidden).await;
                let _ = self.rename(&other, &one).await;
                ("swaps it with", self.rename(&hidden, &other).await)
            }
            1 => {
                self.remove(&one).await;
                ("puts there a copy of", self.copy(&other, &one).await)
            }
            2 => {
                self.remove(&one).await;
                ("removes it and not", Ok(()))
            }
            3 => {
                self.remove(&one).await;
                let to = dice.pick(&[format!("{up}{other}"), format!("{up}plain"), "/etc/passwd".to_owned()]);
                ("puts a link there, to the like of", self.link(&one, &to).await)
            }
            4 => {
                let old = dice.pick(&self.old);
                self.remove(&one).await;
                ("puts there what was, beside", copy_all(old.as_ref(), &one, remote, &one).await)
            }
            5 => {
                // What is a file is a link or a directory now, or the other way round.
                let _ = self.rename(&one, &hidden).await;
                let _ = remote.mkdir(&path(&one), 0o755).await;
                let name = dice.pick(&["symlink.c9r", "dir.c9r", "contents.c9r"]);
                let moved = self.rename(&hidden, &join(&one, name)).await;
                self.remove(&hidden).await;
                ("makes it another kind than", moved)
            }
            6 => {
                let to = join(&up_one(&up_one(&one)), "moved.c9r");
                ("brings it up, not", self.rename(&one, &to).await)
            }
            7 => ("changes it and not", self.change(dice, &one).await),
            _ => {
                let ids: Vec<&str> =
                    nodes.iter().map(String::as_str).filter(|node| node.ends_with("/dir.c9r")).collect();
                if ids.len() < 2 {
                    return "finds no two directories".to_owned();
                }
                let (from, to) = (join(vault, dice.pick(&ids)), join(vault, dice.pick(&ids)));
                let done = match content(remote, &from).await {
                    Ok(id) => write(remote, &to, id).await,
                    Err(error) => Err(error),
                };
                ("has one directory in two places, beside", done)
            }
        };
        format!("{one}: {what} {other}: {done:?}")
    }

    async fn change(&self, dice: &mut Dice, at: &str) -> Done {
        let remote = self.remote.as_ref();
        let mut content = content(remote, at).await?.to_vec();
        match dice.below(3) {
            0 => content.extend_from_slice(b"more"),
            1 => content.truncate(content.len() / 2),
            _ => content.iter_mut().for_each(|byte| *byte ^= 1),
        }
        write(remote, at, content.into()).await
    }
}

fn up_one(at: &str) -> String {
    at.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())
}

/// Moves a tree on a server.
pub(crate) async fn relocate(remote: &dyn Remote, from: &str, to: &str) -> Done {
    let (above, _) = to.rsplit_once('/').unwrap_or(("", to));
    for end in ends(above).into_iter().filter(|&end| end > 0) {
        remote.mkdir(&path(&above[..end]), 0o755).await?;
    }
    remote.rename(&path(from), &path(to), RenameHow::Replace).await
}
