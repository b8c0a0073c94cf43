//! Encodes bodies in the background: once each, one at a time, and only for who asks.
//!
//! A form is made when a hit would have been sent it, so what is asked for once costs nothing. Until it is there
//! answers go out as they are. Forms are not shared: a node makes its own in less time than another's takes to
//! come, and the shared tier holds one value a key.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::policy::encoding::{Accepted, Coding, Compression, Encoded};
use crate::policy::entry::Entry;
use crate::store::l1::L1;
use crate::tasks::Tasks;

/// Bodies that wait to be encoded; of more the next hit asks again.
const QUEUE_MAX: usize = 64;

/// What each level costs and saves is measured in `benches/results/encodings.txt`. Beyond these a few bytes in a
/// hundred cost twice the time and more.
const BROTLI_QUALITY: i32 = 5;
const BROTLI_WINDOW_BITS: i32 = 22;
const ZSTD_LEVEL: i32 = 6;
const GZIP_LEVEL: u32 = 6;

/// Has bodies encoded.
#[derive(Debug)]
pub struct Encoder {
    compression: Compression,
    queue: mpsc::Sender<Job>,
    metrics: Arc<Metrics>,
}

impl Encoder {
    /// Starts the one task that encodes: a sidecar shares its cores with the backend.
    pub(super) fn start(compression: Compression, l1: L1, metrics: Arc<Metrics>, tasks: &Tasks) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        if !compression.codings.is_empty() {
            tasks.spawn(work(jobs, l1, Arc::clone(&metrics), tasks.clone()));
        }
        Self { compression, queue, metrics }
    }

    /// Which bodies are encoded.
    pub fn compression(&self) -> &Compression {
        &self.compression
    }

    /// What a client takes of an entry; it is asked only where there is a choice.
    pub fn accepted(&self, entry: &Entry, client: impl FnOnce() -> Accepted) -> Accepted {
        if entry.is_encodable { self.compression.offered(client()) } else { Accepted::PLAIN }
    }

    /// Has a form made of an entry that was hit, unless one of it is being made.
    pub fn want(&self, entry: &Arc<Entry>, coding: Coding) {
        let Some(job) = Job::claim(entry, coding) else { return };
        if self.queue.try_send(job).is_err() {
            self.metrics.encoded(coding, Encoded::Dropped);
        }
    }
}

/// A body that is to be encoded, and the right to do so.
#[derive(Debug)]
struct Job {
    entry: Arc<Entry>,
    coding: Coding,
}

impl Job {
    fn claim(entry: &Arc<Entry>, coding: Coding) -> Option<Self> {
        entry.forms.claim().then(|| Self { entry: Arc::clone(entry), coding })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.entry.forms.release();
    }
}

async fn work(mut jobs: mpsc::Receiver<Job>, l1: L1, metrics: Arc<Metrics>, tasks: Tasks) {
    loop {
        let job = tokio::select! {
            biased;
            () = tasks.stopping().cancelled() => return,
            job = jobs.recv() => job,
        };
        let Some(job) = job else { return };
        let became = make(&job, &l1, &tasks).await;
        metrics.encoded(job.coding, became);
    }
}

async fn make(job: &Job, l1: &L1, tasks: &Tasks) -> Encoded {
    let (coding, plain, forms) = (job.coding, job.entry.body.clone(), &job.entry.forms);
    // A task of its own, so that a panic in it ends no other body's turn.
    match tasks.spawn(Tasks::block(move || encode(coding, &plain))).await {
        Ok(Ok(Some(body))) => {
            forms.keep(coding, body);
            if l1.weigh_anew(&job.entry) { Encoded::Made } else { Encoded::Gone }
        }
        Ok(Ok(None)) => {
            forms.give_up(coding);
            Encoded::Vain
        }
        Ok(Err(error)) => {
            forms.give_up(coding);
            tracing::error!(%error, coding = coding.as_str(), "a body could not be encoded");
            Encoded::Failed
        }
        Err(error) => {
            forms.give_up(coding);
            tracing::error!(%error, coding = coding.as_str(), "the encoder panicked");
            Encoded::Failed
        }
    }
}

/// Encodes a body; `None` where that saves too little to be kept.
///
/// # Errors
/// What the encoder says; there is no body that it has to refuse.
pub fn encode(coding: Coding, plain: &[u8]) -> io::Result<Option<Bytes>> {
    let most = Compression::most(plain.len());
    let mut out = Bounded { bytes: Vec::with_capacity(plain.len() / 8), most, is_full: false };
    let written = match coding {
        Coding::Br => {
            let params = brotli::enc::BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW_BITS,
                size_hint: plain.len(),
                ..Default::default()
            };
            let mut plain = plain;
            brotli::BrotliCompress(&mut plain, &mut out, &params).map(drop)
        }
        Coding::Zstd => zstd::Encoder::new(&mut out, ZSTD_LEVEL).and_then(|mut encoder| {
            encoder.set_pledged_src_size(Some(plain.len() as u64))?;
            encoder.include_contentsize(true)?;
            encoder.write_all(plain)?;
            encoder.finish().map(drop)
        }),
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(plain).and_then(|()| encoder.finish().map(drop))
        }
    };
    if out.is_full {
        return Ok(None);
    }
    written?;
    // A buffer that grew by doubling may be half empty, and only the length is counted.
    Ok(Some(Bytes::from(out.bytes.into_boxed_slice())))
}

/// Takes so many bytes and no more: what does not shrink is given up before it is done.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn decode(coding: Coding, encoded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Br => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut plain),
            Coding::Zstd => zstd::Decoder::new(encoded).unwrap().read_to_end(&mut plain),
            Coding::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut plain),
        }
        .unwrap();
        plain
    }

    #[test]
    fn a_real_list_shrinks_by_an_order_of_magnitude() {
        let list = include_bytes!("../../tests/fixtures/captures/http/products-12.body");
        for coding in Coding::ALL {
            let encoded = encode(coding, list).unwrap().unwrap();
            assert!(encoded.len() * 10 < list.len(), "{coding:?}: {} of {}", encoded.len(), list.len());
            assert!(decode(coding, &encoded) == list, "{coding:?}");
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_as_it_is() {
        let noise: Vec<u8> = (0..64_u32).flat_map(|n| *blake3::hash(&n.to_be_bytes()).as_bytes()).collect();
        for coding in Coding::ALL {
            assert_eq!(encode(coding, &noise).unwrap(), None, "{coding:?}");
            assert_eq!(encode(coding, b"").unwrap(), None, "{coding:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        /// Whatever the body is: what was encoded reads as it was.
        #[test]
        fn the_decoded_form_is_the_body(piece in proptest::collection::vec(any::<u8>(), 0..300), times in 1_usize..300) {
            let plain = piece.repeat(times);
            for coding in Coding::ALL {
                if let Some(encoded) = encode(coding, &plain).unwrap() {
                    prop_assert!(encoded.len() <= Compression::most(plain.len()));
                    prop_assert!(decode(coding, &encoded) == plain);
                }
            }
        }
    }
}
