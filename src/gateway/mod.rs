//! A request's life on a data thread: one file per phase, and the loop that goes through them.

mod admit;
mod attempt;
mod authenticate;
mod body;
mod caller;
mod connection;
mod credential;
mod error;
mod figures;
mod flight;
mod knobs;
pub mod media;
mod metadata;
mod mint;
mod native;
mod outgoing;
mod plan;
mod recall;
mod relay;
mod resolve;
mod retry;
mod settle;
mod steps;
mod taps;
mod together;
mod translate;
mod tries;
mod unified;
mod universal;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

pub use connection::{Edge, serve};
pub use error::GatewayError;
pub use mint::Minted;

use crate::aggregate::Block;
use crate::net::connect::Connector;
use crate::net::health::Health;
use crate::net::helpers::Helpers;
use crate::net::mailbox::Mailbox;
use crate::net::pool::{Occupancy, Pool};
use crate::net::resolver::Resolver;
use crate::record::{Counters, Ids, Record};
use crate::snapshot::{Published, Settings};
use crate::tables::Ledger;
use crate::tables::cache::Cache;
use crate::tables::flight::Flights;

/// What a data thread asks of control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An authenticated request named the gateway `default`, which is not there: make it.
    DefaultGateway,
}

/// What all data threads share.
pub struct Shared {
    /// The published view.
    pub snapshot: Arc<Published>,
    /// Asks control for something, without waiting for it.
    pub ask: Box<dyn Fn(Ask) + Send + Sync>,
    /// What limits have counted.
    pub ledger: Arc<Ledger>,
    /// Stored answers.
    pub cache: Arc<Cache>,
    /// Answers that several requests wait for.
    pub flights: Arc<Flights>,
    /// Work on large bodies.
    pub helpers: Helpers,
    /// Names to addresses.
    pub resolver: Arc<Resolver>,
    /// How the addresses of origins did lately.
    pub health: Arc<Health>,
    /// Upstream connections open, over all threads.
    pub occupancy: Arc<Occupancy>,
    /// Bytes of bodies held in memory, over all threads.
    pub buffered: AtomicUsize,
    /// Client connections open, over all threads.
    pub open: AtomicUsize,
    /// As many may be open.
    pub open_max: usize,
    /// Runs that go on without a client, over all threads.
    pub background: AtomicUsize,
}

/// One data thread's own things.
pub struct Thread {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Warm upstream connections.
    pub pool: Rc<Pool>,
    /// Brings answers of other threads.
    pub mailbox: Mailbox,
    /// Access tokens of Google service accounts.
    pub minted: Minted,
    /// Where records go.
    pub records: RefCell<rtrb::Producer<Record>>,
    /// Its counters, which control reads.
    pub counters: Arc<Counters>,
    /// Its figures, which control takes away.
    pub figures: Arc<Block>,
    /// Its source of request ids.
    pub ids: RefCell<Ids>,
    /// Whether answers tell the client to close.
    pub draining: Cell<bool>,
    /// Client connections open on this thread.
    pub connections: Cell<usize>,
    /// Runs on this thread that go on without a client.
    pub background: Cell<usize>,
    /// Itself, for what goes on without a client.
    pub own: Weak<Thread>,
}

impl Thread {
    /// Opens connections under the instance's settings, each within `timeout`.
    fn connector(&self, settings: &Settings, timeout: Duration) -> Connector {
        Connector {
            resolver: self.shared.resolver.clone(),
            mailbox: self.mailbox.clone(),
            tls: settings.tls.clone(),
            proxy: settings.proxy.clone(),
            health: self.shared.health.clone(),
            timeout,
        }
    }
}
