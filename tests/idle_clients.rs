//! What an idle client costs: 18,000 of them connect, each calls `Echo` once while all the others are there, then the resident memory of
//! the service and of the app server is read and divided.
//!
//! Ignored by default, as it needs 20,000 descriptors in each of three processes:
//! `ulimit -n 20000 && cargo test --test idle_clients -- --ignored --nocapture`.
//! `HUBRING_BIN` names another binary (a release build, for figures that mean something), `HUBRING_IDLE_CLIENTS` another number of clients.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Message};

const CLIENTS: usize = 18_000;
/// Descriptors that each process needs beside those of the clients.
const DESCRIPTORS_BESIDE: usize = 500;
/// How many clients are on their way in at the same time.
const CONNECTING: usize = 128;
const PATIENCE: Duration = Duration::from_mins(1);
const RECORD_SEPARATOR: char = '\u{1e}';

type Failure = Box<dyn Error + Send + Sync>;
type Client = WebSocketStream<TcpStream>;

#[test]
#[ignore = "needs 20,000 descriptors; scripts/test runs it"]
fn idle_clients_connect_and_echo() -> Result<(), Failure> {
    let clients = match std::env::var("HUBRING_IDLE_CLIENTS") {
        Ok(count) => count.parse()?,
        Err(_) => CLIENTS,
    };
    require_descriptors(clients + DESCRIPTORS_BESIDE)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(clients))
}

async fn measure(count: usize) -> Result<(), Failure> {
    let [service_port, admin_port, app_port] = free_ports()?;
    let (service, connection_string) = start_service(service_port, admin_port).await?;
    let app_server = start_app_server(app_port, &connection_string).await?;
    let (host, request_target, token) = negotiate(app_port).await?;
    let service_before = resident_bytes(&service)?;
    let app_server_before = resident_bytes(&app_server)?;

    let started = Instant::now();
    let clients: Vec<Client> = stream::iter(0..count)
        .map(|index| connect(index, &host, &request_target, &token))
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await?;
    let connected = started.elapsed();

    let started = Instant::now();
    let clients: Vec<Client> = stream::iter(clients.into_iter().enumerate())
        .map(|(index, client)| echo(client, format!("client {index}")))
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await?;
    let echoed = started.elapsed();

    assert_eq!(clients.len(), count, "every client has answered");
    let each = |now: usize, before: usize| now.saturating_sub(before) / count.max(1);
    let service_each = each(resident_bytes(&service)?, service_before);
    let app_server_each = each(resident_bytes(&app_server)?, app_server_before);
    println!("{count} idle clients: connected in {connected:.1?}, one echo each in {echoed:.1?}");
    println!(
        "resident memory per client: service {service_each} bytes, app server {app_server_each} bytes"
    );
    Ok(())
}

/// Connects and shakes hands. All use one token and come without an id, so that nothing but the connection is measured.
async fn connect(
    index: usize,
    host: &str,
    request_target: &str,
    token: &str,
) -> Result<Client, Failure> {
    let mut request = format!("ws://{host}{request_target}").into_client_request()?;
    request.headers_mut().insert(
        "Authorization",
        HeaderValue::from_str(&format!("Bearer {token}"))?,
    );
    let config = WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0);
    let upgrade = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(source(index))?;
        let stream = socket.connect(host.parse()?).await?;
        let (mut client, _) = client_async_with_config(request, stream, Some(config)).await?;
        client
            .send(Message::text("{\"protocol\":\"json\",\"version\":1}\u{1e}"))
            .await?;
        wait_for(&mut client, "{}").await?;
        Ok::<_, Failure>(client)
    };
    timeout(PATIENCE, upgrade)
        .await
        .map_err(|_| "a client was not let in in time")?
}

/// From where a client connects. With all of them on one address the kernel searches ever longer for a free port, until the clients are
/// so slow that the service gives them up.
fn source(index: usize) -> SocketAddr {
    const ADDRESSES: usize = 4;
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (index % ADDRESSES) as u8), 0))
}

