//! What reading one stream takes beside how much else is in the journal:
//! `cargo run --release -p event-streams --example reads [DIRECTORY]`.
//!
//! Streams of ten events of 100 B each, which lie as far apart as the journal is long. Medians of 50 of them, in microseconds: the
//! first read after the journal was opened, a later one, and one after somebody else has appended to the journal. The floor is
//! ten reads of a file at places that are known, without a change of thread.

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_streams::Streams;
use pmem_journal::{EntityId, Event, Expected, Journal, Mode, Options};

const PER_STREAM: u64 = 10;
const READ: u64 = 50;
const PAYLOAD: [u8; 100] = [7; 100];

fn stream(number: u64) -> EntityId {
    EntityId::named(&format!("stream {number}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    println!(
        "{:>10}{:>10}{:>10}{:>10}{:>10}",
        "events", "first", "later", "beside", "floor"
    );
    for streams_in_all in [500, 2_000, 10_000, 100_000] {
        let dir = tempfile::tempdir_in(&parent)?;
        let options = Options::new().require(Mode::Buffered);
        fill(&dir.path().join("journal"), &options, streams_in_all)?;
        let (journal, _) = Journal::open_with(dir.path().join("journal"), &options)?;
        let streams = Streams::new(Arc::new(journal));
        let step = streams_in_all / READ;
        let (mut first, mut later, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        for number in (0..READ).map(|number| stream(number * step)) {
            first.push(timed(&streams, number).await?);
            later.push(timed(&streams, number).await?);
            let other = Event::new(stream(streams_in_all), 1, &PAYLOAD);
            streams.journal().append(&[other], Expected::Any)?;
            beside.push(timed(&streams, number).await?);
        }
        println!(
            "{:>10}{:>10.1}{:>10.1}{:>10.1}{:>10.1}",
            streams_in_all * PER_STREAM,
            median(first),
            median(later),
            median(beside),
            floor(&dir.path().join("bytes"), streams_in_all)?
        );
    }
    Ok(())
}

/// One event of each stream after the other, ten times.
fn fill(dir: &std::path::Path, options: &Options, streams: u64) -> pmem_journal::Result<()> {
    let (journal, _) = Journal::open_with(dir, options)?;
    for _ in 0..PER_STREAM {
        for batch in (0..streams).step_by(500) {
            let events: Vec<_> = (batch..batch + 500)
                .map(|number| Event::new(stream(number), 1, &PAYLOAD))
                .collect();
            journal.append(&events, Expected::Any)?;
        }
    }
    journal.close()
}

async fn timed(streams: &Streams, stream: EntityId) -> pmem_journal::Result<Duration> {
    let start = Instant::now();
    let events: Vec<_> = streams.read(stream, 0, usize::MAX).await?;
    let took = start.elapsed();
    assert_eq!(events.len() as u64, PER_STREAM);
    black_box::<Vec<_>>(events);
    Ok(took)
}

/// As many reads as a stream has events, as far apart.
fn floor(path: &std::path::Path, streams: u64) -> std::io::Result<f64> {
    let size = 160;
    std::fs::write(path, vec![7; (streams * PER_STREAM * size) as usize])?;
    let file = std::fs::File::open(path)?;
    let mut took = Vec::new();
    for number in 0..READ {
        let start = Instant::now();
        for event in 0..PER_STREAM {
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, (event * streams + number) * size)?;
            black_box(bytes);
        }
        took.push(start.elapsed());
    }
    Ok(median(took))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
