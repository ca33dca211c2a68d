//! A vault's files are restored, with every single message lost or refused, and the server's power lost: what was there
//! is there still, always, and a second try finishes.

use std::sync::atomic::AtomicU64;

use scaup::remote::{Remote, RemoteError, RemotePath};
use scaup::vault::{FoundFiles, OpenError, VaultSecret, open_vault};
use scaup_fakes::{Fault, MemoryRemote, MemoryServer};

use crate::kernel::{is_temporary, runtime};
use crate::passwd::{CONFIG, MASTERKEY, NEW, at, vault};

const FILES: [&str; 2] = [MASTERKEY, CONFIG];

async fn restore(remote: &MemoryRemote, key: &VaultSecret) -> Result<(), OpenError> {
    let files = FoundFiles::read(remote, &RemotePath::root()).await?;
    let restoration = files.plan(remote, key, &AtomicU64::new(0)).await?;
    restoration.carry_out(remote, Some(NEW)).await.map(drop)
}

/// A vault whose two files are missing, or damaged.
async fn lost(are_damaged: bool) -> (MemoryServer, VaultSecret) {
    let (server, key) = vault(8).await;
    let remote = MemoryRemote::connect(&server);
    for file in FILES.map(at) {
        match are_damaged {
            true => {
                let content = server.content(&file).unwrap();
                server.set_content(&file, &content[..content.len() / 2]).unwrap();
            }
            false => remote.remove(&file).await.unwrap(),
        }
    }
    remote.sync_directory(&RemotePath::root()).await.unwrap();
    (server, key)
}

/// The files beside the vault's data.
fn beside(server: &MemoryServer) -> Vec<(RemotePath, Vec<u8>)> {
    let paths = server.paths().into_iter().filter(|path| !path.as_bytes().contains(&b'/'));
    paths.filter_map(|path| Some((path.clone(), server.content(&path).ok()?))).collect()
}

async fn messages(server: &MemoryServer, key: &VaultSecret) -> usize {
    let remote = MemoryRemote::connect(&server.fork());
    restore(&remote, key).await.unwrap();
    remote.messages().len()
}

/// Fails unless all that was there `before` is there; then restores what is not restored yet.
async fn check(
    (server, key): (&MemoryServer, &VaultSecret),
    before: &[(RemotePath, Vec<u8>)],
    (is_done, what): (bool, &str),
    seen: &mut Vec<(Vec<RemotePath>, [bool; 2])>,
) {
    let now = beside(server);
    for (path, content) in before {
        let is_its = |(other, kept): &(RemotePath, Vec<u8>)| {
            other.as_bytes().starts_with(path.as_bytes()) && kept == content
        };
        assert!(now.iter().any(is_its), "{what}: {path:?} is lost");
    }
    let is_new = FILES.map(|file| now.iter().any(|it| it.0 == at(file) && !before.contains(it)));
    assert!(!is_done || is_new == [true; 2], "{what}: it was told that it is done");
    let named = now.iter().map(|(path, _)| path).filter(|path| !is_temporary(path)).cloned().collect();
    let state = (named, is_new);
    if seen.contains(&state) {
        return;
    }
    seen.push(state);
    let (remote, root) = (MemoryRemote::connect(server), RemotePath::root());
    restore(&remote, key).await.unwrap_or_else(|error| panic!("{what}, tried again: {error}"));
    let opened = open_vault(remote.as_ref(), &root, &VaultSecret::password(NEW)).await;
    let cryptor = opened.unwrap_or_else(|error| panic!("{what}, tried again: {error}"));
    let VaultSecret::RecoveryKey(masterkey) = key else { panic!("a recovery key") };
    assert!(cryptor.masterkey().is(masterkey));
}

fn every_message_fails(fault: impl Fn() -> Fault) {
    runtime().block_on(async {
        for are_damaged in [false, true] {
            let (server, key) = lost(are_damaged).await;
            let (before, mut seen) = (beside(&server), Vec::new());
            for n in 0..messages(&server, &key).await {
                let server = server.fork();
                let remote = MemoryRemote::connect(&server);
                remote.fault_at(n, fault());
                let done = restore(&remote, &key).await;
                let what = format!("damaged: {are_damaged}, message {n}, {:?}: {done:?}", fault());
                check((&server, &key), &before, (done.is_ok(), &what), &mut seen).await;
            }
            assert!(seen.iter().any(|(_, is_new)| *is_new == [true, false]), "{seen:?}");
        }
    });
}

#[test]
fn what_was_there_is_there_wherever_restoring_is_cut() {
    for applied in [false, true] {
        every_message_fails(|| Fault::Cut { applied });
    }
}

#[test]
fn what_was_there_is_there_whatever_the_server_refuses_while_it_restores() {
    every_message_fails(|| Fault::Answer { error: RemoteError::NoSpace, applied: false });
}

#[test]
fn what_was_there_is_there_if_the_server_loses_its_power_while_it_restores() {
    runtime().block_on(async {
        let (server, key) = lost(true).await;
        let (before, mut seen) = (beside(&server), Vec::new());
        for n in 0..=messages(&server, &key).await {
            for kept in 0..3 {
                let server = server.fork();
                let remote = MemoryRemote::connect(&server);
                remote.fault_at(n, Fault::Cut { applied: true });
                let done = restore(&remote, &key).await;
                let mut drawn = 0;
                server.power_loss(|| {
                    drawn += 1;
                    if drawn == 1 { kept & 1 > 0 } else { kept & 2 > 0 }
                });
                let what = format!("cut at message {n}, power lost, {kept} kept, {done:?}");
                check((&server, &key), &before, (done.is_ok(), &what), &mut seen).await;
            }
        }
    });
}
