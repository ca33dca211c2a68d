//! Reads the settings for one host from configuration files: blocks that hold for it, and included files.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::error::{Origin, SshConfigError};
use super::keywords::{self, Treatment};
use super::lines::{ConfigLine, lines, words};
use super::machine::Machine;
use super::tokens::{Form, Tokens};
use super::values::{NeverDone, Values};

/// Deepest chain of Include files.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Most files that are read for one host: they could include each other many times over.
const FILES_MAX: usize = 4096;

/// Reads files, one after the other, for one host.
pub(super) struct Reader<'a> {
    machine: &'a dyn Machine,
    context: &'a Context<'a>,
    values: &'a mut Values,
    /// Whether this is the second reading of all files, for `Match final`.
    is_final: bool,
    /// Whether there was a `Match final`.
    pub(super) wants_final: bool,
    read: usize,
}

/// A file that is being read.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a Path,
    /// The directory that its relative Includes begin at.
    base: &'a Path,
    /// Whether its lines can hold: not if it is included below a `Host` that does not.
    can_hold: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        machine: &'a dyn Machine,
        context: &'a Context<'a>,
        values: &'a mut Values,
        is_final: bool,
    ) -> Self {
        Self { machine, context, values, is_final, wants_final: false, read: 0 }
    }

    /// Reads a file; returns `false` if there is none. Its relative Includes begin at `base`.
    pub(super) fn read(
        &mut self,
        file: &Path,
        is_checked: bool,
        base: &Path,
    ) -> Result<bool, SshConfigError> {
        self.read_at(Place { file, base, can_hold: true, depth: 0 }, is_checked)
    }

    fn read_at(&mut self, place: Place<'_>, is_checked: bool) -> Result<bool, SshConfigError> {
        self.read += 1;
        if place.depth > INCLUDE_DEPTH_MAX || self.read > FILES_MAX {
            return Err(SshConfigError::TooManyIncludes { path: place.file.to_owned() });
        }
        let Some(text) = self.machine.read(place.file, is_checked)? else { return Ok(false) };
        let mut holds = place.can_hold;
        for line in lines(&text) {
            let origin = Origin::Line(place.file.to_owned(), line.number);
            let Some(keyword) = keywords::find(line.keyword) else {
                if self.is_ignored(line.keyword) {
                    continue;
                }
                return Err(SshConfigError::Unknown { origin, keyword: line.keyword.to_owned() });
            };
            match (keyword.name, keyword.treatment) {
                ("Host", _) => {
                    let patterns = self.words(&line, &origin, keyword.name)?;
                    let patterns = patterns.iter().map(String::as_str);
                    // With regard to case, as `ssh` does here, and not in `Match`; the second time it takes the name
                    // that it connects to.
                    let host = if self.is_final {
                        self.values.host_name(self.context.original_host)
                    } else {
                        self.context.original_host.to_owned()
                    };
                    holds = place.can_hold && matches_list(&host, patterns);
                }
                ("Match", _) => {
                    let conditions = self.words(&line, &origin, keyword.name)?;
                    holds = place.can_hold && self.matches(&conditions, &line, &origin)?;
                }
                ("Include", _) => {
                    for pattern in self.words(&line, &origin, keyword.name)? {
                        self.include(&pattern, Place { can_hold: holds, depth: place.depth + 1, ..place })?;
                    }
                }
                (_, Treatment::NeverDone(reason))
                    if holds && keyword.refusal_as_option(line.value).is_some() =>
                {
                    self.values.never_done.push(NeverDone { origin, keyword: keyword.name, reason });
                }
                (_, Treatment::NeverDone(_) | Treatment::WithoutEffect(_)) => {}
                _ if holds => self.values.add(keyword, line.value, &origin)?,
                _ => {}
            }
        }
        Ok(true)
    }

    fn include(&mut self, pattern: &str, place: Place<'_>) -> Result<(), SshConfigError> {
        let pattern = include_pattern(pattern, place.base, &self.context.home);
        for file in self.machine.matching(&pattern) {
            // A missing file counts as empty.
            self.read_at(Place { file: &file, ..place }, true)?;
        }
        Ok(())
    }

    /// Returns the words of a line that needs at least one.
    fn words(
        &self,
        line: &ConfigLine<'_>,
        origin: &Origin,
        keyword: &'static str,
    ) -> Result<Vec<String>, SshConfigError> {
        words(line.value).filter(|words| !words.is_empty()).ok_or_else(|| SshConfigError::Value {
            origin: origin.clone(),
            keyword,
            value: line.value.to_owned(),
        })
    }

    fn is_ignored(&self, keyword: &str) -> bool {
        let patterns = self.values.get("IgnoreUnknown");
        patterns.is_some_and(|patterns| matches_hosts(keyword, patterns.split(',')))
    }

    /// Evaluates `Match`: all conditions have to hold.
    ///
    /// A condition that Scaup can't evaluate, such as a network that this machine is in, is an error only if all others
    /// hold: the lines below may say which keys to trust.
    fn matches(
        &mut self,
        conditions: &[String],
        line: &ConfigLine<'_>,
        origin: &Origin,
    ) -> Result<bool, SshConfigError> {
        let invalid = || SshConfigError::Value {
            origin: origin.clone(),
            keyword: "Match",
            value: line.value.to_owned(),
        };
        let (mut holds, mut undecided) = (true, None);
        let mut words = conditions.iter();
        while let Some(word) = words.next() {
            let (is_negated, word) =
                word.strip_prefix('!').map_or((false, word.as_str()), |word| (true, word));
            let (criterion, behind) =
                word.split_once('=').map_or((word, None), |(word, value)| (word, Some(value)));
            let criterion = criterion.to_ascii_lowercase();
            match criterion.as_str() {
                // No further condition may follow it.
                "all" if !is_negated && words.len() > 0 => return Err(invalid()),
                "all" => {
                    holds &= !is_negated;
                    continue;
                }
                "canonical" | "final" => {
                    self.wants_final |= criterion == "final";
                    holds &= self.is_final != is_negated;
                    continue;
                }
                _ => {}
            }
            let patterns = behind.or_else(|| words.next().map(String::as_str)).ok_or_else(invalid)?;
            let host = self.values.host_name(self.context.original_host);
            let found = match criterion.as_str() {
                "host" => matches_hosts(&host, patterns.split(',')),
                "originalhost" => matches_hosts(self.context.original_host, patterns.split(',')),
                "user" => {
                    let user = self.values.get("User").unwrap_or(&self.context.local_user);
                    matches_list(user, patterns.split(','))
                }
                "localuser" => matches_list(&self.context.local_user, patterns.split(',')),
                "tagged" => matches_list(self.values.get("Tag").unwrap_or_default(), patterns.split(',')),
                "exec" => {
                    let command = self.expanded(patterns, origin)?;
                    // It is run only if it decides.
                    if !holds || undecided.is_some() {
                        continue;
                    }
                    let succeeds = self.machine.succeeds(&command);
                    succeeds.map_err(|source| SshConfigError::Command {
                        origin: origin.clone(),
                        command,
                        source,
                    })?
                }
                "localnetwork" | "version" | "sessiontype" | "command" => {
                    undecided = Some(criterion);
                    continue;
                }
                _ => return Err(invalid()),
            };
            holds &= found != is_negated;
        }
        match undecided {
            Some(criterion) if holds => Err(SshConfigError::Match { origin: origin.clone(), criterion }),
            _ => Ok(holds),
        }
    }

    /// Returns the command of a `Match exec`.
    fn expanded(&self, command: &str, origin: &Origin) -> Result<String, SshConfigError> {
        let expanded = Tokens::so_far(self.context, self.values).expand(command, Form::Command);
        expanded.map_err(|source| SshConfigError::Expansion {
            origin: origin.clone(),
            keyword: "Match exec",
            value: command.to_owned(),
            source,
        })
    }
}

