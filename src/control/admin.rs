//! What operators look at, on a port of its own: health, metrics, connections.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::counters::{ControlCounters, CounterKind, Counters};
use crate::inspector::Inspector;

/// The admin port's routes.
pub fn router(inspector: Inspector) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/connections", get(connections))
        .with_state(inspector)
}

/// 200 if every shard answers within a second.
async fn healthz(State(inspector): State<Inspector>) -> Response {
    match inspector.describe().await {
        Some(_) => (StatusCode::OK, "ok\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "a shard does not answer\n").into_response(),
    }
}

/// The counters of all shards and of the control plane in the `OpenMetrics` text format, which Prometheus reads.
async fn metrics(State(inspector): State<Inspector>) -> Response {
    let mut registry = Registry::with_prefix("hubring");
    registry.register_collector(Box::new(ShardCounters(inspector.counters())));
    registry.register_collector(Box::new(OwnCounters(inspector.control_counters())));
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// All server connections, and of each shard the first 200 clients.
async fn connections(State(inspector): State<Inspector>) -> Response {
    match inspector.overview().await {
        Some(overview) => axum::Json(overview).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "a shard does not answer\n").into_response(),
    }
}

/// Reads the shards' counters when asked.
struct ShardCounters(Vec<Arc<Counters>>);

impl fmt::Debug for ShardCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardCounters({} shards)", self.0.len())
    }
}

impl Collector for ShardCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        for (kind, name, help, _) in first.each() {
            let mut family = encoder.encode_descriptor(name, help, None, metric_type(kind))?;
            for (shard, counters) in self.0.iter().enumerate() {
                let value = counters
                    .each()
                    .find(|(_, other, ..)| *other == name)
                    .map_or(0, |(.., value)| value);
                let labels = [("shard", shard.to_string())];
                encode(kind, value, family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Reads the control plane's own counters when asked.
#[derive(Debug)]
struct OwnCounters(Arc<ControlCounters>);

impl Collector for OwnCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (kind, name, help, value) in self.0.each() {
            encode(
                kind,
                value,
                encoder.encode_descriptor(name, help, None, metric_type(kind))?,
            )?;
        }
        Ok(())
    }
}

fn metric_type(kind: CounterKind) -> MetricType {
    match kind {
        CounterKind::Total => MetricType::Counter,
        CounterKind::Gauge => MetricType::Gauge,
    }
}

fn encode(kind: CounterKind, value: u64, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match kind {
        CounterKind::Total => ConstCounter::new(value).encode(encoder),
        CounterKind::Gauge => ConstGauge::new(value.cast_signed()).encode(encoder),
    }
}
