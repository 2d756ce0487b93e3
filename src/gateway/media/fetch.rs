//! Fetches one thing from an address that a client wrote (spec: providers 1.10). The name is resolved once, every address that it
//! stands for is checked, and the connection goes to one of these: there is no second resolution that could answer otherwise.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quanta::Instant;

use super::address::{Address, is_public};
use super::kind::SNIFFED;
use crate::gateway::GatewayError;
use crate::http::{Method, ResponseHead};
use crate::limits::{MEDIA_BYTES_MAX, MEDIA_REDIRECTS_MAX, MEDIA_WAIT};
use crate::net::connect::Connector;
use crate::net::deadlines::OnExpiry;
use crate::net::http1::Connection;
use crate::net::origin::Origin;

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The one scheme that may be written.
    pub scheme: &'static str,
    /// Whether an address may be connected to.
    pub open: fn(IpAddr) -> bool,
    /// Most bytes of one thing.
    pub bytes_max: usize,
    /// The wait for all that one request names.
    pub wait: Duration,
}

impl Rules {
    /// Those that clients' addresses are held to.
    pub const PUBLIC: Self = Self {
        scheme: "https",
        open: is_public,
        bytes_max: MEDIA_BYTES_MAX,
        wait: MEDIA_WAIT,
    };
}

/// Something fetched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Its first bytes.
    pub begin: Vec<u8>,
    /// All of it, in base64.
    pub data: String,
    /// What the server calls it.
    pub told: Option<String>,
}

/// Why nothing was fetched. Says nothing of what lies behind an address that is closed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum FetchError {
    #[error("only {0} addresses with a plain host are fetched")]
    Address(&'static str),
    #[error("its host is not on the public internet")]
    Closed,
    #[error("its host cannot be reached")]
    Unreachable,
    #[error("its server answered {0}")]
    Status(u16),
    #[error("it is redirected to somewhere that is not fetched")]
    Redirect,
    #[error("it is redirected more than {MEDIA_REDIRECTS_MAX} times")]
    Redirects,
    #[error("it is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    #[error("it did not come within {} seconds", .0.as_secs())]
    TooSlow(Duration),
    #[error("its server broke off")]
    Broken,
    #[error("its server sends it compressed")]
    Compressed,
    #[error("{}", .0.message)]
    Memory(GatewayError),
}

/// What is needed to fetch.
pub(super) struct Fetcher<'a> {
    pub connector: &'a Connector,
    pub rules: Rules,
    /// When the wait for all began.
    pub begin: Instant,
    /// Takes memory for so many bytes more.
    pub grow: &'a dyn Fn(usize) -> Result<(), GatewayError>,
}

