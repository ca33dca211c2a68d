//! A vault is upgraded to format 8, with every single message lost or refused, and the server's power lost: the vault
//! opens by its password, always, and a second try finishes.

use scaup::remote::{RemoteError, RemotePath};
use scaup::vault::{OpenError, VaultSecret, is_before_format_8, open_vault, upgrade_vault};
use scaup_crypto::MasterkeyFile;
use scaup_fakes::{Fault, MemoryRemote, MemoryServer};

use crate::kernel::runtime;
use crate::passwd::{CONFIG, MASTERKEY, OLD as PASSWORD, at, vault};

async fn upgrade(server: &MemoryServer, fault: Option<(usize, Fault)>) -> Result<(), OpenError> {
    let remote = MemoryRemote::connect(server);
    if let Some((n, fault)) = fault {
        remote.fault_at(n, fault);
    }
    upgrade_vault(remote.as_ref(), &RemotePath::root(), PASSWORD).await.map(drop)
}

/// The number of messages of an upgrade that goes well.
async fn messages(server: &MemoryServer) -> usize {
    let remote = MemoryRemote::connect(&server.fork());
    upgrade_vault(remote.as_ref(), &RemotePath::root(), PASSWORD).await.unwrap();
    remote.messages().len()
}

/// Fails unless the vault opens by its password; then finishes the upgrade.
async fn check(server: &MemoryServer, is_done: bool, what: &str, seen: &mut Vec<(bool, u32)>) {
    // Opening takes its time: states that were seen before are not tried again.
    let has_config = server.content(&at(CONFIG)).is_ok();
    let version = MasterkeyFile::parse(&server.content(&at(MASTERKEY)).unwrap()).unwrap().version();
    let state = (has_config, version);
    let root = RemotePath::root();
    let remote = MemoryRemote::connect(server);
    let is_before = is_before_format_8(remote.as_ref(), &root).await.unwrap();
    assert!(!(is_done && is_before), "{what}: it was told that it is done");
    if seen.contains(&state) {
        return;
    }
    seen.push(state);
    let opened = open_vault(remote.as_ref(), &root, &VaultSecret::password(PASSWORD)).await;
    opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    if is_before {
        upgrade(server, None).await.unwrap_or_else(|error| panic!("{what}, tried again: {error}"));
    }
    let cryptor = open_vault(remote.as_ref(), &root, &VaultSecret::password(PASSWORD)).await.unwrap();
    assert_eq!(cryptor.config().format, 8, "{what}");
    assert!(!is_before_format_8(remote.as_ref(), &root).await.unwrap());
}

fn every_message_fails(fault: impl Fn() -> Fault) {
    runtime().block_on(async {
        let (server, _) = vault(7).await;
        let mut seen = Vec::new();
        for n in 0..messages(&server).await {
            let server = server.fork();
            let done = upgrade(&server, Some((n, fault()))).await;
            let what = format!("message {n}, {:?}: {done:?}", fault());
            check(&server, done.is_ok(), &what, &mut seen).await;
        }
        assert!([(false, 7), (true, 7)].iter().all(|state| seen.contains(state)), "{seen:?}");
    });
}

#[test]
fn a_vault_opens_by_its_password_wherever_its_upgrade_is_cut() {
    for applied in [false, true] {
        every_message_fails(|| Fault::Cut { applied });
    }
}

#[test]
fn a_vault_opens_by_its_password_whatever_the_server_refuses_of_its_upgrade() {
    every_message_fails(|| Fault::Answer { error: RemoteError::NoSpace, applied: false });
}

#[test]
fn a_vault_opens_by_its_password_if_the_server_loses_its_power_in_an_upgrade() {
    runtime().block_on(async {
        let (server, _) = vault(7).await;
        let mut seen = Vec::new();
        for n in 0..=messages(&server).await {
            for kept in 0..3 {
                let server = server.fork();
                let done = upgrade(&server, Some((n, Fault::Cut { applied: true }))).await;
                let mut drawn = 0;
                server.power_loss(|| {
                    drawn += 1;
                    if drawn == 1 { kept & 1 > 0 } else { kept & 2 > 0 }
                });
                let what = format!("cut at message {n}, power lost, {kept} kept, {done:?}");
                check(&server, done.is_ok(), &what, &mut seen).await;
            }
        }
    });
}
