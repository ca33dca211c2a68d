//! The pages of `docs` that promise something name the tests that show it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Everything in a file that is a test.
fn tests_in(source: &str) -> Vec<&str> {
    let tests = source.split("#[test]").chain(source.split("#[tokio::test")).skip(1);
    tests.filter_map(|after| after.split("fn ").nth(1)?.split('(').next()).collect()
}

/// All tests as the pages name them: `file::test` of this directory, and `crate::test` of the crates.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    let crates = [
        ("src", "scaup"),
        ("crypto/src", "crypto"),
        ("remote/src", "remote"),
        ("sftp/src", "sftp"),
        ("sftp/tests", "sftp"),
    ];
    let mut waiting = vec![(root.join("tests"), None)];
    waiting.extend(crates.map(|(directory, called)| (root.join(directory), Some(called))));
    while let Some((at, called)) = waiting.pop() {
        for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                waiting.push((path, called));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                let name = called.unwrap_or(stem);
                let source = fs::read_to_string(&path).unwrap();
                tests.extend(tests_in(&source).into_iter().map(|test| format!("{name}::{test}")));
            }
        }
    }
    tests
}

/// What a page promises: its list items, and the rows of those tables that have a column for tests.
fn promises(page: &str) -> Vec<String> {
    let mut promises: Vec<String> = Vec::new();
    let mut names_tests = false;
    for (line, next) in page.lines().zip(page.lines().skip(1).chain([""])) {
        if next.starts_with("|---") {
            names_tests = line.ends_with("| Test |");
        } else if line.starts_with("- ") || (names_tests && line.starts_with("| ")) {
            promises.push(line.to_owned());
        } else if let (true, Some(promise)) = (line.starts_with("  "), promises.last_mut()) {
            promise.push_str(line);
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

/// Files of the project with one of these endings.
fn files(at: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_file_that_the_map_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = files(root, &[".rs"]);
    let map = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let named: Vec<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.ends_with(".rs") && !code.contains(' '))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        let is_there = all.iter().any(|path| path.ends_with(name));
        assert!(is_there, "{name}");
    }
}

#[test]
fn no_line_of_prose_is_longer_than_120_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = files(root, &[".rs", ".md"]);
    assert!(all.len() > 200, "{}", all.len());
    for path in all {
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let words = line.trim_start().trim_start_matches(['/', '!']).trim_start();
            let is_prose =
                if is_page { !line.starts_with("    ") } else { line.trim_start().starts_with("//") };
            let is_one = !words.starts_with('|') && words.contains(' ');
            assert!(
                !(is_prose && is_one && line.chars().count() > 120),
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}
