//! Conversations with front ends: each is accepted, gets a slot, and is served request by request. One that watches the
//! mount is told of changes until it leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::front_end::{FrontEnd, NotHeard};
use super::front_end_slots::{Doing, Slot, Slots};
use super::life::Daemon;
use super::protocol::{Event, Failure, FailureKind, REQUEST_LEN_MAX, Request};

/// How long a front end may take to send its first request.
const FIRST_WORDS: Duration = Duration::from_secs(10);

/// How often at most a front end that watches is told of a change.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// Returns the process of a front end; `None` if it belongs to neither the user nor root.
fn peer(stream: &UnixStream) -> Option<UCred> {
    let own = rustix::process::getuid().as_raw();
    stream.peer_cred().ok().filter(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Returns what kind of work a request is.
fn doing(request: &Request) -> Doing {
    match request {
        Request::Unlock { .. } | Request::Login => Doing::Waiting,
        Request::Watch => Doing::Watching,
        Request::Hello(_)
        | Request::Mount(_)
        | Request::Status
        | Request::Unmount { .. }
        | Request::Lock { .. }
        | Request::Which { .. }
        | Request::Answer { .. } => Doing::Working,
    }
}

impl Daemon {
    /// Accepts front ends.
    pub(super) async fn receive(self: Arc<Self>, listener: UnixListener) {
        let slots = Arc::new(Slots::default());
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Some(peer) = peer(&stream) else { continue };
                    let (slot, sent_away) = slots.take(peer.pid()).await;
                    let daemon = Arc::clone(&self);
                    tokio::spawn(async move {
                        tokio::select! {
                            () = daemon.converse(stream, &slot) => {}
                            _ = sent_away => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a front end could not be received");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Serves one front end.
    async fn converse(&self, stream: UnixStream, slot: &Slot) {
        let (front_end, mut requests) = FrontEnd::start(stream, REQUEST_LEN_MAX);
        let mut next = tokio::time::timeout(FIRST_WORDS, requests.recv()).await.unwrap_or_default();
        while let Some(request) = next {
            if matches!(request, Request::Watch) {
                let _ = self.watch(&mut requests, &front_end, slot).await;
                return;
            }
            if self.answer(request, &front_end, slot).await.is_err() {
                return;
            }
            next = requests.recv().await;
        }
        // It may have been told why the conversation ends.
        let _ = front_end.flush().await;
    }

    /// Sends the status now and whenever it has changed, until the front end leaves. The end of the mount does not wait
    /// for this: it holds no `conversations`.
    async fn watch(
        &self,
        requests: &mut mpsc::Receiver<Request>,
        front_end: &FrontEnd,
        slot: &Slot,
    ) -> Result<(), NotHeard> {
        if !slot.set_doing(Doing::Watching) {
            return Err(NotHeard);
        }
        let mut looks = tokio::time::interval(WATCH_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                request = requests.recv() => {
                    if request.is_some() {
                        let text = "this connection watches the mount; send other requests on another connection";
                        front_end.tell(Event::Failed(Failure::new(FailureKind::Usage, text)));
                    }
                    return front_end.flush().await;
                }
            }
            let status = self.status();
            if told.as_ref() != Some(&status) {
                front_end.tell(Event::Status(Box::new(status.clone())));
                front_end.flush().await?;
                told = Some(status);
            }
        }
    }

    async fn answer(&self, request: Request, front_end: &FrontEnd, slot: &Slot) -> Result<(), NotHeard> {
        let _answering = self.conversations.read().await;
        if !slot.set_doing(doing(&request)) {
            return Err(NotHeard);
        }
        let is_for_it_alone = matches!(request, Request::Unlock { .. } | Request::Which { .. });
        let event = tokio::select! {
            event = self.obey(request, front_end) => event.unwrap_or_else(Event::Failed),
            () = front_end.gone(), if is_for_it_alone => return Err(NotHeard),
        };
        slot.set_doing(Doing::Nothing);
        front_end.tell(event);
        front_end.flush().await
    }
}
