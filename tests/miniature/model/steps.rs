//! What is done at random, and how often.

use proptest::prelude::*;

/// One step. Directories, files and handles are chosen by a number modulo how many there are.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Create {
        directory: u8,
        name: u8,
        mode: u8,
    },
    Open {
        file: u8,
        how: How,
    },
    Write {
        handle: u8,
        offset: u8,
        shift: i8,
        length: u8,
        seed: u8,
    },
    WriteWhileReading {
        handle: u8,
        offset: u8,
        length: u8,
        seed: u8,
    },
    Read {
        handle: u8,
        offset: u8,
        length: u8,
    },
    TruncateOpen {
        handle: u8,
        length: u8,
        shift: i8,
    },
    Truncate {
        file: u8,
        length: u8,
        shift: i8,
    },
    Fsync {
        handle: u8,
    },
    Flush {
        handle: u8,
    },
    Close {
        handle: u8,
    },
    Mkdir {
        directory: u8,
        name: u8,
        mode: u8,
    },
    Symlink {
        directory: u8,
        name: u8,
        target: u8,
    },
    Unlink {
        directory: u8,
        name: u8,
    },
    Rmdir {
        directory: u8,
        name: u8,
    },
    Rename {
        from: u8,
        name: u8,
        to: u8,
        new_name: u8,
        no_replace: bool,
    },
    Chmod {
        node: u8,
        mode: u8,
    },
    Utimens {
        node: u8,
        day: u8,
    },
    ForeignChange {
        file: u8,
        length: u8,
        seed: u8,
    },
    Forget,
    Lock,
    Remount,
    /// The connection is cut at the n-th message of the next step, which may have reached the server, and made anew; a
    /// program that was told of a failure tries again.
    Cut {
        n: u8,
        applied: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Read,
    ReadWrite,
    Append,
    Truncate,
}

/// One step, by how often programs do such.
pub(crate) fn steps() -> BoxedStrategy<Step> {
    let n = any::<u8>;
    let shift = || prop_oneof![4 => Just(0i8), 1 => any::<i8>()];
    let how = prop_oneof![
        1 => Just(How::Read), 3 => Just(How::ReadWrite), 2 => Just(How::Append), 2 => Just(How::Truncate)
    ];
    prop_oneof![
        10 => (n(), n(), n()).prop_map(|(directory, name, mode)| Step::Create { directory, name, mode }),
        10 => (n(), how).prop_map(|(file, how)| Step::Open { file, how }),
        20 => (n(), n(), shift(), n(), n())
            .prop_map(|(handle, offset, shift, length, seed)| Step::Write { handle, offset, shift, length, seed }),
        3 => (n(), n(), n(), n())
            .prop_map(|(handle, offset, length, seed)| Step::WriteWhileReading { handle, offset, length, seed }),
        5 => (n(), n(), n()).prop_map(|(handle, offset, length)| Step::Read { handle, offset, length }),
        6 => (n(), n(), shift()).prop_map(|(handle, length, shift)| Step::TruncateOpen { handle, length, shift }),
        3 => (n(), n(), shift()).prop_map(|(file, length, shift)| Step::Truncate { file, length, shift }),
        3 => n().prop_map(|handle| Step::Fsync { handle }),
        3 => n().prop_map(|handle| Step::Flush { handle }),
        10 => n().prop_map(|handle| Step::Close { handle }),
        5 => (n(), n(), n()).prop_map(|(directory, name, mode)| Step::Mkdir { directory, name, mode }),
        2 => (n(), n(), n()).prop_map(|(directory, name, target)| Step::Symlink { directory, name, target }),
        5 => (n(), n()).prop_map(|(directory, name)| Step::Unlink { directory, name }),
        2 => (n(), n()).prop_map(|(directory, name)| Step::Rmdir { directory, name }),
        14 => (n(), n(), n(), n(), proptest::bool::weighted(0.1)).prop_map(|(from, name, to, new_name, no_replace)| {
            Step::Rename { from, name, to, new_name, no_replace }
        }),
        3 => (n(), n()).prop_map(|(node, mode)| Step::Chmod { node, mode }),
        3 => (n(), n()).prop_map(|(node, day)| Step::Utimens { node, day }),
        3 => (n(), n(), n()).prop_map(|(file, length, seed)| Step::ForeignChange { file, length, seed }),
        2 => Just(Step::Forget),
        1 => Just(Step::Lock),
        1 => Just(Step::Remount),
        8 => (n(), any::<bool>()).prop_map(|(n, applied)| Step::Cut { n, applied }),
    ]
    .boxed()
}
