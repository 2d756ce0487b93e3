//! The inference part of the REST family on the management listener, as Cloudflare's clients have one base URL (resolutions 25):
//! each request goes to a data thread over a connection of its own, both of whose ends are this process's, and its answer
//! streams back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as Adopted};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONNECTION, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use axum::http::{Response, StatusCode, Uri};
use axum::response::IntoResponse;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::serve::Status;

/// Sends the request to a data thread.
pub(super) async fn infer(
    State(status): State<Arc<dyn Status>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    match relay(&*status, peer, request).await {
        Ok(answer) => answer,
        Err(error) => {
            let told = format!("The request could not be handed to a data thread: {error}\n");
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], told).into_response()
        }
    }
}

async fn relay(
    status: &dyn Status,
    peer: SocketAddr,
    mut request: Request,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut near, far) = pair().await?;
    if !status.adopt(far) {
        return Err("no data thread takes it".into());
    }
    // The data thread must see the client and not us.
    near.write_all(proxy_header(peer).as_bytes()).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await?;
    let connection = Running(tokio::spawn(async move {
        // Its error is the request's as well, or the client's that left.
        let _ = connection.await;
    }));
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let headers = request.headers_mut();
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers
        .entry(HOST)
        .or_insert(axum::http::HeaderValue::from_static("localhost"));
    let answer = sender.send_request(request).await?;
    let (mut head, body) = answer.into_parts();
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    Ok(Response::from_parts(
        head,
        Body::new(Held {
            body,
            _connection: connection,
        }),
    ))
}

/// A connection of this process to itself. Whoever else connects meanwhile is turned away.
async fn pair() -> io::Result<(TcpStream, Adopted)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    near.set_nodelay(true)?;
    let own = near.local_addr()?;
    loop {
        let (far, from) = listener.accept().await?;
        if from == own {
            return Ok((near, far.into_std()?));
        }
    }
}

/// Version 1 of the PROXY protocol (section 2.1 of its specification).
fn proxy_header(peer: SocketAddr) -> String {
    let (family, here) = match peer.ip().to_canonical().is_ipv4() {
        true => ("TCP4", "127.0.0.1"),
        false => ("TCP6", "::1"),
    };
    let (address, port) = (peer.ip().to_canonical(), peer.port());
    format!("PROXY {family} {address} {here} {port} 1\r\n")
}

/// The task that drives a connection; it ends with whoever waits for the answer, so that the data thread sees that the client
/// left.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer's body, and the connection that brings it.
struct Held {
    body: hyper::body::Incoming,
    _connection: Running,
}

impl hyper::body::Body for Held {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::proxy_protocol;

    #[test]
    fn the_data_thread_is_told_who_asks() {
        for (peer, expected) in [
            ("192.0.2.7:5000", "192.0.2.7:5000"),
            ("[::ffff:192.0.2.7]:5000", "192.0.2.7:5000"),
            ("[2001:db8::7]:1", "[2001:db8::7]:1"),
        ] {
            let header = proxy_header(peer.parse().expect("an address"));
            let read = proxy_protocol::parse(header.as_bytes()).expect("valid");
            let source = read.expect("whole").source.expect("an address");
            assert_eq!(source.to_string(), expected);
        }
    }
}
