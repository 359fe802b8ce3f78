//! The end of what a guest's console said: nobody reads it until something fails.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// More than any failing boot says in its last words.
const KEPT_BYTES: usize = 32 * 1024;

/// Collects a console in the background, up to a bound.
#[derive(Clone, Default)]
pub(crate) struct Console {
    tail: Arc<Mutex<VecDeque<u8>>>,
}

impl Console {
    pub(crate) fn follow(mut from: impl Read + Send + 'static) -> Self {
        let console = Self::default();
        let tail = Arc::clone(&console.tail);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend(&buffer[..read]);
                let excess = tail.len().saturating_sub(KEPT_BYTES);
                tail.drain(..excess);
            }
        });
        console
    }

    /// The last lines, without what moves a terminal's cursor.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let bytes: Vec<u8> = {
            let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.iter().copied().collect()
        };
        let text = String::from_utf8_lossy(&bytes);
        let text = without_escapes(&text);
        let all: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    pub(crate) fn contains(&self, words: &str) -> bool {
        self.tail(usize::MAX).contains(words)
    }
}

/// Drops `ESC [ … letter` sequences and other control characters, which SeaBIOS writes plenty of.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            if rest.next_if_eq(&'[').is_some() {
                while rest.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
            }
            rest.next();
        } else if c == '\n' || c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_lines_and_no_cursor_moves() {
        let text = format!(
            "{}\u{1b}[2J\u{1b}[01;00Hone\r\n\r\ntwo\r\n\u{1b}cthree",
            "x".repeat(2 * KEPT_BYTES)
        );
        let console = Console::follow(std::io::Cursor::new(text.into_bytes()));
        for _ in 0..500 {
            if console.contains("three") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(console.tail(2), "two\nthree");
        assert!(console.tail(usize::MAX).len() <= KEPT_BYTES);
    }
}
