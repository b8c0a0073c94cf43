//! The limit: the least that a server of one thread can do. It waits in epoll, finds the ends of
//! request heads and answers each with one buffer that was built before. It understands nothing.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use memchr::memmem::Finder;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// The listener's token; connections have their index.
const LISTENER: Token = Token(usize::MAX);
/// As much as is read at once. A head that is longer ends the connection.
const HEAD_BYTES_MAX: usize = 16 * 1024;

struct Connection {
    stream: TcpStream,
    /// What was read and not yet answered begins at 0 and ends here.
    filled: usize,
    input: Box<[u8]>,
    /// Answers owed, the one being written included.
    owed: usize,
    /// How much of the one being written is out.
    written: usize,
}

/// Answers for ever.
pub(crate) fn serve(address: SocketAddr, answer: &[u8]) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    crate::announce(listener.local_addr()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    let head_end = Finder::new(b"\r\n\r\n");
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Events::with_capacity(256);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let Some(slot) = connections.get_mut(event.token().0) else { continue };
            let Some(connection) = slot else { continue };
            if turn(connection, &head_end, answer).is_err() {
                *slot = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Option<Connection>>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let index = connections.iter().position(Option::is_none).unwrap_or(connections.len());
        if index == connections.len() {
            connections.push(None);
        }
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let input = vec![0; HEAD_BYTES_MAX].into_boxed_slice();
        connections[index] = Some(Connection { stream, filled: 0, input, owed: 0, written: 0 });
    }
}

/// One event: writes what could not be written before, then reads and answers. The events are
/// edges, so a side that is not emptied must have said "would block", or have come up short.
fn turn(connection: &mut Connection, head_end: &Finder, answer: &[u8]) -> io::Result<()> {
    loop {
        if !write(connection, answer)? {
            return Ok(());
        }
        let space = &mut connection.input[connection.filled..];
        let room = space.len();
        let read = match connection.stream.read(space) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        connection.filled += read;
        let input = &connection.input[..connection.filled];
        let mut begin = 0;
        while let Some(end) = head_end.find(&input[begin..]) {
            connection.owed += 1;
            begin += end + 4;
        }
        connection.input.copy_within(begin..connection.filled, 0);
        connection.filled -= begin;
        if read < room {
            write(connection, answer)?;
            return Ok(());
        }
    }
}

/// Whether everything that is owed is out.
fn write(connection: &mut Connection, answer: &[u8]) -> io::Result<bool> {
    while connection.owed > 0 {
        match connection.stream.write(&answer[connection.written..]) {
            Ok(written) => connection.written += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if connection.written == answer.len() {
            connection.written = 0;
            connection.owed -= 1;
        }
    }
    Ok(true)
}
