//! A vault's password is changed, with every single message lost or refused, and the server's power lost: the vault
//! opens by one of the two passwords, always, and by the new one if that was told.

use std::sync::atomic::{AtomicUsize, Ordering};

use scaup::remote::{Remote, RemoteError, RemoteName, RemoteOpen, RemotePath, RemoteSetAttributes};
use scaup::vault::{OpenError, VaultSecret, change_password, create_vault, forget_password, open_vault};
use scaup_crypto::{CipherCombo, MasterkeyFile};
use scaup_fakes::{Fault, MemoryRemote, MemoryServer, MessageKind};

use crate::kernel::{is_temporary, runtime};

pub(crate) const OLD: &str = "the old password";
pub(crate) const NEW: &str = "the new password";
pub(crate) const MASTERKEY: &str = "masterkey.cryptomator";
pub(crate) const CONFIG: &str = "vault.cryptomator";
const MODE: u16 = 0o640;

pub(crate) fn at(name: &str) -> RemotePath {
    RemotePath::root().join(&RemoteName::parse(name.as_bytes()).unwrap())
}

/// A server with a vault, whose password is the old one, and the vault's recovery key, which opens it without the work
/// that a password takes.
pub(crate) async fn vault(format: u32) -> (MemoryServer, VaultSecret) {
    let (server, root) = (MemoryServer::default(), RemotePath::root());
    let remote = MemoryRemote::connect(&server);
    create_vault(remote.as_ref(), &root, OLD, CipherCombo::SivCtrMac, 220).await.unwrap();
    let cryptor = open_vault(remote.as_ref(), &root, &VaultSecret::password(OLD)).await.unwrap();
    if format == 7 {
        let file = MasterkeyFile::create(cryptor.masterkey(), OLD, 7).unwrap();
        server.set_content(&at(MASTERKEY), &file).unwrap();
        remote.remove(&at(CONFIG)).await.unwrap();
    }
    let set = RemoteSetAttributes { mode: Some(MODE), ..RemoteSetAttributes::default() };
    remote.set_attributes(&at(MASTERKEY), set).await.unwrap();
    remote.sync_directory(&root).await.unwrap();
    (server, VaultSecret::RecoveryKey(cryptor.masterkey().clone()))
}

async fn change(remote: &MemoryRemote, secret: &VaultSecret) -> Result<RemoteName, OpenError> {
    change_password(remote, &RemotePath::root(), secret, NEW).await
}

