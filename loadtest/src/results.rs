//! What a measurement leaves behind: the JSON that is written, read again by `compare` and `report`, and drawn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) head: Head,
    pub(crate) rows: Vec<Row>,
    /// One for each scenario and contestant that ran, in the order of time.
    pub(crate) runs: Vec<Run>,
}

/// Where, when and of what.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Head {
    /// Of the source tree that service and load generator were built from; `unknown` if the service comes from elsewhere.
    pub(crate) commit: String,
    pub(crate) version: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// RFC 3339, UTC.
    pub(crate) started: String,
    pub(crate) seconds: f64,
    /// `quick` or `full` of the table; the scenario of a single run.
    pub(crate) mode: String,
    /// Cores of the service and of everything else.
    pub(crate) service_cores: Vec<usize>,
    pub(crate) own_cores: Vec<usize>,
    /// Share of the time in which the service's cores ran it, median over the saturating runs; and the same of the load generator.
    pub(crate) service_busy: Option<f64>,
    pub(crate) own_busy: Option<f64>,
    /// Versions of the peers, by name.
    pub(crate) peers: BTreeMap<String, String>,
    /// What could not be measured and why.
    pub(crate) notes: Vec<String>,
}

/// One line of the table.
#[expect(clippy::struct_field_names, reason = "they are the names in the JSON")]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Stable key, such as `echo_2k`.
    pub(crate) row: String,
    /// For people.
    pub(crate) label: String,
    /// Median of `samples`; `None` if it was not measured.
    pub(crate) value: Option<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) must: Option<f64>,
    pub(crate) target: Option<f64>,
    pub(crate) stretch: Option<f64>,
    pub(crate) verdict: Verdict,
    /// CPU per message divided by that of the floor, median of the pairs taken next to each other.
    pub(crate) floor_ratio: Option<f64>,
    /// Share of the time in which the floor had its core. Below 0.95 it waited now and then, and could have been cheaper.
    #[serde(default)]
    pub(crate) floor_busy: Option<f64>,
    /// The same figure of others in the same run, by name; latencies have the floor's here.
    pub(crate) peers: BTreeMap<String, f64>,
    pub(crate) samples: Vec<f64>,
    /// Share of the time in which the service's cores ran it; a rate counts only from 0.95.
    pub(crate) service_busy: Option<f64>,
    /// The run that it was taken from, if that has another name than the row.
    #[serde(default)]
    pub(crate) run: Option<String>,
    /// What has to be known to read the figure.
    pub(crate) note: Option<String>,
}

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Less,
    More,
}

/// The best mark that a figure reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    #[serde(rename = "stretch")]
    Stretch,
    #[serde(rename = "target")]
    Target,
    #[serde(rename = "must")]
    Must,
    #[serde(rename = "below must")]
    BelowMust,
    #[serde(rename = "missing")]
    Missing,
}

/// One contestant under one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Run {
    /// Names what it belongs to: the key of a row, or the scenario.
    pub(crate) name: String,
    /// `hubring`, `floor`, `haproxy`, …
    pub(crate) contestant: String,
    pub(crate) scenario: serde_json::Value,
    pub(crate) clients: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) server_connections: u32,
    pub(crate) shards: u32,
    /// What is counted: `echo`, `delivery`, `connect`, …
    pub(crate) unit: String,
    /// In the order of time.
    pub(crate) windows: Vec<Window>,
    /// Percentile and microseconds, over all windows.
    pub(crate) latencies_us: Vec<(f64, f64)>,
    /// Figures from the service's counters per message (`frames_per_send`, `copied_bytes_per_message`, …) and of memory.
    pub(crate) figures: BTreeMap<String, f64>,
}

/// One second, or another time, of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Window {
    /// Since the report's start.
    pub(crate) at_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    /// CPU time by name: `service`, `app server`, `own`.
    pub(crate) cpu_us_per_message: BTreeMap<String, f64>,
    /// CPU time by name, in seconds.
    #[serde(default)]
    pub(crate) cpu_seconds: BTreeMap<String, f64>,
    /// Memory at its end by name, where that is what is measured.
    #[serde(default)]
    pub(crate) resident_bytes: BTreeMap<String, f64>,
    /// Share of the window in which it ran, by name, on as many cores as it can have at once.
    pub(crate) busy: BTreeMap<String, f64>,
    /// Share in which the service could have run but something else had its core.
    pub(crate) service_waited: f64,
    /// Percentile and microseconds, of this window alone.
    #[serde(default)]
    pub(crate) latencies_us: Vec<(f64, f64)>,
}
