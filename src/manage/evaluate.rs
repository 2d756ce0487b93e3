//! Runs evaluations, one after the other, beside everything else: the log store is asked many short questions, and answers
//! others in between (mechanisms 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Transaction;

use super::answer::Problem;
use super::evaluations;
use super::serve::Api;
use crate::limits::{EVALUATION_PAUSE, EVALUATION_SETTLE, EVALUATION_TRIES};
use crate::store::{Database, now};
use crate::telemetry::logs::{Place, Selection, Tally, Unread};

/// Sees to it that one run goes on at most.
#[derive(Default)]
pub struct Evaluator {
    /// How often it was asked for a run since the last one ended; above 0 one goes on.
    asked: AtomicU64,
}

impl Api {
    /// Runs the evaluations that wait, those included that an earlier run of the program did not end.
    pub fn evaluate(self: &Arc<Self>) {
        if self.evaluator.asked.fetch_add(1, Ordering::AcqRel) == 0 {
            let api = self.clone();
            tokio::spawn(async move { api.run_evaluations().await });
        }
    }

    async fn run_evaluations(&self) {
        let asked = &self.evaluator.asked;
        loop {
            let seen = asked.load(Ordering::Acquire);
            while self.run_next().await {}
            // What was made after the last look is looked for once more.
            let ended = asked.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire);
            if ended.is_ok() {
                return;
            }
        }
    }

    /// `false`: none waits, or the database cannot be used, which says so itself. Those that wait then wait for the next run.
    async fn run_next(&self) -> bool {
        let Some(Some((id, selection))) = self.write(evaluations::begin_next).await else {
            return false;
        };
        let outcome = match selection {
            Ok(selection) => self.sum_up(selection).await,
            Err(problem) => Err(problem.to_string()),
        };
        let finish =
            move |transaction: &Transaction<'_>| evaluations::finish(transaction, &id, &outcome);
        self.write(finish).await.is_some()
    }

    /// A change of the program's own.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    ) -> Option<T> {
        let work = move |database: &mut Database| -> Result<T, Problem> {
            let transaction = database.begin()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        self.store.call(work).await.ok()?.ok()
    }

    async fn sum_up(&self, selection: Selection) -> Result<Tally, String> {
        let age = now().saturating_sub_unsigned(selection.until);
        let age = Duration::from_millis(age.max(0).unsigned_abs());
        tokio::time::sleep(EVALUATION_SETTLE.saturating_sub(age)).await;
        let selection = Arc::new(selection);
        let mut sum = Tally::default();
        let mut place = None;
        loop {
            let (tally, next) = self.next_piece(&selection, place).await?;
            sum.join(tally);
            match next {
                Some(next) => place = Some(next),
                None => return Ok(sum),
            }
        }
    }

    /// Others may ask as well: a busy store is asked again.
    async fn next_piece(
        &self,
        selection: &Arc<Selection>,
        place: Option<Place>,
    ) -> Result<(Tally, Option<Place>), String> {
        for _ in 1..EVALUATION_TRIES {
            match self.logs.tally(selection.clone(), place.clone()).await {
                Err(Unread::Busy) => tokio::time::sleep(EVALUATION_PAUSE).await,
                outcome => return outcome.map_err(|error| error.to_string()),
            }
        }
        let last = self.logs.tally(selection.clone(), place).await;
        last.map_err(|error| error.to_string())
    }
}
