//! Who waits for an attempt: a client on its connection, or nobody. What has no client of its own (a run in the background, one
//! of several calls that are made at once) has its whole body here and nobody that could leave.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;

use super::attempt::Failure;
use super::flight;
use crate::net::deadlines::OnExpiry;
use crate::net::http1::{Connection, ConnectionError};
use crate::net::mailbox::Mailbox;
use crate::record::End;
use crate::tables::flight::Others;

/// For whom a request is made.
pub(super) enum Caller<'a> {
    /// A client: its connection may still bring a part of the body, and tells when it leaves.
    Client(&'a mut Connection),
    /// A client for whose answer others wait too: while they do, it does not matter whether it is still there.
    Leader(&'a mut Connection, Rc<Leading>),
    /// Nobody whose connection is here.
    Nobody,
}

/// What it takes for a client to leave while others wait for its answer.
pub(super) struct Leading {
    others: Others,
    mailbox: Mailbox,
    /// Begun once the client has left: a connection that has closed is not to be read again and again.
    deserted: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl Leading {
    pub fn new(others: Others, mailbox: &Mailbox) -> Self {
        Self {
            others,
            mailbox: mailbox.clone(),
            deserted: RefCell::default(),
        }
    }

    /// Resolves when the client and all the others have left.
    fn poll_left(&self, client: &mut Connection, cx: &mut Context<'_>) -> Poll<()> {
        let mut deserted = self.deserted.borrow_mut();
        if deserted.is_none() && client.poll_client_left(cx).is_ready() {
            *deserted = Some(Box::pin(flight::deserted(&self.others, &self.mailbox)));
        }
        match &mut *deserted {
            Some(deserted) => deserted.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Caller<'_> {
    /// The same, for a while.
    pub fn again(&mut self) -> Caller<'_> {
        match self {
            Self::Client(client) => Caller::Client(client),
            Self::Leader(client, leading) => Caller::Leader(client, leading.clone()),
            Self::Nobody => Caller::Nobody,
        }
    }

    /// Whether the answer goes to no connection.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// Whether the connection has still to bring a part of the body.
    pub fn body_pending(&self) -> bool {
        matches!(self, Self::Client(client) if client.body_pending())
    }

    /// Whether bytes of it are here already.
    pub fn buffered(&self) -> bool {
        matches!(self, Self::Client(client) if client.buffered())
    }

    /// [`Connection::poll_wire`].
    pub fn poll_wire(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut dyn FnMut(&[u8]),
    ) -> Poll<Result<Option<BytesMut>, ConnectionError>> {
        match self {
            Self::Client(client) => client.poll_wire(cx, data),
            // Its body is here as a whole.
            Self::Leader(..) | Self::Nobody => Poll::Ready(Ok(None)),
        }
    }

    /// Resolves when the client has left.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Client(client) => client.poll_client_left(cx),
            Self::Leader(client, leading) => leading.poll_left(client, cx),
            Self::Nobody => Poll::Pending,
        }
    }

    /// Bounds the wait for the next piece of the body.
    pub fn arm_deadline(&mut self, after: Duration) {
        if let Self::Client(client) = self {
            client.transport().arm_deadline(after, OnExpiry::ShutRead);
        }
    }

    /// Takes the bound back.
    pub fn disarm_deadline(&mut self) {
        if let Self::Client(client) = self {
            client.transport().disarm_deadline();
        }
    }

    /// What `work` comes to, unless the client leaves before: then it is dropped, with the connections that it opened.
    pub async fn unless_left<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => {
                let left = self.poll_left(cx);
                left.map(|()| Err(Failure::ClientGone(End::ClientLeft)))
            }
        })
        .await
    }
}
