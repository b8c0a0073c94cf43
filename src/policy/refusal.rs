//! Why a request is refused before anything is done with it.

use http::StatusCode;

/// Why a request is refused by its head alone. The origin never sees such a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It does not say beyond doubt where its body ends: two lengths, a length and a coding, a
    /// coding other than exactly one `chunked`. The raw material of request smuggling.
    Framing,
    /// One transfer coding, and we do not know it.
    UnknownCoding,
    /// Not the grammar of HTTP: a bare CR or LF, a folded line, an odd name, no version.
    MalformedHead,
    /// A control byte in a field's value.
    HeaderValue,
    /// No `Host`, two of them, not a host, or not the one that the target names.
    Host,
    /// A host that is not served here.
    UnknownHost,
    /// A target that is no path: CONNECT, `*`, an authority, a fragment, another scheme.
    Target,
    /// A path with bytes that no client should send and origins read in different ways.
    Path,
    /// A method that is not served here, such as PURGE.
    Method,
    /// A body on GET or HEAD: it would be no part of the key, but reach the origin.
    BodyOnGet,
    /// The target is longer than `uri_bytes_max`.
    UriSize,
    /// The head is larger than `head_bytes_max`.
    HeadSize,
    /// The head has more fields than `head_fields_max`.
    HeadCount,
    /// `Connection` names a field that must not be dropped on the way, or HTTP/2 carries such a field.
    ConnectionHeader,
}

impl Refusal {
    /// All of them, for tables of metrics.
    pub const ALL: [Self; 14] = [
        Self::Framing,
        Self::UnknownCoding,
        Self::MalformedHead,
        Self::HeaderValue,
        Self::Host,
        Self::UnknownHost,
        Self::Target,
        Self::Path,
        Self::Method,
        Self::BodyOnGet,
        Self::UriSize,
        Self::HeadSize,
        Self::HeadCount,
        Self::ConnectionHeader,
    ];

    /// The word for it in logs and metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Framing | Self::UnknownCoding => "framing",
            Self::MalformedHead => "malformed_head",
            Self::HeaderValue => "header_value",
            Self::Host | Self::UnknownHost => "host",
            Self::Target => "target",
            Self::Path => "path",
            Self::Method => "method",
            Self::BodyOnGet => "body_on_get",
            Self::UriSize => "uri_size",
            Self::HeadSize => "head_size",
            Self::HeadCount => "head_count",
            Self::ConnectionHeader => "connection_header",
        }
    }

    /// What the client is answered.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Framing
            | Self::MalformedHead
            | Self::HeaderValue
            | Self::Host
            | Self::Target
            | Self::Path
            | Self::BodyOnGet
            | Self::ConnectionHeader => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UriSize => StatusCode::URI_TOO_LONG,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadSize | Self::HeadCount => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// Whether an HTTP/1 connection ends with the answer.
    ///
    /// It does wherever we and whoever stands before us may differ on where the next request
    /// begins. What was understood in full and merely is not served leaves it open: a CDN shares
    /// one connection among many shoppers, and no single one of them should be able to end it.
    pub const fn closes(self) -> bool {
        match self {
            Self::Method | Self::UnknownHost | Self::Path => false,
            Self::Framing
            | Self::UnknownCoding
            | Self::MalformedHead
            | Self::HeaderValue
            | Self::Host
            | Self::Target
            | Self::BodyOnGet
            | Self::UriSize
            | Self::HeadSize
            | Self::HeadCount
            | Self::ConnectionHeader => true,
        }
    }

    /// One line for the client. It holds nothing of the request.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Framing => "The length of the request is ambiguous.\n",
            Self::UnknownCoding => "The transfer coding is not supported.\n",
            Self::MalformedHead => "The request head is malformed.\n",
            Self::HeaderValue => "A header field holds a control byte.\n",
            Self::Host => "The Host field is missing or malformed.\n",
            Self::UnknownHost => "This host is not served here.\n",
            Self::Target => "The request target is not a path.\n",
            Self::Path => "The path is malformed.\n",
            Self::Method => "The method is not allowed.\n",
            Self::BodyOnGet => "GET and HEAD carry no body here.\n",
            Self::UriSize => "The request target is too long.\n",
            Self::HeadSize => "The request head is too large.\n",
            Self::HeadCount => "The request has too many header fields.\n",
            Self::ConnectionHeader => "The Connection field names a field it may not name.\n",
        }
    }
}
