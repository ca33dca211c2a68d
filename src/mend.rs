//! Mends a vault where that takes no choice of a person (`docs/vault-care.md`).
//!
//! A [`Plan`] is made of what [`examine`](crate::check::examine) found, and shown before anything is written. Each mend
//! looks again at what it is about to change, and consists of steps that are done at once and whole: an entry is
//! renamed to a name that is free, or a file is put in place under its final name. What tells names and ids comes
//! before what depends on it, and a node last. So a cut at any point leaves everything readable that was readable, and
//! the next run does the rest. Nothing is removed: what is replaced or useless is put aside, in ciphertext, in a
//! directory beside `d`.
//!
//! `deed` lists the mends, `plan` says which finding is mended by which, `choices` why others are left. `hands` has the
//! steps that all mends are made of, `names` and `directories` the mends.

mod choices;
mod deed;
mod directories;
mod error;
mod hands;
mod names;
mod plan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use scaup_crypto::Cryptor;
use serde::Serialize;

use crate::remote::{Remote, RemoteName, RemotePath};
use deed::Deed;
use hands::{Hands, Outcome};
use plan::Fate;

pub use error::MendError;
pub use plan::{MENDED, Plan};

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// It is to be mended.
    Planned,
    /// It was mended.
    Mended,
    /// It was left as it is.
    Left,
    /// It could not be mended.
    Failed,
}

/// How far mending is; may be read at any time.
#[derive(Debug, Default)]
pub struct MendProgress {
    /// Mends that were done, or tried.
    pub done: AtomicUsize,
    /// Whether no more mends are begun.
    pub stop: AtomicBool,
}

/// What became of a finding, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// What became of it.
    pub state: Became,
    /// The steps, or why it was left, or what failed.
    pub what: String,
}

impl Plan {
    /// Returns what is to become of each finding.
    #[must_use]
    pub fn intended(&self) -> Vec<Fix> {
        let planned = |deed: &Deed| Fix { state: Became::Planned, what: deed.steps().to_owned() };
        self.fixes(|number| self.deeds.get(number).map(planned))
    }

    /// Carries the plan out. What is put aside goes to the directory `aside` in the vault.
    /// Returns what became of each finding.
    ///
    /// # Errors
    ///
    /// Only if the server can't be asked any more: what was done until then is complete, and the rest can be done by
    /// another run.
    pub async fn carry_out(
        &self,
        remote: &dyn Remote,
        vault: &RemotePath,
        cryptor: &Arc<Cryptor>,
        aside: &RemoteName,
        progress: &MendProgress,
    ) -> Result<Vec<Fix>, MendError> {
        let hands = Hands::new(remote, vault, cryptor, RemotePath::root().join(aside), &self.renamed);
        let mut order: Vec<usize> = (0..self.deeds.len()).collect();
        order.sort_by_key(|number| self.deeds.get(*number).map(Deed::rank));
        let mut became: Vec<Option<Fix>> = vec![None; self.deeds.len()];
        for number in order {
            if progress.stop.load(Ordering::Relaxed) {
                break;
            }
            let (Some(deed), Some(became)) = (self.deeds.get(number), became.get_mut(number)) else {
                continue;
            };
            *became = Some(match hands.mend(deed).await {
                Ok(Outcome::Done(more)) if more.is_empty() => {
                    Fix { state: Became::Mended, what: deed.steps().to_owned() }
                }
                Ok(Outcome::Done(more)) => {
                    Fix { state: Became::Mended, what: format!("{}: {more}", deed.steps()) }
                }
                Ok(Outcome::Left(why)) => Fix { state: Became::Left, what: why },
                Err(error) if error.is_unanswered() => return Err(error),
                Err(error) => Fix { state: Became::Failed, what: error.to_string() },
            });
            progress.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.fixes(|number| became.get(number).cloned().flatten()))
    }

    fn fixes(&self, of_deed: impl Fn(usize) -> Option<Fix>) -> Vec<Fix> {
        let fix = |fate: &Fate| match fate {
            Fate::Left(why) => Fix { state: Became::Left, what: why.clone() },
            Fate::Mended(number) => of_deed(*number)
                .unwrap_or_else(|| Fix { state: Became::Left, what: "it was interrupted".to_owned() }),
        };
        self.fates.iter().map(fix).collect()
    }
}

impl Hands<'_> {
    async fn mend(&self, deed: &Deed) -> Result<Outcome, MendError> {
        match deed {
            Deed::WriteId { content, id } => self.write_id(content, id).await,
            Deed::MakeContent { node } => self.make_content(node).await,
            Deed::CutLongName { node } => self.cut_long_name(node).await,
            Deed::Rename { entry, parent } => self.rename_entry(entry, parent).await,
            Deed::PutAside { path, what } => self.put_useless_aside(path, *what).await,
            Deed::Link { content, id } => self.link(content, id).await,
            Deed::Adopt { content } => self.adopt(content).await,
            Deed::BreakCircle { node } => self.break_circle(node).await,
        }
    }
}
