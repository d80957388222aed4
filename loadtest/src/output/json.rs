//! The report as a file.
//!
//! Fields that are not known are passed over, so that a report of a later version can still be compared. A figure that is no number
//! (nothing divided by nothing) is left out, because JSON has no word for it.

use std::fs;
use std::path::Path;

use crate::error::LoadError;
use crate::results::{Report, Row, Run};

/// Writes the report to `path`.
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), LoadError> {
    fs::write(path, text(report)?).map_err(|source| LoadError::WriteReport {
        path: path.to_owned(),
        source,
    })
}

/// Reads what [`write()`] has written.
pub(crate) fn read(path: &Path) -> Result<Report, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::ReadReport {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| LoadError::NotAReport {
        path: path.to_owned(),
        source,
    })
}

/// The report as JSON, indented, with a line end.
pub(crate) fn text(report: &Report) -> Result<String, LoadError> {
    let mut text = serde_json::to_string_pretty(&finite(report.clone()))?;
    text.push('\n');
    Ok(text)
}

/// Without figures that are no numbers.
fn finite(mut report: Report) -> Report {
    for row in &mut report.rows {
        let Row {
            value, min, max, ..
        } = row;
        let [floor_ratio, floor_busy] = [&mut row.floor_ratio, &mut row.floor_busy];
        for figure in [
            value,
            min,
            max,
            floor_ratio,
            floor_busy,
            &mut row.service_busy,
        ] {
            *figure = figure.filter(|figure| figure.is_finite());
        }
        row.samples.retain(|sample| sample.is_finite());
        row.peers.retain(|_, figure| figure.is_finite());
    }
    for run in &mut report.runs {
        let Run {
            figures,
            latencies_us,
            windows,
            ..
        } = run;
        figures.retain(|_, figure| figure.is_finite());
        latencies_us.retain(|(_, latency)| latency.is_finite());
        for window in windows {
            window
                .cpu_us_per_message
                .retain(|_, figure| figure.is_finite());
            window.busy.retain(|_, figure| figure.is_finite());
            window.cpu_seconds.retain(|_, figure| figure.is_finite());
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = sample::report();
        let path = std::env::temp_dir().join(format!("report-{}.json", std::process::id()));
        write(&report, &path).unwrap();
        let again = read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(text(&again).unwrap() == text(&report).unwrap());
    }

    #[test]
    fn the_names_are_those_that_programs_rely_on() {
        let json: serde_json::Value =
            serde_json::from_str(&text(&sample::report()).unwrap()).unwrap();
        assert!(json["head"]["commit"].is_string());
        let row = &json["rows"][0];
        for name in [
            "row",
            "value",
            "min",
            "max",
            "unit",
            "must",
            "target",
            "stretch",
            "verdict",
            "floor_ratio",
            "peers",
        ] {
            assert!(!row[name].is_null(), "{name}");
        }
        let known = ["stretch", "target", "must", "below must", "missing"];
        for row in json["rows"].as_array().unwrap() {
            assert!(known.contains(&row["verdict"].as_str().unwrap()));
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let mut json: serde_json::Value =
            serde_json::from_str(&text(&sample::report()).unwrap()).unwrap();
        json["later"] = 1.into();
        json["rows"][0]["later"] = "x".into();
        assert!(serde_json::from_value::<Report>(json).is_ok());
    }

    #[test]
    fn figures_that_are_no_numbers_are_left_out() {
        let mut report = sample::report();
        report.rows[0].value = Some(f64::NAN);
        report.rows[0].samples.push(f64::INFINITY);
        report.runs[0]
            .figures
            .insert("frames_per_send".to_owned(), f64::NAN);
        report.runs[0].windows[0]
            .cpu_us_per_message
            .insert("service".to_owned(), f64::NAN);
        let again: Report = serde_json::from_str(&text(&report).unwrap()).unwrap();
        assert_eq!(again.rows[0].value, None);
        assert!(!again.runs[0].figures.contains_key("frames_per_send"));
    }

    #[test]
    fn what_is_no_report_is_refused_by_its_name() {
        let path = std::env::temp_dir().join(format!("no-report-{}.json", std::process::id()));
        fs::write(&path, "{\"rows\": []}").unwrap();
        let error = read(&path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("missing field `head`"), "{error}");
        let error = read(&path).unwrap_err().to_string();
        assert!(error.starts_with("cannot read"), "{error}");
    }
}
