//! Programs that walk trees, each in its own order: what is listed ahead for them is what they come to, and costs
//! little where it is not. Over memory, where time passes only while everybody waits, so that it counts the round
//! trips.

use std::collections::VecDeque;
use std::time::Duration;

use scaup::config::parts::OptionalPart;
use scaup::drive::DriveOptions;
use scaup_fakes::{MemoryRemote, MemoryServer, MessageKind};
use scaup_fuse::filesystem::{FileKind, Inode};

use crate::kernel::{Kernel, Place, ROUND_TRIP, options, runtime};
use scaup_rig::dice::{Dice, from_environment};

/// The order in which a program enters the directories of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// What lies below goes first, by name: `find`, `ls -R`, `rm -r`.
    Name,
    /// By inode number: `cp -r`.
    Number,
    /// By name, as another alphabet sorts: neighbours change their places.
    Alphabet,
    /// All of a level before the next.
    Breadth,
    /// One in three directories is passed over, with all below it.
    Pruning,
    /// In no order at all.
    Chance,
}

impl Order {
    const ALL: [Self; 6] =
        [Self::Name, Self::Number, Self::Alphabet, Self::Breadth, Self::Pruning, Self::Chance];

    /// Whether it can be foreseen where the program goes.
    fn is_foreseeable(self) -> bool {
        !matches!(self, Self::Pruning | Self::Chance)
    }
}

/// A tree of so many directories, at most five levels deep, each with a file; returns how many levels it has.
async fn grow(server: &MemoryServer, place: Place, directories: usize, dice: &mut Dice) -> usize {
    let filling = Kernel::mount(MemoryRemote::connect(server), place, options()).await;
    // Beside it, and before it in every order by name.
    for beside in 0..10 {
        filling.mkdir(&format!("a{beside}"), 0o755).await.unwrap();
        for number in 0..5 {
            filling.mkdir(&format!("a{beside}/{number}"), 0o755).await.unwrap();
        }
    }
    filling.mkdir("tree", 0o755).await.unwrap();
    let mut grown = vec![("tree".to_owned(), 1)];
    let mut levels = 1;
    // From all in one directory to long branches.
    let spread = 1 + dice.below(directories);
    for number in 0..directories {
        let (above, level) = grown[dice.below(grown.len().min(spread))].clone();
        let (above, level) = if level < 5 { (above, level) } else { grown[0].clone() };
        let directory = format!("{above}/{}{number}", ["x", "b", "M"][dice.below(3)]);
        filling.mkdir(&directory, 0o755).await.unwrap();
        filling.save(&format!("{directory}/file"), b"").await.unwrap();
        levels = levels.max(level + 1);
        grown.push((directory, level + 1));
    }
    filling.drive.save_all().await;
    server.pass(Duration::from_secs(10));
    levels
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// In the tree, which has others beside it.
    Tree,
    /// In the mounted directory: a vault lies below it, whose encrypted files nobody sees.
    Mount,
}

/// Walks a tree; returns how many directories were entered.
async fn walk(kernel: &Kernel, from: From, order: Order, seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let top = match from {
        From::Tree => kernel.lookup("tree").await.unwrap().inode,
        From::Mount => Inode::ROOT,
    };
    let mut coming: VecDeque<(Inode, Option<(Inode, String)>)> = VecDeque::from([(top, None)]);
    let mut entered = 0;
    while let Some((directory, named)) = coming.pop_front() {
        if let Some((above, name)) = named {
            assert_eq!(kernel.lookup_in(above, &name).await.unwrap().inode, directory);
        }
        entered += 1;
        let listed = kernel.list(directory).await;
        let listed =
            listed.unwrap_or_else(|error| panic!("{order:?}: {error} for the {entered}th directory"));
        let mut below: Vec<(Inode, String)> = listed
            .into_iter()
            .filter(|(_, attributes)| attributes.kind == FileKind::Directory)
            .map(|(name, attributes)| (attributes.inode, name))
            .collect();
        below.sort_by(|a, b| a.1.cmp(&b.1));
        match order {
            Order::Name | Order::Breadth => {}
            Order::Number => below.sort_by_key(|(inode, _)| inode.0),
            Order::Alphabet => {
                (1..below.len()).filter(|_| dice.one_in(3)).for_each(|at| below.swap(at - 1, at))
            }
            Order::Pruning => below.retain(|_| !dice.one_in(3)),
            Order::Chance => (1..below.len()).for_each(|at| below.swap(at, dice.below(at + 1))),
        }
        let below = below.into_iter().map(|(inode, name)| (inode, Some((directory, name))));
        if order == Order::Breadth {
            coming.extend(below);
        } else {
            below.rev().for_each(|child| coming.push_front(child));
        }
    }
    entered
}

/// What a walk on a fresh mount costs.
struct Cost {
    entered: usize,
    round_trips: u128,
    messages: usize,
}

