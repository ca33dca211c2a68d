//! `scaup demo`: a server, a login with two factors, a vault and its mount, all on this machine and all gone at the
//! end.

mod ending;
mod fuse;
mod said;
mod side_by_side;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use clap::{Args, Parser};
use scaup_crypto::CipherCombo;
use scaup_demo::{Credentials, Server, content, random_password};
use zeroize::Zeroizing;

use super::error::CliError;
use super::mount;
use crate::daemon::client::Conversation;
use crate::daemon::protocol::{Event, FailureKind, Prompt, PromptKind, Request, Secret};
use crate::remote::RemotePath;
use crate::remote::local::LocalRemote;
use crate::vault::create_vault;
use ending::{Interrupts, MountProcess};
use said::say;

/// Encrypted names longer than this are shortened: Cryptomator's value.
const SHORTENING_THRESHOLD: u32 = 220;

/// Try Scaup with a temporary server on this machine, which has a key, one-time codes and a vault.
///
/// Your own files are not changed. Ctrl-C unmounts, and removes everything. If the package `fuse3` is missing, it asks
/// whether to install it.
#[derive(Args)]
pub(super) struct DemoArguments {
    /// Where to mount [default: ~/Scaup/demo]; created if missing, and then removed at the end
    #[arg(long, value_name = "DIR")]
    mountpoint: Option<PathBuf>,
}

/// The command line that the demo passes to `mount`.
#[derive(Parser)]
struct MountLine {
    #[command(flatten)]
    arguments: mount::MountArguments,
}

pub(super) fn run(arguments: DemoArguments) -> Result<(), CliError> {
    fuse::prepare()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let interrupts = Interrupts::watch(&runtime)?;
    let place = tempfile::Builder::new().prefix("scaup-demo-").tempdir()?;
    let shown = show(&runtime, &interrupts, place.path(), arguments);
    let removed = place.close();
    // Tasks that still run belong to the server, which has no client left.
    runtime.shutdown_background();
    match shown {
        Err(_) if interrupts.came() && !interrupts.came_late() => {
            Err(CliError::other("interrupted; nothing is left behind"))
        }
        shown => shown.and_then(|()| {
            removed?;
            say("unmounted, and everything is removed")?;
            Ok(())
        }),
    }
}

/// Runs everything from the empty directory `place` to the end of the mount.
fn show(
    runtime: &tokio::runtime::Runtime,
    interrupts: &Interrupts,
    place: &Path,
    arguments: DemoArguments,
) -> Result<(), CliError> {
    say("Scaup demo: a server, a second factor and a vault, all on this machine and all temporary.\n")?;
    let held = place.join("server");
    fs::create_dir(&held)?;
    let person =
        Person { credentials: Arc::new(Credentials::generate()?), vault_password: random_password()? };
    let server = runtime.block_on(async {
        let files = Arc::new(LocalRemote::open(&held).map_err(CliError::other)?);
        let vault = RemotePath::parse(content::VAULT.as_bytes()).unwrap_or_default();
        create_vault(
            files.as_ref(),
            &vault,
            &person.vault_password,
            CipherCombo::SivGcm,
            SHORTENING_THRESHOLD,
        )
        .await
        .map_err(|error| CliError::new(FailureKind::Vault, error))?;
        Ok::<_, CliError>(Server::start(files, Arc::clone(&person.credentials)).await?)
    })?;
    let config = person.credentials.write_ssh_config(place, server.port())?;

    // The mount is in the foreground: if the demo is killed, the mount has no server any more.
    let mut line = ["mount", "-f", "-F"].map(str::to_owned).to_vec();
    line.push(config.display().to_string());
    line.push(format!("{}@{}:", Credentials::USER, Credentials::HOST));
    line.extend(arguments.mountpoint.map(|path| path.display().to_string()));
    let program = std::env::args().next().unwrap_or_else(|| "scaup".to_owned());
    say(&format!("$ {program} {}", line.join(" ")))?;
    let arguments = MountLine::try_parse_from(&line).map_err(CliError::usage)?.arguments;
    let mut request = mount::resolve(arguments)?;
    // The demo itself answers in place of a person.
    request.interactive = true;
    let (name, mountpoint) = (request.name.clone(), request.mountpoint.clone());
    let remembered = crate::daemon::remembered_vaults_of(&request.login)?;

    let (mut conversation, child): (Conversation, Child) =
        Conversation::start(fs::File::create_new(place.join("log"))?)?;
    let mut daemon = MountProcess::new(child, &name, &mountpoint, remembered, interrupts);
    conversation.say(&Request::Mount(Box::new(request)))?;
    person.answer_until_mounted(&mut conversation)?;
    fill(&mountpoint, interrupts)?;

    say(&format!(
        "\n{}",
        side_by_side::trees(("What the server holds", &held), ("What the mount shows", &mountpoint))?
    ))?;
    let recording = mountpoint.join(content::VAULT).join(content::RECORDING);
    say(&side_by_side::first_bytes(&held.join(content::VAULT), &recording)?)?;
    say(&format!(
        "Open it in a file manager, a viewer, an editor:\n    {}\n\n\
         The server listens on 127.0.0.1, port {}. How to look, in another terminal:\n    \
         {program} status {name}\n    find {} -type f\n    sftp -F {} {}\n    \
         passphrase {}, codes from the secret {} (oathtool --totp -b SECRET)\n    \
         the vault's password, for Cryptomator too: {}\n\n\
         Ctrl-C unmounts, and removes all of it.",
        mountpoint.display(),
        server.port(),
        held.display(),
        config.display(),
        Credentials::HOST,
        person.credentials.passphrase(),
        person.credentials.code_secret(),
        person.vault_password.as_str(),
    ))?;
    interrupts.expect();
    std::thread::spawn(move || person.answer_until_end(&mut conversation));
    daemon.wait()
}

