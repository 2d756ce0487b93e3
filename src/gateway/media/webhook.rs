//! Where the outcome of a run is posted to: an address that a client wrote, held to the same rules as one that is fetched.

use quanta::Instant;

use super::fetch::{FetchError, Fetcher, Rules};
use crate::gateway::Thread;
use crate::limits::WEBHOOK_WAIT;
use crate::snapshot::Settings;

/// An address for outcomes.
pub(in crate::gateway) struct Webhook<'a> {
    pub thread: &'a Thread,
    pub settings: &'a Settings,
    pub url: &'a str,
}

impl Webhook<'_> {
    /// Whether it is one, as far as can be told now; else what is wrong with it.
    pub async fn check(&self) -> Result<(), String> {
        let checked = self.fetcher(async |fetcher| fetcher.check(self.url).await);
        checked.await.map_err(told)
    }

    /// Posts JSON to it, once; the status of the answer, or why there is none.
    pub async fn post(&self, body: &[u8]) -> Result<u16, String> {
        let posted = self.fetcher(async |fetcher| fetcher.post(self.url, body).await);
        posted.await.map_err(told)
    }

    async fn fetcher<T>(
        &self,
        work: impl AsyncFnOnce(&Fetcher<'_>) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let connector = self.thread.connector(self.settings, WEBHOOK_WAIT);
        let fetcher = Fetcher {
            connector: &connector,
            rules: Rules {
                wait: WEBHOOK_WAIT,
                ..Rules::PUBLIC
            },
            begin: Instant::now(),
            grow: &|_| Ok(()),
        };
        work(&fetcher).await
    }
}

fn told(error: FetchError) -> String {
    match error {
        FetchError::Address(scheme) => format!("it is no {scheme} address with a plain host"),
        error => error.to_string(),
    }
}
