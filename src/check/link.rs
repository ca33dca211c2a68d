//! Checks one symbolic link: its content, and whether it leads out of the vault.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use scaup_crypto::CiphertextLen;

use super::base::{Check, CheckError};
use super::facts::{ClimbingLink, ContentDirectory, Parent};
use super::finding::{FindingKind, Spot};
use super::tree::DirectoryTree;
use crate::remote::{RemoteAttributes, RemotePath};
use crate::vault::climbs;

/// Longest target of a link, bytes.
const TARGET_MAX: u64 = 32_767;
/// How much of a target is shown, characters.
const TOLD_MAX: usize = 200;

impl Check<'_> {
    /// Reads a link, and finds out whether it climbs.
    pub(super) async fn check_link(
        &self,
        parent: &Parent<'_>,
        path: RemotePath,
        name: Option<String>,
        attributes: &RemoteAttributes,
    ) -> Result<Option<ClimbingLink>, CheckError> {
        let spot = Spot::node(parent.number, path.clone(), name);
        self.findings.count(|summary| summary.links += 1);
        let Some(len) = self.legal_len(&spot, CiphertextLen(attributes.size)) else { return Ok(None) };
        if len.0 > TARGET_MAX {
            self.findings.add(FindingKind::OversizedLink, spot, "");
            return Ok(None);
        }
        let most = usize::try_from(attributes.size).unwrap_or(usize::MAX);
        let stored = self.remote.read_small(&self.on_server(&path), most).await;
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => return self.unreadable(&path, spot, error).map(|()| None),
        };
        let Ok(target) = self.cryptor.decrypt_small(&stored) else {
            // The exact problem is reported by the check of all content, if that was requested.
            if self.options.content {
                self.authenticate(&path, attributes, spot).await?;
            }
            return Ok(None);
        };
        let told: String = String::from_utf8_lossy(&target).chars().take(TOLD_MAX).collect();
        let detail = format!("it leads to {told}");
        match climbs(Path::new(OsStr::from_bytes(&target))) {
            Some(0) => Ok(None),
            Some(climbs) => Ok(Some(ClimbingLink { spot, climbs, detail })),
            None => {
                self.findings.add(FindingKind::LinkLeadsOut, spot, detail);
                Ok(None)
            }
        }
    }

    /// Records the links that climb further than their directories are deep.
    pub(super) fn judge_links(&self, directories: &[ContentDirectory], tree: &DirectoryTree) {
        for (number, directory) in directories.iter().enumerate() {
            let depth = tree.depth(number).unwrap_or(0);
            for link in directory.links.iter().filter(|link| link.climbs > depth) {
                self.findings.add(FindingKind::LinkLeadsOut, link.spot.clone(), &link.detail);
            }
        }
    }
}
