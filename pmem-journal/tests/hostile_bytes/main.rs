//! Files that hold anything at all: every way into a journal answers with what is there or a typed error. Nothing panics,
//! nothing takes memory out of proportion, and without a forged checksum nothing is shown that was never written.
//!
//! Each case is a journal of the corpus (`tests/corpus/` and `tests/fixtures/`) with a few changes in its files, half of the
//! time with every checksum made right again, so that what lies behind the checksums is reached as well.
//! `HOSTILE_CASES` sets how many (default 300), `HOSTILE_SEED` where they begin. A case that fails is kept in
//! `tests/corpus/`.

mod changes;
mod checksums;
mod uses;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use changes::Random;
use pmem_journal::{Event, Expected, Journal, Reader};

/// What reading a journal of a few hundred kilobytes may take.
const MOST_MEMORY: u64 = 16 << 20;

/// The files of a journal, by their path in it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn tests_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn read(dir: &Path, below: &Path, files: &mut Files) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = below.join(path.file_name().unwrap());
        if path.is_dir() {
            read(&path, &name, files);
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

fn write(dir: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn corpus() -> Vec<(String, Files)> {
    let mut journals = Vec::new();
    for folder in ["corpus", "fixtures"] {
        let mut dirs: Vec<_> = fs::read_dir(tests_folder(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        dirs.sort();
        for dir in dirs {
            let mut files = Files::new();
            read(&dir, Path::new(""), &mut files);
            let name = dir.file_name().unwrap().to_string_lossy().into_owned();
            journals.push((name, files));
        }
    }
    journals
}

/// In memory, for what is synced here need not last.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Uses the journal in every way; keeps it if that goes wrong.
fn check(files: &Files, known: Option<&uses::Known>, case: &str) {
    let used = catch_unwind(AssertUnwindSafe(|| {
        let dir = scratch();
        write(dir.path(), files);
        let read = allocation_counter::measure(|| uses::read(dir.path(), known));
        let (most, size) = (read.bytes_max, files.values().map(Vec::len).sum::<usize>());
        assert!(
            most < MOST_MEMORY,
            "{most} bytes of memory for a journal of {size}"
        );
        uses::mend(files);
        uses::write_on(dir.path());
    }));
    if let Err(panic) = used {
        let kept = tests_folder("corpus").join(format!("failed-{case}"));
        write(&kept, files);
        eprintln!("case {case}: kept in {}", kept.display());
        resume_unwind(panic);
    }
}

#[test]
fn journals_of_the_corpus_and_changed_ones_are_read_or_refused() {
    let number = |variable: &str, default: u64| {
        std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
    };
    let (cases, seed) = (number("HOSTILE_CASES", 300), number("HOSTILE_SEED", 1));
    let journals = corpus();
    for (name, files) in &journals {
        check(files, None, name);
    }
    let known: Vec<uses::Known> = journals.iter().map(|(_, files)| uses::known(files)).collect();
    let mut forged = 0;
    for case in seed..seed + cases {
        let mut random = Random::new(case);
        let which = random.below(journals.len());
        let mut files = journals[which].1.clone();
        changes::change(&mut files, &mut random);
        let forge = random.below(2) == 0;
        if forge {
            files
                .iter_mut()
                .for_each(|(name, bytes)| checksums::make_right(name, bytes));
            forged += 1;
        }
        check(&files, (!forge).then_some(&known[which]), &case.to_string());
    }
    println!("{cases} changed journals, {forged} of them with right checksums");
}

/// That checksums are made right is what makes half of the cases worth anything.
#[test]
fn right_checksums_stay_as_they_are_and_wrong_ones_are_mended() {
    let good = ["killed", "v1", "v1-kept"];
    for (name, files) in corpus().iter().filter(|(name, _)| good.contains(&name.as_str())) {
        let mut again = files.clone();
        again
            .iter_mut()
            .for_each(|(name, bytes)| checksums::make_right(name, bytes));
        assert!(&again == files, "{name}");
        // An event's payload, and with it its record's checksum.
        let (path, segment) = again
            .iter_mut()
            .find(|(path, _)| path.extension().is_some_and(|e| e == "seg"))
            .unwrap();
        let last = 4096 + u32::from_le_bytes(segment[4100..4104].try_into().unwrap()) as usize - 1;
        segment[last] ^= 1;
        checksums::make_right(path, segment);
        let dir = scratch();
        write(dir.path(), &again);
        let first = Reader::open(dir.path())
            .unwrap()
            .replay_kept()
            .unwrap()
            .owned()
            .next();
        assert!(first.unwrap().is_ok(), "{name}");
    }
}

#[test]
#[ignore = "writes into tests/corpus, which changes with the format alone"]
fn write_the_corpus() {
    if std::env::var_os("JOURNAL_WRITE_CORPUS").is_none() {
        return;
    }
    let dir = scratch();
    let (journal, _) = Journal::open_with(dir.path(), &uses::options()).unwrap();
    for n in 0..12u8 {
        let payload = vec![n; usize::from(n) * 7];
        let batch = [
            Event::new(1, 1, &payload).key(u128::from(n) + 1),
            Event::new(2, 1, &payload).tags(&["a"]),
        ];
        journal.append(&batch, Expected::Any).unwrap();
    }
    // As a kill leaves it, in the middle of a batch.
    let mut files = Files::new();
    read(dir.path(), Path::new(""), &mut files);
    files.retain(|name, _| name.extension().is_some_and(|e| e == "seg"));
    write(&tests_folder("corpus/killed"), &files);
}
