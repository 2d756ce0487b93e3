//! Names to addresses, off the data threads: the system's resolver blocks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::mailbox::{Mailbox, ReplyAddress, Ticket};
use crate::limits::{
    RESOLVED_NAMES_MAX, RESOLVER_NEGATIVE_TTL, RESOLVER_QUEUE_MAX, RESOLVER_STALE, RESOLVER_TTL,
    RESOLVER_WAITERS_MAX,
};

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver said so.
    #[error("name resolution failed: {0}")]
    Failed(Arc<str>),
    /// Too many names wait already.
    #[error("name resolution refused: {RESOLVER_QUEUE_MAX} names are waiting")]
    Busy,
    /// No answer in time.
    #[error("name resolution took longer than {0:?}")]
    TimedOut(Duration),
}

type Addresses = Arc<[SocketAddr]>;
type Answer = Result<Addresses, ResolveError>;
type Key = (Box<str>, u16);
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolver threads and what they found.
pub struct Resolver {
    names: Mutex<HashMap<Key, Name>>,
    queue: SyncSender<Key>,
    look_up: Box<LookUp>,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    found: Option<(Addresses, Instant)>,
    failed: Option<(ResolveError, Instant)>,
    /// It is asked for: at most one thread at a time waits for the system on its behalf.
    asked: bool,
    waiting: Vec<ReplyAddress>,
}

impl Resolver {
    /// Starts the threads; several, so that one dead name does not hold up the others. They end with the resolver.
    pub fn start(threads: usize) -> io::Result<Arc<Self>> {
        Self::start_knowing(threads, Vec::new())
    }

