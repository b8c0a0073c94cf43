//! What is asked for, and what a right answer is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::load::now;
use crate::sample;

/// An encoded form is made behind a hit, and may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, and the body that answers it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) request: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Wanted {
    /// The list of this size, plain or in an encoding: what the server makes of it, once it has.
    pub(crate) fn new(address: SocketAddr, size: usize, encoding: Option<&str>) -> Result<Self> {
        let request = sample::request(&address.to_string(), size, encoding.unwrap_or("identity"));
        let Some(encoding) = encoding else { return Ok(Self { request, body: sample::body(size) }) };
        let deadline = now() + PATIENCE;
        loop {
            let (head, body) = exchange(address, &request)?;
            if head.contains(&format!("content-encoding: {encoding}\r\n")) {
                ensure!(decode(encoding, &body)? == sample::body(size), "the {encoding} form differs from the list");
                return Ok(Self { request, body });
            }
            ensure!(now() < deadline, "no {encoding} form after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One answer, its head in lower case.
fn exchange(address: SocketAddr, request: &[u8]) -> Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => bail!("the server closed in the middle of a head"),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    };
    let mut body = bytes.split_off(head);
    let head = String::from_utf8(bytes)?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
    let begun = body.len();
    body.resize(length.trim().parse()?, 0);
    stream.read_exact(&mut body[begun..])?;
    Ok((head, body))
}

fn decode(encoding: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    match encoding {
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain)?,
        "zstd" => zstd::Decoder::new(body)?.read_to_end(&mut plain)?,
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain)?,
        other => bail!("{other} is no encoding of endcap's"),
    };
    Ok(plain)
}