async fn opens(server: &MemoryServer, password: &str) -> bool {
    let remote = MemoryRemote::connect(server);
    match open_vault(remote.as_ref(), &RemotePath::root(), &VaultSecret::password(password)).await {
        Ok(_) => true,
        Err(OpenError::WrongPassword { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// The messages of a change that goes well.
async fn messages(server: &MemoryServer, key: &VaultSecret) -> Vec<(MessageKind, RemotePath)> {
    let remote = MemoryRemote::connect(&server.fork());
    change(&remote, key).await.unwrap();
    remote.messages()
}

/// Fails unless the vault opens by one password, the new one if the change `is_done`.
async fn check(server: &MemoryServer, old: &[u8], is_done: bool, what: &str) {
    if server.content(&at(MASTERKEY)).unwrap() == old {
        assert!(!is_done, "{what}: it was told that the password is the new one");
    } else {
        assert!(opens(server, NEW).await, "{what}: neither password opens it");
    }
}

/// Changes the password again after a first try: what that left does not stand in the way.
async fn try_again(server: &MemoryServer, key: &VaultSecret, what: &str) {
    let remote = MemoryRemote::connect(server);
    change(&remote, key).await.unwrap_or_else(|error| panic!("{what}, tried again: {error}"));
    assert!(opens(server, NEW).await, "{what}, tried again");
}

fn every_message_fails(format: u32, fault: impl Fn() -> Fault) {
    runtime().block_on(async {
        let (server, key) = vault(format).await;
        let old = server.content(&at(MASTERKEY)).unwrap();
        let messages = messages(&server, &key).await;
        let mut known = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            let server = server.fork();
            let remote = MemoryRemote::connect(&server);
            remote.fault_at(n, fault());
            let done = change(&remote, &key).await;
            let what = format!("format {format}, message {n}, {message:?}, {:?}: {done:?}", fault());
            check(&server, &old, done.is_ok(), &what).await;
            // A second try takes its time; what matters is what the first left.
            let all = server.paths();
            let named: Vec<_> = all.iter().filter(|path| !is_temporary(path)).cloned().collect();
            let left = (named, all.len());
            if !known.contains(&left) {
                known.push(left);
                try_again(&server, &key, &what).await;
            }
        }
    });
}

#[test]
fn a_vault_opens_by_one_of_two_passwords_wherever_the_change_is_cut() {
    for format in [8, 7] {
        for applied in [false, true] {
            every_message_fails(format, || Fault::Cut { applied });
        }
    }
}

#[test]
fn a_vault_opens_by_one_of_two_passwords_whatever_the_server_refuses() {
    for (error, applied) in [
        (RemoteError::NoSpace, false),
        (RemoteError::PermissionDenied, false),
        (RemoteError::Failure("no".to_owned()), true),
    ] {
        every_message_fails(8, || Fault::Answer { error: error.clone(), applied });
    }
}

#[test]
fn a_vault_opens_by_one_of_two_passwords_if_the_server_loses_its_power() {
    runtime().block_on(async {
        let (server, key) = vault(8).await;
        let old = server.content(&at(MASTERKEY)).unwrap();
        for n in 0..=messages(&server, &key).await.len() {
            for kept in 0..3 {
                let server = server.fork();
                let remote = MemoryRemote::connect(&server);
                remote.fault_at(n, Fault::Cut { applied: true });
                let done = change(&remote, &key).await;
                // The first draw is about names, and the others are about files.
                let mut drawn = 0;
                server.power_loss(|| {
                    drawn += 1;
                    if drawn == 1 { kept & 1 > 0 } else { kept & 2 > 0 }
                });
                let what = format!("cut at message {n}, power lost, {kept} kept, {done:?}");
                check(&server, &old, done.is_ok(), &what).await;
            }
        }
    });
}

#[test]
fn what_others_changed_is_not_replaced() {
    runtime().block_on(async {
        let (server, key) = vault(8).await;
        let old = server.content(&at(MASTERKEY)).unwrap();
        let theirs = String::from_utf8(old).unwrap().replace("\"version\": 999", "\"version\": 998");
        let messages = messages(&server, &key).await;
        let of_masterkey =
            |kind| move |message: &(MessageKind, RemotePath)| *message == (kind, at(MASTERKEY));
        let read = messages.iter().position(of_masterkey(MessageKind::ReadFile)).unwrap();
        let replaced = messages.iter().rposition(|(kind, _)| *kind == MessageKind::Rename).unwrap();
        assert!(read + 8 < replaced, "{messages:?}");
        for (n, message) in messages.iter().enumerate().take(replaced).skip(read + 1) {
            let server = server.fork();
            let remote = MemoryRemote::connect(&server);
            // Somebody else changes the file just before this message.
            let (other, content, asked) = (server.clone(), theirs.clone(), AtomicUsize::new(0));
            let never = Fault::Cut { applied: true };
            remote.fault_at_one(0, never, move |_, _| {
                if asked.fetch_add(1, Ordering::Relaxed) == n {
                    other.set_content(&at(MASTERKEY), content.as_bytes()).unwrap();
                }
                false
            });
            let error = change(&remote, &key).await.unwrap_err();
            assert!(error.to_string().contains("somebody else changed"), "{n}, {message:?}: {error}");
            assert_eq!(server.content(&at(MASTERKEY)).unwrap(), theirs.as_bytes());
        }
    });
}

#[test]
fn a_backup_is_made_and_removed_again_if_the_old_password_opens_it() {
    runtime().block_on(async {
        let ((server, _), root) = (vault(8).await, RemotePath::root());
        let remote = MemoryRemote::connect(&server);
        let cryptor = open_vault(remote.as_ref(), &root, &VaultSecret::password(OLD)).await.unwrap();
        let old = server.content(&at(MASTERKEY)).unwrap();
        let backup = root.join(&change(&remote, &VaultSecret::password(OLD)).await.unwrap());
        assert_eq!(server.content(&backup).unwrap(), old);
        for path in [&backup, &at(MASTERKEY)] {
            assert_eq!(remote.stat(path).await.unwrap().mode, MODE, "{path:?}");
        }
        assert!(!opens(&server, OLD).await);

        // Beside it: what another password opens, what another vault's keys are in, a sync client's copy.
        let other = vault(8).await.0.content(&at(MASTERKEY)).unwrap();
        let strange = MasterkeyFile::create(cryptor.masterkey(), "a third password", 999).unwrap();
        let kept = [
            ("masterkey.cryptomator.00000001.bkup", &strange),
            ("masterkey.cryptomator.00000002.bkup", &other),
            ("masterkey (conflicted copy).cryptomator", &old),
            ("notes.bkup", &old),
        ];
        let removed = [("masterkey.cryptomator.00000003.bkup", &old)];
        for (name, content) in kept.iter().chain(&removed) {
            let file = remote.open(&at(name), RemoteOpen::CreateByUmask).await.unwrap();
            file.write_at(0, bytes::Bytes::copy_from_slice(content)).await.unwrap();
        }
        let copies = forget_password(remote.as_ref(), &root, &cryptor, OLD).await.unwrap();
        assert_eq!(copies.removed.len(), 2, "{copies:?}");
        let left: Vec<String> = copies
            .left
            .iter()
            .map(|(name, why)| format!("{}: {why}", String::from_utf8_lossy(name.as_bytes())))
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.iter().any(|left| left.contains("00000002.bkup: it holds the keys of another vault")));
        assert!(left.iter().any(|left| left.contains("(conflicted copy).cryptomator: it is no backup")));
        for (name, _) in kept {
            assert!(server.content(&at(name)).is_ok(), "{name}");
        }
        assert_eq!(server.content(&backup).unwrap_err(), RemoteError::NotFound);
        assert!(opens(&server, NEW).await);
    });
}

#[test]
fn a_backup_that_is_none_is_not_replaced() {
    runtime().block_on(async {
        let (server, key) = vault(8).await;
        let backup =
            RemotePath::root().join(&change(&MemoryRemote::connect(&server.fork()), &key).await.unwrap());
        let remote = MemoryRemote::connect(&server);
        let file = remote.open(&backup, RemoteOpen::CreateByUmask).await.unwrap();
        file.write_at(0, bytes::Bytes::from_static(b"something else")).await.unwrap();
        let error = change(&remote, &key).await.unwrap_err();
        assert!(error.to_string().contains(".bkup is not the backup"), "{error}");
        assert!(opens(&server, OLD).await);
        assert_eq!(server.content(&backup).unwrap(), b"something else");
    });
}