impl Fetcher<'_> {
    /// Fetches what stands at `url`.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, FetchError> {
        let mut address = self.address(url)?;
        for _ in 0..=MEDIA_REDIRECTS_MAX {
            let (mut connection, head) = self.ask(&address, Method::Get, get(&address)).await?;
            let location = match head.status() {
                200 => return self.take(&mut connection, &head).await,
                301 | 302 | 303 | 307 | 308 => head.header("location"),
                status => return Err(FetchError::Status(status)),
            };
            let location = location.and_then(|location| std::str::from_utf8(location).ok());
            let next = location.and_then(|location| address.join(location.trim()));
            address = next.ok_or(FetchError::Redirect)?;
        }
        Err(FetchError::Redirects)
    }

    /// Posts JSON to `url` and tells the status of the answer. Redirects are not followed.
    pub async fn post(&self, url: &str, body: &[u8]) -> Result<u16, FetchError> {
        let address = self.address(url)?;
        let message = post(&address, body);
        let (_, head) = self.ask(&address, Method::Post, message).await?;
        Ok(head.status())
    }

    /// Whether something could be sent to `url` now.
    pub async fn check(&self, url: &str) -> Result<(), FetchError> {
        let address = self.address(url)?;
        self.open_addresses(&address.origin).await.map(drop)
    }

    fn address(&self, url: &str) -> Result<Address, FetchError> {
        let scheme = self.rules.scheme;
        Address::parse(url, scheme).ok_or(FetchError::Address(scheme))
    }

    /// Sends the request and waits for the answer's head.
    async fn ask(
        &self,
        address: &Address,
        method: Method,
        message: Vec<u8>,
    ) -> Result<(Connection, ResponseHead), FetchError> {
        let addresses = self.open_addresses(&address.origin).await?;
        let connector = Connector {
            timeout: self.left()?,
            ..self.connector.clone()
        };
        let connected = connector.connect_at(&address.origin, &addresses).await;
        let (mut connection, _) = connected.map_err(|error| match error.is_timeout() {
            true => FetchError::TooSlow(self.rules.wait),
            false => FetchError::Unreachable,
        })?;
        // Holds for the answer's body too.
        connection
            .transport()
            .arm_deadline(self.left()?, OnExpiry::ShutBoth);
        let sent = connection.write(message.into()).await;
        let head = match sent {
            Ok(()) => connection.response_head(method).await.ok(),
            Err(_) => None,
        };
        match head {
            Some(head) => Ok((connection, head)),
            None => Err(self.broken(&connection)),
        }
    }

    /// The addresses that a name stands for, all of them open ones.
    async fn open_addresses(&self, origin: &Origin) -> Result<Arc<[SocketAddr]>, FetchError> {
        let addresses = self.resolve(origin).await?;
        if addresses.is_empty() {
            return Err(FetchError::Unreachable);
        }
        match addresses.iter().all(|found| (self.rules.open)(found.ip())) {
            true => Ok(addresses),
            false => Err(FetchError::Closed),
        }
    }

    async fn resolve(&self, origin: &Origin) -> Result<Arc<[SocketAddr]>, FetchError> {
        let Connector {
            resolver, mailbox, ..
        } = self.connector;
        if let Some(addresses) = resolver.cached(&origin.host, origin.port) {
            return Ok(addresses);
        }
        let left = self.left()?;
        let found = resolver.resolve(mailbox, &origin.host, origin.port, left);
        let found = found.await;
        found.map_err(|_| self.left().err().unwrap_or(FetchError::Unreachable))
    }

    /// Reads the body, in base64 as it comes: nothing is held twice.
    async fn take(
        &self,
        connection: &mut Connection,
        head: &ResponseHead,
    ) -> Result<Fetched, FetchError> {
        let coding = head.header("content-encoding").unwrap_or_default();
        if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
            return Err(FetchError::Compressed);
        }
        let told = head.header("content-type");
        let told = told.and_then(|told| std::str::from_utf8(told).ok());
        let mut fetched = Fetched {
            begin: Vec::with_capacity(SNIFFED),
            data: String::new(),
            told: told.map(str::to_owned),
        };
        let (mut size, mut rest) = (0, Vec::with_capacity(2));
        while let Some(piece) = connection
            .body_chunk()
            .await
            .map_err(|_| self.broken(connection))?
        {
            size += piece.len();
            if size > self.rules.bytes_max {
                return Err(FetchError::TooLarge(self.rules.bytes_max));
            }
            // What is held is a third more than what came.
            (self.grow)(piece.len() + piece.len().div_ceil(3)).map_err(FetchError::Memory)?;
            let wanted = SNIFFED.saturating_sub(fetched.begin.len());
            fetched.begin.extend(piece.iter().take(wanted));
            encode(&piece, &mut rest, &mut fetched.data);
        }
        // A body that ends with the connection ends with the deadline too.
        if connection.expired() {
            return Err(FetchError::TooSlow(self.rules.wait));
        }
        STANDARD.encode_string(&rest, &mut fetched.data);
        Ok(fetched)
    }

    fn left(&self) -> Result<Duration, FetchError> {
        let left = self.rules.wait.checked_sub(self.begin.elapsed());
        left.filter(|left| !left.is_zero())
            .ok_or(FetchError::TooSlow(self.rules.wait))
    }

    fn broken(&self, connection: &Connection) -> FetchError {
        match connection.expired() {
            true => FetchError::TooSlow(self.rules.wait),
            false => FetchError::Broken,
        }
    }
}

