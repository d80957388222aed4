//! A peer: a program of others that does a part of what hubring does, installed from the distribution's packages.
//!
//! It is started in the foreground with a configuration of its own in a directory of its own, so neither the system's configuration nor a
//! service that runs already is touched. [`haproxy`](super::haproxy), [`nchan`](super::nchan) and [`pushpin`](super::pushpin) say how.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::Contestant;
use super::process::ProgramUnderTest;
use crate::error::LoadError;
use crate::job::{Target, Watched};
use crate::process_figures;
use crate::worker::upgrade::upgrade_request;

/// More than this the largest of our measurements does not need, and several programs reserve memory for all that they are allowed.
const DESCRIPTORS_MAX: u64 = 20_000;

/// Time for a look whether a program is ready.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

const SWITCHING_PROTOCOLS: [u8; 12] = *b"HTTP/1.1 101";

/// A running peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) target: Target,
    pub(super) version: Option<String>,
    pub(super) programs: Vec<ProgramUnderTest>,
    /// Goes after the programs that use it.
    #[expect(dead_code, reason = "it is held to be removed with the peer")]
    pub(super) directory: PrivateDirectory,
}

impl Peer {
    fn processes(&self) -> Vec<u32> {
        let programs = self.programs.iter();
        programs.flat_map(ProgramUnderTest::processes).collect()
    }
}

impl Contestant for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn target(&self) -> Target {
        self.target.clone()
    }

    fn watched(&self) -> Vec<Watched> {
        vec![Watched {
            name: "service".to_owned(),
            processes: self.processes(),
            threads: String::new(),
        }]
    }

    fn resident_bytes(&self, _watched: &str) -> Result<u64, LoadError> {
        let processes = self.processes();
        let bytes = processes
            .iter()
            .map(|process| process_figures::resident_bytes(&process.to_string()));
        bytes.sum()
    }

    fn version(&self) -> Option<String> {
        self.version.clone()
    }
}

/// Where the program `name` lies. Debian puts some of them where only root's shell looks.
pub(super) fn find(name: &'static str) -> Result<PathBuf, LoadError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or(LoadError::NotInstalled(name))
}

/// The first word with a digit at its start, behind slashes or not, in what a program says when it is asked for its version.
pub(super) fn version(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    // nginx says it on its standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let mut words = text.split([' ', '/', '\n']);
    let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    Some(version.to_owned())
}

/// Whether a client gets a WebSocket there: then all parts of the program stand, not only its listener.
pub(super) fn accepts_web_sockets(address: SocketAddr, target: &str) -> bool {
    let upgrade = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, LOOK_TIMEOUT)?;
        stream.set_read_timeout(Some(LOOK_TIMEOUT))?;
        stream.write_all(&upgrade_request(&address.to_string(), target, None))?;
        let mut head = [0; SWITCHING_PROTOCOLS.len()];
        stream.read_exact(&mut head)?;
        Ok(head == SWITCHING_PROTOCOLS)
    };
    upgrade().unwrap_or(false)
}

/// How many descriptors a program may open.
pub(super) fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile).maximum;
    limit.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX)
}

/// A directory that nobody else can look into. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    pub(super) fn new() -> Result<Self, LoadError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // A short name: sockets lie in it, and their paths have at most 107 bytes.
        let path = env::temp_dir().join(format!("hubring-{}-{number}", process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| write_error(&path, source))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it and tells where that lies.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, LoadError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|source| write_error(&path, source))?;
        Ok(path)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Whoever cleans up temporary files removes what is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn write_error(path: &Path, source: io::Error) -> LoadError {
    LoadError::WriteConfiguration {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_goes_with_its_value() {
        let directory = PrivateDirectory::new().unwrap();
        let other = PrivateDirectory::new().unwrap();
        assert_ne!(directory.path(), other.path());
        let file = directory.write("a", "text").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        drop(directory);
        assert!(!file.exists());
    }

    #[test]
    fn the_version_is_the_first_word_that_looks_like_one() {
        for (said, expected) in [
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17",
                "2.6.12-1+deb12u4",
            ),
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("pushpin 1.36.0\n", "1.36.0"),
        ] {
            let mut command = Command::new("printf");
            command.args(["%s", said]);
            assert_eq!(version(&mut command).as_deref(), Some(expected));
        }
        assert_eq!(version(&mut Command::new("true")), None);
    }

    #[test]
    fn what_is_not_there_is_not_installed() {
        assert!(find("sh").is_ok());
        let error = find("no-such-program").unwrap_err();
        assert!(matches!(error, LoadError::NotInstalled("no-such-program")));
    }
}
