//! A vault as an independent reader sees it: pycryptomator, which shares no code with Scaup, in a process that is asked
//! again and again (`tests/vault_reader.py`); and a local directory seen the same way, to compare with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use scaup_rig::python_with;
use serde::Deserialize;

use crate::support::sha256;

/// Bytes of one chunk.
pub const CHUNK: usize = 32_768;

/// What has a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    Directory {},
    Link { target: String },
    File { mode: u32, length: usize, chunks: Vec<String> },
}

/// Everything in a vault or directory, by path.
pub type Tree = BTreeMap<String, Node>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Unreadable { error: String },
    Read(Tree),
}

/// The reader's process.
pub struct Reader {
    python: Child,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vault_reader.py");
        let mut command = Command::new(python_with("pycryptomator", "1.15", "pycryptomator.cryptomator"));
        command.arg(script).env("LC_ALL", "C.UTF-8").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = command.spawn().expect("python runs");
        let answers = BufReader::new(python.stdout.take().expect("its output is a pipe"));
        Self { python, answers }
    }

    /// Everything in the vault at `path`, or why it can't be read.
    pub fn read(&mut self, path: &Path, password: &str) -> Result<Tree, String> {
        let question = serde_json::json!([path, password]);
        let mut asked = self.python.stdin.as_ref().expect("its input is a pipe");
        writeln!(asked, "{question}").expect("python listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("python answers");
        match serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}")) {
            Answer::Read(tree) => Ok(tree),
            Answer::Unreadable { error } => Err(error),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

/// A file with this content.
pub fn file(mode: u32, content: &[u8]) -> Node {
    Node::File { mode, length: content.len(), chunks: content.chunks(CHUNK).map(sha256).collect() }
}

/// Everything in a local directory.
pub fn local(directory: &Path) -> Tree {
    let mut found = Tree::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let node = if metadata.is_dir() {
                waiting.push(path.clone());
                Node::Directory {}
            } else if metadata.is_symlink() {
                Node::Link { target: fs::read_link(&path).unwrap().to_str().unwrap().to_owned() }
            } else {
                file(metadata.permissions().mode() & 0o777, &fs::read(&path).unwrap())
            };
            let relative = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            found.insert(relative, node);
        }
    }
    found
}
