//! The service's own counters, from its admin port.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::LoadError;

/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Counters by name, each summed over the shards.
#[derive(Debug, Default)]
pub(crate) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// How much the counter `hubring_{name}_total` has grown since `before`. One that is not there has not stood still: somebody has given
    /// it another name.
    pub(crate) fn growth(&self, before: &Self, name: &str) -> Result<f64, LoadError> {
        let name = format!("hubring_{name}_total");
        let value = |metrics: &Self| metrics.0.get(&name).copied();
        let values = value(self).zip(value(before));
        let (now, before) = values.ok_or(LoadError::NoCounter(name))?;
        Ok(now - before)
    }

    /// Reads the text format of Prometheus and `OpenMetrics` as far as counters and gauges need it.
    fn parse(text: &str) -> Self {
        let mut values = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let name = series.split('{').next().unwrap_or(series);
            if let Ok(value) = value.parse::<f64>() {
                *values.entry(name.to_owned()).or_default() += value;
            }
        }
        Self(values)
    }
}

/// Reads all counters.
pub(crate) fn read(admin: SocketAddr) -> Result<Metrics, LoadError> {
    let answer = request(admin, "/metrics").map_err(LoadError::Metrics)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if is_ok(head) => Ok(Metrics::parse(body)),
        _ => {
            let status = answer.lines().next().unwrap_or_default();
            Err(LoadError::MetricsRefused(status.to_owned()))
        }
    }
}

/// Whether a service is there and says that it is well.
pub(crate) fn is_healthy(admin: SocketAddr) -> bool {
    request(admin, "/healthz").is_ok_and(|answer| is_ok(&answer))
}

fn request(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_ok(head: &str) -> bool {
    head.starts_with("HTTP/1.1 200 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_the_shards() {
        let before = Metrics::parse("hubring_sends_total{shard=\"0\"} 1\n");
        let after = Metrics::parse(
            "# TYPE hubring_sends counter\nhubring_sends_total{shard=\"0\"} 5\nhubring_sends_total{shard=\"1\"} 7\n# EOF\n",
        );
        let sends = after.growth(&before, "sends").unwrap();
        assert!((sends - 11.0).abs() < f64::EPSILON);
        assert!(after.growth(&before, "unknown").is_err());
    }
}