    /// [`Resolver::start`] with names that the system is not asked for.
    pub fn start_knowing(
        threads: usize,
        hosts: Vec<(Box<str>, Vec<IpAddr>)>,
    ) -> io::Result<Arc<Self>> {
        let hosts: HashMap<_, _> = hosts.into_iter().collect();
        Self::start_with(threads, move |host, port| match hosts.get(host) {
            Some(known) => Ok(known.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            None => Ok((host, port).to_socket_addrs()?.collect()),
        })
    }

    /// [`Resolver::start`] with something else than the system to ask.
    pub fn start_with(
        threads: usize,
        look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let (queue, questions) = sync_channel(RESOLVER_QUEUE_MAX);
        let resolver = Arc::new(Self {
            names: Mutex::default(),
            queue,
            look_up: Box::new(look_up),
        });
        let questions = Arc::new(Mutex::new(questions));
        for index in 0..threads {
            let (resolver, questions) = (Arc::downgrade(&resolver), questions.clone());
            std::thread::Builder::new()
                .name(format!("resolver-{index}"))
                .spawn(move || {
                    while let Some(key) = next(&questions) {
                        let Some(resolver) = resolver.upgrade() else {
                            return;
                        };
                        resolver.answer(key);
                    }
                })?;
        }
        Ok(resolver)
    }

    /// What is known without waiting: address literals, and names resolved not long ago. An address that has become old is
    /// asked for again meanwhile.
    pub fn cached(&self, host: &str, port: u16) -> Option<Addresses> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some([SocketAddr::new(address, port)].into());
        }
        let mut names = self.names();
        let key = (Box::from(host), port);
        let name = names.get_mut(&key)?;
        let (addresses, at) = name.found.clone()?;
        let age = at.elapsed();
        if age >= RESOLVER_STALE {
            return None;
        }
        if age >= RESOLVER_TTL && name.lately_failed().is_none() {
            // A full queue means that the address is still used, and asked for next time.
            let _ = self.ask(key, name);
        }
        Some(addresses)
    }

    /// Asks a resolver thread; called on a data thread, whose `mailbox` brings the answer.
    pub async fn resolve(
        &self,
        mailbox: &Mailbox,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Answer {
        let ticket = Ticket::take();
        {
            let mut names = self.names();
            let key = (Box::from(host), port);
            if names.len() >= RESOLVED_NAMES_MAX && !names.contains_key(&key) {
                names.retain(|_, name| name.asked);
            }
            let name = names.entry(key.clone()).or_default();
            if let Some(error) = name.lately_failed() {
                return Err(error.clone());
            }
            if name.waiting.len() >= RESOLVER_WAITERS_MAX || self.ask(key, name).is_err() {
                return Err(ResolveError::Busy);
            }
            name.waiting.push(ticket.address(mailbox));
        }
        let answer = ticket
            .wait(timeout)
            .await
            .ok_or(ResolveError::TimedOut(timeout))?;
        match answer.downcast::<Answer>() {
            Ok(answer) => *answer,
            Err(_) => unreachable!("a resolver thread answers with addresses"),
        }
    }

    /// Queues a name unless it is asked for already.
    fn ask(&self, key: Key, name: &mut Name) -> Result<(), ResolveError> {
        if name.asked {
            return Ok(());
        }
        match self.queue.try_send(key) {
            Ok(()) => {
                name.asked = true;
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(ResolveError::Busy),
        }
    }

    /// Runs on a resolver thread.
    fn answer(&self, key: Key) {
        let found = match (self.look_up)(&key.0, key.1) {
            Ok(addresses) if !addresses.is_empty() => Ok(interleave(addresses)),
            Ok(_) => Err(ResolveError::Failed("the name has no address".into())),
            Err(error) => Err(ResolveError::Failed(error.to_string().into())),
        };
        let (answer, waiting) = {
            let mut names = self.names();
            let name = names.entry(key).or_default();
            let answer = name.note(found);
            name.asked = false;
            (answer, std::mem::take(&mut name.waiting))
        };
        for address in waiting {
            address.reply(answer.clone());
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Key, Name>> {
        self.names
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Name {
    /// When the system fails, an address known from before is better than none.
    fn note(&mut self, found: Answer) -> Answer {
        let now = Instant::now();
        match found {
            Ok(addresses) => {
                self.failed = None;
                self.found = Some((addresses.clone(), now));
                Ok(addresses)
            }
            Err(error) => {
                self.failed = Some((error.clone(), now));
                match &self.found {
                    Some((addresses, at)) if at.elapsed() < RESOLVER_STALE => Ok(addresses.clone()),
                    _ => Err(error),
                }
            }
        }
    }

    fn lately_failed(&self) -> Option<&ResolveError> {
        let (error, at) = self.failed.as_ref()?;
        (at.elapsed() < RESOLVER_NEGATIVE_TTL).then_some(error)
    }
}

fn next(questions: &Mutex<Receiver<Key>>) -> Option<Key> {
    let questions = questions
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    questions.recv().ok()
}

/// Alternates the families, keeping each one's order (RFC 8305 section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Addresses {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        ordered.extend(first.pop());
        ordered.extend(second.pop());
    }
    ordered.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::{mailbox, task};

    #[test]
    fn families_alternate() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(parse);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(parse);
        assert_eq!(&*interleave(given.to_vec()), &expected);
    }

    #[test]
    fn names_may_be_known_without_the_system() {
        let known = ["127.0.0.2", "127.0.0.1"].map(|text| text.parse().expect("an address"));
        let hosts = vec![("no.such.name.invalid".into(), known.to_vec())];
        let resolver = Resolver::start_knowing(1, hosts).expect("a thread");
        run(async |mailbox| {
            let found = resolver
                .resolve(mailbox, "no.such.name.invalid", 80, PATIENCE)
                .await
                .expect("addresses");
            assert_eq!(*found, known.map(|ip| SocketAddr::new(ip, 80)));
        });
    }

    #[test]
    fn literals_need_no_thread_and_names_are_kept() {
        let resolver = Resolver::start(1).expect("a thread");
        assert_eq!(
            resolver.cached("127.0.0.1", 80).expect("known")[0].port(),
            80
        );
        assert!(resolver.cached("localhost", 80).is_none());
        let (mut runtime, _) = Runtime::build(DriverChoice::Epoll).expect("a runtime");
        let (mailbox, inbox) = mailbox::pair().expect("a pair");
        runtime.block_on(async {
            task::spawn("inbox", async move {
                inbox.run(|_| ()).await.expect("a working bell")
            });
            let patience = Duration::from_secs(20);
            let found = resolver.resolve(&mailbox, "localhost", 80, patience).await;
            assert!(
                found
                    .expect("an address")
                    .iter()
                    .all(|address| address.ip().is_loopback())
            );
            let bad = resolver
                .resolve(&mailbox, "no.such.name.invalid", 80, patience)
                .await;
            assert!(bad.is_err());
        });
        assert!(resolver.cached("localhost", 80).is_some());
    }

    /// A resolver that counts its questions, and answers only while `up`.
    fn counting(
        threads: usize,
    ) -> (
        Arc<Resolver>,
        Arc<std::sync::atomic::AtomicUsize>,
        Arc<std::sync::atomic::AtomicBool>,
    ) {
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
        let (asked, up) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(true)),
        );
        let (counted, working) = (asked.clone(), up.clone());
        let resolver = Resolver::start_with(threads, move |host, port| {
            counted.fetch_add(1, Ordering::SeqCst);
            if host.starts_with("slow") {
                std::thread::sleep(Duration::from_millis(200));
            }
            match working.load(Ordering::SeqCst) {
                true => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
                false => Err(io::Error::other("no resolver answers")),
            }
        });
        (resolver.expect("threads"), asked, up)
    }

    fn run(test: impl AsyncFn(&Mailbox)) {
        let (mut runtime, _) = Runtime::build(DriverChoice::Epoll).expect("a runtime");
        let (mailbox, inbox) = mailbox::pair().expect("a pair");
        runtime.block_on(async {
            task::spawn("inbox", async move {
                inbox.run(|_| ()).await.expect("a working bell")
            });
            test(&mailbox).await;
        });
    }

    fn age(resolver: &Resolver, by: Duration) {
        for name in resolver.names().values_mut() {
            for at in [
                name.found.as_mut().map(|(_, at)| at),
                name.failed.as_mut().map(|(_, at)| at),
            ]
            .into_iter()
            .flatten()
            {
                *at = at.checked_sub(by).expect("a later boot");
            }
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_name_is_asked_for_once_however_many_wait() {
        use std::sync::atomic::Ordering;
        let (resolver, asked, _) = counting(3);
        run(async |mailbox| {
            let done = std::rc::Rc::new(std::cell::Cell::new(0));
            for _ in 0..20 {
                let (resolver, mailbox, done) = (resolver.clone(), mailbox.clone(), done.clone());
                task::spawn("question", async move {
                    let answer = resolver
                        .resolve(&mailbox, "slow.example", 1, PATIENCE)
                        .await;
                    assert!(answer.is_ok());
                    done.set(done.get() + 1);
                });
            }
            // The slow name holds one thread, not all of them.
            let other = resolver
                .resolve(mailbox, "quick.example", 1, PATIENCE)
                .await;
            assert!(other.is_ok());
            assert_eq!(done.get(), 0, "the slow name was waited for");
            while done.get() < 20 {
                monoio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_failure_is_kept_for_a_moment() {
        use std::sync::atomic::Ordering;
        let (resolver, asked, up) = counting(1);
        up.store(false, Ordering::SeqCst);
        run(async |mailbox| {
            for _ in 0..5 {
                let answer = resolver.resolve(mailbox, "dead.example", 1, PATIENCE).await;
                assert!(matches!(answer, Err(ResolveError::Failed(_))));
            }
            assert_eq!(asked.load(Ordering::SeqCst), 1);
            up.store(true, Ordering::SeqCst);
            age(&resolver, RESOLVER_NEGATIVE_TTL);
            let answer = resolver.resolve(mailbox, "dead.example", 1, PATIENCE).await;
            assert!(answer.is_ok());
        });
    }

    #[test]
    fn an_old_address_is_used_while_it_is_asked_for_again() {
        use std::sync::atomic::Ordering;
        let (resolver, asked, up) = counting(1);
        run(async |mailbox| {
            let name = "slow.example";
            resolver
                .resolve(mailbox, name, 1, PATIENCE)
                .await
                .expect("an address");
            assert!(resolver.cached(name, 1).is_some());
            assert_eq!(asked.load(Ordering::SeqCst), 1);
            up.store(false, Ordering::SeqCst);
            age(&resolver, RESOLVER_TTL);
            assert!(resolver.cached(name, 1).is_some(), "old but not waited for");
            let begin = Instant::now();
            while resolver.names().values().any(|name| name.asked) && begin.elapsed() < PATIENCE {
                monoio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(asked.load(Ordering::SeqCst), 2);
            assert!(resolver.cached(name, 1).is_some(), "better than none");
            age(&resolver, RESOLVER_STALE);
            assert!(resolver.cached(name, 1).is_none());
            assert!(resolver.resolve(mailbox, name, 1, PATIENCE).await.is_err());
        });
    }
}
