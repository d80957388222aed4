//! Request heads: the request line and the headers (RFC 9112 §2 to §5).

use std::fmt;

/// Longest head, with the empty line that ends it. As much as Azure SignalR allows.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest target. As much as Azure SignalR allows.
pub const TARGET_BYTES_MAX: usize = 12 * 1024;

/// Most headers.
pub const HEADERS_MAX: usize = 100;

// Spans count in 16 bits.
const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize && TARGET_BYTES_MAX < HEAD_BYTES_MAX);

/// Reads the head at the start of `bytes` and tells how long it is. `None` if more bytes are needed.
///
/// What follows the head belongs to the connection: a client may not send frames before it has the answer, but if it does, they are
/// not lost.
pub fn parse(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let status = request
        .parse(bytes)
        .map_err(|fault| HeadError::new(fault, bytes))?;
    check_target(request.path, bytes)?;
    match status {
        httparse::Status::Partial if bytes.len() >= HEAD_BYTES_MAX => Err(HeadError::TooLarge),
        httparse::Status::Partial => check_line_breaks(bytes).map(|()| None),
        httparse::Status::Complete(head_bytes) if head_bytes > HEAD_BYTES_MAX => {
            Err(HeadError::TooLarge)
        }
        httparse::Status::Complete(head_bytes) => {
            check_line_breaks(bytes.get(..head_bytes).unwrap_or_default())?;
            let head = RequestHead::new(&request)?;
            head.check_host()?;
            Ok(Some((head, head_bytes)))
        }
    }
}

/// The origin that a head names which cannot be [parsed](parse), so that the page behind it can be told why.
pub fn origin_of_refused(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"origin:";
    let head = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
    let mut lines = head.split(|&byte| byte == b'\n').skip(1);
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    })?;
    // The last line may have come in part only.
    let value = str::from_utf8(value.strip_suffix(b"\r")?).ok()?;
    Some(value.trim())
}

/// A request without its body. Its text is valid UTF-8.
#[derive(Clone)]
pub struct RequestHead {
    /// Method, target, and the names and values of all headers, one behind the other.
    text: Box<str>,
    method: Span,
    target: Span,
    is_http_1_1: bool,
    headers: Box<[(Span, Span)]>,
}

impl RequestHead {
    /// The method, in the case in which it was sent.
    pub fn method(&self) -> &str {
        self.span(self.method)
    }

    /// The target as it was sent.
    pub fn target(&self) -> &str {
        self.span(self.target)
    }

    /// The target's path, still percent-encoded.
    pub fn path(&self) -> &str {
        let path_and_query = self.path_and_query();
        match path_and_query.split_once('?') {
            Some(("", _)) => "/",
            Some((path, _)) => path,
            None => path_and_query,
        }
    }

    /// The target's query, without the question mark. Empty if there is none. See [`query`](super::query).
    pub fn query(&self) -> &str {
        self.path_and_query()
            .split_once('?')
            .map_or("", |(_, query)| query)
    }

    /// Whether the request is HTTP/1.1. If not, it is HTTP/1.0.
    pub fn is_http_1_1(&self) -> bool {
        self.is_http_1_1
    }

    /// Names and values of all headers, as they were sent.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.headers
            .iter()
            .map(|&(name, value)| (self.span(name), self.span(value)))
    }

    /// The values of all headers of that name, whatever its case.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + Clone {
        self.headers()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether a header that is a list has that element. Both in any case.
    pub(super) fn has_element(&self, name: &str, element: &str) -> bool {
        self.header_values(name)
            .flat_map(|value| value.split(','))
            .any(|other| other.trim().eq_ignore_ascii_case(element))
    }

    fn new(request: &httparse::Request<'_, '_>) -> Result<Self, HeadError> {
        let mut text = String::with_capacity(1024);
        let mut append = |part: &str| {
            let start = text.len() as u16;
            text.push_str(part);
            Span {
                start,
                end: text.len() as u16,
            }
        };
        let method = append(request.method.unwrap_or_default());
        let target = append(request.path.unwrap_or_default());
        let mut headers = Vec::with_capacity(request.headers.len());
        for header in request.headers.iter() {
            let value = str::from_utf8(header.value).map_err(|_| HeadError::HeaderValue)?;
            headers.push((append(header.name), append(value)));
        }
        let is_http_1_1 = request.version == Some(1);
        Ok(Self {
            text: text.into(),
            method,
            target,
            is_http_1_1,
            headers: headers.into(),
        })
    }

    /// RFC 9112 §3.2: without exactly one host it is not known for whom the request is.
    fn check_host(&self) -> Result<(), HeadError> {
        match self.header_values("host").count() {
            0 if self.is_http_1_1 => Err(HeadError::HostMissing),
            0 | 1 => Ok(()),
            _ => Err(HeadError::HostRepeated),
        }
    }

    /// The target without the scheme and the authority that a proxy's request begins with.
    fn path_and_query(&self) -> &str {
        let target = self.target();
        if target.starts_with('/') {
            return target;
        }
        let Some((_, rest)) = target.split_once("://") else {
            return target;
        };
        rest.find(['/', '?'])
            .and_then(|authority_bytes| rest.get(authority_bytes..))
            .unwrap_or("/")
    }

    fn span(&self, span: Span) -> &str {
        self.text
            .get(usize::from(span.start)..usize::from(span.end))
            .unwrap_or_default()
    }
}

