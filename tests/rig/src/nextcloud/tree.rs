//! Files, folders, trash, unfinished uploads and everything else that the server remembers.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::STORED;
use super::faults::{Fault, Request};
use super::flow::{Flow, Session};
use super::settings::{Personality, Settings, Version};
use super::shares::Link;

/// A file's content on the disk; gone with the last who needs it.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

impl Drop for Blob {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file or a folder.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: u64,
    /// None: a folder.
    pub(super) blob: Option<Arc<Blob>>,
    pub(super) mtime: i64,
    pub(super) etag: String,
    pub(super) upload_time: i64,
    pub(super) checksum: Option<String>,
    pub(super) properties: BTreeMap<(String, String), String>,
    pub(super) lock: Option<String>,
}

impl Node {
    pub(super) fn is_folder(&self) -> bool {
        self.blob.is_none()
    }

    pub(super) fn size(&self) -> u64 {
        self.blob.as_ref().map_or(0, |blob| blob.size)
    }
}

/// What was deleted, with all that was in it. The key of `nodes` is the path below it, empty for itself.
#[derive(Debug)]
pub(super) struct Trashed {
    pub(super) name: String,
    pub(super) original: String,
    pub(super) deleted: i64,
    pub(super) nodes: BTreeMap<String, Node>,
}

/// A chunked upload that was begun.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) begun: i64,
    pub(super) parts: BTreeMap<String, Part>,
}

/// A part of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) blob: Arc<Blob>,
    pub(super) mtime: i64,
    pub(super) etag: String,
}

/// One account.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) display_name: String,
    /// By path: "" is the root, others begin with a slash.
    pub(super) tree: BTreeMap<String, Node>,
    pub(super) trash: Vec<Trashed>,
    pub(super) uploads: BTreeMap<String, Upload>,
}

/// A password of one device.
#[derive(Clone, Debug)]
pub(super) struct AppPassword {
    pub(super) user: String,
    pub(super) secret: String,
    pub(super) device: String,
}

/// All that the server knows.
pub(super) struct State {
    pub(super) version: Version,
    pub(super) settings: Settings,
    pub(super) url: String,
    /// Where it is installed on its host: empty, or as `/nextcloud`.
    pub(super) prefix: String,
    pub(super) directory: PathBuf,
    pub(super) instance: String,
    pub(super) days: i32,
    pub(super) users: BTreeMap<String, User>,
    pub(super) app_passwords: Vec<AppPassword>,
    pub(super) links: Vec<Link>,
    pub(super) shares_made: Vec<i64>,
    pub(super) wrong_logins: Vec<i64>,
    pub(super) flows: Vec<Flow>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) grant_at_once: bool,
    pub(super) faults: Vec<Fault>,
    pub(super) log: Vec<Request>,
    counter: u64,
}

/// Letters and digits nobody can guess.
pub(super) fn random(length: usize) -> String {
    let letters = b"ABCDEFGHJKLMNPQRSTWXYZabcdefgijkmnopqrstwxyz23456789";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).expect("there are random numbers");
    bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect()
}

impl State {
    pub(super) fn new(version: Version, url: String, prefix: String, directory: PathBuf) -> State {
        let mut state = State {
            version,
            settings: Settings::of(version),
            url,
            prefix,
            directory,
            instance: format!("oc{}", random(10).to_lowercase()),
            days: 0,
            users: BTreeMap::new(),
            app_passwords: Vec::new(),
            links: Vec::new(),
            shares_made: Vec::new(),
            wrong_logins: Vec::new(),
            flows: Vec::new(),
            sessions: BTreeMap::new(),
            grant_at_once: false,
            faults: Vec::new(),
            log: Vec::new(),
            counter: 40,
        };
        for (id, name) in [("alice", "Alice Example"), ("bob", "bob"), ("carol", "carol")] {
            let root = state.folder_node();
            let tree = BTreeMap::from([(String::new(), root)]);
            let user = User { display_name: name.to_owned(), tree, ..User::default() };
            state.users.insert(id.to_owned(), user);
        }
        state
    }

