//! The load generator that comes with hubring: `hubring-loadtest --help`.
//!
//! It starts a service on a core of its own, plays the clients and the app server on another, and reports what one message costs the
//! service in CPU time. That figure, unlike a rate, means the same on a machine that is too small to keep the service busy.
//!
//! The way of a run: [`measurement`] starts a [`service_process`], [`dial`]s the connections and lets the [`traffic`] flow between
//! [`clients`] and [`app_server_side`]; what was counted and read from [`process_figures`] and [`metrics`] becomes a [`report`].

#![forbid(unsafe_code)]

mod app_server_side;
mod cli;
mod clients;
mod dial;
mod error;
mod measurement;
mod metrics;
mod payload;
mod process_figures;
mod report;
mod service_messages;
mod service_process;
mod traffic;
mod web_socket;

use std::process::ExitCode;

use clap::Parser as _;

use self::cli::Cli;
use self::error::LoadError;
use self::measurement::Measurement;
use self::report::{Environment, Report};

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubring-loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: &Cli) -> Result<(), LoadError> {
    let (scenario, args) = cli.command.parts();
    let measurement = Measurement::prepare(scenario, args)?;
    let mut report = Report::new(scenario, args, Environment::here());
    for number in 1..=args.runs.get() {
        let run = measurement.run()?;
        if !args.json {
            eprintln!("run {number} of {}: {run}", args.runs);
        }
        report.runs.push(run);
    }
    if args.json {
        println!("{}", report.json()?);
    } else {
        println!("{report}");
    }
    Ok(())
}
