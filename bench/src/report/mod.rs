//! What is reported: measurements, as JSON lines for programs and as a table for people.

mod json;
mod table;

use std::io::Write;

use serde::{Deserialize, Serialize};

pub(crate) use json::JsonLines;
pub(crate) use table::Table;

use crate::error::{Error, printing};
use crate::measure::{Figures, Metric};

/// Prints `text`, as it is, on the standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(printing("the standard output"))
}

/// Says `text`, as it is, on the standard error, where nobody may be listening, which is no reason to fail.
pub(crate) fn remark(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// One figure, beside its floor where there is one. The fields are those of a JSON line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// `latency`, `throughput`, `journal`, `accounts`.
    pub(crate) bench: String,
    /// What carried the messages, or the journal's mode; `floor-…` where a floor stands for itself.
    pub(crate) transport: String,
    /// Bytes of a message's payload, or of an event.
    pub(crate) size: usize,
    pub(crate) metric: Metric,
    pub(crate) value: f64,
    pub(crate) unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<f64>,
    /// `value / floor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
}

/// What was measured, for as long as its figures are one row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) bench: &'static str,
    pub(crate) transport: String,
    pub(crate) size: usize,
}

impl Subject {
    /// A measurement for each of `figures`, with its floor where `floor` has the same metric.
    pub(crate) fn measurements(&self, figures: &Figures, floor: Option<&Figures>) -> Vec<Measurement> {
        figures
            .iter()
            .map(|(metric, value)| {
                let floor = floor.and_then(|floor| floor.get(metric)).copied();
                Measurement {
                    bench: self.bench.to_owned(),
                    transport: self.transport.clone(),
                    size: self.size,
                    metric: *metric,
                    value: *value,
                    unit: metric.unit().to_owned(),
                    floor,
                    ratio: floor.filter(|floor| *floor > 0.0).map(|floor| value / floor),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            bench: "latency",
            transport: "tcp".into(),
            size: 64,
        }
    }

    #[test]
    fn a_json_line_has_the_promised_fields() {
        let ours = Figures::from([(Metric::P999, 3.0)]);
        let floor = Figures::from([(Metric::P999, 2.0)]);
        let line = serde_json::to_string(&subject().measurements(&ours, Some(&floor))[0]).unwrap();
        assert_eq!(
            line,
            r#"{"bench":"latency","transport":"tcp","size":64,"metric":"p99.9","value":3.0,"unit":"us","floor":2.0,"ratio":1.5}"#
        );
    }

    #[test]
    fn without_a_floor_there_is_neither_floor_nor_ratio() {
        let ours = Figures::from([(Metric::P50, 3.0), (Metric::CpuNsPerMessage, 8.0)]);
        let floor = Figures::from([(Metric::P50, 2.0)]);
        let measurements = subject().measurements(&ours, Some(&floor));
        let cpu = measurements
            .iter()
            .find(|one| one.metric == Metric::CpuNsPerMessage)
            .unwrap();
        assert_eq!((cpu.floor, cpu.ratio), (None, None));
        assert!(!serde_json::to_string(cpu).unwrap().contains("floor"));
    }
}
