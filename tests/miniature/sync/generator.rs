//! Random vaults, random edits at two ends, the models of all clients, random work on what they leave.
//!
//! `SYNC_GAMES` asks for more games, `SYNC_SEED` for others: with `SYNC_GAMES=1`, for one alone. `SYNC_COUNT=1` goes on
//! after a failure, and counts at the end how often each kind of failure was met, with the seeds of the first;
//! `SYNC_KIND` looks for those kinds alone that begin so, `SYNC_CLIENT` plays the games of one client only.

use std::collections::BTreeMap;

use super::game::{Game, Played};
use crate::kernel::runtime;
use scaup_rig::dice::from_environment;

/// How many games are played where nobody asks for more.
const GAMES: u64 = 400;

fn text(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn play(game: &Game) -> Played {
    runtime().block_on(game.play())
}

fn play_games(apart: bool) {
    let (seed, games) = (from_environment("SYNC_SEED", 1), from_environment("SYNC_GAMES", GAMES));
    let (kind, client) = (text("SYNC_KIND"), text("SYNC_CLIENT"));
    let counts = from_environment("SYNC_COUNT", 0) == 1;
    let mut kinds: BTreeMap<String, Vec<(u64, &str)>> = BTreeMap::new();
    let (mut played, mut failed, mut met) = (0, 0, 0);
    let those = (seed..seed + games).map(|seed| Game::of(seed, apart));
    for game in those.filter(|game| client.is_empty() || game.client.name == client) {
        let Played { mut failures, met: has_met } = play(&game);
        failures.retain(|failure| failure.kind.starts_with(&kind));
        if !counts && let Some(first) = failures.first() {
            let seed = game.seed;
            let shortest = game.shrink(&first.kind, play);
            let again = play(&shortest).failures.into_iter().find(|failure| failure.kind == first.kind);
            let failure = again.as_ref().unwrap_or(first);
            panic!("SYNC_SEED={seed} SYNC_GAMES=1, made as short as it still fails:\n{failure}");
        }
        played += 1;
        failed += u64::from(!failures.is_empty());
        met += u64::from(has_met);
        for failure in failures {
            kinds.entry(failure.kind).or_default().push((game.seed, game.client.name));
        }
    }
    // Not each edit meets another one; where the ends are apart, none does.
    let is_dull = if apart { met > 0 } else { met < played / 6 };
    assert!(played < 100 || !is_dull, "dull games: of {played}, clients left copies in {met}");
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, seeds)| std::cmp::Reverse(seeds.len()));
    let lines = kinds.iter().map(|(kind, seeds)| {
        let first = seeds.iter().take(6).map(|(seed, client)| format!("{seed} {client}"));
        format!("{:5}  {kind}: {}", seeds.len(), first.collect::<Vec<_>>().join(", "))
    });
    let lines: Vec<String> = lines.collect();
    assert!(kinds.is_empty(), "of {played} games (copies in {met}), {failed} failed:\n{}", lines.join("\n"));
}

#[test]
fn whatever_a_client_leaves_is_shown_or_told_of_and_work_destroys_nothing_beside_it() {
    play_games(false);
}

#[test]
fn what_two_ends_changed_in_different_places_is_all_there_and_nothing_has_to_be_told() {
    play_games(true);
}
