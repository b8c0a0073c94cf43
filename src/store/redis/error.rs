//! What the client and the server say, as errors of ours.

use redis::{ErrorKind, RedisError, Value};

use super::topology::{Address, Redirect};
use crate::store::{Denial, StoreError};

pub(super) fn store_error(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::Timeout;
    }
    if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
        return StoreError::Connection(error.to_string());
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return StoreError::Refused(Denial::Credentials, error.to_string());
    }
    let denial = match error.code() {
        Some("OOM") => Denial::Full,
        Some("READONLY" | "MASTERDOWN" | "UNBLOCKED") => Denial::ReadOnly,
        Some("LOADING") => Denial::Loading,
        Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "CROSSSLOT") => Denial::Moved,
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Denial::Credentials,
        Some("WRONGTYPE") => Denial::Type,
        Some("NOREPLICAS") => Denial::Replicas,
        _ => return StoreError::Server(error.to_string()),
    };
    StoreError::Refused(denial, error.to_string())
}

/// An answer, or the error that it is.
pub(super) fn answered(answer: Value) -> Result<Value, StoreError> {
    refusal(&answer).map_or(Ok(answer), Err)
}

/// The error that an answer is, if it is one.
pub(super) fn refusal(answer: &Value) -> Option<StoreError> {
    let Value::ServerError(error) = answer else { return None };
    Some(store_error(&RedisError::from(error.clone())))
}

/// Where an answer sends us, if it does.
pub(super) fn redirected(answer: &Value, asked: &Address) -> Option<Redirect> {
    let Value::ServerError(error) = answer else { return None };
    Redirect::read(error.code(), error.details()?, asked)
}

/// Whether whoever answered so is not, or no longer, the one to ask.
pub(super) fn is_elsewhere(error: &StoreError) -> bool {
    match error {
        StoreError::Connection(_) | StoreError::Refused(Denial::ReadOnly | Denial::Moved, _) => true,
        StoreError::Timeout | StoreError::Open | StoreError::Refused(..) => false,
        StoreError::Unreplicated(..) | StoreError::Gone | StoreError::Server(_) => false,
    }
}

/// An answer that no server of this protocol gives.
pub(super) fn odd(answer: &Value) -> StoreError {
    let mut text = format!("{answer:?}");
    text.truncate(text.floor_char_boundary(120));
    StoreError::Server(format!("odd answer {text}"))
}
