//! A kernel in miniature: drives a [`Drive`] over memory by paths, counting look-ups as the real one does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aes_kw::{KeyInit, KwAes256};
use bytes::Bytes;
use data_encoding::BASE64;
use scaup::check::{self, Finding};
use scaup::drive::{Drive, DriveError, DriveOptions};
use scaup::remote::{RemoteName, RemotePath};
use scaup::vault::{VaultSecret, create_vault, open_vault};
use scaup_crypto::CipherCombo;
use scaup_fakes::{Delay, MemoryRemote, MemoryServer};
use scaup_fuse::Filesystem;
use scaup_fuse::filesystem::{
    Attributes, Caller, Errno, FileKind, Handle, Inode, LookupReply, OpenFlags, RenameMode, SetAttributes,
    SetTime,
};

pub const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
pub const READ: OpenFlags =
    OpenFlags { read: true, write: false, append: false, truncate: false, exclusive: false };
pub const READ_WRITE: OpenFlags = OpenFlags { write: true, ..READ };
pub const APPEND: OpenFlags = OpenFlags { append: true, ..READ_WRITE };

pub const PASSWORD: &str = "correct horse";
/// Names of 9 bytes and more are shortened in the vaults here.
pub const THRESHOLD: u32 = 36;

pub type Result<T> = std::result::Result<T, i32>;

pub fn errno(error: DriveError) -> i32 {
    Errno::from(error).0
}

/// What lies at a place of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    File { content: Bytes, mode: u16 },
    Directory { mode: u16 },
    Symlink { target: Bytes },
    Unreadable { errno: i32 },
}

/// Names that have more than one Unicode form: each in NFC, and in another form.
pub const FORMS: [(&str, &str); 4] = [
    ("\u{c4}rger", "A\u{308}rger"),
    ("x\u{323}\u{302}", "x\u{302}\u{323}"),
    ("\u{d55c}\u{ae00}.txt", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}.txt"),
    ("\u{e9} of K\u{f6}ln", "\u{e9} of Ko\u{308}ln"),
];

/// Where the tests work: the mounted directory, or a vault in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Plain,
    Gcm,
    Ctrmac,
}

impl Place {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Gcm, Self::Ctrmac];

    pub fn is_vault(self) -> bool {
        self != Self::Plain
    }

    /// The directory that the tests work in, on the server.
    pub fn root(self) -> RemotePath {
        RemotePath::parse(if self.is_vault() { b"Vault" } else { b"" }).unwrap()
    }

    /// A server of its own with this place on it, empty.
    pub fn server(self) -> MemoryServer {
        self.server_that_shortens_from(THRESHOLD)
    }

    /// The same, where the entries of a vault have at most `threshold` characters. Making a vault is slow on purpose,
    /// so each is made once.
    pub fn server_that_shortens_from(self, threshold: u32) -> MemoryServer {
        static VAULTS: [OnceLock<MemoryServer>; 4] = [const { OnceLock::new() }; 4];
        let (vault, combo) = match self {
            Self::Plain => return MemoryServer::default(),
            Self::Gcm => (0, CipherCombo::SivGcm),
            Self::Ctrmac => (1, CipherCombo::SivCtrMac),
        };
        let vault = match threshold {
            THRESHOLD => &VAULTS[vault],
            220 => &VAULTS[2 + vault],
            other => panic!("no test needs a vault with names of {other}"),
        };
        let make = || {
            let server = MemoryServer::default();
            let made = std::thread::scope(|scope| {
                let make = || {
                    let remote = MemoryRemote::connect(&server);
                    let root = self.root();
                    let making = create_vault(remote.as_ref(), &root, PASSWORD, combo, threshold);
                    tokio::runtime::Runtime::new().unwrap().block_on(making)
                };
                scope.spawn(make).join().unwrap()
            });
            made.unwrap();
            make_cheap(&server, &self.root());
            server
        };
        vault.get_or_init(make).fork()
    }
}

