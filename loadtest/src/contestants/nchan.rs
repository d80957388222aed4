//! nchan, the publish-and-subscribe module of nginx: each POST to one location reaches all WebSockets that came to another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::Contestant;
use super::peer::{self, Peer, PrivateDirectory};
use super::process::{ProgramUnderTest, free_addresses};
use crate::error::LoadError;
use crate::job::{PublishFormat, Target};

/// Where distributions put the module.
const MODULES: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/etc/nginx/modules/ngx_nchan_module.so",
];

/// Descriptors that nginx needs beside those of its clients.
const OWN_DESCRIPTORS: u64 = 100;

const SUBSCRIBE: &str = "/subscribe";
const PUBLISH: &str = "/publish";

/// Starts it and waits until it accepts.
pub(crate) fn start(
    core: usize,
    own_core: usize,
    stop: &AtomicBool,
) -> Result<impl Contestant + use<>, LoadError> {
    let program = peer::find("nginx")?;
    let module = module()?;
    let [address] = free_addresses()?;
    let directory = PrivateDirectory::new()?;
    let configuration = configuration(&module, directory.path(), address, peer::descriptors());
    let file = directory.write("nginx.conf", &configuration)?;
    let mut command = nginx(&program, &file);
    let mut nginx = ProgramUnderTest::start(&mut command, core, own_core)?;
    nginx.wait_until(stop, || peer::accepts_web_sockets(address, SUBSCRIBE))?;
    Ok(Peer {
        name: "nchan",
        target: Target::Channel {
            address,
            subscribe: SUBSCRIBE.to_owned(),
            publish_address: address,
            publish: PUBLISH.to_owned(),
            format: PublishFormat::Plain,
        },
        version: peer::version(Command::new(program).arg("-v")),
        programs: vec![nginx],
        directory,
    })
}

fn module() -> Result<PathBuf, LoadError> {
    let mut paths = MODULES.iter().map(PathBuf::from);
    paths
        .find(|path| path.is_file())
        .ok_or(LoadError::NotInstalled("nchan"))
}

fn nginx(program: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    // Until it has read its configuration it would write to the system's log.
    command.args(["-e", "stderr", "-c"]).arg(configuration);
    command
}

fn configuration(module: &Path, directory: &Path, address: SocketAddr, descriptors: u64) -> String {
    let (module, directory) = (module.display(), directory.display());
    let connections = descriptors.saturating_sub(OWN_DESCRIPTORS);
    format!(
        "\
load_module {module};
daemon off;
# It has one core.
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {directory}/pid;
error_log stderr crit;

events {{
    # As many clients as there are descriptors for.
    worker_connections {connections};
    # All that have come are accepted in one go.
    multi_accept on;
}}

http {{
    access_log off;
    # The defaults lie in directories of the system.
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    # A message that is published never goes to a file on its way.
    client_max_body_size 1m;
    client_body_buffer_size 1m;
    # The publisher keeps its connection for the whole measurement.
    keepalive_timeout 1d;
    keepalive_requests 1000000000;
    # Room for all subscribers and messages; what is not used costs nothing.
    nchan_shared_memory_size 256m;

    server {{
        listen {address} backlog=4096;

        location = {SUBSCRIBE} {{
            nchan_subscriber websocket;
            nchan_channel_id all;
            # Only what is published from now on.
            nchan_subscriber_first_message newest;
            # Neither pings nor time-outs: a client may be silent for as long as it likes.
            nchan_websocket_ping_interval 0;
            nchan_subscriber_timeout 0;
        }}

        location = {PUBLISH} {{
            nchan_publisher http;
            nchan_channel_id all;
            # Whoever comes later need not know what was published before.
            nchan_store_messages off;
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_accepts_its_configuration() {
        let (Ok(program), Ok(module)) = (peer::find("nginx"), module()) else {
            eprintln!("skipped: nchan is not installed");
            return;
        };
        let [address] = free_addresses().unwrap();
        let directory = PrivateDirectory::new().unwrap();
        let text = configuration(&module, directory.path(), address, peer::descriptors());
        let file = directory.write("nginx.conf", &text).unwrap();
        let output = nginx(&program, &file).arg("-t").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("[warn]"), "{said}");
    }
}
