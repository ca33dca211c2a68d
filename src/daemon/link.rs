//! A conversation with one front end: events go out, requests and answers come in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use super::protocol::{Event, Prompt, Request, Secret};

/// Longest line that is read from a front end, bytes.
const LINE_MAX: u64 = 1024 * 1024;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Secret, String>>>>>;

/// What is to be sent.
enum Outgoing {
    Event(Event),
    /// Everything before it was sent.
    Mark(oneshot::Sender<()>),
}

/// One front end. Clones talk to the same one.
#[derive(Clone)]
pub(super) struct Link {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    waiting: Waiting,
    next_prompt: Arc<AtomicU64>,
    gone: watch::Receiver<bool>,
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Secret, String>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Takes over a stream. Requests other than answers come out of the receiver, which ends when the front end is gone.
    pub(super) fn start(stream: UnixStream) -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (outgoing, mut sending) = mpsc::unbounded_channel::<Outgoing>();
        let (requests, incoming) = mpsc::unbounded_channel();
        let (left, gone) = watch::channel(false);
        let waiting = Waiting::default();
        let (read, mut write) = stream.into_split();
        tokio::spawn(async move {
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
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut read = BufReader::new(read);
            loop {
                let mut line = Zeroizing::new(String::new());
                let mut limited = tokio::io::AsyncReadExt::take(&mut read, LINE_MAX);
                match limited.read_line(&mut line).await {
                    Ok(1..) => {}
                    _ => break,
                }
                match serde_json::from_str(&line) {
                    Ok(Request::Answer { id, answer }) => {
                        if let Some(asked) = lock(&answered).remove(&id) {
                            let _ = asked.send(answer);
                        }
                    }
                    Ok(request) => {
                        let _ = requests.send(request);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a front end said what is not understood");
                        break;
                    }
                }
            }
            left.send_replace(true);
            lock(&answered).clear();
        });
        (Self { outgoing, waiting, next_prompt: Arc::default(), gone }, incoming)
    }

    /// Tells the front end something.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.outgoing.send(Outgoing::Event(event));
    }

    /// Waits until everything told so far is with the front end, or it is gone.
    pub(super) async fn flush(&self) {
        let (mark, reached) = oneshot::channel();
        let _ = self.outgoing.send(Outgoing::Mark(mark));
        let _ = reached.await;
    }

    /// Whether the front end is gone.
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until the front end is gone.
    pub(super) async fn gone(&self) {
        let _ = self.gone.clone().wait_for(|&gone| gone).await;
    }

    /// Asks a person, who may take as long as they like; an error says why nobody answers.
    pub(super) async fn ask(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        let nobody = || "whoever could be asked is gone".to_owned();
        let id = self.next_prompt.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        if self.is_gone() {
            return Err(nobody());
        }
        self.tell(Event::Prompt(Prompt { id, text, echo }));
        answer.await.unwrap_or_else(|_| Err(nobody())).map(|secret| secret.0)
    }
}
