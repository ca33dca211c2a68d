//! What a request to mount means for the drive and for the kernel.

use std::sync::Arc;

use scaup_fuse::MountOptions;
use scaup_sftp::text::visible;

use super::protocol::MountRequest;
use crate::config::paths;
use crate::drive::DriveOptions;

/// Returns the options of the drive.
pub(super) fn drive_options(request: &MountRequest) -> DriveOptions {
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (settings, options) = (&request.settings, &request.login.settings.options);
    let owner = (options.uid.unwrap_or(own.0), options.gid.unwrap_or(own.1));
    let unfinished = paths::unfinished().inspect_err(|error| {
        tracing::warn!(%error, "operations that a kill interrupts are only found in directories that are listed");
    });
    let unfinished = unfinished.ok().map(Arc::new);
    DriveOptions {
        read_only: is_read_only(request),
        vaults: !settings.no_vaults,
        memory: settings.budget(),
        attr_timeout: settings.belief(),
        owner: (!options.server_owners.unwrap_or(false)).then_some(owner),
        umask: options.umask.unwrap_or(0),
        others_in_vaults: options.allow_other.then(|| 0o077 & !options.umask.unwrap_or(0o077)),
        follow_outside: settings.follow_outside,
        sync_on_close: settings.sync_on_close,
        log_names: settings.log_names,
        unfinished,
        backs_up: !settings.no_backup,
        without: options.without.clone(),
    }
}

/// Returns the options of the mount, as the kernel gets them.
pub(super) fn mount_options(request: &MountRequest) -> MountOptions {
    let (settings, options) = (&request.settings, &request.login.settings.options);
    MountOptions {
        // The name appears in the output of `mount` and `df`.
        fsname: visible(&options.fsname.clone().unwrap_or_else(|| request.login.target.to_string())),
        subtype: options.subtype.clone().unwrap_or_else(|| "sshfs".to_owned()),
        read_only: is_read_only(request),
        allow_other: options.allow_other,
        default_permissions: true,
        exec: !options.no_exec,
        // Larger requests cost less each, but programs may write to any number of files at once, and each such file has
        // one request in memory.
        max_write: u32::try_from(settings.budget() / 2048).unwrap_or(u32::MAX).clamp(8 * 1024, 256 * 1024),
        log_names: settings.log_names,
    }
}

fn is_read_only(request: &MountRequest) -> bool {
    request.settings.read_only || request.login.settings.options.read_only
}
