//! The origin behind the caches: a thread a connection, since it is asked once a resource.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use crate::sample;

/// Answers for ever.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // An error is a cache that went away.
        std::thread::spawn(move || converse(&stream).ok());
    }
}

fn converse(stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next() {
        let first = first?;
        for line in lines.by_ref() {
            if line?.is_empty() {
                break;
            }
        }
        let answer = match size(&first) {
            Some(size) => answer(size, ""),
            None => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        };
        let mut stream = stream;
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// The size that a request line asks for: a list is between 1 KB and 16 MiB.
fn size(line: &str) -> Option<usize> {
    let target = line.strip_prefix("GET ")?.split([' ', '?']).next()?;
    target.strip_prefix(sample::PATH)?.parse().ok().filter(|size| (1000..=16 << 20).contains(size))
}

/// A whole answer as it goes over the wire: head and list in one buffer. `more` are further header
/// lines, each with its line end.
pub(crate) fn answer(size: usize, more: &str) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n{more}");
    for (name, value) in sample::headers(size) {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(&sample::body(size));
    answer
}