/// Makes a vault cheap to unlock, so that a test can mount it a thousand times.
fn make_cheap(server: &MemoryServer, root: &RemotePath) {
    let path = root.join(&RemoteName::parse(b"masterkey.cryptomator").unwrap());
    let cheap = cheap_masterkey_file(&server.content(&path).unwrap(), PASSWORD);
    server.set_content(&path, &cheap).unwrap();
}

/// Wraps a vault's keys again with the smallest `scrypt` costs. Returns the new masterkey file.
pub fn cheap_masterkey_file(file: &[u8], password: &str) -> Vec<u8> {
    let mut file: serde_json::Value = serde_json::from_slice(file).unwrap();
    let salt = BASE64.decode(file["scryptSalt"].as_str().unwrap().as_bytes()).unwrap();
    let wrapper = |log_n| {
        let mut key = [0; 32];
        let params = scrypt::Params::new(log_n, 8, 1).unwrap();
        scrypt::scrypt(password.as_bytes(), &salt, &params, &mut key).unwrap();
        KwAes256::new(&key.into())
    };
    let (costly, cheap) = (wrapper(15), wrapper(1));
    for member in ["primaryMasterKey", "hmacMasterKey"] {
        let wrapped = BASE64.decode(file[member].as_str().unwrap().as_bytes()).unwrap();
        let (mut key, mut wrapped_again) = ([0; 32], [0; 40]);
        costly.unwrap_key(&wrapped, &mut key).unwrap();
        cheap.wrap_key(&key, &mut wrapped_again).unwrap();
        file[member] = BASE64.encode(&wrapped_again).into();
    }
    file["scryptCostParam"] = 2.into();
    file.to_string().into_bytes()
}

/// What `vault check` finds on a server.
pub async fn findings(server: &MemoryServer, place: Place) -> Vec<Finding> {
    let remote = MemoryRemote::connect(server);
    let cryptor =
        Arc::new(open_vault(remote.as_ref(), &place.root(), &VaultSecret::password(PASSWORD)).await.unwrap());
    let (options, progress) = (check::CheckOptions { content: true }, check::CheckProgress::default());
    check::run(remote.as_ref(), &place.root(), &cryptor, options, &progress).await.unwrap().findings
}

pub fn options() -> DriveOptions {
    DriveOptions {
        read_only: false,
        vaults: true,
        memory: 8 << 20,
        attr_timeout: Duration::from_secs(3600),
        owner: Some((0, 0)),
        umask: 0,
        others_in_vaults: None,
        follow_outside: false,
        sync_on_close: false,
        log_names: true,
        unfinished: None,
        backs_up: false,
        without: BTreeSet::new(),
    }
}

/// Bytes in a chunk of a vault's file.
pub const CHUNK: usize = 32_768;

/// A mount of which closing a file waits for the server.
pub async fn mount(server: &MemoryServer, place: Place) -> Kernel {
    let options = DriveOptions { sync_on_close: true, ..options() };
    Kernel::mount(MemoryRemote::connect(server), place, options).await
}

pub fn in_every_place(test: impl AsyncFn(Place)) {
    for place in Place::ALL {
        runtime().block_on(test(place));
    }
}

pub fn in_every_vault(test: impl AsyncFn(Place)) {
    for place in Place::ALL.into_iter().filter(|place| place.is_vault()) {
        runtime().block_on(test(place));
    }
}

/// How long the road is where round trips are counted.
pub const ROUND_TRIP: Duration = Duration::from_millis(80);

/// The round trips that something takes.
pub async fn round_trips(work: impl Future<Output = ()>) -> u128 {
    let start = tokio::time::Instant::now();
    work.await;
    start.elapsed().as_millis() / ROUND_TRIP.as_millis()
}

/// A single-threaded runtime whose time passes only while everybody waits.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// One mount.
pub struct Kernel {
    pub drive: Arc<Drive>,
    pub remote: Arc<MemoryRemote>,
    place: Place,
    looked_up: Mutex<HashMap<Inode, u64>>,
    appending: Mutex<HashSet<Handle>>,
}

