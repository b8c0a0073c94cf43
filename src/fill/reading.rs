//! The body of an answer: read whole, or sent on as it comes.
//!
//! Followers are not fed while the leader reads: whether they may have an answer is known when its tags are, and
//! those may stand in its last byte; and what breaks off half-way must not have begun for a thousand clients.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{Body, BodyError};
use crate::origin::{OriginBody, OriginError};
use crate::policy::storable::Unshareable;

/// A body read whole, or one that cannot be: as a stream from its first byte, if one reader may have it.
pub(super) enum Read {
    /// All of it, and its share of the budget: to be given back when it is stored.
    Whole(Bytes, Share),
    /// Why not, and the stream.
    Streams(Unshareable, Option<Body>),
}

/// A body that one client alone reads, as slowly as a passed one, if there is a place for it.
pub(super) fn for_one(body: OriginBody) -> Option<Body> {
    body.into_pass().map(Body::stream)
}

/// Reads a body up to `most` bytes, if the budget has room for it; else it goes on as a stream from its first byte.
pub(super) async fn read(mut body: OriginBody, most: usize, budget: &Budget) -> Result<Read, OriginError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(most).min(most);
    let Some(mut share) = budget.take(expected) else {
        return Ok(Read::Streams(Unshareable::InFlight, for_one(body)));
    };
    let mut whole = BytesMut::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = whole.len() + data.len();
        let trouble = if length > most {
            Some(Unshareable::TooLarge)
        } else if length > whole.capacity() {
            let grown = length.max(whole.capacity() * 2).min(most);
            let more = budget.take(grown - whole.capacity());
            more.map(|more| {
                share.add(more);
                whole.reserve(grown - whole.len());
            })
            .map_or(Some(Unshareable::InFlight), |()| None)
        } else {
            None
        };
        if let Some(why) = trouble {
            let begun = [whole.freeze(), data];
            let begun = begun.into_iter().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes)));
            let first = Some((StreamBody::new(stream::iter(begun)), share));
            return Ok(Read::Streams(why, body.into_pass().map(|then| Body::stream(Chain { first, then }))));
        }
        whole.extend_from_slice(&data);
    }
    // A buffer that grew by doubling may be half empty, and only the length is counted.
    let is_roomy = whole.capacity() - whole.len() > whole.len() / 8;
    Ok(Read::Whole(if is_roomy { Bytes::copy_from_slice(&whole) } else { whole.freeze() }, share))
}

/// Bytes of bodies that a node may hold before they are stored, all fills together. Counted in KiB.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    kib: usize,
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share(OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let kib = (bytes / 1024).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(kib)), kib }
    }

    /// Takes a part, if there is as much left.
    pub(super) fn take(&self, bytes: usize) -> Option<Share> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(kib).ok().map(Share)
    }

    /// Bytes that are taken.
    pub(super) fn taken(&self) -> usize {
        (self.kib - self.free.available_permits()) * 1024
    }
}

impl Share {
    fn add(&mut self, more: Self) {
        self.0.merge(more.0);
    }
}

/// What was read already, then the rest.
struct Chain<A> {
    first: Option<(A, Share)>,
    then: OriginBody,
}

impl<A> http_body::Body for Chain<A>
where
    A: http_body::Body<Data = Bytes, Error = OriginError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some((first, _)) = &mut self.first {
            match std::pin::Pin::new(first).poll_frame(cx) {
                std::task::Poll::Ready(None) => self.first = None,
                frame => return frame.map_err(Into::into),
            }
        }
        std::pin::Pin::new(&mut self.then).poll_frame(cx).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Framing;

    #[tokio::test]
    async fn a_body_takes_its_part_of_the_budget_until_it_is_stored() {
        let budget = Budget::new(64 << 10);
        let of = |bytes: usize| OriginBody::from(Bytes::from(vec![b'x'; bytes]));
        let Ok(Read::Whole(body, share)) = read(of(40 << 10), 48 << 10, &budget).await else { panic!("it fits") };
        assert_eq!((body.len(), budget.taken()), (40 << 10, 40 << 10));
        let second = read(of(40 << 10), 48 << 10, &budget).await;
        assert!(matches!(second, Ok(Read::Streams(Unshareable::InFlight, Some(_)))));
        drop(share);
        assert_eq!(budget.taken(), 0);
        assert!(matches!(read(of(40 << 10), 48 << 10, &budget).await, Ok(Read::Whole(..))));
        assert!(matches!(read(of(49 << 10), 48 << 10, &budget).await, Ok(Read::Streams(Unshareable::TooLarge, _))));
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_that_outgrows_the_budget_streams_from_its_first_byte() {
        let budget = Budget::new(64 << 10);
        let pieces = (0..9_u8).map(|n| Ok(Frame::data(Bytes::from(vec![n; 10 << 10]))));
        let body = OriginBody::local(Framing::Chunked, StreamBody::new(stream::iter(pieces)));
        let Ok(Read::Streams(Unshareable::InFlight, Some(streamed))) = read(body, 1 << 20, &budget).await else {
            panic!("it is larger than the budget");
        };
        assert!(budget.taken() > 32 << 10, "what was read is held until it is sent");
        let whole = streamed.collect().await.unwrap().to_bytes();
        assert!(whole == (0..9_u8).flat_map(|n| vec![n; 10 << 10]).collect::<Vec<_>>());
        assert_eq!(budget.taken(), 0);
    }
}
