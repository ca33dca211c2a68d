//! The pages of `docs` that promise something name the tests that show it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Everything in a file that is a test.
fn tests_in(source: &str) -> Vec<&str> {
    let tests = source.split("#[test]").chain(source.split("#[tokio::test")).skip(1);
    tests.filter_map(|after| after.split("fn ").nth(1)?.split('(').next()).collect()
}

/// All tests as the pages name them: `file::test` of this directory, where the files in a directory count as its test binary, and `crate::test`
/// of the crates.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    let mut waiting: Vec<_> = ["tests", "src", "crypto/src", "sftp/src", "sftp/tests"]
        .map(|directory| (root.join(directory), directory.split_once('/').map(|(name, _)| name.to_owned())))
        .into();
    waiting[1].1 = Some("scaup".to_owned());
    while let Some((at, called)) = waiting.pop() {
        for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                waiting.push((path, Some(called.clone().unwrap_or(stem))));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = called.clone().unwrap_or(stem);
                let source = fs::read_to_string(&path).unwrap();
                tests.extend(tests_in(&source).into_iter().map(|test| format!("{name}::{test}")));
            }
        }
    }
    tests
}

/// What a page promises: its list items, and the rows of those tables that have a column for tests.
fn promises(page: &str) -> Vec<&str> {
    let mut promises = Vec::new();
    let mut names_tests = false;
    for (line, next) in page.lines().zip(page.lines().skip(1).chain([""])) {
        if next.starts_with("|---") {
            names_tests = line.ends_with("| Test |");
        } else if line.starts_with("- ") || (names_tests && line.starts_with("| ")) {
            promises.push(line);
        }
    }
    promises
}

#[test]
fn every_promise_names_tests_that_exist() {
    let tests = tests();
    for (page, at_least) in [("semantics.md", 20), ("threat-model.md", 20)] {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
        let document = fs::read_to_string(document).unwrap();
        let promises = promises(&document);
        assert!(promises.len() >= at_least, "{page}: only {} promises", promises.len());
        for promise in promises {
            let code = promise.split('`').skip(1).step_by(2);
            let named: Vec<&str> = code.filter(|code| code.contains("::")).collect();
            assert!(!named.is_empty(), "{page}: no test is named by: {promise}");
            for test in named {
                assert!(
                    tests.contains(test),
                    "{page}: there is no test {test}, which is named by: {promise}"
                );
            }
        }
    }
}