impl Kernel {
    pub async fn mount(remote: Arc<MemoryRemote>, place: Place, options: DriveOptions) -> Self {
        let drive = Drive::new(remote.clone(), options);
        let kernel = Self { drive, remote, place, looked_up: Mutex::default(), appending: Mutex::default() };
        kernel.unlock().await;
        kernel
    }

    /// From now on each message takes a [`ROUND_TRIP`].
    pub fn go_far(&self) {
        self.remote.set_delay(Some(Delay { least: ROUND_TRIP, most: ROUND_TRIP, seed: 0 }));
    }

    pub async fn unlock(&self) {
        if self.place.is_vault() {
            self.drive.unlock(&self.place.root(), &VaultSecret::password(PASSWORD)).await.unwrap();
        }
    }

    pub async fn lookup_in(&self, parent: Inode, name: &str) -> Result<Attributes> {
        match self.drive.lookup(parent, OsStr::new(name)).await.map_err(errno)? {
            LookupReply::Found(found) => {
                self.count(found.attributes.inode);
                Ok(found.attributes)
            }
            LookupReply::Missing(_) => Err(ENOENT),
        }
    }

    fn count(&self, inode: Inode) {
        *self.looked_up.lock().unwrap().entry(inode).or_default() += 1;
    }

    /// Forgets every look-up, except of what programs have open.
    pub fn forget(&self, open: &[Inode]) {
        self.looked_up.lock().unwrap().retain(|&inode, &mut count| {
            let kept = open.contains(&inode);
            if !kept {
                self.drive.forget(inode, count);
            }
            kept
        });
    }

    /// The place that the tests work in.
    pub async fn root(&self) -> Result<Inode> {
        if self.place.is_vault() {
            Ok(self.lookup_in(Inode::ROOT, "Vault").await?.inode)
        } else {
            Ok(Inode::ROOT)
        }
    }

