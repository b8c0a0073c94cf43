//! The scripted backend's end of a connection: it writes HTTP itself, so that it can also write what is not.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Answer, Form, Script, Seen};

pub(super) async fn serve(mut stream: BufReader<TcpStream>, script: &Script) -> std::io::Result<()> {
    while let Some(mut seen) = read_head(&mut stream).await? {
        read_body(&mut stream, &mut seen, script).await?;
        let (answer, gate) = {
            let mut state = script.state();
            state.seen.push(seen.clone());
            let body = format!(r#"{{"target":"{}","version":{}}}"#, seen.target, state.version);
            let answer =
                state.answers.get(seen.path()).map_or_else(|| Answer::json(body), |responder| responder(&seen));
            (answer, state.gates.get(seen.path()).cloned())
        };
        stream.get_mut().write_all(answer.interim.as_bytes()).await?;
        if let Some(gate) = gate.filter(|gate| !*gate.open.borrow()) {
            gate.arrived.send_modify(|arrived| *arrived += 1);
            let opened = gate.open.subscribe().wait_for(|open| *open).await.map(drop);
            opened.expect("the gate is held here");
        }
        if !write(&mut stream, &seen, answer).await? {
            return Ok(());
        }
    }
    Ok(())
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end_matches(['\r', '\n']) {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut headers = HeaderMap::new();
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    Ok(Some(Seen { method, target, headers, body: Bytes::new() }))
}

async fn read_body(stream: &mut BufReader<TcpStream>, seen: &mut Seen, script: &Script) -> std::io::Result<()> {
    let mut body = Vec::new();
    if seen.field("transfer-encoding") == "chunked" {
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            body.extend_from_slice(&chunk[..size]);
            script.received.send_modify(|received| *received += size);
            if size == 0 {
                break;
            }
        }
    } else if let Ok(length) = seen.field("content-length").parse::<usize>() {
        let mut buffer = vec![0; 64 * 1024];
        while body.len() < length {
            let most = buffer.len().min(length - body.len());
            let read = stream.read(&mut buffer[..most]).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            body.extend_from_slice(&buffer[..read]);
            script.received.send_modify(|received| *received += read);
        }
    }
    seen.body = body.into();
    Ok(())
}

/// Whether the connection goes on.
async fn write(stream: &mut BufReader<TcpStream>, seen: &Seen, answer: Answer) -> std::io::Result<bool> {
    let stream = stream.get_mut();
    let known = answer.value("etag").is_some_and(|etag| etag == seen.field("if-none-match"));
    let status = if known { 304 } else { answer.status };
    let mut head = format!("HTTP/1.1 {status} Said\r\n");
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if known {
        stream.write_all(format!("{head}\r\n").as_bytes()).await?;
        return Ok(true);
    }
    let is_head = seen.method == "HEAD";
    match answer.form {
        Form::Whole(body) => {
            stream.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).await?;
            stream.write_all(if is_head { b"" } else { &body }).await?;
        }
        Form::Chunked(body) => {
            stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await?;
            for piece in body.chunks(32 * 1024).filter(|_| !is_head) {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                stream.write_all(piece).await?;
                stream.write_all(b"\r\n").await?;
            }
            stream.write_all(if is_head { b"" } else { b"0\r\n\r\n" }).await?;
        }
        Form::UntilClose(body) => {
            stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Form::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Form::Reset => {
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
            return Ok(false);
        }
        Form::Silence => {
            // Until the caller gives up.
            drop(stream.read_u8().await);
            return Ok(false);
        }
        Form::Pieces(pieces) => {
            stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await?;
            let mut pieces = pieces.lock().await;
            while let Some(piece) = pieces.recv().await {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                stream.write_all(&piece).await?;
                stream.write_all(b"\r\n").await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
        }
    }
    Ok(true)
}
