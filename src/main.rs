//! The hubring program: see `hubring --help`.

mod cli;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use hubring::app_server::AppServerError;
use hubring::app_server::demo::demo_router;
use hubring::app_server::reference::{Events, ReferenceOptions, run_reference};
use hubring::config::ServiceConfig;
use hubring::service::{Service, StartError};
use hubring::shard::ShardError;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use self::cli::{AppServerArgs, Cli, Command, DemoArgs, LogArgs, LogFormat, ServeArgs};

/// Exit codes, as `sysexits.h` has them where it has one.
const EXIT_USAGE: u8 = 64;
const EXIT_KERNEL: u8 = 69;
const EXIT_SHARD_FAILED: u8 = 70;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) => {
            let _ = help.print();
            return if help.use_stderr() {
                EXIT_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if let Err(error) = start_log(&cli.log) {
        eprintln!("hubring: {error}");
        return EXIT_USAGE.into();
    }
    // The control plane's threads. The shards have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(run(cli));
            // Dropping it would wait for the drain that a second signal has given up.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("hubring: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        None => serve(cli.serve).await,
        Some(Command::Serve(args)) => serve(args).await,
        Some(Command::AppServer(args)) => app_server(args).await,
        Some(Command::Demo(args)) => demo(args).await,
    }
}

async fn serve(args: ServeArgs) -> ExitCode {
    let service = match start(args.into()).await {
        Ok(service) => service,
        Err(code) => return code,
    };
    run_until_stopped(service).await
}

async fn app_server(args: AppServerArgs) -> ExitCode {
    let options = ReferenceOptions {
        connection_strings: args.connection_strings,
        secondary_connection_strings: args.secondary_connection_strings,
        server_connections: args.server_connections.into(),
        server_connections_max: args.max_connections.into(),
        shutdown_mode: args.graceful.into(),
        shutdown_timeout: Duration::from_secs(args.graceful_timeout.into()),
        events: if args.events {
            Events::on()
        } else {
            Events::default()
        },
        actions: args.actions,
        second_hub: args.hub2,
        ..ReferenceOptions::new("")
    };
    let listener = match TcpListener::bind(args.listen).await {
        Ok(listener) => listener,
        Err(error) => return cannot_listen(args.listen, &error),
    };
    app_server_exit(run_reference(options, listener, stop_signal()).await)
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> ExitCode {
    eprintln!("hubring: cannot listen on {address}: {error}");
    ExitCode::FAILURE
}

fn app_server_exit(result: Result<(), AppServerError>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("hubring: {error}");
    if matches!(error, AppServerError::Serve(_)) {
        return ExitCode::FAILURE;
    }
    EXIT_USAGE.into()
}

/// The service and the reference app server in one process, with a page to look at.
async fn demo(args: DemoArgs) -> ExitCode {
    let listener = match TcpListener::bind(args.app_listen).await {
        Ok(listener) => listener,
        Err(error) => return cannot_listen(args.app_listen, &error),
    };
    let page = listener.local_addr().unwrap_or(args.app_listen);
    let mut service = match start(args.serve.into()).await {
        Ok(service) => service,
        Err(code) => return code,
    };
    let connection_string = service.connection_string().unwrap_or_default();
    let inspector = service.inspector();
    let pages = demo_router(move || {
        let inspector = inspector.clone();
        async move { inspector.overview().await.unwrap_or_default() }
    });
    let options = ReferenceOptions {
        pages,
        ..ReferenceOptions::new(connection_string)
    };
    println!();
    println!("  Open the chat in two tabs:  http://{page}/");
    if let Some(admin) = service.admin_address() {
        println!("  Counters of the shards:     http://{admin}/metrics");
    }
    println!("  Ctrl-C ends it.");
    println!();
    // The app server says goodbye first, while the service can still carry it.
    let app_code = tokio::select! {
        result = run_reference(options, listener, stop_signal()) => app_server_exit(result),
        failure = service.failure() => return shard_failed(&failure),
    };
    let service_code = drain(service).await;
    if app_code == ExitCode::SUCCESS {
        service_code
    } else {
        app_code
    }
}

/// Starts the service and prints the line that goes into an app's settings.
async fn start(config: ServiceConfig) -> Result<Service, ExitCode> {
    let service = Service::start(config).await.map_err(|error| {
        eprintln!("hubring: {error}");
        ExitCode::from(match error {
            StartError::Config(_) => EXIT_USAGE,
            StartError::Kernel(_) => EXIT_KERNEL,
            StartError::Listen { .. } | StartError::Shard(_) => 1,
        })
    })?;
    if let Ok(connection_string) = service.connection_string() {
        println!("{connection_string}");
    }
    Ok(service)
}

/// Serves until a signal comes.
async fn run_until_stopped(mut service: Service) -> ExitCode {
    tokio::select! {
        failure = service.failure() => shard_failed(&failure),
        () = stop_signal() => drain(service).await,
    }
}

/// Closes all connections in good order. A signal meanwhile ends at once.
async fn drain(service: Service) -> ExitCode {
    tracing::info!("draining; a signal ends at once");
    tokio::select! {
        drained = service.drain() => match drained {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => shard_failed(&failure),
        },
        () = stop_signal() => ExitCode::FAILURE,
    }
}

fn shard_failed(failure: &ShardError) -> ExitCode {
    tracing::error!(%failure, "the service cannot go on");
    EXIT_SHARD_FAILED.into()
}

/// Waits for SIGTERM or SIGINT.
async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::warn!("signals cannot be caught: they end the service at once");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_log(args: &LogArgs) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(&args.log).map_err(|error| format!("--log {:?}: {error}", args.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = match args.log_format {
        LogFormat::Human => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_ansi(is_terminal).with_target(false).try_init()
        }
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| error.to_string())
}
