//! One game: a vault, two ends that are edited while they are apart, a client that merges them, and everyday work on
//! what it left.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use scaup::check::{Finding, FindingKind, Severity};
use scaup::drive::DriveOptions;
use scaup_fakes::{MemoryRemote, MemoryServer};

use super::clients::{CLIENTS, Client};
use super::edits::{Edit, End, Versions, edits, making};
use super::merge::{Tree, merge};
use super::on_server::{Reader, apply, changes, read};
use super::shown::{Model, Shown, Thing, contents, title, walk};
use super::work::{LONG_ENOUGH, Step, Work, steps};
use crate::kernel::{Kernel, Place, THRESHOLD, findings, options};
use scaup_rig::dice::Dice;

/// What was not held.
pub(crate) struct Failure {
    /// The same for all failures that are alike.
    pub(crate) kind: String,
    what: String,
    /// What was done before, and what lies on the server.
    told: String,
}

impl Failure {
    pub(crate) fn new(kind: &str, what: impl ToString) -> Self {
        Self { kind: kind.to_owned(), what: what.to_string(), told: String::new() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}\n{}", self.kind, self.what, self.told)
    }
}

/// What is done in a game, all of it: the same game is played again as often as one likes.
#[derive(Clone)]
pub(crate) struct Game {
    pub(crate) seed: u64,
    pub(crate) client: &'static Client,
    place: Place,
    threshold: u32,
    /// The ends change different directories: the client meets no conflict.
    apart: bool,
    /// The mount was there before the client, and somebody looks at it while the client works.
    looks_meanwhile: bool,
    pub(crate) making: Vec<Edit>,
    pub(crate) ends: [Vec<Edit>; 2],
    pub(crate) steps: Vec<Step>,
}

/// How a game ended.
pub(crate) struct Played {
    /// Everything that was not held, the first of each kind.
    pub(crate) failures: Vec<Failure>,
    /// Whether the client left a name that no end had given.
    pub(crate) met: bool,
}

/// The directories of ends that are apart.
const APART: [&str; 2] = ["here", "there"];

pub(crate) async fn mount(server: &MemoryServer, place: Place) -> Kernel {
    let options = DriveOptions { attr_timeout: LONG_ENOUGH / 3, sync_on_close: true, ..options() };
    Kernel::mount(MemoryRemote::connect(server), place, options).await
}

impl Game {
    pub(crate) fn draw(seed: u64, client: &'static Client, apart: bool) -> Self {
        let mut dice = Dice::new(seed);
        let hot = !apart && !dice.one_in(4);
        Self {
            seed,
            client,
            place: if dice.one_in(3) { Place::Ctrmac } else { Place::Gcm },
            threshold: if dice.one_in(3) { 220 } else { THRESHOLD },
            apart,
            looks_meanwhile: dice.one_in(4),
            making: making(&mut dice),
            ends: [edits(&mut dice, hot), edits(&mut dice, hot)],
            steps: steps(&mut dice),
        }
    }

    pub(crate) async fn play(&self) -> Played {
        let (mut log, mut found, mut met) = (Vec::new(), Vec::new(), false);
        let server = self.place.server_that_shortens_from(self.threshold);
        let played = self.play_on(&server, &mut log, &mut found, &mut met).await;
        found.extend(played.err());
        let mut told = format!(
            "seed {}, {}, {:?}, threshold {}, apart: {}, looks meanwhile: {}\n",
            self.seed, self.client.name, self.place, self.threshold, self.apart, self.looks_meanwhile
        );
        for line in &log {
            let _ = writeln!(told, "  {line}");
        }
        let mut kinds = BTreeSet::new();
        found.retain(|failure| kinds.insert(failure.kind.clone()));
        let failures = found.into_iter().map(|failure| Failure { told: told.clone(), ..failure }).collect();
        Played { failures, met }
    }

