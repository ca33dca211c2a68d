//! What the adversary has found, each in a test of its own.

use std::time::Duration;

use scaup::drive::DriveOptions;
use scaup::remote::{Remote as _, RenameHow};
use scaup_fakes::MemoryRemote;
use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::{Inode, RenameMode};
use scaup_rig::within;

use super::attacker::path;
use super::programs::CANARY;
use crate::kernel::{self, EINVAL, EIO, ENOENT, Kernel, in_every_place, in_every_vault};

#[test]
fn a_locked_vaults_server_is_not_asked_for_names_that_programs_still_know() {
    in_every_vault(async |place| {
        let server = place.server();
        let kernel = kernel::mount(&server, place).await;
        let (file, directory) = (format!("{CANARY}file"), format!("{CANARY}directory"));
        kernel.save(&file, b"saved").await.unwrap();
        kernel.mkdir(&directory, 0o755).await.unwrap();
        kernel.drive.lock(&place.root()).await.unwrap();
        server.watch_for(CANARY.as_bytes());
        for name in [&file, &directory, &format!("{directory}/{file}"), &format!("{CANARY}never there")] {
            assert_eq!(kernel.lookup(name).await.map(drop), Err(ENOENT), "{place:?}: {name}");
        }
        assert_eq!(server.seen(), Vec::<String>::new(), "{place:?}: in clear to the server");
    });
}

#[test]
fn a_bound_vault_that_is_missing_is_never_said_not_to_exist() {
    in_every_vault(async |place| {
        // What this mount makes in the same directory makes an answer to a look-up that is under way older than what is
        // known.
        for halves_before in 0..8 {
            let server = place.server();
            let options = DriveOptions { attr_timeout: Duration::ZERO, ..kernel::options() };
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
            let attacker = MemoryRemote::connect(&server);
            attacker.rename(&place.root(), &path("elsewhere"), RenameHow::Replace).await.unwrap();
            kernel.go_far();
            let make = kernel.drive.mkdir(Inode::ROOT, "made".as_ref(), 0o755, kernel::CALLER);
            let look = async {
                tokio::time::sleep(kernel::ROUND_TRIP / 2 * halves_before + Duration::from_millis(1)).await;
                kernel.lookup_in(Inode::ROOT, "Vault").await
            };
            let (made, looked) = futures::join!(make, look);
            made.map(drop).unwrap();
            assert_eq!(
                looked.map(drop),
                Err(EIO),
                "{place:?}, {halves_before} half round trips after a mkdir"
            );
        }
    });
}

#[test]
fn a_directory_moved_into_itself_is_refused() {
    // A drive that walks a circle never comes back.
    within(Duration::from_secs(60), || {
        in_every_place(async |place| {
            let kernel = kernel::mount(&place.server(), place).await;
            kernel.mkdir("a", 0o755).await.unwrap();
            kernel.mkdir("a/b", 0o755).await.unwrap();
            for to in ["a/c", "a/b/c", "a/b"] {
                let renamed = kernel.rename("a", to, RenameMode::Replace).await;
                assert_eq!(renamed, Err(EINVAL), "{place:?}: to {to}");
            }
            kernel.save("a/b/file", b"reached").await.unwrap();
            assert_eq!(kernel.content("a/b/file").await, Ok(b"reached".as_slice().into()), "{place:?}");
        });
    });
}
