//! Message → bytes, with the length prefix.

use smallvec::SmallVec;

use super::extensions::Extensions;
use super::writer::{self, MessagePackWriter};
use super::{
    Ack, AckStatus, CloseConnection, HandshakeResponse, Message, MessageType, Ping, ServiceError,
    Text, Texts,
};

/// The bytes in front of a payload. Inline as long as the connection's id is one of ours.
pub type SmallHeader = SmallVec<[u8; 64]>;

/// What follows the payload of a [`super::ConnectionData`] that [`connection_data_header`] has begun: no extensions.
pub const CONNECTION_DATA_TRAILER: [u8; 1] = [0x80];

/// A [`Ping`] without strings, with its length prefix.
pub const KEEP_ALIVE_PING: [u8; 3] = [0x02, 0x91, 0x03];

impl<P: AsRef<[u8]>> Message<'_, P> {
    /// Appends the message and, in front of it, its length.
    ///
    /// A message longer than 2 GiB cannot be written. Limits on what is accepted keep far below that; a build with
    /// assertions checks it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        append_framed(out, |out| self.write(out));
    }
}

/// Everything of a [`super::ConnectionData`] that stands in front of its payload, length prefix included. Behind the payload
/// belongs [`CONNECTION_DATA_TRAILER`].
pub fn connection_data_header(connection_id: &str, payload_bytes: usize) -> SmallHeader {
    if connection_id.len() > INLINE_ID_BYTES_MAX {
        let mut header = Vec::new();
        put_connection_data_header(connection_id, payload_bytes, &mut header);
        return SmallHeader::from_vec(header);
    }
    let mut header = Inline::default();
    put_connection_data_header(connection_id, payload_bytes, &mut header);
    SmallHeader::from_buf_and_len(header.bytes, header.used)
}

/// The middle of an [`super::OpenConnection`], made once at admission, when the request is at hand: claims, headers, query.
pub fn encode_open_connection_body(
    claims: &[(Text<'_>, Text<'_>)],
    headers: &[(Text<'_>, Texts<'_>)],
    query: &str,
) -> Vec<u8> {
    let mut body = Vec::new();
    body.claims(claims);
    body.headers(headers);
    body.text(query);
    body
}

/// Appends an [`super::OpenConnection`] around what [`encode_open_connection_body`] has made.
pub fn write_open_connection(connection_id: &str, body: &[u8], protocol: &str, out: &mut Vec<u8>) {
    append_framed(out, |out| {
        out.array(6);
        out.int(MessageType::OpenConnection.number());
        out.text(connection_id);
        out.put(body);
        Extensions {
            protocol: Some(protocol.into()),
            ..Extensions::default()
        }
        .write(out);
    });
}

/// Appends a [`CloseConnection`]. An empty `error` says that there was none.
pub fn write_close_connection(connection_id: &str, error: &str, out: &mut Vec<u8>) {
    let message = CloseConnection {
        error_message: error.into(),
        ..CloseConnection::of(connection_id)
    };
    Outgoing::from(message).encode(out);
}

/// Appends the answer to a handshake. An empty `error` accepts the server connection.
pub fn write_handshake_response(error: &str, connection_id: Option<&str>, out: &mut Vec<u8>) {
    let connection_id = connection_id.map(Text::from);
    Outgoing::from(HandshakeResponse {
        error_message: error.into(),
        connection_id,
    })
    .encode(out);
}

/// Appends an [`Ack`] without a payload.
pub fn write_ack(ack_id: i32, status: AckStatus, message: &str, out: &mut Vec<u8>) {
    Outgoing::from(Ack {
        ack_id,
        status,
        message: message.into(),
        payload: None,
    })
    .encode(out);
}

/// Appends a [`Ping`] of these strings, by turns a key and its value.
pub fn write_ping(strings: &[&str], out: &mut Vec<u8>) {
    Outgoing::from(strings.iter().copied().collect::<Ping<'_>>()).encode(out);
}

/// Appends a [`ServiceError`]. The SDK stops sending when it reads one, so the connection must be closed behind it.
pub fn write_service_error(error: &str, out: &mut Vec<u8>) {
    Outgoing::from(ServiceError {
        error_message: error.into(),
    })
    .encode(out);
}

/// A message whose payloads are at hand.
type Outgoing<'a> = Message<'a, &'a [u8]>;

/// Appends what `write` writes, with its length in front.
///
/// The length is known only afterwards. One byte is kept free for it, since most messages are short; a longer one is moved.
fn append_framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    let mut prefix = Inline::default();
    put_length(&mut prefix, out.len() - start - 1);
    out.splice(start..=start, prefix.bytes.into_iter().take(prefix.used));
}

fn put_connection_data_header(
    connection_id: &str,
    payload_bytes: usize,
    out: &mut impl MessagePackWriter,
) {
    let array_and_type_bytes = 2;
    let id_bytes = writer::text_header_bytes(connection_id.len()) + connection_id.len();
    let payload_header_bytes = writer::binary_header_bytes(payload_bytes);
    let fields_bytes = array_and_type_bytes + id_bytes + payload_header_bytes + payload_bytes;

    put_length(out, fields_bytes + CONNECTION_DATA_TRAILER.len());
    out.array(4);
    out.int(MessageType::ConnectionData.number());
    out.text(connection_id);
    out.binary_header(payload_bytes);
}

/// Memory for a header that is known to fit.
struct Inline {
    bytes: [u8; 64],
    used: usize,
}

impl Default for Inline {
    fn default() -> Self {
        Self {
            bytes: [0; 64],
            used: 0,
        }
    }
}

impl MessagePackWriter for Inline {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        let room = self.bytes.get_mut(self.used..end);
        debug_assert!(room.is_some(), "a header fits its memory");
        if let Some(room) = room {
            room.copy_from_slice(bytes);
            self.used = end;
        }
    }
}

/// An unsigned number in groups of 7 bits, the lowest first; bit 7 says that another follows.
fn put_length(out: &mut impl MessagePackWriter, length: usize) {
    debug_assert!(
        length <= MESSAGE_BYTES_MAX,
        "a message fits its length prefix"
    );
    let mut left = length;
    while left > 0x7f {
        out.put(&[left as u8 | 0x80]);
        left >>= 7;
    }
    out.put(&[left as u8]);
}

/// Around the id a header has at most 5 bytes of length prefix, 2 of array and type, 2 of the string's header and 5 of the payload's.
const INLINE_ID_BYTES_MAX: usize = 64 - 14;

/// The longest message that a length prefix can announce.
const MESSAGE_BYTES_MAX: usize = 0x7fff_ffff;