    async fn play_on(
        &self,
        server: &MemoryServer,
        log: &mut Vec<String>,
        found: &mut Vec<Failure>,
        met: &mut bool,
    ) -> Result<(), Failure> {
        let first = mount(server, self.place).await;
        self.make(&first, log).await?;
        let base = read(server, self.place);
        let (mut servers, mut kernels, mut trees) = (Vec::new(), Vec::new(), Vec::new());
        for (number, edits) in self.ends.iter().enumerate() {
            let server = server.fork();
            server.pass(LONG_ENOUGH);
            let kernel = mount(&server, self.place).await;
            let versions = Versions::new(1000 * (1 + number as u32), ["one end", "the other end"][number]);
            let below = if self.apart { APART[number] } else { "" };
            act(&kernel, versions, below, edits, log).await?;
            // What was removed goes from the server a moment later.
            kernel.drive.save_all().await;
            trees.push(read(&server, self.place));
            servers.push(server);
            kernels.push(kernel);
        }
        let mut reader = Reader::open(server, self.place).await;
        let labels = reader.labels([&base, &trees[0], &trees[1]]);
        let chance = |path: &str| {
            let mut hasher = DefaultHasher::new();
            (self.seed, labels.get(path)).hash(&mut hasher);
            Dice::new(hasher.finish())
        };
        let merged = merge(&base, [&trees[0], &trees[1]], self.client, &chance);
        *met = merged.tree.keys().any(|path| trees.iter().all(|end| !end.contains_key(path)));
        sound(&mut reader, &base, [&trees[0], &trees[1]], &merged.tree, &merged.stuck)?;
        let changes = changes(&trees[0], &merged.tree, &chance);
        let server = servers.swap_remove(0);
        server.pass(LONG_ENOUGH);
        let kernel = if self.looks_meanwhile {
            let kernel = kernels.swap_remove(0);
            let (some, rest) = changes.split_at(chance("").below(changes.len() + 1));
            apply(&server, self.place, some).await?;
            tokio::time::sleep(LONG_ENOUGH).await;
            // What is shown now is half of it.
            let _ = walk(&kernel).await;
            apply(&server, self.place, rest).await?;
            tokio::time::sleep(LONG_ENOUGH).await;
            kernel
        } else {
            apply(&server, self.place, &changes).await?;
            mount(&server, self.place).await
        };
        log.push("after the client, on the server:".to_owned());
        log.extend(lies(&read(&server, self.place), &mut reader));
        let held = self.hold(&server, kernel, &base, &mut reader, log, found).await;
        if held.is_err() {
            log.push("at the end, on the server:".to_owned());
            log.extend(lies(&read(&server, self.place), &mut reader));
        }
        held
    }

    async fn make(&self, kernel: &Kernel, log: &mut Vec<String>) -> Result<(), Failure> {
        if !self.apart {
            return act(kernel, Versions::new(0, "the vault"), "", &self.making, log).await;
        }
        for (number, below) in APART.into_iter().enumerate() {
            kernel.mkdir(below, 0o755).await.map_err(|errno| Failure::new("mkdir", errno))?;
            let making = &self.making[number * self.making.len() / 2..(number + 1) * self.making.len() / 2];
            act(kernel, Versions::new(500 * number as u32, "the vault"), below, making, log).await?;
        }
        Ok(())
    }

    /// What has to be held of what the client left, and of the work on it.
    async fn hold(
        &self,
        server: &MemoryServer,
        kernel: Kernel,
        base: &Tree,
        reader: &mut Reader,
        log: &mut Vec<String>,
        found: &mut Vec<Failure>,
    ) -> Result<(), Failure> {
        let facts = reader.facts(&read(server, self.place));
        let shown = walk(&kernel).await?;
        log.push("after the client, the mount shows:".to_owned());
        log.extend(shown.iter().map(|(path, thing)| format!("  {path} ({thing:?})")));
        tokio::time::sleep(LONG_ENOUGH).await;
        self.told(server, &kernel, &shown, reader, found).await;
        for (path, thing) in &shown {
            match thing {
                Thing::Fails { is_directory: true, .. } if facts.without_content > 0 => {}
                Thing::Fails { .. } => found.push(Failure::new(&format!("a {thing:?}"), path)),
                _ => {}
            }
        }
        self.check(server, &shown, reader, found).await;
        if facts.circle {
            // Paths that never end: nobody's work, and not this game's.
            return Ok(());
        }
        let before = reader.lying(base);
        let is_new = |thing: &Thing| match thing {
            Thing::File(content) | Thing::Link(content) => !before.contains_key(content),
            _ => true,
        };
        let touched = shown.iter().filter(|(_, thing)| is_new(thing)).map(|(path, _)| path.clone()).collect();
        let versions = Versions::new(5000, "work");
        let same = if facts.ids_twice.is_empty() { Vec::new() } else { same(&kernel, &shown).await? };
        let mut work = Work {
            server,
            place: self.place,
            reader,
            model: Model::new(shown, same),
            kernels: vec![kernel],
            active: 0,
            versions,
            touched,
            names_differ: self.looks_meanwhile,
            apart: self.apart,
            log: Vec::new(),
        };
        let done = match work.act(&self.steps).await {
            Ok(()) => work.end().await,
            Err(failure) => Err(failure),
        };
        log.push("work:".to_owned());
        log.append(&mut work.log);
        done?;
        let (shown, kernel) = (work.model.shown, work.kernels.swap_remove(0));
        self.told(server, &kernel, &shown, reader, found).await;
        self.check(server, &shown, reader, found).await;
        Ok(())
    }

