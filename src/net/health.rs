//! What all data threads know together of the addresses of origins that have several: a [`Circle`] each, behind a lock that is
//! taken where a connection is opened and where a request was answered, for an instant. Connections carry their [`Place`] along.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quanta::Instant;

use super::origin::Origin;
use super::outlier::{Change, Circle, Ticket};
use crate::limits::{OUTLIER_NOTICES_MAX, RESOLVED_NAMES_MAX};

/// The circles of all origins.
pub struct Health {
    origins: Mutex<HashMap<Origin, Arc<Peers>, ahash::RandomState>>,
    told: Arc<Told>,
}

/// What came of it all, for the operator.
struct Told {
    began: Instant,
    ejections: AtomicU64,
    notices: Mutex<VecDeque<String>>,
}

/// The addresses of one origin.
struct Peers {
    origin: Origin,
    /// How many are left out: as long as it is none, connections need not be looked at.
    out: AtomicUsize,
    circle: Mutex<Circle>,
    told: Arc<Told>,
}

/// The addresses that a connection may be opened to.
pub struct Plan {
    peers: Arc<Peers>,
    /// In their order.
    pub addresses: Vec<SocketAddr>,
    probe: Option<Probe>,
}

/// A connection's address among its origin's.
pub struct Place {
    peers: Arc<Peers>,
    address: SocketAddr,
    probe: Option<Probe>,
}

/// The right to try an address that is left out; gives it up when dropped.
struct Probe {
    peers: Arc<Peers>,
    address: SocketAddr,
    ticket: Ticket,
}

impl Default for Health {
    fn default() -> Self {
        let told = Arc::new(Told {
            began: Instant::now(),
            ejections: AtomicU64::new(0),
            notices: Mutex::default(),
        });
        Self {
            origins: Mutex::default(),
            told,
        }
    }
}

impl Health {
    /// Which of an origin's addresses to connect to; `None` where it has one alone.
    pub fn plan(&self, origin: &Origin, addresses: &[SocketAddr]) -> Option<Plan> {
        let peers = self.peers(origin, addresses.len() > 1)?;
        let (addresses, ticket) = peers.with(|circle, now| circle.plan(addresses, now));
        let probe = ticket.map(|ticket| Probe {
            peers: peers.clone(),
            address: addresses[0],
            ticket,
        });
        Some(Plan {
            peers,
            addresses,
            probe,
        })
    }

    /// Addresses left out now.
    pub fn ejected(&self) -> usize {
        let origins = locked(&self.origins);
        let out = origins
            .values()
            .map(|peers| peers.out.load(Ordering::Relaxed));
        out.sum()
    }

    /// How often an address was left out so far; a probe that failed does not count again.
    pub fn ejections(&self) -> u64 {
        self.told.ejections.load(Ordering::Relaxed)
    }

    /// What the operator should read, once.
    pub fn take_notices(&self) -> VecDeque<String> {
        std::mem::take(&mut *locked(&self.told.notices))
    }

    /// One of as many origins as names are kept; none is forgotten that has something to tell or is in use.
    fn peers(&self, origin: &Origin, several: bool) -> Option<Arc<Peers>> {
        let mut origins = locked(&self.origins);
        if let Some(peers) = origins.get(origin) {
            return Some(peers.clone());
        }
        if !several {
            return None;
        }
        if origins.len() >= RESOLVED_NAMES_MAX {
            origins.retain(|_, peers| {
                Arc::strong_count(peers) > 1 || peers.out.load(Ordering::Relaxed) > 0
            });
        }
        if origins.len() >= RESOLVED_NAMES_MAX {
            return None;
        }
        let peers = Arc::new(Peers {
            origin: origin.clone(),
            out: AtomicUsize::new(0),
            circle: Mutex::default(),
            told: self.told.clone(),
        });
        origins.insert(origin.clone(), peers.clone());
        Some(peers)
    }
}

impl Peers {
    /// Does something to the circle, now.
    fn with<T>(&self, act: impl FnOnce(&mut Circle, Duration) -> T) -> T {
        let now = self.told.began.elapsed();
        let mut circle = locked(&self.circle);
        let done = act(&mut circle, now);
        self.out.store(circle.ejected(), Ordering::Relaxed);
        done
    }

    fn any_out(&self) -> bool {
        self.out.load(Ordering::Relaxed) > 0
    }

    /// Tells the operator of a change, unless only a probe failed.
    fn tell(&self, change: Option<Change>) -> Option<Change> {
        let origin = &self.origin;
        let text = match change? {
            Change::Ejected { again: true, .. } => return change,
            Change::Ejected {
                address,
                reason,
                wait,
                ..
            } => {
                self.told.ejections.fetch_add(1, Ordering::Relaxed);
                format!("{origin}: {address} is left out, {reason}; it is tried again in {wait:?}")
            }
            Change::Restored(address) => format!("{origin}: {address} is asked again"),
        };
        let mut notices = locked(&self.told.notices);
        if notices.len() < OUTLIER_NOTICES_MAX {
            notices.push_back(text);
        }
        change
    }
}

