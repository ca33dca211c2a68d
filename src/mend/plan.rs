//! The plan: what is done about each finding, or why it is left.

use std::collections::{HashMap, HashSet};

use scaup_crypto::{Cryptor, DirectoryId};

use super::choices::{WITHOUT_ROOT, choices};
use super::deed::{Deed, Useless};
use super::error::MendError;
use crate::check::{Examination, Finding, FindingKind};
use crate::remote::{Remote, RemotePath};
use crate::vault::temporary::{self, directory_of};
use crate::vault::{DIRECTORY_ID_MAX, content_path};

/// The kinds of findings that are mended without a choice.
pub const MENDED: [FindingKind; 17] = [
    FindingKind::MissingDirectoryIdBackup,
    FindingKind::WrongDirectoryIdBackup,
    FindingKind::MissingContentDirectory,
    FindingKind::OrphanDirectory,
    FindingKind::EmptyOrphan,
    FindingKind::TrailingBytesInLongName,
    FindingKind::LongNameMismatch,
    FindingKind::MissingLongName,
    FindingKind::UndecodableLongName,
    FindingKind::ObeseLongName,
    FindingKind::UnshowableName,
    FindingKind::UncanonicalName,
    FindingKind::EmptyNode,
    FindingKind::UnknownNodeType,
    FindingKind::LooseDirectoryFile,
    FindingKind::DirectoryLoop,
    FindingKind::DirectoryCircle,
];

/// Longest directory id that Cryptomator reads, bytes.
const ID_LEN: usize = 36;

/// What becomes of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is mended by the deed of this number.
    Mended(usize),
    /// It is left, and why.
    Left(String),
}

/// What is done about the findings of a check.
#[derive(Debug)]
pub struct Plan {
    pub(super) deeds: Vec<Deed>,
    /// By finding.
    pub(super) fates: Vec<Fate>,
    /// Content directories that a sync client has renamed.
    pub(super) renamed: HashSet<RemotePath>,
}

impl Plan {
    /// Returns whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deeds.is_empty()
    }

    /// Returns how many mends there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.deeds.len()
    }

    /// Plans what is done about the findings of the kinds `wanted`, or of all if there are none. Only reads.
    ///
    /// # Errors
    ///
    /// If the server can't be asked any more.
    pub async fn of(
        examined: &Examination,
        wanted: &[FindingKind],
        remote: &dyn Remote,
        vault: &RemotePath,
        cryptor: &Cryptor,
    ) -> Result<Self, MendError> {
        let findings = &examined.report.findings;
        let root = content_path(&RemotePath::root(), cryptor, &DirectoryId::root());
        let mut planner = Planner {
            ids: examined.ids.clone(),
            orphans: of_kinds(findings, &[FindingKind::OrphanDirectory, FindingKind::EmptyOrphan]),
            of_no_id: of_kinds(findings, &[FindingKind::ObeseDirectoryId])
                .iter()
                .filter_map(|path| Some(path.split()?.0))
                .collect(),
            hidden: HashSet::new(),
            has_root: !findings.iter().any(|finding| finding.kind == FindingKind::MissingRoot),
            cryptor,
        };
        planner.hidden = findings
            .iter()
            .filter(|finding| finding.kind == FindingKind::Leftover)
            .filter_map(|finding| directory_of(finding.at.split()?.1.as_bytes()))
            // Where the fate is the node's alone, the content has another name, or is an orphan.
            .filter(|(_, fate)| *fate != temporary::Fate::Alone)
            .map(|(id, _)| content_path(&RemotePath::root(), cryptor, &id))
            .collect();
        for loose in findings.iter().filter(|finding| finding.kind == FindingKind::LooseDirectoryFile) {
            planner.learn_from(remote, &vault.below(&loose.at), &root).await?;
        }
        let mut deeds: Vec<Deed> = Vec::new();
        let mut fates = Vec::new();
        for finding in findings {
            let is_wanted = wanted.is_empty() || wanted.contains(&finding.kind);
            let planned = if is_wanted { planner.deed(finding) } else { Err("not asked for".to_owned()) };
            fates.push(match planned {
                Err(why) => Fate::Left(why),
                Ok(deed) => {
                    let known = deeds.iter().position(|known| *known == deed);
                    Fate::Mended(known.unwrap_or_else(|| {
                        deeds.push(deed);
                        deeds.len() - 1
                    }))
                }
            });
        }
        let renamed = of_kinds(findings, &[FindingKind::ConflictedContent]);
        Ok(Self { deeds, fates, renamed }.with_what_goes_along(findings))
    }

    /// What lies in a content directory that is emptied goes with it.
    fn with_what_goes_along(mut self, findings: &[Finding]) -> Self {
        let emptied: HashMap<&RemotePath, usize> = (self.deeds.iter().enumerate())
            .filter_map(|(number, deed)| match deed {
                Deed::Adopt { content } => Some((content, number)),
                Deed::PutAside { path, what: Useless::EmptyOrphan } => Some((path, number)),
                _ => None,
            })
            .collect();
        for (fate, finding) in self.fates.iter_mut().zip(findings) {
            if let Fate::Left(_) = fate
                && MENDED.contains(&finding.kind)
                && let Some(number) = content_of(&finding.at).and_then(|content| emptied.get(&content))
            {
                *fate = Fate::Mended(*number);
            }
        }
        self
    }
}

