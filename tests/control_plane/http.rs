//! A blocking connection that speaks HTTP, as badly as a test wants it to.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::stage::{PATIENCE, Stage};

/// One connection to the service.
pub(crate) struct Http {
    pub(crate) stream: TcpStream,
    /// What has been read behind the last answer.
    read: Vec<u8>,
}

/// An answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn connect(stage: &Stage) -> Self {
        let stream = TcpStream::connect(stage.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads one answer. Without a length it has no body.
    pub(crate) fn answer(&mut self) -> Answer {
        let head_bytes = loop {
            let end = self.read.windows(4).position(|end| end == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => assert!(self.fill(), "the connection has ended"),
            }
        };
        let head: Vec<u8> = self.read.drain(..head_bytes).collect();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill(), "the connection has ended");
        }
        let body: Vec<u8> = self.read.drain(..length).collect();
        Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Reads until so much has come.
    pub(crate) fn expect(&mut self, text: &str) {
        while self.read.len() < text.len() {
            assert!(self.fill(), "the connection has ended");
        }
        let read: Vec<u8> = self.read.drain(..text.len()).collect();
        assert_eq!(String::from_utf8(read).unwrap(), text);
    }

    /// Asserts that nothing more comes, and that the connection ends.
    pub(crate) fn expect_end(&mut self) {
        let more = self.fill();
        assert!(
            !more && self.read.is_empty(),
            "{}",
            String::from_utf8_lossy(&self.read)
        );
    }

    /// Asserts that nothing comes for a while, and that the connection goes on.
    pub(crate) fn expect_silence(&mut self) {
        let while_long = Duration::from_millis(100);
        self.stream.set_read_timeout(Some(while_long)).unwrap();
        let kind = self.read_some().map_err(|error| error.kind());
        assert!(
            matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "{kind:?}"
        );
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Reads more. Whether there was any.
    fn fill(&mut self) -> bool {
        self.read_some().unwrap() > 0
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(bytes) => {
                    self.read.extend_from_slice(&buffer[..bytes]);
                    return Ok(bytes);
                }
            }
        }
    }
}

/// A request to negotiate.
pub(crate) fn negotiate(stage: &Stage) -> String {
    let token = stage.client_request().1;
    format!(
        "POST /client/negotiate?hub=chat&negotiateVersion=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// What negotiate has said.
pub(crate) fn field(answer: &Answer, name: &str) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    json[name].as_str().unwrap().to_owned()
}

/// A request for something that there is not.
pub(crate) const NOTHING: &str = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
