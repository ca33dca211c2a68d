//! Refusing all requests for a moment: whoever waits for the server stops to wait.

use std::future::Future;

use tokio::sync::watch;

/// Whether requests are refused now: how many want that.
#[derive(Default)]
pub struct Refusals(watch::Sender<usize>);

/// Requests are refused until this is dropped.
#[derive(Default)]
pub struct Refusal(Option<watch::Sender<usize>>);

impl Drop for Refusal {
    fn drop(&mut self) {
        if let Some(refusals) = &self.0 {
            refusals.send_modify(|wanted| *wanted -= 1);
        }
    }
}

impl Refusals {
    /// Refuses requests, those under way too, until the result is dropped.
    pub fn begin(&self) -> Refusal {
        self.0.send_modify(|wanted| *wanted += 1);
        Refusal(Some(self.0.clone()))
    }

    /// Runs a request until requests are refused: then it returns `None`, and whether the server carries the request
    /// out is unknown.
    pub async fn until_refused<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut refusals = self.0.subscribe();
        tokio::select! {
            biased;
            _ = refusals.wait_for(|wanted| *wanted > 0) => None,
            result = request => Some(result),
        }
    }
}
