//! The page over HTTP, with server-sent events.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgegen_runtime::generate::Frame;
use edgegen_runtime::model::PixelFormat;
use edgegen_runtime::pictures::encode_png;
use tiny_http::{Header, Method, Request, Response, Server};

use super::{Asked, Hub};
use crate::picture::Picture;

const PAGE: &str = include_str!("page.html");
/// Requests and viewers at a time.
const MOST_VISITORS: usize = 16;
/// Bytes of what is asked for.
const LONGEST_REQUEST: u64 = 4096;
/// A viewer hears something at least so often, so that one that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Letters of a token.
const SHORTEST_TOKEN: usize = 8;

/// Where the page is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    /// A port of this machine alone, or an address with a port.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = &text.replace("localhost:", "127.0.0.1:");
        if let Ok(port) = text.parse() {
            return Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        let address = text.parse().map(Self);
        address.map_err(|_| "it takes a port, or an address with one: 8080 or 0.0.0.0:8080".into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// A page that is being served, for as long as the program runs.
#[derive(Debug)]
pub struct Served {
    /// Where, without the token.
    pub url: String,
}

/// Serves the page in threads of its own.
///
/// # Errors
/// If another machine could read it and there is no token, or the address is not to be had.
pub fn serve(address: &Address, token: Option<&str>, hub: &Arc<Hub>) -> Result<Served> {
    check(address, token)?;
    let server = Server::http(address.0).map_err(|error| anyhow!("{error}"));
    let server = server.with_context(|| format!("the page cannot be served at {address}"))?;
    let bound = server.server_addr().to_ip().unwrap_or(address.0);
    let access = Arc::new(Access { token: token.map(str::to_owned) });
    let (hub, visitors) = (Arc::clone(hub), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for request in server.incoming_requests() {
            if visitors.fetch_add(1, Ordering::Relaxed) >= MOST_VISITORS {
                visitors.fetch_sub(1, Ordering::Relaxed);
                answer(request, 503, "too many viewers");
                continue;
            }
            let (hub, access, visitors) = (Arc::clone(&hub), Arc::clone(&access), Arc::clone(&visitors));
            std::thread::spawn(move || {
                // a viewer that goes away is no error
                let _gone = attend(request, &hub, &access);
                visitors.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    // every address of this machine is none for others
    let host = if bound.ip().is_unspecified() { format!("HOST:{}", bound.port()) } else { bound.to_string() };
    Ok(Served { url: format!("http://{host}/") })
}

/// Whether a page may be served so.
///
/// # Errors
/// If another machine could read it and there is no token, or the token can be guessed or does not fit an address.
pub fn check(address: &Address, token: Option<&str>) -> Result<()> {
    if let Some(token) = token {
        let plain = token.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.~".contains(letter));
        if token.len() < SHORTEST_TOKEN || !plain {
            bail!("a token has at least {SHORTEST_TOKEN} letters, digits or -_.~");
        }
    } else if !address.0.ip().is_loopback() {
        bail!(
            "{address} can be reached from other machines: choose a token, which the page's address then needs"
        );
    }
    Ok(())
}

/// Who may see the page.
struct Access {
    token: Option<String>,
}

impl Access {
    /// Why this request is not answered, if it is not.
    fn refusal(&self, request: &Request) -> Option<(u16, &'static str)> {
        let query = request.url().split_once('?').map_or("", |(_, query)| query);
        match &self.token {
            Some(token) => {
                let given = query.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or("");
                // as long for a wrong one as for the right one
                let differing = given.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
                let right = given.len() == token.len() && differing == 0;
                (!right).then_some((403, "the address of the page ends in ?token= and its token"))
            }
            // a page of another site that found out the port must not get through by a name of its own
            None => {
                let host = header(request, "Host").unwrap_or_default();
                let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                let own = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
                (!own).then_some((403, "without a token only this machine is answered, as localhost"))
            }
        }
    }
}

fn header(request: &Request, name: &'static str) -> Option<String> {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.as_str().to_owned())
}

fn answer(request: Request, status: u16, text: &str) {
    // whoever does not wait for it has gone
    let _gone = request.respond(Response::from_string(format!("{text}\n")).with_status_code(status));
}

fn attend(mut request: Request, hub: &Hub, access: &Access) -> std::io::Result<()> {
    if let Some((status, reason)) = access.refusal(&request) {
        answer(request, status, reason);
        return Ok(());
    }
    let path = request.url().split('?').next().unwrap_or("/").to_owned();
    match (request.method(), path.as_str()) {
        (Method::Get, "/") => {
            let mut page = Response::from_string(PAGE);
            // nothing comes from elsewhere, and nobody may put it into a frame
            let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'";
            for (name, value) in [
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Security-Policy", policy),
                ("Referrer-Policy", "no-referrer"),
                ("Cache-Control", "no-store"),
            ] {
                if let Ok(header) = Header::from_bytes(name, value) {
                    page.add_header(header);
                }
            }
            request.respond(page)
        }
        (Method::Get, "/events") => watch(request, hub),
        (Method::Post, "/control") => {
            // a form of another site cannot send this type
            if header(&request, "Content-Type").as_deref() != Some("application/json") {
                answer(request, 415, "give application/json");
                return Ok(());
            }
            let mut body = Vec::new();
            request.as_reader().take(LONGEST_REQUEST).read_to_end(&mut body)?;
            match serde_json::from_slice::<Asked>(&body).map(|asked| hub.ask(asked.into())) {
                Ok(true) => answer(request, 200, "done"),
                Ok(false) => answer(request, 503, "too much is asked for at once"),
                Err(error) => answer(request, 400, &format!("not understood: {error}")),
            }
            Ok(())
        }
        _ => {
            answer(request, 404, "there is the page at /, /events and /control");
            Ok(())
        }
    }
}

/// Sends a viewer what changes, until it goes away.
fn watch(request: Request, hub: &Hub) -> std::io::Result<()> {
    let mut out = request.into_writer();
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
    )?;
    let mut seen = (0, 0, 0);
    let mut last: Option<Picture> = None;
    loop {
        out.flush()?;
        let view = hub.wait(seen, HEARTBEAT);
        if (view.pictures, view.statuses, view.messages) == seen {
            out.write_all(b":\n\n")?;
            continue;
        }
        if view.statuses != seen.1 {
            write!(out, "event: status\ndata: {}\n\n", view.status)?;
        }
        if view.messages != seen.2 {
            let message = serde_json::to_string(&view.message).unwrap_or_default();
            write!(out, "event: message\ndata: {message}\n\n")?;
        }
        if view.pictures != seen.0 {
            let (making, showing, number) = (view.making, view.showing, view.pictures);
            write!(
                out,
                "event: picture\ndata: {{\"number\":{number},\"making\":{making:.3},\"showing\":{showing:.3}"
            )?;
            if let Some(picture) = view.picture {
                if let Some(part) = part(&picture, last.as_ref()) {
                    let (size, at) = ((picture.width(), picture.height()), part.at);
                    let png = STANDARD.encode(part.png()?);
                    write!(
                        out,
                        ",\"width\":{},\"height\":{},\"x\":{},\"y\":{},\"png\":\"{png}\"",
                        size.0, size.1, at.0, at.1
                    )?;
                }
                last = Some(picture);
            }
            out.write_all(b"}\n\n")?;
        }
        seen = (view.pictures, view.statuses, view.messages);
    }
}

/// A rectangle of a picture.
struct Part {
    at: (usize, usize),
    frame: Frame,
}

impl Part {
    fn png(&self) -> std::io::Result<Vec<u8>> {
        encode_png(&self.frame).map_err(std::io::Error::other)
    }
}

/// What differs between two pictures; all of it where there was none, or one of another size.
fn part(picture: &Picture, last: Option<&Picture>) -> Option<Part> {
    let (width, height) = (picture.width(), picture.height());
    let last = last.filter(|last| (last.width(), last.height()) == (width, height));
    let (rows, columns) = match last {
        None => (0..height, 0..width),
        Some(last) => {
            let row = |picture: &Picture, y: usize| picture.rgb()[y * width * 3..][..width * 3].to_vec();
            let differs = |y: &usize| row(picture, *y) != row(last, *y);
            let (top, bottom) = ((0..height).find(differs)?, (0..height).rev().find(differs)?);
            let column_differs = |x: &usize| (top..=bottom).any(|y| picture.at(*x, y) != last.at(*x, y));
            let (left, right) = ((0..width).find(column_differs)?, (0..width).rev().find(column_differs)?);
            (top..bottom + 1, left..right + 1)
        }
    };
    let mut pixels = Vec::with_capacity(rows.len() * columns.len() * 3);
    for y in rows.clone() {
        pixels.extend_from_slice(&picture.rgb()[(y * width + columns.start) * 3..][..columns.len() * 3]);
    }
    let frame = Frame { width: columns.len(), height: rows.len(), format: PixelFormat::Rgb8, pixels };
    Some(Part { at: (columns.start, rows.start), frame })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_than_this_machine_need_a_token() {
        assert_eq!("8080".parse::<Address>().unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!("[::1]:80".parse::<Address>().unwrap().to_string(), "[::1]:80");
        for bad in ["", "x", "70000", "1.2.3.4", "host:80"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        let hub = Arc::new(Hub::default());
        let open: Address = "0.0.0.0:0".parse().unwrap();
        assert!(serve(&open, None, &hub).unwrap_err().to_string().contains("token"));
        assert!(serve(&open, Some("short"), &hub).unwrap_err().to_string().contains("8 letters"));
        assert!(serve(&open, Some("long enough&"), &hub).is_err());
        assert!(serve(&open, Some("long-enough"), &hub).unwrap().url.starts_with("http://HOST:"));
    }

    #[test]
    fn only_what_differs_is_sent() {
        let before = Picture::filled(9, 7, [5; 3]);
        let whole = part(&before, None).unwrap();
        assert_eq!((whole.at, whole.frame.width, whole.frame.height), ((0, 0), 9, 7));
        assert!(part(&before, Some(&before)).is_none());
        let mut after = before.clone();
        after.set(2, 3, [6; 3]);
        after.set(5, 1, [7; 3]);
        let differing = part(&after, Some(&before)).unwrap();
        assert_eq!((differing.at, differing.frame.width, differing.frame.height), ((2, 1), 4, 3));
        assert_eq!(differing.frame.pixels[3 * 3..][..3], [7; 3]);
        assert!(differing.png().unwrap().starts_with(b"\x89PNG"));
        assert_eq!(part(&after, Some(&Picture::filled(9, 8, [5; 3]))).unwrap().at, (0, 0));
    }
}