    /// Whatever lies on the server is shown, or `vault check` names the place where it lies.
    async fn told(
        &self,
        server: &MemoryServer,
        kernel: &Kernel,
        shown: &Shown,
        reader: &mut Reader,
        found: &mut Vec<Failure>,
    ) {
        let (tree, findings) = (read(server, self.place), findings(server, self.place).await);
        let shown = contents(shown);
        for (content, paths) in reader.lying(&tree) {
            if shown.contains_key(content.as_slice()) || paths.iter().all(|path| is_unfinished(path)) {
                continue;
            }
            let around: Vec<String> = paths.iter().flat_map(|path| reader.around(&tree, path)).collect();
            if !is_told(&findings, &[paths.clone(), around].concat()) {
                let how: BTreeSet<&str> = paths.iter().map(|path| reader.how(&tree, path)).collect();
                let how = how.into_iter().collect::<Vec<_>>().join(" and ");
                let what = format!("{:?} lies at {paths:?}", title(&content));
                found.push(Failure::new(&format!("neither shown nor told of: {how}"), what));
            }
        }
        let errors = kernel.drive.errors();
        if self.apart && !errors.is_empty() {
            found.push(Failure::new("told of something where nothing is", format!("{errors:#?}")));
        }
    }

    /// `vault check` says nothing worse than what lies there, and says what is not shown.
    async fn check(
        &self,
        server: &MemoryServer,
        shown: &Shown,
        reader: &mut Reader,
        found: &mut Vec<Failure>,
    ) {
        let tree = read(server, self.place);
        let (facts, lying) = (reader.facts(&tree), reader.lying(&tree));
        let findings = findings(server, self.place).await;
        for finding in findings.iter().filter(|finding| finding.severity == Severity::Critical) {
            if !facts.explain(finding.kind) {
                found.push(Failure::new(&format!("check finds {:?}", finding.kind), format!("{finding:?}")));
            }
        }
        let shown = contents(shown);
        let warns = findings.iter().any(|finding| finding.severity >= Severity::Warning);
        for (content, paths) in &lying {
            let what = || format!("{:?} at {paths:?}: {findings:?}", title(content));
            if !shown.contains_key(content.as_slice()) && !warns {
                found.push(Failure::new("check does not warn of what is not shown", what()));
            }
            for path in paths.iter().filter(|path| !is_unfinished(path) && !reader.is_canonical(&tree, path))
            {
                // That something is no part of the vault is not said of what somebody saved.
                let around = reader.around(&tree, path);
                let names_it = |finding: &Finding| {
                    let of = &finding.path;
                    finding.kind != FindingKind::Stray
                        && (of == path || around.contains(of) || path.starts_with(&format!("{of}/")))
                };
                if !findings.iter().any(names_it) {
                    let how = reader.how(&tree, path);
                    found.push(Failure::new(&format!("check does not name it: {how}"), what()));
                }
            }
        }
        if self.apart && findings.iter().any(|finding| finding.severity > Severity::Info) {
            found.push(Failure::new("check finds something where nothing is", format!("{findings:#?}")));
        }
    }
}

/// Does what can be done of these edits.
async fn act(
    kernel: &Kernel,
    versions: Versions,
    below: &'static str,
    edits: &[Edit],
    log: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut end = End { kernel, versions, below, log: Vec::new() };
    let done = end.act(edits).await;
    log.append(&mut end.log);
    done?;
    let unsaved = kernel.drive.save_all().await;
    if unsaved.is_none() {
        Ok(())
    } else {
        Err(Failure::new("something is not saved", format!("{unsaved:?}")))
    }
}