/// Answers the login's questions in place of a person, and reads the daemon's messages.
struct Person {
    credentials: Arc<Credentials>,
    vault_password: Zeroizing<String>,
}

impl Person {
    fn answer(&self, conversation: &mut Conversation, prompt: &Prompt) -> io::Result<()> {
        let answer = match prompt.question.kind {
            PromptKind::Passphrase => Zeroizing::new(self.credentials.passphrase().to_owned()),
            PromptKind::VaultPassword => self.vault_password.clone(),
            PromptKind::Code
            | PromptKind::Password
            | PromptKind::RecoveryKey
            | PromptKind::HostKey
            | PromptKind::Other => self.credentials.new_code(),
        };
        say(&format!("{}{}", prompt.question.text, answer.as_str()))?;
        conversation.say(&Request::Answer { id: prompt.id, answer: Ok(Secret(answer)) })
    }

    fn answer_until_mounted(&self, conversation: &mut Conversation) -> Result<(), CliError> {
        loop {
            match conversation.hear()? {
                Some(Event::Progress(text)) => say(&text)?,
                Some(Event::Prompt(prompt)) => self.answer(conversation, &prompt)?,
                Some(Event::Mounted { name, mountpoint }) => {
                    say(&format!("{name} is mounted at {}", mountpoint.display()))?;
                    return Ok(());
                }
                Some(Event::Failed(failure)) => return Err(failure.into()),
                Some(
                    Event::Hello(_) | Event::Status(_) | Event::Saving(_) | Event::Which(_) | Event::Done,
                ) => {}
                None => return Err(CliError::other("the mount's process ended before it had mounted")),
            }
        }
    }

    /// Answers also the questions of further logins.
    fn answer_until_end(&self, conversation: &mut Conversation) {
        while let Ok(Some(event)) = conversation.hear() {
            let done = match event {
                Event::Progress(text) => say(&text),
                Event::Prompt(prompt) => self.answer(conversation, &prompt),
                _ => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
    }
}

/// Fills the vault through the mount, as any program would.
fn fill(mountpoint: &Path, interrupts: &Interrupts) -> Result<(), CliError> {
    let failed = |name: &str| {
        let place = mountpoint.join(name);
        move |error: io::Error| CliError::other(format!("{}: {error}", place.display()))
    };
    let write = |path: &Path, content: &[u8]| {
        let mut file = fs::File::create_new(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    let (plain, text) = content::PLAIN;
    write(&mountpoint.join(plain), text.as_bytes()).map_err(failed(plain))?;
    let vault = mountpoint.join(content::VAULT);
    for name in content::DIRECTORIES {
        fs::create_dir(vault.join(name)).map_err(failed(name))?;
    }
    for (name, content) in content::small_files() {
        if interrupts.came() {
            return Err(CliError::other("interrupted"));
        }
        write(&vault.join(name), &content).map_err(failed(name))?;
    }
    say("writing 64 MiB through the mount")?;
    let record = || {
        let mut file = fs::File::create_new(vault.join(content::RECORDING))?;
        content::write_recording(&mut file, || !interrupts.came())?;
        file.sync_all()
    };
    record().map_err(failed(content::RECORDING))
}
