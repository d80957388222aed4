//! The floor beneath hubring: a relay that costs what the kernel asks for and hardly anything else.
//!
//! It has hubring's sockets and sends as many bytes over them in the same directions, in the same way: one thread, one io_uring, sends
//! that gather all that waits for a socket. But it speaks no protocol: records have fixed sizes, a client is known by its index, and
//! nothing is limited, checked or timed. What hubring costs above it is hubring's own doing.
//!
//! * A client sends records of `--client-frame` bytes. Each of them goes to a server connection (client `i` to the one at `i` modulo their
//!   count) as a record of `--server-record` bytes.
//! * A server connection sends records of `--answer-record` bytes. Each of them goes to a client, or to all, as `--client-message` bytes.
//! * A record on a server connection begins with the client's index, little-endian; [`ALL_CLIENTS`] means all of them. A client's index
//!   is the number of clients accepted before it. When none is left, counting begins again.
//! * Apart from that a record is what was received: if it is to be shorter its start is left out, if longer, undefined bytes come in
//!   front.
//!
//! Invariants:
//! * A block of memory is used again only when nothing refers to it that still has to be sent or completed: see [`blocks`].
//! * The order from one connection to another is kept, also between records for one client and for all.
//! * A connection that is closed or broken takes along what waited for it and nothing else.

mod blocks;
mod connection;
mod relay;
mod ring;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};

use self::relay::{Relay, Sizes};
use self::ring::Ring;

/// The index that stands for all clients.
const ALL_CLIENTS: u32 = u32::MAX;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Bytes by which a record may become longer than it was received.
const PADDING_BYTES_MAX: u32 = 1024;

/// A record relay on a raw ring: the floor beneath hubring's figures.
#[derive(Debug, Parser)]
struct Cli {
    /// Core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Where clients connect.
    #[arg(long)]
    clients_listen: SocketAddr,
    /// Where the server connections come from. It is opened last.
    #[arg(long)]
    servers_listen: SocketAddr,
    /// Bytes of a record from a client.
    #[arg(long)]
    client_frame: u32,
    /// Bytes of what becomes of it on a server connection.
    #[arg(long)]
    server_record: u32,
    /// Bytes of a record from a server connection.
    #[arg(long)]
    answer_record: u32,
    /// Bytes of what becomes of it for a client.
    #[arg(long)]
    client_message: u32,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let sizes = Sizes {
        client_frame: cli.client_frame,
        server_record: cli.server_record,
        answer_record: cli.answer_record,
        client_message: cli.client_message,
    };
    if !sizes.are_valid() {
        eprintln!(
            "hubring-floor: records on server connections have at least 4 bytes, others at least one, and none may grow by more than \
             {PADDING_BYTES_MAX}"
        );
        return ExitCode::FAILURE;
    }
    let Err(error) = run(&cli, sizes);
    eprintln!("hubring-floor: {error}");
    ExitCode::FAILURE
}

fn run(cli: &Cli, sizes: Sizes) -> io::Result<std::convert::Infallible> {
    if let Some(core) = cli.core {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores)?;
    }
    let connections = raise_descriptor_limit()?;
    let ring = Ring::new(connections)?;
    let clients = listen(cli.clients_listen)?;
    let servers = listen(cli.servers_listen)?;
    println!("clients {}", address_of(&clients)?);
    println!("servers {}", address_of(&servers)?);
    Relay::new(ring, sizes).run(&clients, &servers)
}

/// As many descriptors as this process may have. Connections are entries of the ring's own table, but are bound by the same limit.
fn raise_descriptor_limit() -> io::Result<u32> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(limit.maximum.map_or(u32::MAX, |maximum| {
        u32::try_from(maximum).unwrap_or(u32::MAX)
    }))
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address
        .as_socket()
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}