    pub async fn lookup(&self, path: &str) -> Result<Attributes> {
        let root = self.root().await?;
        let mut at = self.drive.getattr(root, None).await.map_err(errno)?.attributes;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.lookup_in(at.inode, name).await?;
        }
        Ok(at)
    }

    /// The directory a path lies in, and its last name.
    async fn parent<'a>(&self, path: &'a str) -> Result<(Inode, &'a OsStr)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.lookup(parent).await?.inode, OsStr::new(name)))
    }

    pub async fn getattr(&self, inode: Inode) -> Result<Attributes> {
        Ok(self.drive.getattr(inode, None).await.map_err(errno)?.attributes)
    }

    pub async fn create(&self, path: &str, mode: u16) -> Result<(Inode, Handle)> {
        let (parent, name) = self.parent(path).await?;
        self.create_at(parent, name, mode).await
    }

    /// The same by a directory that a program has open, as `openat` does.
    pub async fn create_at(&self, parent: Inode, name: &OsStr, mode: u16) -> Result<(Inode, Handle)> {
        let (made, opened) =
            self.drive.create(parent, name, mode, READ_WRITE, CALLER).await.map_err(errno)?;
        self.count(made.attributes.inode);
        Ok((made.attributes.inode, opened.handle))
    }

    pub async fn open(&self, path: &str, flags: OpenFlags) -> Result<(Inode, Handle)> {
        let inode = self.lookup(path).await?.inode;
        let handle = self.drive.open(inode, flags).await.map_err(errno)?.handle;
        if flags.append {
            self.appending.lock().unwrap().insert(handle);
        }
        Ok((inode, handle))
    }

    pub async fn write(&self, (inode, handle): (Inode, Handle), offset: u64, data: &[u8]) -> Result<()> {
        let appends = self.appending.lock().unwrap().contains(&handle);
        // The kernel hands over at most 256 KiB at a time.
        for (number, piece) in data.chunks(1 << 18).enumerate() {
            let offset = offset + (number << 18) as u64;
            let piece = Bytes::copy_from_slice(piece);
            self.drive.write(inode, handle, offset, piece, appends).await.map_err(errno)?;
        }
        Ok(())
    }

    pub async fn read(&self, (inode, handle): (Inode, Handle), offset: u64, length: u32) -> Result<Bytes> {
        self.drive.read(inode, handle, offset, length).await.map_err(errno)
    }

    /// Reads to the end, as `cat` does.
    pub async fn read_all(&self, open: (Inode, Handle)) -> Result<Bytes> {
        let mut content = Vec::new();
        loop {
            let piece = self.read(open, content.len() as u64, 128 * 1024).await?;
            if piece.is_empty() {
                return Ok(content.into());
            }
            content.extend_from_slice(&piece);
        }
    }

    pub async fn truncate_open(&self, (inode, handle): (Inode, Handle), length: u64) -> Result<()> {
        let set = SetAttributes { size: Some(length), ..SetAttributes::default() };
        self.drive.setattr(inode, Some(handle), set, CALLER).await.map(|_| ()).map_err(errno)
    }

    pub async fn set(&self, path: &str, set: SetAttributes) -> Result<()> {
        let inode = self.lookup(path).await?.inode;
        self.drive.setattr(inode, None, set, CALLER).await.map(|_| ()).map_err(errno)
    }

    pub async fn truncate(&self, path: &str, length: u64) -> Result<()> {
        self.set(path, SetAttributes { size: Some(length), ..SetAttributes::default() }).await
    }

    pub async fn chmod(&self, path: &str, mode: u16) -> Result<()> {
        self.set(path, SetAttributes { mode: Some(mode), ..SetAttributes::default() }).await
    }

    pub async fn utimens(&self, path: &str, seconds: u64) -> Result<()> {
        let time = Some(SetTime::At(at(seconds)));
        self.set(path, SetAttributes { accessed: time, modified: time, ..SetAttributes::default() }).await
    }

    pub async fn flush(&self, (inode, handle): (Inode, Handle)) -> Result<()> {
        self.drive.flush(inode, handle).await.map_err(errno)
    }

    pub async fn fsync(&self, (inode, handle): (Inode, Handle)) -> Result<()> {
        self.drive.fsync(inode, handle, false).await.map_err(errno)
    }

    pub async fn release(&self, (inode, handle): (Inode, Handle)) {
        self.drive.release(inode, handle).await;
    }

    pub async fn close(&self, open: (Inode, Handle)) -> Result<()> {
        let flushed = self.flush(open).await;
        self.release(open).await;
        flushed
    }

    /// Makes or replaces a file as `open(O_CREAT | O_TRUNC)`, `write`, `close` do.
    pub async fn save(&self, path: &str, content: &[u8]) -> Result<()> {
        let open = match self.lookup(path).await {
            Ok(_) => {
                let open = self.open(path, READ_WRITE).await?;
                if let Err(error) = self.truncate_open(open, 0).await {
                    self.release(open).await;
                    return Err(error);
                }
                open
            }
            Err(ENOENT) => self.create(path, 0o644).await?,
            Err(error) => return Err(error),
        };
        let written = self.write(open, 0, content).await;
        let closed = self.close(open).await;
        written.and(closed)
    }

    pub async fn content(&self, path: &str) -> Result<Bytes> {
        let open = self.open(path, READ).await?;
        let content = self.read_all(open).await;
        self.close(open).await.and(content)
    }

    pub async fn mkdir(&self, path: &str, mode: u16) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        let made = self.drive.mkdir(parent, name, mode, CALLER).await.map_err(errno)?;
        self.count(made.attributes.inode);
        Ok(())
    }

    pub async fn symlink(&self, path: &str, target: &str) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        let made = self.drive.symlink(parent, name, OsStr::new(target), CALLER).await.map_err(errno)?;
        self.count(made.attributes.inode);
        Ok(())
    }

    pub async fn unlink(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        self.drive.unlink(parent, name).await.map_err(errno)
    }

    pub async fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.parent(path).await?;
        self.drive.rmdir(parent, name).await.map_err(errno)
    }

    pub async fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<()> {
        let (parent, name) = self.parent(from).await?;
        let (new_parent, new_name) = self.parent(to).await?;
        self.drive.rename(parent, name, new_parent, new_name, mode).await.map_err(errno)
    }

    /// What a directory lists: names, kinds, and attributes as `readdirplus` hands them out.
    pub async fn list(&self, directory: Inode) -> Result<Vec<(String, Attributes)>> {
        let handle = self.drive.opendir(directory).await.map_err(errno)?;
        let mut listed = Vec::new();
        loop {
            let offset = listed.len() as u64;
            let names = self.drive.readdir(directory, handle, offset, true).await.map_err(errno)?;
            if names.is_empty() {
                break;
            }
            for entry in names {
                self.count(entry.attributes.attributes.inode);
                listed.push((entry.name.into_string().unwrap(), entry.attributes.attributes));
            }
        }
        self.drive.releasedir(directory, handle).await;
        Ok(listed)
    }

    /// Everything below the place, with the content of files where `content` says so, as a program that walks it sees
    /// it. Listing, look-up and attributes have to agree.
    pub async fn tree(&self, content: bool) -> Result<BTreeMap<String, Seen>> {
        let mut tree = BTreeMap::new();
        let mut directories = vec![(String::new(), self.root().await?)];
        while let Some((path, directory)) = directories.pop() {
            for (name, listed) in self.list(directory).await? {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                let looked_up = self.lookup_in(directory, &name).await;
                let looked_up =
                    looked_up.unwrap_or_else(|error| panic!("{path} is listed, but look-up says {error}"));
                assert_eq!(shape(&listed), shape(&looked_up), "{path}: listing and look-up");
                let asked = self.getattr(listed.inode).await;
                let asked =
                    asked.unwrap_or_else(|error| panic!("{path} is listed, but getattr says {error}"));
                assert_eq!(shape(&listed), shape(&asked), "{path}: listing and attributes");
                let mode = listed.mode;
                let seen = match listed.kind {
                    FileKind::Directory => {
                        directories.push((path.clone(), listed.inode));
                        Seen::Directory { mode }
                    }
                    FileKind::Symlink => match self.drive.readlink(listed.inode).await {
                        Ok(target) => {
                            assert_eq!(target.len() as u64, listed.size, "{path}: length of the link");
                            Seen::Symlink { target }
                        }
                        Err(error) => Seen::Unreadable { errno: errno(error) },
                    },
                    _ if !content => Seen::File { content: Bytes::new(), mode },
                    _ => match self.content(&path).await {
                        Ok(content) => {
                            assert_eq!(content.len() as u64, listed.size, "{path}: length of the file");
                            Seen::File { content, mode }
                        }
                        Err(errno) => Seen::Unreadable { errno },
                    },
                };
                assert!(tree.insert(path.clone(), seen).is_none(), "{path} is listed twice");
            }
        }
        Ok(tree)
    }
}

fn shape(attributes: &Attributes) -> (Inode, FileKind, Option<u64>, u16) {
    let size = (attributes.kind != FileKind::Directory).then_some(attributes.size);
    (attributes.inode, attributes.kind, size, attributes.mode)
}

/// Whether a path on the server is one of what is not finished.
pub fn is_temporary(path: &RemotePath) -> bool {
    String::from_utf8_lossy(path.as_bytes()).contains(".scaup-")
}

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Content that tells where a byte of it came from.
pub fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u64).wrapping_mul(0x9e37_79b9).rotate_right(13) as u8 ^ seed).collect()
}

pub const ENOENT: i32 = 2;
pub const EIO: i32 = 5;
pub const EEXIST: i32 = 17;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const EBUSY: i32 = 16;
pub const ENOTEMPTY: i32 = 39;