/// Appends the piece to what is encoded; up to two bytes wait for the next.
fn encode(mut piece: &[u8], rest: &mut Vec<u8>, data: &mut String) {
    while !rest.is_empty() && rest.len() < 3 {
        let Some((first, others)) = piece.split_first() else {
            return;
        };
        rest.push(*first);
        piece = others;
    }
    STANDARD.encode_string(&rest, data);
    let (whole, tail) = piece.split_at(piece.len() - piece.len() % 3);
    STANDARD.encode_string(whole, data);
    rest.clear();
    rest.extend_from_slice(tail);
}

fn get(address: &Address) -> Vec<u8> {
    format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: ringgate/{}\r\naccept: */*\r\naccept-encoding: identity\r\nconnection: close\r\n\r\n",
        address.path,
        address.origin.authority,
        env!("CARGO_PKG_VERSION"),
    )
    .into_bytes()
}

fn post(address: &Address, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: ringgate/{}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        address.path,
        address.origin.authority,
        env!("CARGO_PKG_VERSION"),
        body.len(),
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::resolver::Resolver;
    use crate::net::tls::{Roots, UpstreamTls};
    use crate::net::{mailbox, task};

    /// Rules under which this machine counts as public, but for one of its addresses.
    const LOCAL: Rules = Rules {
        scheme: "http",
        open: |address| address == IpAddr::from([127, 0, 0, 1]),
        bytes_max: 1 << 20,
        wait: Duration::from_secs(20),
    };

    /// Serves what `answer` makes of the path, one connection after another.
    fn server(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
                        _ => break,
                    }
                }
                count.fetch_add(1, Ordering::SeqCst);
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let _ = stream.write_all(&answer(&path));
            }
        });
        (port, served)
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn to(location: &str) -> Vec<u8> {
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes()
    }

    /// Fetches with names that `look_up` answers, on one of the drivers.
    fn fetch_by(
        proxy: Option<Arc<Origin>>,
        rules: Rules,
        url: &str,
        look_up: impl Fn(&str) -> Vec<[u8; 4]> + Send + Sync + 'static,
    ) -> Result<Fetched, FetchError> {
        let (mut runtime, _) = Runtime::build(DriverChoice::Auto).expect("a runtime");
        let (mailbox, inbox) = mailbox::pair().expect("a pair");
        let resolver = Resolver::start_with(1, move |host, port| {
            let found = look_up(host).into_iter();
            Ok(found
                .map(|address| SocketAddr::from((address, port)))
                .collect())
        });
        let connector = Connector {
            resolver: resolver.expect("a thread"),
            mailbox,
            tls: UpstreamTls::build(Roots::Bundled, None).expect("roots"),
            proxy,
            health: Default::default(),
            timeout: Duration::from_secs(20),
        };
        runtime.block_on(async {
            task::spawn("inbox", async move {
                inbox.run(|_| ()).await.expect("a working bell")
            });
            let fetcher = Fetcher {
                connector: &connector,
                rules,
                begin: Instant::now(),
                grow: &|_| Ok(()),
            };
            fetcher.fetch(url).await
        })
    }

    fn fetch_with(
        rules: Rules,
        url: &str,
        look_up: impl Fn(&str) -> Vec<[u8; 4]> + Send + Sync + 'static,
    ) -> Result<Fetched, FetchError> {
        fetch_by(None, rules, url, look_up)
    }

    fn fetch(rules: Rules, url: &str) -> Result<Fetched, FetchError> {
        fetch_with(rules, url, |_| vec![[127, 0, 0, 1]])
    }

    #[test]
    fn what_stands_there_is_fetched() {
        let (port, _) = server(|path| match path {
            "/a?b=c" => ok(b"hello"),
            _ => b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec(),
        });
        let found =
            fetch(LOCAL, &format!("http://pictures.example:{port}/a?b=c#d")).expect("fetched");
        let wanted = Fetched {
            begin: b"hello".to_vec(),
            data: "aGVsbG8=".to_owned(),
            told: Some("image/png".to_owned()),
        };
        assert_eq!(found, wanted);
        let found = fetch(LOCAL, &format!("http://pictures.example:{port}/")).expect("fetched");
        assert_eq!(found.data, STANDARD.encode("until the end"));
    }

    #[test]
    fn closed_addresses_are_never_connected_to() {
        let (port, served) = server(|_| ok(b"secret"));
        for (address, host) in [
            ([169, 254, 169, 254], "metadata.example"),
            ([127, 0, 0, 1], "localhost"),
            ([10, 0, 0, 1], "intranet.example"),
        ] {
            let url = format!("http://{host}:{port}/");
            let rules = Rules {
                open: is_public,
                ..LOCAL
            };
            let found = fetch_with(rules, &url, move |_| vec![address]);
            assert!(matches!(found, Err(FetchError::Closed)), "{found:?}");
        }
        // One closed address among open ones is enough.
        let url = format!("http://mixed.example:{port}/");
        let found = fetch_with(LOCAL, &url, |_| vec![[127, 0, 0, 1], [127, 0, 0, 2]]);
        assert!(matches!(found, Err(FetchError::Closed)));
        let rules = Rules {
            open: is_public,
            ..LOCAL
        };
        for literal in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            let found = fetch(rules, &format!("http://{literal}:{port}/"));
            assert!(matches!(found, Err(FetchError::Closed)), "{literal}");
        }
        assert!(matches!(
            fetch(Rules::PUBLIC, "http://example.com/"),
            Err(FetchError::Address(_))
        ));
        assert_eq!(served.load(Ordering::SeqCst), 0);
        let none = fetch_with(LOCAL, "http://nobody.example/", |_| Vec::new());
        assert!(matches!(none, Err(FetchError::Unreachable)));
    }

    #[test]
    fn redirects_are_checked_like_the_first_address() {
        let (inside, secrets) = server(|_| ok(b"secret"));
        let (port, _) = server(move |path| match path {
            "/inside" => to(&format!("http://inside.example:{inside}/")),
            "/literal" => to(&format!("http://127.0.0.2:{inside}/")),
            "/file" => to("file:///etc/passwd"),
            "/once" => to("/picture"),
            "/round" => to("/round"),
            "/gone" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => ok(b"hello"),
        });
        let at = |path: &str| {
            fetch_with(
                LOCAL,
                &format!("http://pictures.example:{port}{path}"),
                |host| match host {
                    "inside.example" => vec![[127, 0, 0, 2]],
                    _ => vec![[127, 0, 0, 1]],
                },
            )
        };
        assert!(matches!(at("/inside"), Err(FetchError::Closed)));
        assert!(matches!(at("/literal"), Err(FetchError::Closed)));
        assert!(matches!(at("/file"), Err(FetchError::Redirect)));
        assert!(matches!(at("/round"), Err(FetchError::Redirects)));
        assert!(matches!(at("/gone"), Err(FetchError::Status(404))));
        assert_eq!(at("/once").expect("fetched").data, "aGVsbG8=");
        assert_eq!(secrets.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_name_that_answers_otherwise_the_second_time_is_not_asked_twice() {
        let (port, served) = server(|_| ok(b"hello"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        // Open when it is checked, closed when it would be connected to.
        let look_up = move |_: &str| match count.fetch_add(1, Ordering::SeqCst) {
            0 => vec![[127, 0, 0, 1]],
            _ => vec![[127, 0, 0, 2]],
        };
        let found = fetch_with(LOCAL, &format!("http://rebinding.example:{port}/"), look_up);
        assert_eq!(found.expect("fetched").data, "aGVsbG8=");
        assert_eq!(
            (asked.load(Ordering::SeqCst), served.load(Ordering::SeqCst)),
            (1, 1)
        );
    }

    #[test]
    fn a_proxy_is_asked_for_the_address_that_was_checked() {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let note = asked.clone();
        let (proxy, _) = server(move |place| {
            note.lock().expect("a note").push(place.to_owned());
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()
        });
        let proxy = Some(Arc::new(Origin::new(false, "127.0.0.1", proxy)));
        let look_up = |host: &str| match host {
            "closed.example" => vec![[127, 0, 0, 2]],
            _ => vec![[127, 0, 0, 1]],
        };
        let found = fetch_by(proxy.clone(), LOCAL, "http://closed.example/", look_up);
        assert!(matches!(found, Err(FetchError::Closed)));
        let found = fetch_by(proxy, LOCAL, "http://pictures.example:81/", look_up);
        assert!(matches!(found, Err(FetchError::Unreachable)));
        assert_eq!(*asked.lock().expect("the notes"), ["127.0.0.1:81"]);
    }

    #[test]
    fn what_is_too_large_or_compressed_or_broken_is_not_taken() {
        let (port, _) = server(|path| match path {
            "/stated" => ok(&vec![0; (1 << 20) + 1]),
            "/endless" => {
                let chunk = [b"10000\r\n".as_slice(), &vec![0; 0x10000], b"\r\n"].concat();
                [
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                    chunk.repeat(20),
                ]
                .concat()
            }
            "/exact" => ok(&vec![0; 1 << 20]),
            "/gzip" => {
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".to_vec()
            }
            "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec(),
            _ => b"what?".to_vec(),
        });
        let at = |path: &str| fetch(LOCAL, &format!("http://pictures.example:{port}{path}"));
        assert!(matches!(at("/stated"), Err(FetchError::TooLarge(_))));
        assert!(matches!(at("/endless"), Err(FetchError::TooLarge(_))));
        assert_eq!(
            at("/exact").expect("fetched").data.len(),
            (1usize << 20).div_ceil(3) * 4
        );
        assert!(matches!(at("/gzip"), Err(FetchError::Compressed)));
        assert!(matches!(at("/short"), Err(FetchError::Broken)));
        assert!(matches!(at("/junk"), Err(FetchError::Broken)));
        assert_eq!(Rules::PUBLIC.bytes_max, 20 << 20);
    }

    #[test]
    fn slow_servers_are_left_however_they_are_slow() {
        let rules = Rules {
            wait: Duration::from_millis(300),
            ..LOCAL
        };
        // Accepts and says nothing, or stops in the middle: the sockets stay open.
        for said in [
            "",
            "HTTP/1.1 200 OK\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            let port = listener.local_addr().expect("an address").port();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let holding = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let _ = stream.write_all(said.as_bytes());
                let _ = stopped.recv();
            });
            let found = fetch(rules, &format!("http://slow.example:{port}/"));
            assert!(
                matches!(found, Err(FetchError::TooSlow(_))),
                "{said:?}: {found:?}"
            );
            drop(stop);
            holding.join().expect("ended");
        }
    }

    #[test]
    fn memory_that_is_not_given_ends_the_fetch() {
        let (mut runtime, _) = Runtime::build(DriverChoice::Auto).expect("a runtime");
        let (port, _) = server(|_| ok(b"hello"));
        let (mailbox, _inbox) = mailbox::pair().expect("a pair");
        let connector = Connector {
            resolver: Resolver::start(1).expect("a thread"),
            mailbox,
            tls: UpstreamTls::build(Roots::Bundled, None).expect("roots"),
            proxy: None,
            health: Default::default(),
            timeout: Duration::from_secs(20),
        };
        let found = runtime.block_on(async {
            let fetcher = Fetcher {
                connector: &connector,
                rules: LOCAL,
                begin: Instant::now(),
                grow: &|bytes| match bytes > 6 {
                    true => Err(GatewayError::no_memory()),
                    false => Ok(()),
                },
            };
            fetcher.fetch(&format!("http://127.0.0.1:{port}/")).await
        });
        assert!(matches!(found, Err(FetchError::Memory(error)) if error.status == 503));
    }

    proptest! {
        #[test]
        fn pieces_encode_like_the_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..8)) {
            let (mut rest, mut data) = (Vec::new(), String::new());
            for piece in &pieces {
                encode(piece, &mut rest, &mut data);
                prop_assert!(rest.len() < 3);
            }
            STANDARD.encode_string(&rest, &mut data);
            prop_assert_eq!(data, STANDARD.encode(pieces.concat()));
        }
    }
}