async fn cost(
    server: &MemoryServer,
    (place, from): (Place, From),
    order: Order,
    seed: u64,
    ahead: bool,
) -> Cost {
    let without = if ahead { [].into() } else { [OptionalPart::ListAhead].into() };
    let options = DriveOptions { attr_timeout: Duration::from_secs(5), without, ..options() };
    let kernel = Kernel::mount(MemoryRemote::connect(server), place, options).await;
    kernel.go_far();
    // What was listed for the unlocking is not believed any more.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (before, start) = (kernel.remote.messages().len(), tokio::time::Instant::now());
    let entered = walk(&kernel, from, order, seed).await;
    let round_trips = start.elapsed().as_millis() / ROUND_TRIP.as_millis();
    // What is under way ahead counts, too.
    tokio::time::sleep(20 * ROUND_TRIP).await;
    Cost { entered, round_trips, messages: kernel.remote.messages().len() - before }
}

#[test]
fn a_walk_costs_little_more_than_what_it_enters_whatever_its_order() {
    let seed = from_environment("WALK_SEED", 1);
    for game in 0..from_environment("WALK_GAMES", 8) {
        let seed = seed + game;
        runtime().block_on(async {
            let mut dice = Dice::new(seed);
            let (place, from) = (dice.pick(&Place::ALL), dice.pick(&[From::Tree, From::Mount]));
            let server = place.server();
            let directories = dice.pick(&[40, 150, 600]);
            // From the mounted directory, two more lie above the tree.
            let levels = 2 + grow(&server, place, directories, &mut dice).await;
            let every = cost(&server, (place, from), Order::Name, seed, false).await;
            for order in Order::ALL {
                let least = cost(&server, (place, from), order, seed, false).await;
                let ahead = cost(&server, (place, from), order, seed, true).await;
                assert_eq!(ahead.entered, least.entered);
                let game =
                    format!("seed {seed}, {place:?} from the {from:?}, {directories} directories, {order:?}");
                let (entered, levels) = (ahead.entered as u128, levels as u128);
                // Listing the place and a few directories beside the tree comes with looking the tree up.
                let beside = if place.is_vault() { 130 } else { 10 };
                let most = if order.is_foreseeable() {
                    let for_each = if place.is_vault() { 5 } else { 2 };
                    // Which neighbours have changed their places can't be foreseen.
                    let waits = if order == Order::Alphabet { entered / 10 } else { entered / 20 };
                    let most = for_each * levels + waits + 10;
                    assert!(
                        ahead.round_trips <= most,
                        "{game}: {} round trips, not {most}",
                        ahead.round_trips
                    );
                    least.messages * 11 / 10 + beside
                } else {
                    assert!(
                        ahead.round_trips <= least.round_trips,
                        "{game}: {} round trips",
                        ahead.round_trips
                    );
                    // Whatever the program passes over may have been listed in vain.
                    every.messages * 5 / 2 + beside
                };
                assert!(ahead.messages <= most, "{game}: {} messages, not {most}", ahead.messages);
            }
        });
    }
}

#[test]
fn a_walk_goes_from_the_directory_around_an_unlocked_vault_into_the_vault_and_not_its_encrypted_files() {
    for place in [Place::Gcm, Place::Ctrmac] {
        runtime().block_on(async {
            let server = place.server();
            let filling = Kernel::mount(MemoryRemote::connect(&server), place, options()).await;
            for directory in ["a", "a/b", "c"] {
                filling.mkdir(directory, 0o755).await.unwrap();
            }
            server.pass(Duration::from_secs(10));
            let options = DriveOptions { attr_timeout: Duration::from_secs(5), ..options() };
            let kernel = Kernel::mount(MemoryRemote::connect(&server), place, options).await;
            kernel.go_far();
            // What was listed for the unlocking is not believed any more.
            tokio::time::sleep(Duration::from_secs(6)).await;
            let before = kernel.remote.messages().len();
            kernel.list(Inode::ROOT).await.unwrap();
            // All that is listed ahead is there.
            tokio::time::sleep(20 * ROUND_TRIP).await;
            for (directory, names) in [("", vec!["a", "c"]), ("a", vec!["b"]), ("a/b", vec![]), ("c", vec![])]
            {
                let inode = kernel.lookup(directory).await.unwrap().inode;
                let listed: Vec<String> =
                    kernel.list(inode).await.unwrap().into_iter().map(|(name, _)| name).collect();
                assert_eq!(listed, names, "{directory}");
            }
            let messages = kernel.remote.messages().into_iter().skip(before);
            let listed = messages.filter(|(kind, _)| *kind == MessageKind::List);
            // The mounted directory, and four content directories (`Vault/d/XX/HASH`), each once; below these lie the
            // nodes of directories.
            let mut levels: Vec<usize> = listed.map(|(_, path)| path.names().count()).collect();
            levels.retain(|level| *level <= 4);
            levels.sort_unstable();
            assert_eq!(levels, [0, 4, 4, 4, 4]);
        });
    }
}
