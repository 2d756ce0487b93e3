//! Access tokens of Google service accounts: minted where none is kept, kept until shortly before they end (spec: data plane
//! 1.3, providers 2).

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Thread;
use super::error::GatewayError;
use crate::http::Method;
use crate::limits::{MINT_WAITERS_MAX, MINTED_MAX, TOKEN_ANSWER_MAX};
use crate::net::deadlines::OnExpiry;
use crate::net::mailbox::Ticket;
use crate::providers::Hidden;
use crate::providers::vertex::{AccessToken, ServiceAccount, SigningError, TokenUri};
use crate::snapshot::Settings;

/// What a credential's token is kept under: a digest of its whole text, so that only who has it all is given the token.
pub(super) type Account = [u8; 32];

/// The digest of a credential.
pub(super) fn account(credential: &[u8]) -> Account {
    Sha256::digest(credential).into()
}

/// The tokens of one data thread.
#[derive(Default)]
pub struct Minted(RefCell<HashMap<Account, Place>>);

#[derive(Default)]
struct Place {
    token: Option<Rc<AccessToken>>,
    /// Someone fetches one.
    minting: bool,
    waiting: Vec<Waker>,
}

impl Minted {
    /// A token that need not be replaced yet; or one that is being replaced and still good.
    pub(super) fn fresh(&self, account: &Account, now: u64) -> Option<Rc<AccessToken>> {
        let places = self.0.borrow();
        let place = places.get(account)?;
        let token = place.token.as_ref()?;
        let good = now < token.refresh || place.minting && now < token.ends;
        good.then(|| token.clone())
    }

    /// Whether the caller is the one to fetch it; everyone else waits.
    fn claim(&self, account: Account) -> bool {
        let mut places = self.0.borrow_mut();
        if places.len() >= MINTED_MAX && !places.contains_key(&account) {
            places.retain(|_, place| place.minting);
        }
        !std::mem::replace(&mut places.entry(account).or_default().minting, true)
    }

    fn settle(&self, account: &Account, token: Option<Rc<AccessToken>>) {
        let waiting = {
            let mut places = self.0.borrow_mut();
            let Some(place) = places.get_mut(account) else {
                return;
            };
            place.minting = false;
            place.token = token.or(place.token.take());
            std::mem::take(&mut place.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Waits until nobody fetches it any more; false where too many wait.
    async fn wait(&self, account: &Account) -> bool {
        let mut queued = false;
        poll_fn(|cx| {
            let mut places = self.0.borrow_mut();
            match places.get_mut(account) {
                Some(place) if place.minting => {
                    if !queued && place.waiting.len() >= MINT_WAITERS_MAX {
                        return Poll::Ready(false);
                    }
                    place.waiting.push(cx.waker().clone());
                    queued = true;
                    Poll::Pending
                }
                _ => Poll::Ready(true),
            }
        })
        .await
    }
}

/// Gives the claim back, whatever happens.
struct Claim<'a> {
    minted: &'a Minted,
    account: Account,
    token: Option<Rc<AccessToken>>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.minted.settle(&self.account, self.token.take());
    }
}

/// The token of a service account: the one that is kept, else a new one, fetched once however many ask.
pub(super) async fn token(
    thread: &Thread,
    settings: &Settings,
    kept_under: Account,
    service_account: ServiceAccount,
    now: u64,
) -> Result<Rc<AccessToken>, GatewayError> {
    let service_account = Arc::new(service_account);
    // The second round is for those who waited for one that was not given.
    for _ in 0..2 {
        if let Some(token) = thread.minted.fresh(&kept_under, now) {
            return Ok(token);
        }
        if thread.minted.claim(kept_under) {
            let mut claim = Claim {
                minted: &thread.minted,
                account: kept_under,
                token: None,
            };
            let token = Rc::new(fetch(thread, settings, service_account, now).await?);
            claim.token = Some(token.clone());
            return Ok(token);
        }
        if !thread.minted.wait(&kept_under).await {
            break;
        }
    }
    Err(GatewayError::no_answer(
        "no access token: another request's attempt to get one failed",
    ))
}

async fn fetch(
    thread: &Thread,
    settings: &Settings,
    service_account: Arc<ServiceAccount>,
    now: u64,
) -> Result<AccessToken, GatewayError> {
    let place = service_account.token_uri().clone();
    let body = sign(thread, settings, service_account, now).await?;
    let refused = |error: String| GatewayError::no_answer(format!("access token: {error}"));
    let head = head(&place, body.expose().len());
    let connector = thread.connector(settings, settings.clocks.connect);
    let connected = connector.connect(&place.origin).await;
    let (mut connection, _) = connected.map_err(|error| refused(error.to_string()))?;
    connection
        .transport()
        .arm_deadline(settings.clocks.response_head, OnExpiry::ShutBoth);
    let body = Bytes::copy_from_slice(body.expose().as_bytes());
    let sent = connection.write_message(head, body).await;
    sent.map_err(|error| refused(error.to_string()))?;
    let head = connection.response_head(Method::Post).await;
    let head = head.map_err(|error| refused(error.to_string()))?;
    let mut answer = Vec::new();
    while answer.len() < TOKEN_ANSWER_MAX {
        match connection.body_chunk().await {
            Ok(Some(piece)) => answer.extend_from_slice(&piece),
            Ok(None) => break,
            Err(error) => return Err(refused(error.to_string())),
        }
    }
    AccessToken::parse(head.status(), &answer, now).map_err(|error| refused(error.to_string()))
}

/// Signs the request on a thread of its own: it takes longer than a data thread may be kept busy, and is seldom needed.
async fn sign(
    thread: &Thread,
    settings: &Settings,
    service_account: Arc<ServiceAccount>,
    now: u64,
) -> Result<Hidden, GatewayError> {
    let ticket = Ticket::take();
    let address = ticket.address(&thread.mailbox);
    let signing = move || address.reply(service_account.token_request(now));
    let failed = |reason: String| GatewayError::no_answer(format!("access token: {reason}"));
    std::thread::Builder::new()
        .name("signing".to_owned())
        .spawn(signing)
        .map_err(|error| failed(error.to_string()))?;
    let answer = ticket.wait(settings.clocks.connect).await;
    let answer = answer.ok_or_else(|| failed("signing took too long".to_owned()))?;
    match answer.downcast::<Result<Hidden, SigningError>>() {
        Ok(signed) => signed.map_err(|error| failed(error.to_string())),
        Err(_) => unreachable!("the thread answers with a signed request"),
    }
}

fn head(place: &TokenUri, length: usize) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\naccept: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
        place.path,
        place.origin.authority,
        ServiceAccount::REQUEST_TYPE,
    )
    .into_bytes()
}