impl fmt::Debug for RequestHead {
    /// Leaves out query and headers, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RequestHead({} {}, {} headers)",
            self.method(),
            self.path(),
            self.headers.len()
        )
    }
}

/// A part of a head's text.
#[derive(Clone, Copy)]
struct Span {
    start: u16,
    end: u16,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// What was sent is no request line.
    #[error("malformed request line")]
    RequestLine,
    /// HTTP, but neither 1.0 nor 1.1.
    #[error("HTTP version not supported")]
    Version,
    /// A target that is neither a path, nor an http URL, nor `*`; or one that is not ASCII.
    #[error("malformed request target")]
    Target,
    /// Our limit.
    #[error("the request target is longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    /// A name that is none, a blank in front of the colon, or a folded line.
    #[error("malformed header name")]
    HeaderName,
    /// A value with control characters, or one that is not UTF-8.
    #[error("malformed header value")]
    HeaderValue,
    /// A line that does not end in CR LF.
    #[error("malformed line break")]
    LineBreak,
    /// Our limit.
    #[error("more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    /// Our limit.
    #[error("the request head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLarge,
    /// RFC 9112 §3.2.
    #[error("the request has no host")]
    HostMissing,
    /// RFC 9112 §3.2.
    #[error("the request has several hosts")]
    HostRepeated,
}

impl HeadError {
    /// The status of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::HeaderName
            | Self::HeaderValue
            | Self::LineBreak
            | Self::HostMissing
            | Self::HostRepeated => 400,
            Self::TargetTooLong => 414,
            Self::TooManyHeaders | Self::TooLarge => 431,
            Self::Version => 505,
        }
    }

    fn new(fault: httparse::Error, bytes: &[u8]) -> Self {
        match fault {
            httparse::Error::HeaderName => Self::HeaderName,
            httparse::Error::HeaderValue => Self::HeaderValue,
            httparse::Error::NewLine => Self::LineBreak,
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version if names_http(bytes) => Self::Version,
            httparse::Error::Version | httparse::Error::Token | httparse::Error::Status => {
                Self::RequestLine
            }
        }
    }
}

/// Whether the last word of a request line is a version of HTTP, of whatever number.
fn names_http(bytes: &[u8]) -> bool {
    let mut words = bytes
        .trim_ascii_start()
        .splitn(3, |&byte| byte == b' ')
        .skip(2);
    words
        .next()
        .is_some_and(|version| version.starts_with(b"HTTP/"))
}

/// `target` is `None` as long as its end has not been seen.
fn check_target(target: Option<&str>, bytes: &[u8]) -> Result<(), HeadError> {
    let Some(target) = target else {
        let target_bytes =
            memchr::memchr(b' ', bytes).map_or(0, |method_end| bytes.len() - method_end - 1);
        return if target_bytes > TARGET_BYTES_MAX {
            Err(HeadError::TargetTooLong)
        } else {
            Ok(())
        };
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    let has_form = target.starts_with('/') || target == "*" || has_http_scheme(target);
    if has_form && target.is_ascii() {
        Ok(())
    } else {
        Err(HeadError::Target)
    }
}

fn has_http_scheme(target: &str) -> bool {
    target.split_once("://").is_some_and(|(scheme, _)| {
        ["http", "https", "ws", "wss"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

fn check_line_breaks(bytes: &[u8]) -> Result<(), HeadError> {
    let is_bare = |line_feed: usize| {
        line_feed
            .checked_sub(1)
            .and_then(|before| bytes.get(before))
            != Some(&b'\r')
    };
    if memchr::memchr_iter(b'\n', bytes).any(is_bare) {
        Err(HeadError::LineBreak)
    } else {
        Ok(())
    }
}