impl Plan {
    /// A connection to one of the addresses could not be opened.
    pub fn failed(&mut self, address: SocketAddr) -> Option<Change> {
        let probe = self.probe.take_if(|probe| probe.address == address);
        let ticket = probe.as_ref().map(|probe| probe.ticket);
        let failed = |circle: &mut Circle, now| circle.connect_failed(address, ticket, now);
        self.peers.tell(self.peers.with(failed))
    }

    /// A connection to one of the addresses stands.
    pub fn connected(&mut self, address: SocketAddr) -> Place {
        self.peers.with(|circle, _| circle.connected(address));
        Place {
            peers: self.peers.clone(),
            address,
            probe: self.probe.take_if(|probe| probe.address == address),
        }
    }
}

impl Place {
    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether what is asked here tells if the address works again.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// Whether the address is left out, so that nothing more is asked here.
    pub fn is_out(&self) -> bool {
        self.peers.any_out() && locked(&self.peers.circle).is_out(self.address)
    }

    /// Whether another address of the origin is to be tried again.
    pub fn probe_due(&self) -> bool {
        self.peers.any_out() && {
            let now = self.peers.told.began.elapsed();
            locked(&self.peers.circle).probe_due(now)
        }
    }

    /// A request was answered here; `failed`: with a 5xx, or not at all.
    pub fn answered(&mut self, failed: bool) -> Option<Change> {
        let probe = self.probe.take();
        let ticket = probe.as_ref().map(|probe| probe.ticket);
        let address = self.address;
        let answered = |circle: &mut Circle, now| circle.answered(address, ticket, failed, now);
        self.peers.tell(self.peers.with(answered))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.peers.with(|circle, _| circle.given_up(ticket));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::new(false, "replicas.test", 80)
    }

    fn both() -> [SocketAddr; 2] {
        [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], 80)))
    }

    #[test]
    fn an_origin_with_one_address_is_not_watched() {
        let health = Health::default();
        assert!(health.plan(&origin(), &both()[..1]).is_none());
        assert!(health.plan(&origin(), &both()).is_some());
    }

    #[test]
    fn threads_see_what_the_others_did() {
        let health = Health::default();
        let mut plan = health.plan(&origin(), &both()).expect("two addresses");
        let (bad, good) = (plan.addresses[0], plan.addresses[1]);
        let places = [bad, good].map(|address| plan.connected(address));
        // Four threads, each with five 5xx; the twentieth of them is one too many.
        let changes: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let mut plan = health.plan(&origin(), &both()).expect("two addresses");
                    scope.spawn(move || {
                        let mut place = plan.connected(bad);
                        (0..5).filter_map(|_| place.answered(true)).count()
                    })
                })
                .collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.map(|changes| changes.expect("a thread")).sum()
        });
        assert_eq!(changes, 1);
        assert_eq!(places.each_ref().map(Place::is_out), [true, false]);
        assert_eq!((health.ejected(), health.ejections()), (1, 1));
        let notices = health.take_notices();
        let (address, said) = (bad.to_string(), "answers are 5xx");
        assert!(
            notices.len() == 1 && notices[0].contains(&address) && notices[0].contains(said),
            "{notices:?}"
        );
        let plan = health.plan(&origin(), &both()).expect("two addresses");
        assert_eq!(plan.addresses, [good]);
    }

    #[test]
    fn one_of_many_threads_may_probe_and_a_lost_probe_is_given_up() {
        let health = Health::default();
        let mut plan = health.plan(&origin(), &both()).expect("two addresses");
        let bad = plan.addresses[0];
        let good = plan.connected(plan.addresses[1]);
        for _ in 0..5 {
            let _ = plan.failed(bad);
        }
        assert!(good.peers.any_out() && !good.probe_due());
        // The last one fails as well, which calls the other back before its time.
        let mut other = health.plan(&origin(), &both()).expect("two addresses");
        for _ in 0..5 {
            assert_eq!(other.failed(good.address()), None);
        }
        assert!(good.probe_due());
        for _ in 0..3 {
            let plans: Vec<Plan> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| health.plan(&origin(), &both())))
                    .collect();
                let ended = threads.into_iter().map(|thread| thread.join());
                ended
                    .map(|plan| plan.expect("a thread").expect("two addresses"))
                    .collect()
            });
            let probing = plans.iter().filter(|plan| plan.addresses.contains(&bad));
            assert_eq!(probing.count(), 1);
            assert!(!good.probe_due());
            drop(plans);
            assert!(good.probe_due(), "given up");
        }
        let mut plan = health.plan(&origin(), &both()).expect("two addresses");
        let mut place = plan.connected(bad);
        assert!(place.is_probe() && place.is_out());
        assert_eq!(place.answered(false), Some(Change::Restored(bad)));
        assert!(!place.is_probe() && !place.is_out() && health.ejected() == 0);
    }
}
