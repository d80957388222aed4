//! The load generator that comes with hubring: `hubring-loadtest --help`.
//!
//! It starts a service on cores of its own, plays the clients and the app server on others, and reports what one message costs the
//! service in CPU time. That figure, unlike a rate, means the same on a machine that is too small or too noisy to keep the service busy.
//!
//! One binary is several processes. The [`coordinator`] is the one that the user starts. It starts [`contestants`] (the service, the
//! floor beneath it, its peers) and for each of them at least one [`worker`], which is this binary again and plays clients and the other
//! side. Coordinator and worker speak as [`job`] says. What has been measured are [`results`], which [`output`] shows.

#![forbid(unsafe_code)]

mod cli;
mod contestants;
mod coordinator;
mod error;
mod job;
mod metrics;
mod output;
mod process_figures;
mod results;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use self::cli::{Cli, Command, OutputArgs};
use self::contestants::guard;
use self::error::LoadError;
use self::output::text::{Paint, columns};
use self::output::{compare, html, json, runs, terminal};
use self::results::Report;

fn main() -> ExitCode {
    match obey(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hubring-loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<ExitCode, LoadError> {
    match command {
        Command::Run { scenario } => {
            let report = coordinator::run::run(&scenario)?;
            write(&report, &scenario.args().output)?;
            print(&report);
        }
        Command::Table(args) => {
            let report = coordinator::table::table(&args)?;
            write(&report, &args.output)?;
            print(&report);
        }
        Command::Compare {
            before,
            after,
            fail_on_worse,
        } => {
            let comparison = compare::compare(&json::read(&before)?, &json::read(&after)?);
            print!("{}", comparison.text(columns(), Paint::of_stdout()));
            if fail_on_worse && comparison.is_worse() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Report { result, html } => {
            let report = json::read(&result)?;
            match html {
                Some(path) => html::write(&report, &path)?,
                None => print(&report),
            }
        }
        Command::Worker => return Ok(worker::run()),
        Command::Guard { owner, command } => return Err(guard::become_program(owner, &command)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Files first: what was measured is not lost if the terminal is.
fn write(report: &Report, output: &OutputArgs) -> Result<(), LoadError> {
    if let Some(path) = &output.json {
        json::write(report, path)?;
    }
    if let Some(path) = &output.html {
        html::write(report, path)?;
    }
    Ok(())
}

/// The rows, or the runs of a report that has none.
fn print(report: &Report) {
    let (columns, paint) = (columns(), Paint::of_stdout());
    if report.rows.is_empty() {
        print!("{}", runs::text(report, columns, paint));
    } else {
        print!("{}", terminal::table(report, columns, paint));
    }
}
