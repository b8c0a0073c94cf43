//! What the shop answers, and how it becomes HTTP: the backend's headers, its ETag, its conditional answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::body::Body;

/// A status and a body, before the request's conditions are applied.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    form: Form,
    body: Bytes,
    /// Made with the body, where it may take its time: a long list takes milliseconds to hash.
    tag: Option<HeaderValue>,
}

/// What kind of body it is; the backend's framework treats each in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// An answer of a route, with ETag and cross-origin headers.
    Json,
    /// The framework's own page for what has no route.
    Html,
    Text,
}

/// Why a request is refused, in the backend's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// 400: no publishable key.
    KeyMissing,
    /// 400: a publishable key that is not this shop's.
    KeyUnknown,
    /// 400: a parameter or a body that the route does not take.
    Invalid(String),
    /// 401: a route for which one must be logged in.
    Unauthorized,
    /// 404: no such row.
    NotFound(String),
    /// 500: what the real one fails at.
    Internal,
}

impl ApiError {
    /// A parameter or a body that the route does not take.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// No row of this name with this id.
    pub(super) fn not_found(name: &str, id: &str) -> Self {
        Self::NotFound(format!("{name} with id: {id} was not found"))
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(_: serde_json::Error) -> Self {
        Self::Internal
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let (status, kind, message) = match error {
            ApiError::KeyMissing => (
                StatusCode::BAD_REQUEST,
                "not_allowed",
                "Publishable API key required in the request header: x-publishable-api-key. You can manage your keys in \
                 settings in the dashboard."
                    .to_owned(),
            ),
            ApiError::KeyUnknown => (
                StatusCode::BAD_REQUEST,
                "not_allowed",
                "A valid publishable key is required to proceed with the request".to_owned(),
            ),
            ApiError::Invalid(message) => (StatusCode::BAD_REQUEST, "invalid_data", message),
            ApiError::Unauthorized => {
                return Self::json(StatusCode::UNAUTHORIZED, br#"{"message":"Unauthorized"}"#.to_vec());
            }
            ApiError::NotFound(message) => (StatusCode::NOT_FOUND, "not_found", message),
            ApiError::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "unknown_error", "An unknown error occurred.".to_owned())
            }
        };
        // Written by hand, because a map of `json!` would be sorted and the type comes first.
        let body = format!(r#"{{"type":"{kind}","message":{}}}"#, json!(message));
        Self::json(status, body.into_bytes())
    }
}

impl Reply {
    /// An answer of a route.
    pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Self {
        Self { status, form: Form::Json, tag: Some(etag(&body)), body: body.into() }
    }

    /// Plain text with status 200.
    pub(super) fn text(text: &'static str) -> Self {
        let body = Bytes::from_static(text.as_bytes());
        Self { status: StatusCode::OK, form: Form::Text, tag: Some(etag(&body)), body }
    }

    /// The page for what has no route.
    pub(super) fn no_route(method: &Method, path: &str) -> Self {
        let path = path.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let body = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n\
             <body>\n<pre>Cannot {method} {path}</pre>\n</body>\n</html>\n"
        );
        Self { status: StatusCode::NOT_FOUND, form: Form::Html, tag: None, body: body.into() }
    }

    /// The response to a request with this method and these headers.
    pub(super) fn respond(self, method: &Method, request: &HeaderMap) -> Response<Body> {
        let Self { status, form, body, tag } = self;
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(HeaderName::from_static("x-powered-by"), POWERED_BY);
        let content_type = match form {
            Form::Json => "application/json; charset=utf-8",
            Form::Html => {
                headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
                headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                "text/html; charset=utf-8"
            }
            Form::Text => "text/html; charset=utf-8",
        };
        // As on the real one, HEAD has no cross-origin headers: they are added by method.
        if form == Form::Json && method != Method::HEAD {
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            allow_origin(&mut headers, request);
        }
        let unchanged = status.is_success() && tag.as_ref().is_some_and(|tag| matches(request, tag));
        if let Some(tag) = tag {
            headers.insert(ETAG, tag);
        }
        let (status, body) = if unchanged && (method == Method::GET || method == Method::HEAD) {
            (StatusCode::NOT_MODIFIED, Body::Empty)
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            (status, if method == Method::HEAD { Body::Empty } else { body.into() })
        };
        response(status, headers, body)
    }
}

/// The answer to a preflight, which needs no key.
pub(super) fn preflight(request: &HeaderMap) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(HeaderName::from_static("x-powered-by"), POWERED_BY);
    headers.insert(VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
    allow_origin(&mut headers, request);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
    if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response(StatusCode::NO_CONTENT, headers, Body::Empty)
}

const POWERED_BY: HeaderValue = HeaderValue::from_static("endcap sample shop");

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Credentials are always allowed; an origin only if it is a storefront under development on this machine.
fn allow_origin(headers: &mut HeaderMap, request: &HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if let Some(origin) = request.get(ORIGIN)
        && is_local(origin.to_str().unwrap_or_default())
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

fn is_local(origin: &str) -> bool {
    let Some((host, port)) = origin.strip_prefix("http://").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    matches!(host, "localhost" | "127.0.0.1") && port.parse::<u16>().is_ok()
}

/// A weak tag in the form of the backend's: the length in hexadecimal and 20 bytes of a hash.
fn etag(body: &[u8]) -> HeaderValue {
    let hash = Sha256::digest(body);
    let text = format!("W/\"{:x}-{}\"", body.len(), STANDARD_NO_PAD.encode(&hash[..20]));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("W/\"\""))
}

/// Whether the client already has this representation; `no-cache` in the request switches that off, as in Express.
fn matches(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let has = |header: &HeaderValue, wanted: &str| {
        let text = header.to_str().unwrap_or_default();
        text.split(',').any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    if request.get_all(CACHE_CONTROL).iter().any(|header| has(header, "no-cache")) {
        return false;
    }
    let tag = tag.to_str().unwrap_or_default();
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let same = |item: &str| item == "*" || item.strip_prefix("W/").unwrap_or(item) == opaque;
    let mut headers = request.get_all(IF_NONE_MATCH).iter();
    headers.any(|header| header.to_str().unwrap_or_default().split(',').map(str::trim).any(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_has_the_form_of_the_captured_one() {
        // Captured: W/"f43-C1+rPSu9xMcQDcLS0l2qZyKg0R4" over 3907 bytes.
        let tag = etag(&[b'x'; 3907]);
        let tag = tag.to_str().unwrap();
        assert!(tag.starts_with("W/\"f43-"), "{tag}");
        assert_eq!(tag.len(), "W/\"f43-C1+rPSu9xMcQDcLS0l2qZyKg0R4\"".len());
    }

    #[test]
    fn only_a_local_storefront_is_an_allowed_origin() {
        assert!(is_local("http://localhost:8000"));
        assert!(is_local("http://127.0.0.1:3000"));
        assert!(!is_local("http://evil.example"));
        assert!(!is_local("http://localhost:8000.evil.example"));
        assert!(!is_local("http://localhost.evil.example:8000"));
        assert!(!is_local("null"));
    }

    #[test]
    fn the_page_for_no_route_shows_the_path_as_text() {
        let reply = Reply::no_route(&Method::GET, "/<script>");
        assert!(String::from_utf8(reply.body.to_vec()).unwrap().contains("<pre>Cannot GET /&lt;script&gt;</pre>"));
    }
}