/// The client itself loses nothing that an end made: a test of the model of it.
fn sound(
    reader: &mut Reader,
    base: &Tree,
    ends: [&Tree; 2],
    merged: &Tree,
    stuck: &BTreeSet<String>,
) -> Result<(), Failure> {
    let (before, after) = (reader.lying(base), reader.lying(merged));
    for end in ends {
        for (content, paths) in reader.lying(end) {
            let is_stuck = paths.iter().any(|path| {
                stuck
                    .iter()
                    .any(|stuck| stuck.is_empty() || path == stuck || path.starts_with(&format!("{stuck}/")))
            });
            if !before.contains_key(&content) && !after.contains_key(&content) && !is_stuck {
                return Err(Failure::new("the client's model loses a version", title(&content)));
            }
        }
    }
    Ok(())
}

/// Whether a client has not finished this file: it is not yet part of the vault.
fn is_unfinished(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
}

/// Whether a finding that a person has to look at names one of these places, or a directory that it lies in.
fn is_told(findings: &[Finding], paths: &[String]) -> bool {
    let serious = findings.iter().filter(|finding| finding.severity >= Severity::Warning);
    serious
        .map(|finding| &finding.path)
        .any(|place| paths.iter().any(|path| path == place || path.starts_with(&format!("{place}/"))))
}

/// Directories that are one: what is put into one of them is seen in the others.
async fn same(kernel: &Kernel, shown: &Shown) -> Result<Vec<BTreeSet<String>>, Failure> {
    let mut same: Vec<BTreeSet<String>> = Vec::new();
    for (path, _) in shown.iter().filter(|(_, thing)| **thing == Thing::Directory) {
        if same.iter().any(|same| same.contains(path)) {
            continue;
        }
        let probe = format!("{path}/probe");
        kernel.save(&probe, b"a probe").await.map_err(|errno| Failure::new("a file can't be made", errno))?;
        tokio::time::sleep(LONG_ENOUGH).await;
        let seen = walk(kernel).await?;
        let paths = seen.keys().filter_map(|path| path.strip_suffix("/probe").map(str::to_owned));
        same.push(paths.collect());
        kernel.unlink(&probe).await.map_err(|errno| Failure::new("a file can't be removed", errno))?;
        tokio::time::sleep(LONG_ENOUGH).await;
    }
    same.retain(|same| same.len() > 1);
    Ok(same)
}

/// What lies on the server, one line each.
fn lies(tree: &Tree, reader: &mut Reader) -> Vec<String> {
    let lying = reader.lying(tree);
    let lines = tree.iter().filter(|(path, _)| path.starts_with("d/")).map(|(path, node)| match node {
        super::merge::Node::Directory => format!("  {path}/"),
        super::merge::Node::File(_) => {
            let what =
                lying.iter().find(|(_, paths)| paths.contains(path)).map(|(content, _)| title(content));
            format!("  {path}  {}", what.unwrap_or_default())
        }
    });
    lines.collect()
}

impl Game {
    /// The smallest game that fails in the same way, as far as leaving out one thing after the other finds it.
    pub(crate) fn shrink(self, kind: &str, fails: impl Fn(&Game) -> Played) -> Game {
        let mut game = self;
        let mut smaller = true;
        while smaller {
            smaller = false;
            for list in 0..4 {
                let mut at = 0;
                while at < game.len(list) {
                    let mut less = game.clone();
                    less.leave_out(list, at);
                    if fails(&less).failures.iter().any(|failure| failure.kind == kind) {
                        game = less;
                        smaller = true;
                    } else {
                        at += 1;
                    }
                }
            }
        }
        game
    }

    fn len(&self, list: usize) -> usize {
        [self.steps.len(), self.ends[0].len(), self.ends[1].len(), self.making.len()][list]
    }

    fn leave_out(&mut self, list: usize, at: usize) {
        match list {
            0 => {
                self.steps.remove(at);
            }
            1 | 2 => {
                self.ends[list - 1].remove(at);
            }
            _ => {
                self.making.remove(at);
            }
        }
    }

    /// A game of which client, from a seed: clients take turns.
    pub(crate) fn of(seed: u64, apart: bool) -> Self {
        let clients = CLIENTS.len() as u64;
        Self::draw(seed, &CLIENTS[usize::try_from(seed % clients).unwrap()], apart)
    }
}