    pub(super) fn personality(&self) -> Personality {
        self.version.personality()
    }

    /// Seconds of the server's clock.
    pub(super) fn now(&self) -> i64 {
        self.timestamp().as_second()
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        Timestamp::now()
            .checked_add(SignedDuration::from_hours(24 * i64::from(self.days)))
            .expect("a test stays in the calendar")
    }

    /// Where the owner of a share is.
    pub(super) fn time_zone(&self) -> TimeZone {
        let named = self.settings.time_zone.as_ref();
        named.map_or_else(TimeZone::system, |zone| TimeZone::get(zone).expect("the time zone is known"))
    }

    /// The day it is there.
    pub(super) fn today(&self) -> jiff::civil::Date {
        self.timestamp().to_zoned(self.time_zone()).date()
    }

    /// The user that a login name means.
    pub(super) fn user_called(&self, name: &str) -> String {
        if self.settings.login_name.as_deref() == Some(name) { "alice" } else { name }.to_owned()
    }

    /// What the server believes its address to be.
    pub(super) fn believed_url(&self) -> String {
        self.settings.share_url_base.clone().unwrap_or_else(|| self.url.clone())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn blob_path(&mut self) -> PathBuf {
        let number = self.next();
        self.directory.join(format!("{number}"))
    }

    pub(super) fn blob_of(&mut self, content: &[u8]) -> Arc<Blob> {
        let path = self.blob_path();
        std::fs::write(&path, content).expect("content can be stored");
        Arc::new(Blob { path, size: content.len() as u64 })
    }

    fn folder_node(&mut self) -> Node {
        let etag = self.folder_etag();
        Node {
            id: self.next(),
            blob: None,
            mtime: self.now(),
            etag,
            upload_time: self.now(),
            checksum: None,
            properties: BTreeMap::new(),
            lock: None,
        }
    }

    /// A new one each time: a folder's changes with anything below it.
    pub(super) fn folder_etag(&mut self) -> String {
        format!("{:013x}", 0x6_b0a7_0000_0000 + self.next())
    }

    /// Made of time, id and length, as on local storage: it is no fingerprint of the content.
    pub(super) fn file_etag(&self, id: u64, mtime: i64, size: u64) -> String {
        let hash = Sha256::digest(format!("{}/{id}/{mtime}/{size}", self.instance));
        data_encoding::HEXLOWER.encode(&hash)[..32].to_owned()
    }

    pub(super) fn file_id(&self, id: u64) -> String {
        format!("{id:08}{}", self.instance)
    }

    pub(super) fn user(&self, user: &str) -> &User {
        &self.users[user]
    }

    pub(super) fn user_mut(&mut self, user: &str) -> &mut User {
        self.users.get_mut(user).expect("the login was checked")
    }

    pub(super) fn node(&self, user: &str, path: &str) -> Option<&Node> {
        self.users.get(user)?.tree.get(path)
    }

    /// Where a file or folder lies now, if it is not in the trash.
    pub(super) fn path_of(&self, user: &str, id: u64) -> Option<String> {
        self.user(user).tree.iter().find(|(_, node)| node.id == id).map(|(path, _)| path.clone())
    }

    /// Paths and nodes below a folder, all depths.
    pub(super) fn below<'a>(
        &'a self,
        user: &str,
        path: &str,
    ) -> impl Iterator<Item = (&'a String, &'a Node)> + use<'a> {
        let (from, to) = (format!("{path}/"), format!("{path}0"));
        self.user(user).tree.range(from..to)
    }

    /// Bytes of a file, or of all below a folder.
    pub(super) fn size_of(&self, user: &str, path: &str) -> u64 {
        let own = self.node(user, path).map_or(0, Node::size);
        own + self.below(user, path).map(|(_, node)| node.size()).sum::<u64>()
    }

    /// Bytes that still fit; None without a bound.
    pub(super) fn room(&self, user: &str) -> Option<u64> {
        let quota = self.settings.quota?;
        Some(quota.saturating_sub(self.size_of(user, "")))
    }

    /// All folders above have changed.
    pub(super) fn touch_above(&mut self, user: &str, path: &str) {
        let now = self.now();
        let mut above = path;
        while let Some(parent) = parent(above) {
            let etag = self.folder_etag();
            if let Some(node) = self.user_mut(user).tree.get_mut(parent) {
                node.etag = etag;
                node.mtime = now;
            }
            above = parent;
        }
    }

    pub(super) fn make_folder(&mut self, user: &str, path: &str) -> u64 {
        let node = self.folder_node();
        let id = node.id;
        self.user_mut(user).tree.insert(path.to_owned(), node);
        self.touch_above(user, path);
        id
    }

    /// Stores content; an existing file keeps its id and properties.
    pub(super) fn store(
        &mut self,
        user: &str,
        path: &str,
        blob: Arc<Blob>,
        mtime: Option<i64>,
        checksum: Option<String>,
    ) -> Node {
        let old = self.user_mut(user).tree.remove(path);
        let id = old.as_ref().map_or_else(|| self.next(), |node| node.id);
        let mtime = mtime.unwrap_or_else(|| self.now());
        let node = Node {
            id,
            etag: self.file_etag(id, mtime, blob.size),
            blob: Some(blob),
            mtime,
            upload_time: self.now(),
            checksum,
            properties: old.as_ref().map(|node| node.properties.clone()).unwrap_or_default(),
            lock: old.and_then(|node| node.lock),
        };
        self.user_mut(user).tree.insert(path.to_owned(), node.clone());
        self.touch_above(user, path);
        node
    }

    /// Takes a file or folder out, with all below it.
    pub(super) fn take(&mut self, user: &str, path: &str) -> BTreeMap<String, Node> {
        let mut paths: Vec<String> = self.below(user, path).map(|(path, _)| path.clone()).collect();
        paths.push(path.to_owned());
        let tree = &mut self.user_mut(user).tree;
        let taken = paths.into_iter().filter_map(|each| {
            let node = tree.remove(&each)?;
            Some((each[path.len()..].to_owned(), node))
        });
        let taken = taken.collect();
        self.touch_above(user, path);
        taken
    }

    /// Puts what was taken to another place.
    pub(super) fn give(&mut self, user: &str, path: &str, nodes: BTreeMap<String, Node>) {
        for (below, node) in nodes {
            self.user_mut(user).tree.insert(format!("{path}{below}"), node);
        }
        self.touch_above(user, path);
    }

    /// Deletes as the web interface does.
    pub(super) fn throw_away(&mut self, user: &str, path: &str) {
        let nodes = self.take(user, path);
        let mut deleted = self.now();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let taken = |deleted| format!("{name}.d{deleted}");
        while self.user(user).trash.iter().any(|each| each.name == taken(deleted)) {
            deleted += 1;
        }
        let original = path.trim_start_matches('/').to_owned();
        let trashed = Trashed { name: taken(deleted), original, deleted, nodes };
        self.user_mut(user).trash.push(trashed);
    }
}

/// The folder something is in; None for the root.
pub(super) fn parent(path: &str) -> Option<&str> {
    path.rfind('/').map(|slash| &path[..slash])
}

/// Changes one byte in the middle.
pub(super) fn damage(path: &Path) {
    let mut file = std::fs::File::options().read(true).write(true).open(path).expect(STORED);
    let middle = file.metadata().expect(STORED).len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle)).expect(STORED);
    if file.read(&mut byte).expect(STORED) == 1 {
        file.seek(SeekFrom::Start(middle)).expect(STORED);
        file.write_all(&[byte[0] ^ 1]).expect(STORED);
    }
}
