//! Tokens, variables of the environment, and `~` in values: `ssh_config(5)`, TOKENS and ENVIRONMENT VARIABLES.

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use sha1::{Digest as _, Sha1};

use super::context::Context;
use super::error::ExpansionError;
use super::values::{self, Values, hop};

/// What is expanded in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The path of a file: all tokens, and variables of the environment.
    Path,
    /// The path of a file for all users: only `~`.
    SharedPath,
    /// A command: all tokens. Variables are the shell's part.
    Command,
    /// Jump hosts: what tells where the way leads.
    Jumps,
}

/// What the tokens stand for, for one host.
pub(super) struct Tokens<'a> {
    context: &'a Context<'a>,
    values: &'a Values,
    /// The name to connect to.
    host: String,
    /// The name that the host's key is known by.
    key_name: String,
}

impl<'a> Tokens<'a> {
    /// While the files are still read: what they have said so far.
    pub(super) fn so_far(context: &'a Context<'a>, values: &'a Values) -> Self {
        let host = values.host_name(context.original_host);
        // What `ssh` takes for `%k` here is not what it takes once the files are read.
        let key_name = values.get("HostKeyAlias").unwrap_or(&host).to_owned();
        Self { context, values, host, key_name }
    }

    /// Once the files are read.
    pub(super) fn of_host(context: &'a Context<'a>, values: &'a Values, host: &str) -> Self {
        let key_name = values.get("HostKeyAlias").unwrap_or(context.original_host).to_owned();
        Self { context, values, host: host.to_owned(), key_name }
    }

    /// Expands the path of a file.
    pub(super) fn path(&self, path: &str, form: Form) -> Result<PathBuf, ExpansionError> {
        let path = match path.strip_prefix('~') {
            None => path.to_owned(),
            Some(below) if below.is_empty() || below.starts_with('/') => {
                format!("{}{below}", self.context.home.display())
            }
            Some(_) => return Err(ExpansionError::OtherHome),
        };
        Ok(if form == Form::SharedPath { path } else { self.expand(&path, form)? }.into())
    }

    /// Expands tokens, and in paths variables. What they stand for is not expanded again.
    pub(super) fn expand(&self, value: &str, form: Form) -> Result<String, ExpansionError> {
        let mut expanded = String::new();
        let mut rest = value;
        while let Some(at) = rest.find(['%', '$']) {
            let (before, behind) = rest.split_at(at);
            expanded.push_str(before);
            if let Some(token) = behind.strip_prefix('%') {
                let token = token.chars().next();
                let meaning = token.and_then(|token| self.meaning(token, form));
                let unknown = || ExpansionError::Token(token.map(String::from).unwrap_or_default());
                expanded.push_str(&meaning.ok_or_else(unknown)?);
                rest = behind.get(1 + token.map_or(0, char::len_utf8)..).unwrap_or_default();
            } else if let Some(name) = behind.strip_prefix("${").filter(|_| form == Form::Path) {
                let (name, behind) = name.split_once('}').ok_or(ExpansionError::Open)?;
                let value = std::env::var(name).map_err(|_| ExpansionError::Variable(name.to_owned()))?;
                expanded.push_str(&value);
                rest = behind;
            } else {
                expanded.push('$');
                rest = behind.get(1..).unwrap_or_default();
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn meaning(&self, token: char, form: Form) -> Option<String> {
        if form == Form::Jumps && !"%hnpr".contains(token) {
            return None;
        }
        Some(match token {
            '%' => "%".to_owned(),
            'C' => self.connection(),
            'd' => self.context.home.to_string_lossy().into_owned(),
            'h' => self.host.clone(),
            'i' => rustix::process::getuid().as_raw().to_string(),
            'j' => self.jump_host().to_owned(),
            'k' => self.key_name.clone(),
            'L' => local_host().split('.').next().unwrap_or_default().to_owned(),
            'l' => local_host(),
            'n' => self.context.original_host.to_owned(),
            'p' => self.port(),
            'r' => self.user().to_owned(),
            'u' => self.context.local_user.clone(),
            _ => return None,
        })
    }

    fn user(&self) -> &str {
        self.values.get("User").unwrap_or(&self.context.local_user)
    }

    fn port(&self) -> String {
        let port = self.values.get("Port").and_then(values::port);
        port.unwrap_or(values::PORT).to_string()
    }

    /// Returns the host that the last jump goes through, or nothing.
    fn jump_host(&self) -> &str {
        let last = self.values.get("ProxyJump").and_then(|jumps| jumps.rsplit(',').next());
        let last = last.filter(|last| !last.eq_ignore_ascii_case("none"));
        last.and_then(hop).map_or("", |hop| hop.host)
    }

    /// Returns what names this connection among all (`ssh_connection_hash`).
    fn connection(&self) -> String {
        let mut hash = Sha1::new();
        for part in [&local_host(), &self.host, &self.port(), self.user(), self.jump_host()] {
            hash.update(part);
        }
        HEXLOWER.encode(&hash.finalize())
    }
}

fn local_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
