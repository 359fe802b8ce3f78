//! Measurements as a table for people: a block for each subject, our figures above their floors and ratios.

use std::fmt;

use super::Measurement;
use crate::measure::Metric;

type Columns = [(&'static str, &'static [Metric]); 7];

/// The columns, left to right.
const COLUMNS: Columns = [
    ("p50 us", &[Metric::P50]),
    ("p99 us", &[Metric::P99]),
    ("p99.9 us", &[Metric::P999]),
    ("p99.99 us", &[Metric::P9999]),
    (
        "per second",
        &[
            Metric::MessagesPerSecond,
            Metric::EventsPerSecond,
            Metric::CommandsPerSecond,
        ],
    ),
    ("MB/s", &[Metric::MegabytesPerSecond]),
    ("CPU ns each", &[Metric::CpuNsPerMessage]),
];

/// The columns of where a message's time goes.
const STAGES: Columns = [
    ("claim ns", &[Metric::ClaimNs]),
    ("encode ns", &[Metric::EncodeNs]),
    ("commit ns", &[Metric::CommitNs]),
    ("post ns", &[Metric::PostNs]),
    ("device ns", &[Metric::DeviceNs]),
    ("poll ns", &[Metric::PollNs]),
    ("dispatch ns", &[Metric::DispatchNs]),
];

fn columns_of(block: &[Measurement]) -> &'static Columns {
    match block.iter().any(|one| one.metric == Metric::DeviceNs) {
        true => &STAGES,
        false => &COLUMNS,
    }
}

/// Measurements, and what a person should know beside them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    blocks: Vec<Vec<Measurement>>,
    notes: Vec<String>,
}

impl Table {
    /// Adds the measurements of one subject.
    pub(crate) fn add(&mut self, measurements: Vec<Measurement>) {
        if !measurements.is_empty() {
            self.blocks.push(measurements);
        }
    }

    /// Adds a line below the table: what is missing, and what brings it.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for blocks in self
            .blocks
            .chunk_by(|one, next| columns_of(one) == columns_of(next))
        {
            Grid::of(blocks).fmt(f)?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// Rows of the same columns, each as wide as what is in it. A column without a figure in any row is left out.
struct Grid {
    titles: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    title: String,
    cells: Vec<Option<String>>,
}

impl Grid {
    fn of(blocks: &[Vec<Measurement>]) -> Grid {
        let (titles, metrics): (Vec<&str>, Vec<&[Metric]>) = blocks
            .first()
            .map_or(&COLUMNS, |block| columns_of(block))
            .iter()
            .copied()
            .unzip();
        let mut grid = Grid {
            titles,
            rows: Vec::new(),
        };
        for block in blocks {
            let mut row = |title: &str, cell: &dyn Fn(&Measurement) -> Option<String>| {
                let find = |metrics: &&[Metric]| {
                    let found = block.iter().find(|one| metrics.contains(&one.metric));
                    found.and_then(cell)
                };
                grid.rows.push(Row {
                    title: title.to_owned(),
                    cells: metrics.iter().map(find).collect(),
                });
            };
            let first = &block[0];
            let subject = format!("{} {} {}", first.bench, first.transport, bytes(first.size));
            row(&subject, &|one| Some(number(one.value)));
            if block.iter().any(|one| one.floor.is_some()) {
                row("  floor", &|one| one.floor.map(number));
                row("  ratio", &|one| one.ratio.map(|ratio| format!("{ratio:.2}")));
            }
        }
        grid
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BETWEEN: usize = 2;
        let first = self.rows.iter().map(|row| row.title.len()).max().unwrap_or(0);
        let widths: Vec<Option<usize>> = self
            .titles
            .iter()
            .enumerate()
            .map(|(at, title)| {
                let widest = self
                    .rows
                    .iter()
                    .filter_map(|row| Some(row.cells[at].as_ref()?.len()))
                    .max();
                widest.map(|widest| BETWEEN + widest.max(title.len()))
            })
            .collect();
        let mut line = |title: &str, cells: &mut dyn Iterator<Item = &str>| {
            write!(f, "{title:<first$}")?;
            for (cell, width) in cells.zip(&widths) {
                if let Some(width) = width {
                    write!(f, "{cell:>width$}")?;
                }
            }
            writeln!(f)
        };
        line("", &mut self.titles.iter().copied())?;
        self.rows.iter().try_for_each(|row| {
            line(
                &row.title,
                &mut row.cells.iter().map(|cell| cell.as_deref().unwrap_or("-")),
            )
        })
    }
}

/// Three digits or more, and a letter for large ones.
fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} K", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

fn bytes(size: usize) -> String {
    match size {
        s if s >= 1 << 20 && s % (1 << 20) == 0 => format!("{} MiB", s >> 20),
        s if s >= 1 << 10 && s % (1 << 10) == 0 => format!("{} KiB", s >> 10),
        s => format!("{s} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Figures;
    use crate::report::Subject;

    #[test]
    fn a_figure_stands_above_its_floor_and_ratio() {
        let subject = Subject {
            bench: "latency",
            transport: "tcp".into(),
            size: 64,
        };
        let (ours, floor) = (
            Figures::from([(Metric::P50, 3.0)]),
            Figures::from([(Metric::P50, 2.0)]),
        );
        let mut table = Table::default();
        table.add(subject.measurements(&ours, Some(&floor)));
        table.note("more with less");
        let text = table.to_string();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1][..5], ["latency", "tcp", "64", "B", "3.000"]);
        assert_eq!(lines[2][..2], ["floor", "2.000"]);
        assert_eq!(lines[3][..2], ["ratio", "1.50"]);
        assert_eq!(text.lines().last(), Some("more with less"));
        assert_eq!(lines[0], ["p50", "us"], "there is nothing else");
    }

    #[test]
    fn columns_stand_in_line_and_fit_a_terminal() {
        let mut table = Table::default();
        for (bench, metrics) in [
            (
                "latency",
                &[Metric::P50, Metric::P99, Metric::P999, Metric::P9999][..],
            ),
            (
                "throughput",
                &[Metric::MessagesPerSecond, Metric::MegabytesPerSecond],
            ),
        ] {
            let subject = Subject {
                bench,
                transport: "tcp".into(),
                size: 64,
            };
            let figures: Figures = metrics.iter().map(|metric| (*metric, 123_456.0)).collect();
            table.add(subject.measurements(&figures, Some(&figures)));
        }
        let text = table.to_string();
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert!(
            lengths[0] <= 80 && lengths.iter().all(|length| *length == lengths[0]),
            "{text}"
        );
    }

    #[test]
    fn numbers_keep_three_digits() {
        let shown: Vec<String> = [0.0623, 12.34, 139.4, 33_123.0, 52e6]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(shown, ["0.062", "12.3", "139", "33.1 K", "52.00 M"]);
    }
}
