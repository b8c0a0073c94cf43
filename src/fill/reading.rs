//! The body of an answer: read whole, or sent on as it comes.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};

use crate::body::{Body, BodyError};
use crate::origin::{OriginBody, OriginError};

/// A body read whole, or one that proved too large: as a stream from its first byte, if one reader may have it.
pub(super) enum Read {
    Whole(Bytes),
    TooLarge(Option<Body>),
}

/// A body that one client alone reads, as slowly as a passed one, if there is a place for it.
pub(super) fn for_one(body: OriginBody) -> Option<Body> {
    body.into_pass().map(Body::stream)
}

/// Reads a body up to `most` bytes; a larger one goes on as a stream from its first byte.
pub(super) async fn read(mut body: OriginBody, most: usize) -> Result<Read, OriginError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(most).min(most);
    let mut whole = BytesMut::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > most {
            let begun = [whole.freeze(), data];
            let begun = begun.into_iter().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes)));
            let begun = StreamBody::new(stream::iter(begun));
            let rest = body.into_pass();
            return Ok(Read::TooLarge(rest.map(|then| Body::stream(Chain { first: Some(begun), then }))));
        }
        whole.extend_from_slice(&data);
    }
    // A buffer that grew by doubling may be half empty, and only the length is counted.
    let is_roomy = whole.capacity() - whole.len() > whole.len() / 8;
    Ok(Read::Whole(if is_roomy { Bytes::copy_from_slice(&whole) } else { whole.freeze() }))
}

/// What was read already, then the rest.
struct Chain<A> {
    first: Option<A>,
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
        if let Some(first) = &mut self.first {
            match std::pin::Pin::new(first).poll_frame(cx) {
                std::task::Poll::Ready(None) => self.first = None,
                frame => return frame.map_err(Into::into),
            }
        }
        std::pin::Pin::new(&mut self.then).poll_frame(cx).map_err(Into::into)
    }
}
