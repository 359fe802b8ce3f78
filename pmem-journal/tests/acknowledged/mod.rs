//! A writer that says what was acknowledged until it is killed, and the audit of what it said.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use pmem_journal::{EntityId, Event, Expected, Journal, Reader};

const THREADS: usize = 3;

/// What was acknowledged: the text of the event at each position.
pub(crate) type Acknowledged = HashMap<u64, String>;

/// Appends from several threads, and prints a line for each event once it is durable.
pub(crate) fn append_until_killed(journal: &Journal, round: &str) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, round) = (&journal, &round);
            scope.spawn(move || {
                for n in 0.. {
                    let sent: Vec<String> = (0..1 + n % 3)
                        .map(|part| format!("{round}:{thread}:{n}:{part}"))
                        .collect();
                    let entity = EntityId(thread as u128);
                    let batch: Vec<_> = sent
                        .iter()
                        .map(|text| Event::new(entity, 1, text.as_bytes()))
                        .collect();
                    let done = journal.append(&batch, Expected::Any).unwrap();
                    let mut out = std::io::stdout().lock();
                    for (position, text) in (done.first_position..).zip(&sent) {
                        writeln!(out, "acknowledged {position} {text}").unwrap();
                    }
                }
            });
        }
    });
}

/// The position and text in a line that [`append_until_killed`] printed.
pub(crate) fn in_line(line: &str) -> Option<(u64, String)> {
    let (position, text) = line.split_once("acknowledged ")?.1.split_once(' ')?;
    // The pipe may end in the middle of a line; such a line was cut, not sent.
    let whole = text.matches(':').count() == 3;
    Some((position.parse().ok().filter(|_| whole)?, text.to_owned()))
}

/// Adds what a round acknowledged.
pub(crate) fn add(
    acknowledged: &mut Acknowledged,
    more: impl IntoIterator<Item = (u64, String)>,
    round: u64,
) {
    for (position, text) in more {
        let before = acknowledged.insert(position, text);
        assert_eq!(
            before, None,
            "round {round}: position {position} was acknowledged twice"
        );
    }
}

/// Everything acknowledged is there once, at its position; nothing else is but what was sent; no batch is half there.
/// Answers how many events there are.
pub(crate) fn check(dir: &Path, acknowledged: &Acknowledged, round: u64) -> u64 {
    let Ok(reader) = Reader::open(dir) else {
        assert!(acknowledged.is_empty(), "round {round}: the journal is gone");
        return 0;
    };
    let mut replay = reader.replay(0).unwrap();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut sequences: HashMap<EntityId, u64> = HashMap::new();
    let mut next = 0;
    let mut whole = true;
    while let Some(event) = replay.next_event().unwrap() {
        assert_eq!(event.position, next, "round {round}: a gap");
        next += 1;
        let sequence = sequences.entry(event.entity).or_default();
        *sequence += 1;
        assert_eq!(
            event.sequence, *sequence,
            "round {round}: a gap in entity {}",
            event.entity
        );
        let text = String::from_utf8(event.payload.to_vec()).unwrap();
        if let Some(sent) = acknowledged.get(&event.position) {
            // The last line before a kill may have lost its end.
            assert!(
                text.starts_with(sent),
                "round {round}: position {} holds {text}, not {sent}",
                event.position
            );
        }
        let before = seen.insert(text.clone(), event.position);
        assert_eq!(before, None, "round {round}: {text} is there twice");
        whole = event.batch_end;
    }
    assert!(whole, "round {round}: half a batch");
    for position in acknowledged.keys() {
        assert!(
            *position < next,
            "round {round}: acknowledged {position} is lost, the journal ends at {next}"
        );
    }
    next
}
