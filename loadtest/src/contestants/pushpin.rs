//! Pushpin, a proxy that adds publish and subscribe to HTTP applications: each POST to its control port reaches all WebSockets that
//! are subscribed.
//!
//! Usually an application behind it subscribes its clients. The application that comes with it for tests does the same: a WebSocket at
//! `/ws` is subscribed to the channel `test`. So there is none of ours in the way.
//!
//! A client has its WebSocket a little before it is subscribed. When thousands come at once, subscribing falls so far behind that Pushpin
//! closes some of them, and that ends the measurement: a thousand clients it takes.
//!
//! Pushpin is three programs, which its starter `pushpin` would put into process groups of their own, and start with two threads for
//! connections whatever the machine has. Here they are started one by one, with what the starter gives them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::Contestant;
use super::peer::{self, Peer, PrivateDirectory};
use super::process::{ProgramUnderTest, free_addresses};
use crate::error::LoadError;
use crate::job::{PublishFormat, Target};

/// How the sockets between the three programs begin.
const PREFIX: &str = "p-";

/// The path at which the test application takes WebSockets.
const SUBSCRIBE: &str = "/ws";

/// The channel to which it subscribes them.
pub(crate) const CHANNEL: &str = "test";

const PUBLISH: &str = "/publish/";

/// Descriptors that the program with the clients needs beside theirs.
const OWN_DESCRIPTORS: u64 = 100;

/// Starts it and waits until a client gets its WebSocket.
pub(crate) fn start(
    core: usize,
    own_core: usize,
    stop: &AtomicBool,
) -> Result<impl Contestant + use<>, LoadError> {
    let connections = peer::find("condure")?;
    let proxy = peer::find("pushpin-proxy")?;
    let handler = peer::find("pushpin-handler")?;
    let [address, publish_address] = free_addresses()?;
    let directory = PrivateDirectory::new()?;
    directory.write("routes", "* test\n")?;
    let configuration = configuration(directory.path(), publish_address);
    let file = directory.write("pushpin.conf", &configuration)?;

    let part = |program: &Path| {
        let mut command = Command::new(program);
        command
            .arg(format!("--config={}", file.display()))
            .arg(format!("--ipc-prefix={PREFIX}"))
            // Warnings; at the next level it writes a line for each message.
            .arg("--loglevel=1");
        command
    };
    let commands = [
        condure(&connections, directory.path(), address, peer::descriptors()),
        part(&proxy),
        part(&handler),
    ];
    let mut programs = Vec::new();
    for mut command in commands {
        programs.push(ProgramUnderTest::start(&mut command, core, own_core)?);
    }
    for program in &mut programs {
        program.wait_until(stop, || peer::accepts_web_sockets(address, SUBSCRIBE))?;
    }
    Ok(Peer {
        name: "pushpin",
        target: Target::Channel {
            address,
            subscribe: SUBSCRIBE.to_owned(),
            publish_address,
            publish: PUBLISH.to_owned(),
            format: PublishFormat::Pushpin,
        },
        version: peer::version(Command::new(handler).arg("--version")),
        programs,
        directory,
    })
}

/// The program that has the clients' connections.
fn condure(program: &Path, directory: &Path, address: SocketAddr, descriptors: u64) -> Command {
    let connections = descriptors.saturating_sub(OWN_DESCRIPTORS);
    // It does not raise its limit of descriptors by itself.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -n "$0" && exec "$@""#])
        .arg(descriptors.to_string())
        .arg(program)
        .arg("--log-level=1")
        .arg(format!("--listen={address},stream"))
        .arg(format!(
            "--zclient-stream=ipc://{}/{PREFIX}condure",
            directory.display()
        ))
        // It has one core.
        .arg("--workers=1")
        // Several of our messages at once, with their frames.
        .arg("--buffer-size=32768")
        // More than a burst has.
        .arg("--messages-max=1000")
        .arg(format!("--stream-maxconn={connections}"));
    command
}

/// What the other two programs read. Names that they do not find here have the defaults of the package.
fn configuration(directory: &Path, publish: SocketAddr) -> String {
    let (directory, publish_host, publish_port) =
        (directory.display(), publish.ip(), publish.port());
    format!(
        "\
[global]
# The addresses at which the three programs find each other.
include={{libdir}}/internal.conf
rundir={directory}
ipc_prefix={PREFIX}
port_offset=0

[proxy]
routesfile=routes
# It asks nobody whether there is a newer version.
updates_check=off

[handler]
# Messages come over HTTP; the other ways in are out of the way.
push_in_spec=ipc://{directory}/push-in
push_in_sub_specs=ipc://{directory}/push-in-sub
push_in_http_addr={publish_host}
push_in_http_port={publish_port}
push_in_http_max_headers_size=10000
# A burst comes as one request.
push_in_http_max_body_size=10000000
stats_spec=ipc://{directory}/stats
command_spec=ipc://{directory}/command
# No limit on deliveries a second, and room for a burst to as many clients as it can have.
message_rate=0
message_hwm=10000000
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushpin_starts_with_its_configuration() {
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        match start(core, core, &AtomicBool::new(false)) {
            Ok(pushpin) => {
                assert!(pushpin.version().is_some());
                assert_eq!(pushpin.watched()[0].processes.len(), 3);
                assert!(pushpin.resident_bytes("service").unwrap() > 0);
            }
            Err(LoadError::NotInstalled(program)) => {
                eprintln!("skipped: {program} is not installed");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