fn of_kinds(findings: &[Finding], kinds: &[FindingKind]) -> HashSet<RemotePath> {
    let wanted = findings.iter().filter(|finding| kinds.contains(&finding.kind));
    wanted.map(|finding| finding.at.clone()).collect()
}

/// Returns the content directory that a path lies in, or is.
fn content_of(path: &RemotePath) -> Option<RemotePath> {
    let mut end = path.as_bytes().iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let end = end.nth(2).unwrap_or(path.as_bytes().len());
    RemotePath::parse(path.as_bytes().get(..end)?)
}

struct Planner<'a> {
    /// By content directory.
    ids: HashMap<RemotePath, DirectoryId>,
    orphans: HashSet<RemotePath>,
    /// Content directories whose nodes an unfinished operation has hidden.
    hidden: HashSet<RemotePath>,
    /// Nodes whose `dir.c9r` holds what can't be an id.
    of_no_id: HashSet<RemotePath>,
    has_root: bool,
    cryptor: &'a Cryptor,
}

impl Planner<'_> {
    /// Notes the id of an orphan that a `dir.c9r` outside a node holds.
    async fn learn_from(
        &mut self,
        remote: &dyn Remote,
        path: &RemotePath,
        root: &RemotePath,
    ) -> Result<(), MendError> {
        let stored = match remote.read_small(path, DIRECTORY_ID_MAX).await {
            Ok(stored) => stored,
            Err(error) if error.is_unanswered() => return Err(MendError::of(path)(error)),
            Err(_) => return Ok(()),
        };
        if let Ok(id) = DirectoryId::parse(&stored) {
            let content = content_path(&RemotePath::root(), self.cryptor, &id);
            if content != *root && self.orphans.contains(&content) {
                self.ids.entry(content).or_insert(id);
            }
        }
        Ok(())
    }

    /// Returns what is done about a finding, or why it is left.
    fn deed(&self, finding: &Finding) -> Result<Deed, String> {
        use FindingKind as Kind;
        let at = finding.at.clone();
        let put_aside = |what| Ok(Deed::PutAside { path: at.clone(), what });
        let needs_root = || if self.has_root { Ok(()) } else { Err(WITHOUT_ROOT.to_owned()) };
        match finding.kind {
            Kind::MissingDirectoryIdBackup | Kind::WrongDirectoryIdBackup => {
                let content = content_of(&at).ok_or("it lies nowhere")?;
                match self.ids.get(&content) {
                    Some(id) => Ok(Deed::WriteId { content, id: id.clone() }),
                    None => Err("nothing tells which directory this is".to_owned()),
                }
            }
            Kind::MissingContentDirectory if self.of_no_id.contains(&at) => {
                Err("the id in its dir.c9r can't be right".to_owned())
            }
            Kind::MissingContentDirectory => Ok(Deed::MakeContent { node: at }),
            Kind::TrailingBytesInLongName => Ok(Deed::CutLongName { node: at }),
            Kind::LongNameMismatch
            | Kind::MissingLongName
            | Kind::UndecodableLongName
            | Kind::ObeseLongName
            | Kind::UncanonicalName => self.rename(at),
            // Where it is not a long name, nobody knows whose it is.
            Kind::UnshowableName if at.as_bytes().ends_with(b".c9s") => self.rename(at),
            Kind::EmptyNode => put_aside(Useless::EmptyNode),
            Kind::UnknownNodeType => put_aside(Useless::NoNode),
            Kind::DirectoryLoop => put_aside(Useless::Loop),
            Kind::LooseDirectoryFile => put_aside(Useless::LooseFile),
            Kind::OrphanDirectory | Kind::EmptyOrphan if self.hidden.contains(&at) => {
                Err("an interrupted Scaup has begun something with it, which a mount on its machine finishes"
                    .to_owned())
            }
            Kind::EmptyOrphan => put_aside(Useless::EmptyOrphan),
            Kind::OrphanDirectory => {
                needs_root()?;
                match self.ids.get(&at).filter(|id| id.as_bytes().len() <= ID_LEN) {
                    Some(id) => Ok(Deed::Link { content: at, id: id.clone() }),
                    None => Ok(Deed::Adopt { content: at }),
                }
            }
            Kind::DirectoryCircle => {
                needs_root()?;
                Ok(Deed::BreakCircle { node: at })
            }
            kind => Err(choices(kind).unwrap_or(kind.advice()).to_owned()),
        }
    }

    fn rename(&self, entry: RemotePath) -> Result<Deed, String> {
        let parent = content_of(&entry).and_then(|content| self.ids.get(&content));
        let parent = parent.cloned().ok_or("nothing tells which directory it lies in")?;
        Ok(Deed::Rename { entry, parent })
    }
}
