//! A report in the making: sides take turns, and what is found goes to the table and to the JSON lines.

use std::io::IsTerminal;
use std::path::Path;

use crate::cli::Output;
use crate::error::Error;
use crate::floor::journal::{JournalFloor, Mode, Shape};
use crate::machine::{self, Watch};
use crate::measure::{Schedule, Side, take_turns};
use crate::ours;
use crate::report::{self, JsonLines, Measurement, Subject, Table};

/// Whether ours is measured too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sides {
    Both,
    FloorAlone,
}

/// A floor, and what ours is reported as beside it.
pub(super) struct Floor {
    pub(super) subject: Subject,
    pub(super) side: Box<dyn Side>,
}

/// A report in the making.
pub(super) struct Report {
    watch: Watch,
    json: JsonLines,
    pub(super) table: Table,
}

impl Report {
    pub(super) fn begin(output: &Output) -> Result<Report, Error> {
        let json = JsonLines::open(output.json.as_deref())?;
        Ok(Report {
            watch: Watch::begin(),
            json,
            table: Table::default(),
        })
    }

    /// Lets both sides take turns and reports ours beside the floor.
    pub(super) fn both(
        &mut self,
        subject: &Subject,
        ours: Box<dyn Side>,
        floor: Box<dyn Side>,
        schedule: Schedule,
    ) -> Result<(), Error> {
        let subject = subject.clone();
        self.beside_each(ours, vec![Floor { subject, side: floor }], schedule)
    }

    /// Lets our side and several floors take turns and reports ours beside each of them.
    pub(super) fn beside_each(
        &mut self,
        mut ours: Box<dyn Side>,
        mut floors: Vec<Floor>,
        schedule: Schedule,
    ) -> Result<(), Error> {
        let mut sides: Vec<&mut dyn Side> = Vec::new();
        for floor in &mut floors {
            progress(&floor.subject);
            sides.push(&mut *floor.side);
        }
        sides.push(&mut *ours);
        let mut medians = take_turns(&mut sides, schedule)?;
        let ours = medians.pop().unwrap_or_default();
        for (floor, figures) in floors.iter().zip(&medians) {
            self.add(floor.subject.measurements(&ours, Some(figures)))?;
        }
        Ok(())
    }

    /// Reports a floor for itself, under a name that nobody takes for ours.
    pub(super) fn floor_alone(
        &mut self,
        subject: &Subject,
        floor: Box<dyn Side>,
        schedule: Schedule,
    ) -> Result<(), Error> {
        let subject = Subject {
            transport: format!("floor-{}", subject.transport),
            ..subject.clone()
        };
        self.alone(&subject, floor, schedule)
    }

    /// Reports one side for itself.
    pub(super) fn alone(
        &mut self,
        subject: &Subject,
        mut side: Box<dyn Side>,
        schedule: Schedule,
    ) -> Result<(), Error> {
        progress(subject);
        let medians = take_turns(&mut [&mut *side], schedule)?;
        self.add(subject.measurements(&medians[0], None))
    }

    pub(super) fn journal(
        &mut self,
        dir: &Path,
        mode: Mode,
        shape: Shape,
        schedule: Schedule,
        sides: Sides,
    ) -> Result<(), Error> {
        if machine::in_memory(dir) && mode != Mode::Volatile {
            self.table.note(format!(
                "{} is in memory: nothing there outlives the machine",
                dir.display()
            ));
        }
        let floor = JournalFloor::open(dir, mode, shape)?;
        let mode = floor.mode();
        let subject = Subject {
            bench: "journal",
            transport: mode.name().to_owned(),
            size: shape.size,
        };
        match sides {
            Sides::FloorAlone => self.floor_alone(&subject, Box::new(floor), schedule),
            Sides::Both => self.both(
                &subject,
                ours::journal(dir, mode, shape)?,
                Box::new(floor),
                schedule,
            ),
        }
    }

    pub(super) fn add(&mut self, measurements: Vec<Measurement>) -> Result<(), Error> {
        self.json.write(&measurements)?;
        self.table.add(measurements);
        Ok(())
    }

    /// Prints the table.
    pub(super) fn end(self) -> Result<(), Error> {
        let text = format!("{}\n\n{}", self.watch.describe(), self.table);
        show(&text, self.json.to_standard_output())
    }
}

/// Shows people `text`, out of the way of JSON lines that go to the standard output.
pub(super) fn show(text: &str, json_to_standard_output: bool) -> Result<(), Error> {
    if json_to_standard_output {
        report::remark(text);
        Ok(())
    } else {
        report::print(text)
    }
}

/// Tells a person who watches what is being measured.
pub(super) fn progress(subject: &Subject) {
    if std::io::stderr().is_terminal() {
        report::remark(&format!(
            "measuring {} {} {} B\n",
            subject.bench, subject.transport, subject.size
        ));
    }
}