fn matches_list<'a>(text: &str, patterns: impl Iterator<Item = &'a str>) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if scaup_sftp::ssh::matches_pattern(text, negated) => return false,
            Some(_) => {}
            None => found |= scaup_sftp::ssh::matches_pattern(text, pattern),
        }
    }
    found
}

/// Matches without regard to case.
pub(super) fn matches_hosts<'a>(text: &str, patterns: impl Iterator<Item = &'a str>) -> bool {
    let patterns: Vec<String> = patterns.map(str::to_lowercase).collect();
    matches_list(&text.to_lowercase(), patterns.iter().map(String::as_str))
}

/// Returns the pattern (glob(7)) of the files that an Include names: relative to `base`.
fn include_pattern(pattern: &str, base: &Path, home: &Path) -> String {
    let below = |directory: &Path, pattern: &str| {
        format!("{}/{pattern}", glob::Pattern::escape(&directory.to_string_lossy()))
    };
    let mut pattern = match pattern.strip_prefix("~/") {
        Some(pattern) => below(home, pattern),
        None if pattern.starts_with('/') => pattern.to_owned(),
        None => below(base, pattern),
    };
    // Two stars mean the same as one; to the library they would be directories at any depth.
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    pattern
}

/// Returns the user's own directory of `ssh`.
pub(super) fn user_directory(home: &Path) -> PathBuf {
    home.join(".ssh")
}

/// Returns the hosts that a file, and those that it includes, name without patterns.
pub(super) fn host_names(
    machine: &dyn Machine,
    file: &Path,
    home: &Path,
) -> Result<Vec<String>, SshConfigError> {
    match machine.read(file, false)? {
        Some(text) => Ok(host_names_in(machine, &text, home, 0)),
        None => {
            Err(SshConfigError::File { path: file.to_owned(), source: std::io::ErrorKind::NotFound.into() })
        }
    }
}

fn host_names_in(machine: &dyn Machine, text: &str, home: &Path, depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    // The hosts that the lines apply to. Behind a Match it may be any host.
    let mut about = vec!["*".to_owned()];
    for line in lines(text) {
        let words = words(line.value).unwrap_or_default();
        match line.keyword.to_ascii_lowercase().as_str() {
            "host" => {
                names.extend(words.iter().filter(|name| !name.contains(['*', '?', '!'])).cloned());
                about = words;
            }
            "match" => about = vec!["*".to_owned()],
            "include" if depth < INCLUDE_DEPTH_MAX => {
                let patterns = words.iter().map(|word| include_pattern(word, &user_directory(home), home));
                let included: Vec<PathBuf> =
                    patterns.flat_map(|pattern| machine.matching(&pattern)).collect();
                for file in included {
                    // A file that is missing or not readable counts as empty.
                    let Ok(Some(text)) = machine.read(&file, true) else { continue };
                    let found = host_names_in(machine, &text, home, depth + 1);
                    let is_meant = |name: &String| matches_list(name, about.iter().map(String::as_str));
                    names.extend(found.into_iter().filter(is_meant));
                }
            }
            _ => {}
        }
    }
    names
}
