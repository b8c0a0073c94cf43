//! A server that answers what a test says, for what a real one cannot be made to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use endcap::store::redis::Address;
use endcap::tasks::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// See the module.
pub(crate) struct Fake {
    pub(crate) port: u16,
    /// Commands received.
    pub(crate) asked: Arc<AtomicUsize>,
    /// Connections taken.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Fake {
    /// Answers each command, given by its words, with these bytes; with none it closes the connection.
    pub(crate) async fn start(answer: impl Fn(&[String]) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (tasks, answer) = (Tasks::new(), Arc::new(answer));
        let (count, taken) = (Arc::clone(&asked), Arc::clone(&connections));
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                taken.fetch_add(1, Ordering::SeqCst);
                let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
                tasks.spawn(async move {
                    // The end of a connection ends its task.
                    drop(converse(stream, &*answer, &count).await);
                });
            }
        });
        Self { port, asked, connections }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Tcp("127.0.0.1".to_owned(), self.port)
    }
}

async fn converse(
    stream: TcpStream,
    answer: &(dyn Fn(&[String]) -> String + Send + Sync),
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut words = Vec::new();
        for _ in 0..number(&mut stream).await? {
            let mut word = vec![0; number(&mut stream).await? + 2];
            stream.read_exact(&mut word).await?;
            word.truncate(word.len() - 2);
            words.push(String::from_utf8_lossy(&word).into_owned());
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let answer = answer(&words);
        if answer.is_empty() {
            return Ok(());
        }
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

/// The number in a line such as `*3` or `$5`.
async fn number(stream: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(0))
}
