//! A conversation with one front end, which begins with both versions: events go out, requests and answers come in. Any
//! program of the user may be one, so what it can use is bounded: the length of lines, the requests that wait, and the
//! unread events.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::protocol::{Event, Failure, FailureKind, Prompt, Request, Secret, UserQuestion, Version};

/// Requests that wait while one is being processed. A front end that sends more is disconnected: reading must not stop
/// for them, or neither its answers nor its end would be noticed.
const REQUESTS_MAX: usize = 16;

/// Events that wait to be sent. Events that come while so many wait are dropped.
const EVENTS_MAX: usize = 1024;

/// How long a front end may take to read what was sent.
const HEARING: Duration = Duration::from_secs(5);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Secret, String>>>>>;

/// An item to be sent.
enum Outgoing {
    Event(Event),
    /// A mark: everything before it was sent.
    Mark(oneshot::Sender<()>),
}

/// The error that a front end is gone, or does not read.
pub(super) struct NotHeard;

/// The tasks that read and write. They end, and with them the conversation, when the last [`FrontEnd`] for it is
/// dropped: a front end that does not read holds them no longer.
struct Tasks([AbortHandle; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// One front end. Clones talk to the same one.
#[derive(Clone)]
pub(super) struct FrontEnd {
    outgoing: mpsc::Sender<Outgoing>,
    waiting: Waiting,
    next_prompt: Arc<AtomicU64>,
    /// Held while this front end is being asked.
    asking: Arc<tokio::sync::Mutex<()>>,
    gone: watch::Receiver<bool>,
    _tasks: Arc<Tasks>,
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Secret, String>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question that waits for its answer, for as long as this value lives.
struct Asked<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.id);
    }
}

/// The lines that a front end sends.
struct Lines {
    stream: OwnedReadHalf,
    /// Longest line that is accepted, bytes.
    len_max: usize,
    /// The bytes behind the last line. No other buffer holds what was received: it may be a secret.
    read: Zeroizing<Vec<u8>>,
}

impl Lines {
    /// Returns the next line with its end; `None` if the front end is gone, or does not send lines.
    async fn next(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.read.iter().skip(searched).position(|&byte| byte == b'\n') {
                let rest = Zeroizing::new(self.read.split_off(searched + end + 1));
                return Some(std::mem::replace(&mut self.read, rest));
            }
            searched = self.read.len();
            if searched >= self.len_max || self.stream.read_buf(&mut *self.read).await.ok()? == 0 {
                return None;
            }
        }
    }
}

fn says_no_version() -> Failure {
    let text = "this program is older than the mount's process, since it does not send its version; \
        use the `scaup` that made the mount";
    Failure::new(FailureKind::Usage, text)
}

