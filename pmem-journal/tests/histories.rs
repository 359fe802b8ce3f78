//! Random histories against a plain model, and arbitrary bytes against recovery.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;

use pmem_journal::{Error, Event, Expected, Journal, Mode, Options, OwnedEvent, Reader};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        entity: u128,
        key: u128,
        sizes: Vec<usize>,
        expected: u8,
    },
    Reopen,
    Read {
        from: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec(0usize..900, 1..4);
    prop_oneof![
        8 => (0u128..4, 0u128..12, sizes, 0u8..8)
            .prop_map(|(entity, key, sizes, expected)| Step::Append { entity, key, sizes, expected }),
        1 => Just(Step::Reopen),
        1 => (0u64..60).prop_map(|from| Step::Read { from }),
    ]
}

/// What the journal should be, in the simplest words.
#[derive(Default)]
struct Model {
    events: Vec<(u128, u64, Vec<u8>)>,
    sequences: HashMap<u128, u64>,
    keys: HashMap<(u128, u128), (u64, u64)>,
}

fn options(mode: Mode) -> Options {
    Options::new().require(mode).segment_size(8192)
}

fn same(model: &Model, from: u64, events: &[OwnedEvent]) {
    let kept = model.events.iter().enumerate().skip(from as usize);
    assert_eq!(events.len(), model.events.len().saturating_sub(from as usize));
    for (event, (position, (entity, sequence, payload))) in events.iter().zip(kept) {
        assert_eq!(
            (event.position, event.entity.0, event.sequence),
            (position as u64, *entity, *sequence)
        );
        assert_eq!(&event.payload, payload);
    }
}

fn play(mode: Mode, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let (mut journal, _) = Journal::open_with(dir.path(), &options(mode)).unwrap();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append {
                entity,
                key,
                sizes,
                expected,
            } => {
                let payloads: Vec<Vec<u8>> = sizes.iter().map(|size| vec![n as u8; *size]).collect();
                let batch: Vec<_> = payloads
                    .iter()
                    .map(|p| Event::new(entity, 1, p).key(key))
                    .collect();
                let at = model.sequences.get(&entity).copied().unwrap_or(0);
                let (expected, fits) = match expected {
                    0 => (Expected::None, at == 0),
                    1 => (Expected::Exact(at), true),
                    2 => (Expected::Exact(at + 1), false),
                    _ => (Expected::Any, true),
                };
                let answer = journal.append(&batch, expected);
                if let Some((first, last)) = model.keys.get(&(entity, key)).filter(|_| key != 0) {
                    let answer = answer.unwrap();
                    assert_eq!(
                        (answer.first_position, answer.last_position, answer.duplicate),
                        (*first, *last, true)
                    );
                } else if fits {
                    let first = model.events.len() as u64;
                    for payload in payloads {
                        let sequence = model.sequences.entry(entity).or_default();
                        *sequence += 1;
                        model.events.push((entity, *sequence, payload));
                    }
                    let last = model.events.len() as u64 - 1;
                    model.keys.insert((entity, key), (first, last));
                    let answer = answer.unwrap();
                    assert_eq!(
                        (answer.first_position, answer.last_position, answer.duplicate),
                        (first, last, false)
                    );
                    assert_eq!(answer.sequence, model.sequences[&entity]);
                } else {
                    assert!(
                        matches!(answer, Err(Error::WrongSequence { actual, .. }) if actual == at),
                        "{answer:?}"
                    );
                }
            }
            Step::Reopen => {
                drop(journal);
                let (again, recovery) = Journal::open_with(dir.path(), &options(mode)).unwrap();
                assert_eq!(
                    (recovery.next_position, recovery.clean),
                    (model.events.len() as u64, true)
                );
                journal = again;
            }
            Step::Read { from } => {
                let own: Vec<_> = journal
                    .replay(from)
                    .unwrap()
                    .owned()
                    .map(Result::unwrap)
                    .collect();
                same(&model, from, &own);
            }
        }
    }
    let reader = Reader::open(dir.path()).unwrap();
    same(
        &model,
        0,
        &reader
            .replay(0)
            .unwrap()
            .owned()
            .map(Result::unwrap)
            .collect::<Vec<_>>(),
    );
    drop(journal);
    assert_eq!(reader.verify().unwrap().events, model.events.len() as u64);
    same(
        &model,
        0,
        &reader
            .replay(0)
            .unwrap()
            .owned()
            .map(Result::unwrap)
            .collect::<Vec<_>>(),
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_ordinary_file_is_a_vec_that_lasts(steps in prop::collection::vec(step(), 1..40)) {
        play(Mode::Buffered, steps);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_mapping_is_a_vec_that_lasts(steps in prop::collection::vec(step(), 1..120)) {
        play(Mode::Volatile, steps);
    }

    /// Any splice of any bytes into a good journal: an answer without a panic, and what is shown is a prefix of it.
    #[test]
    fn no_bytes_make_recovery_panic_or_invent_events(
        at in 0usize..8192,
        bytes in prop::collection::vec(any::<u8>(), 1..600),
        copy in any::<prop::sample::Index>(),
        splice in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
        let mut sent = Vec::new();
        for n in 0..8u8 {
            journal.append(&[Event::new(1, 1, &[n; 200]), Event::new(2, 1, &[n; 50])], Expected::Any).unwrap();
            sent.extend([vec![n; 200], vec![n; 50]]);
        }
        drop(journal);
        let path = dir.path().join("0000000000000000.seg");
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let len = bytes.len().min(8192 - at);
        let mut with = bytes[..len].to_vec();
        if splice {
            // Bytes of the file itself in a wrong place look more like records than noise does.
            file.read_exact_at(&mut with, copy.index(8192 - len + 1) as u64 & !15).unwrap_or(());
        }
        file.write_all_at(&with, at as u64).unwrap();
        drop(file);
        if let Ok((journal, _)) = Journal::open_with(dir.path(), &options(Mode::Buffered)) {
            let shown: Vec<_> = journal.replay(0).unwrap().owned().map(|event| event.unwrap().payload).collect();
            prop_assert!(sent.starts_with(&shown));
            journal.append(&[Event::new(1, 1, b"goes on")], Expected::Any).unwrap();
        }
    }
}
