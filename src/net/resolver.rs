//! Names to addresses, off the data threads: the system's resolver blocks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::mailbox::{Mailbox, ReplyAddress, Ticket};
use crate::limits::{RESOLVED_NAMES_MAX, RESOLVER_QUEUE_MAX, RESOLVER_TTL};

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
type Key = (Box<str>, u16);

/// Resolver threads and what they found.
pub struct Resolver {
    known: Mutex<HashMap<Key, (Addresses, Instant)>>,
    queue: SyncSender<Question>,
}

struct Question {
    key: Key,
    reply: ReplyAddress,
}

impl Resolver {
    /// Starts the threads; several, so that one dead name does not hold up the others. They end with the resolver.
    pub fn start(threads: usize) -> std::io::Result<Arc<Self>> {
        let (queue, questions) = sync_channel(RESOLVER_QUEUE_MAX);
        let resolver = Arc::new(Self {
            known: Mutex::default(),
            queue,
        });
        let questions = Arc::new(Mutex::new(questions));
        for index in 0..threads {
            let (resolver, questions) = (Arc::downgrade(&resolver), questions.clone());
            std::thread::Builder::new()
                .name(format!("resolver-{index}"))
                .spawn(move || {
                    while let Some(question) = next(&questions) {
                        let Some(resolver) = resolver.upgrade() else {
                            return;
                        };
                        let answer = resolver.look_up(&question.key);
                        question.reply.reply(answer);
                    }
                })?;
        }
        Ok(resolver)
    }

    /// What is known without asking: address literals, and names resolved within the last half minute.
    pub fn cached(&self, host: &str, port: u16) -> Option<Addresses> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some([SocketAddr::new(address, port)].into());
        }
        let known = self.known();
        let (addresses, found) = known.get(&(Box::from(host), port))?;
        (found.elapsed() < RESOLVER_TTL).then(|| addresses.clone())
    }

    /// Asks a resolver thread; called on a data thread, whose `mailbox` brings the answer.
    pub async fn resolve(
        &self,
        mailbox: &Mailbox,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Addresses, ResolveError> {
        let ticket = Ticket::take();
        let question = Question {
            key: (host.into(), port),
            reply: ticket.address(mailbox),
        };
        match self.queue.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                return Err(ResolveError::Busy);
            }
        }
        let answer = ticket
            .wait(timeout)
            .await
            .ok_or(ResolveError::TimedOut(timeout))?;
        match answer.downcast::<Result<Addresses, ResolveError>>() {
            Ok(answer) => *answer,
            Err(_) => unreachable!("a resolver thread answers with addresses"),
        }
    }

    /// Runs on a resolver thread. When the system fails, an address known from before is better than none.
    fn look_up(&self, (host, port): &Key) -> Result<Addresses, ResolveError> {
        let found = (&**host, *port)
            .to_socket_addrs()
            .map(|addresses| interleave(addresses.collect()));
        let mut known = self.known();
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                if known.len() >= RESOLVED_NAMES_MAX {
                    known.clear();
                }
                known.insert((host.clone(), *port), (addresses.clone(), Instant::now()));
                Ok(addresses)
            }
            Ok(_) => Err(ResolveError::Failed("the name has no address".into())),
            Err(error) => match known.get(&(host.clone(), *port)) {
                Some((addresses, _)) => Ok(addresses.clone()),
                None => Err(ResolveError::Failed(error.to_string().into())),
            },
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, (Addresses, Instant)>> {
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn next(questions: &Mutex<Receiver<Question>>) -> Option<Question> {
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
}