impl FrontEnd {
    /// Takes over a stream, whose lines are no longer than `len_max` bytes. The receiver returns requests other than
    /// the version and answers, and ends when the front end is gone or speaks another version.
    pub(super) fn start(stream: UnixStream, len_max: usize) -> (Self, mpsc::Receiver<Request>) {
        let (outgoing, mut sending) = mpsc::channel::<Outgoing>(EVENTS_MAX);
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let (left, gone) = watch::channel(false);
        let waiting = Waiting::default();
        let (read, mut write) = stream.into_split();
        let talking = tokio::spawn(async move {
            while let Some(next) = sending.recv().await {
                let mut line = match next {
                    Outgoing::Event(event) => serde_json::to_vec(&event).unwrap_or_default(),
                    Outgoing::Mark(reached) => {
                        let _ = reached.send(());
                        continue;
                    }
                };
                line.push(b'\n');
                if write.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        let (answered, replies) = (Arc::clone(&waiting), outgoing.clone());
        let listening = tokio::spawn(async move {
            let tell = |event| {
                let _ = replies.try_send(Outgoing::Event(event));
            };
            let mut lines = Lines { stream: read, len_max, read: Zeroizing::default() };
            let mut speaks_this_version = false;
            while let Some(line) = lines.next().await {
                match serde_json::from_slice(&line) {
                    Ok(Request::Hello(version)) => {
                        tell(Event::Hello(Version::OWN));
                        speaks_this_version = version.major == Version::OWN.major;
                        if !speaks_this_version {
                            tracing::debug!(%version, "a front end speaks another version");
                            break;
                        }
                    }
                    Ok(_) if !speaks_this_version => {
                        tell(Event::Failed(says_no_version()));
                        break;
                    }
                    Ok(Request::Answer { id, answer }) => {
                        if let Some(asked) = lock(&answered).remove(&id) {
                            let _ = asked.send(answer);
                        }
                    }
                    Ok(request) => {
                        if requests.try_send(request).is_err() {
                            break;
                        }
                    }
                    // The line may contain a secret, so it is not logged.
                    Err(_) => {
                        tracing::debug!("a front end said what is not understood");
                        break;
                    }
                }
            }
            left.send_replace(true);
            lock(&answered).clear();
        });
        let tasks = Arc::new(Tasks([talking.abort_handle(), listening.abort_handle()]));
        (
            Self {
                outgoing,
                waiting,
                next_prompt: Arc::default(),
                asking: Arc::default(),
                gone,
                _tasks: tasks,
            },
            incoming,
        )
    }

    /// Sends the front end an event.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.outgoing.try_send(Outgoing::Event(event));
    }

    /// Waits until the front end has received all events so far; an error if it does not read.
    pub(super) async fn flush(&self) -> Result<(), NotHeard> {
        let heard = async {
            let (mark, reached) = oneshot::channel();
            self.outgoing.send(Outgoing::Mark(mark)).await.map_err(|_| NotHeard)?;
            reached.await.map_err(|_| NotHeard)
        };
        tokio::time::timeout(HEARING, heard).await.unwrap_or(Err(NotHeard))
    }

    /// Returns whether the front end is gone.
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until the front end is gone.
    pub(super) async fn gone(&self) {
        let _ = self.gone.clone().wait_for(|&gone| gone).await;
    }

    /// Returns whether both lead to the same front end.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.waiting, &other.waiting)
    }

    /// Asks a person, who may take as long as they like; an error says why there is no answer. One question is asked at
    /// a time: an answer meant for one question must not be typed for another.
    pub(super) async fn ask(&self, question: UserQuestion) -> Result<Zeroizing<String>, String> {
        let _asking = self.asking.lock().await;
        let nobody = || "the program that could have asked has disconnected".to_owned();
        let id = self.next_prompt.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let _asked = Asked { waiting: &self.waiting, id };
        if self.is_gone() {
            return Err(nobody());
        }
        self.tell(Event::Prompt(Prompt { id, question }));
        answer.await.unwrap_or_else(|_| Err(nobody())).map(|secret| secret.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::super::protocol::PromptKind;
    use super::*;

    #[tokio::test]
    async fn one_question_is_asked_at_a_time() {
        let (program, stream) = UnixStream::pair().unwrap();
        let (front_end, _requests) = FrontEnd::start(stream, 1024);
        let (read, mut write) = program.into_split();
        let mut heard = BufReader::new(read).lines();
        let hello = serde_json::to_string(&Request::Hello(Version::OWN)).unwrap();
        write.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
        let reply = heard.next_line().await.unwrap().unwrap();
        assert!(matches!(serde_json::from_str(&reply).unwrap(), Event::Hello(Version::OWN)), "{reply}");
        let asked = ["Password for vault Vault: ", "(alice@hq) Verification code: "].map(|text| {
            let front_end = front_end.clone();
            let question = UserQuestion {
                kind: PromptKind::Other,
                destination: "alice@hq".to_owned(),
                attempt: 1,
                text: text.to_owned(),
                echo: false,
            };
            tokio::spawn(async move { front_end.ask(question).await })
        });
        for typed in ["for the first", "for the second"] {
            let Event::Prompt(prompt) =
                serde_json::from_str(&heard.next_line().await.unwrap().unwrap()).unwrap()
            else {
                unreachable!()
            };
            front_end.tell(Event::Done);
            let next = heard.next_line().await.unwrap().unwrap();
            assert!(matches!(serde_json::from_str(&next).unwrap(), Event::Done), "{next}");
            let answer = Request::Answer { id: prompt.id, answer: Ok(Secret(typed.to_owned().into())) };
            let line = format!("{}\n", serde_json::to_string(&answer).unwrap());
            write.write_all(line.as_bytes()).await.unwrap();
        }
        for (asked, typed) in asked.into_iter().zip(["for the first", "for the second"]) {
            assert_eq!(asked.await.unwrap().unwrap().as_str(), typed);
        }
    }
}
