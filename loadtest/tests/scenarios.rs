//! The load generator as a whole: each scenario against a real service, small and short. What is checked is that the figures are there and
//! fit together, not how good they are.
//!
//! The programs are those that `cargo test --workspace` builds beside this one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SHORT: &str = "--warm-up 0.1 --window 0.2 --windows 2";

#[test]
fn echoes_come_back_with_the_floor_beside_them() {
    let report = run("echo --clients 20 --floor");
    let service = the_run(&report, "hubring");
    let floor = the_run(&report, "floor");
    for run in [service, floor] {
        assert_flows(run);
        assert!(!run["latencies_us"].as_array().unwrap().is_empty());
    }
    assert_eq!(service["figures"]["relays_crossed_shard"], 0.0);
    assert_eq!(report["head"]["mode"], "echo");
}

#[test]
fn echoes_at_their_times_are_no_more_than_asked_for() {
    let report = run("echo --clients 20 --rate 500 --hub-protocol messagepack");
    let run = the_run(&report, "hubring");
    assert_flows(run);
    let sum = |key: &str| -> f64 {
        let values = windows(run).iter().map(|window| window[key].as_f64());
        values.map(Option::unwrap).sum()
    };
    // What is late is made up for. Without its times there would be twenty times as many.
    let rate = sum("messages") / sum("seconds");
    assert!(rate < 1500.0, "{rate} a second");
}

#[test]
fn whatever_the_app_server_sends_arrives() {
    for scenario in [
        "broadcast --burst 8 --overlap 10",
        "send-to-connection",
        "send-to-user --rate 500",
        "small-groups --idle-groups 5",
        "big-groups --members 20",
        "join-leave --groups 7",
        "slow-consumers --stalled 2",
        "mixed --rate 500",
    ] {
        let report = run(&format!("{scenario} --clients 40"));
        assert_flows(the_run(&report, "hubring"));
    }
}

#[test]
fn several_processes_share_the_clients() {
    let report = run("broadcast --clients 40 --processes 2");
    assert_flows(the_run(&report, "hubring"));
}

#[test]
fn clients_come_and_go() {
    let report = run("connect --clients 4");
    assert_flows(the_run(&report, "hubring"));
    for how in ["", "--kill-app-server"] {
        let report = run(&format!("reconnect --clients 40 {how}"));
        let run = the_run(&report, "hubring");
        assert_eq!(run["figures"]["failed"], 0.0, "{run:#}");
    }
}

#[test]
fn idle_clients_are_weighed() {
    let report = run("idle --clients 200");
    let figures = &the_run(&report, "hubring")["figures"];
    let bytes = figures["resident_bytes_per_client"].as_f64().unwrap();
    assert!(bytes.is_finite(), "{figures:#}");
}

#[test]
fn a_result_can_be_printed_drawn_and_compared() {
    let folder = Folder::new("results");
    let json = folder.file("a.json");
    let html = folder.file("a.html");
    let words = format!("echo --clients 20 {SHORT} --json {}", json.display());
    assert_success(&loadtest(&format!(
        "run {words} --service {}",
        service().display()
    )));

    let printed = loadtest(&format!("report {}", json.display()));
    assert_success(&printed);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("echo"));
    assert_success(&loadtest(&format!(
        "report {} --html {}",
        json.display(),
        html.display()
    )));
    assert!(std::fs::read_to_string(&html).unwrap().contains("<svg"));
    assert_success(&loadtest(&format!(
        "compare {0} {0} --fail-on-worse",
        json.display()
    )));
    let odd = loadtest(&format!("report {}", html.display()));
    assert!(!odd.status.success());
}

#[test]
fn what_cannot_be_measured_is_said_and_leaves_nothing_behind() {
    let nowhere = loadtest(&format!("run echo {SHORT} --service nowhere/hubring"));
    assert!(!nowhere.status.success());
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("nowhere/hubring"));
}

/// The report of a short run.
fn run(scenario: &str) -> Value {
    let folder = Folder::new(&scenario.replace(|letter: char| !letter.is_alphanumeric(), "_"));
    let json = folder.file("report.json");
    let words = format!(
        "run {scenario} {SHORT} --json {} --service {}",
        json.display(),
        service().display()
    );
    assert_success(&loadtest(&words));
    serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
}

fn loadtest(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hubring-loadtest"))
        .args(words.split_whitespace())
        .output()
        .unwrap()
}

/// The service's program: the one under test, or the one that was built together with this.
fn service() -> PathBuf {
    let path = std::env::var_os("HUBRING_BIN").map_or_else(
        || Path::new(env!("CARGO_BIN_EXE_hubring-loadtest")).with_file_name("hubring"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is not there: cargo test --workspace builds it",
        path.display()
    );
    path
}

fn assert_success(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
}

fn the_run<'a>(report: &'a Value, contestant: &str) -> &'a Value {
    let runs = report["runs"].as_array().unwrap();
    let mut of_contestant = runs.iter().filter(|run| run["contestant"] == contestant);
    let run = of_contestant.next();
    assert!(of_contestant.next().is_none());
    run.unwrap_or_else(|| panic!("{contestant} has not run: {report:#}"))
}

fn windows(run: &Value) -> &[Value] {
    run["windows"].as_array().unwrap()
}

/// Messages arrive in every window, and they have a price.
fn assert_flows(run: &Value) {
    assert_eq!(windows(run).len(), 2);
    for window in windows(run) {
        assert!(window["messages"].as_u64().unwrap() > 0, "{run:#}");
        let price = window["cpu_us_per_message"]["service"].as_f64().unwrap();
        assert!(price > 0.0, "{run:#}");
    }
}

/// A directory that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("hubring-loadtest-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