async fn echo(mut client: Client, text: String) -> Result<Client, Failure> {
    let call = format!(
        "{{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"{text}\"]}}{RECORD_SEPARATOR}"
    );
    client.send(Message::text(call)).await?;
    let result = format!("\"result\":\"{text}\"");
    timeout(PATIENCE, wait_for(&mut client, &result))
        .await
        .map_err(|_| format!("{text} got no echo"))??;
    Ok(client)
}

/// Reads until a record contains `needle`; greetings and pings on the way are skipped.
async fn wait_for(client: &mut Client, needle: &str) -> Result<(), Failure> {
    while let Some(message) = client.next().await {
        let bytes: Bytes = message?.into_data();
        let text = std::str::from_utf8(&bytes)?;
        if text
            .split(RECORD_SEPARATOR)
            .any(|record| record.contains(needle))
        {
            return Ok(());
        }
        if text.contains("\"error\"") {
            return Err(text.into());
        }
    }
    Err(format!("the service closed before {needle}").into())
}

async fn start_service(port: u16, admin_port: u16) -> Result<(Child, String), Failure> {
    let mut child = Command::new(binary())
        .args([
            "serve",
            "--listen",
            &local(port),
            "--admin",
            &local(admin_port),
        ])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let connection_string = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await? {
            if line.trim_start().starts_with("Endpoint=") {
                return Ok(line.trim().to_owned());
            }
        }
        Err::<String, Failure>("the service ended without a connection string".into())
    })
    .await??;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    until_healthy(admin_port).await?;
    Ok((child, connection_string))
}

async fn start_app_server(port: u16, connection_string: &str) -> Result<Child, Failure> {
    let child = Command::new(binary())
        .args([
            "app-server",
            "--connection-string",
            connection_string,
            "--listen",
            &local(port),
        ])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    until_healthy(port).await?;
    Ok(child)
}

/// Asks the app server where to go: host with port, request target, access token.
async fn negotiate(app_port: u16) -> Result<(String, String, String), Failure> {
    let body = http(app_port, "POST", "/chat/negotiate?negotiateVersion=1").await?;
    let answer: serde_json::Value = serde_json::from_str(&body)?;
    let member = |name: &str| {
        answer
            .get(name)
            .and_then(|value| value.as_str())
            .map(ToOwned::to_owned)
    };
    let url = member("url").ok_or_else(|| format!("no url in {body}"))?;
    let token = member("accessToken").ok_or_else(|| format!("no accessToken in {body}"))?;
    let address = url
        .strip_prefix("http://")
        .ok_or_else(|| format!("{url} is no plain http URL"))?;
    let (host, rest) = address
        .split_once('/')
        .ok_or_else(|| format!("{url} has no path"))?;
    Ok((host.to_owned(), format!("/{rest}"), token))
}

async fn until_healthy(port: u16) -> Result<(), Failure> {
    let started = Instant::now();
    while http(port, "GET", "/healthz").await.is_err() {
        if started.elapsed() > PATIENCE {
            return Err(format!("port {port} is not healthy after {PATIENCE:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One request on a connection of its own; the body of a 200, an error for anything else.
async fn http(port: u16, method: &str, target: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        local(port)
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    if head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        Err(answer.into())
    }
}

fn resident_bytes(process: &Child) -> Result<usize, Failure> {
    let pid = process.id().ok_or("the process has ended")?;
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Rss:"))
        .ok_or("no Rss line")?;
    let kibibytes: usize = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kibibytes * 1024)
}

fn require_descriptors(needed: usize) -> Result<(), Failure> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .ok_or("no such limit")?;
    let soft = line.split_whitespace().nth(3).ok_or("no figure")?;
    if soft != "unlimited" && soft.parse::<usize>()? < needed {
        return Err(
            format!("{needed} descriptors are needed, {soft} allowed: ulimit -n {needed}").into(),
        );
    }
    Ok(())
}

/// Ports below those that the kernel takes for outgoing connections, of which this test needs most.
fn free_ports() -> Result<[u16; 3], Failure> {
    let first = 15_000 + u16::try_from(std::process::id() % 10_000)?;
    let free: Vec<u16> = (first..32_000)
        .filter(|&port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok())
        .take(3)
        .collect();
    <[u16; 3]>::try_from(free).map_err(|_| "no three free ports".into())
}

fn local(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

fn binary() -> String {
    std::env::var("HUBRING_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hubring").to_owned())
}
