//! A running node in the terminal: what an operator asks first, read from the node's metrics endpoint.

mod figures;
mod http;
mod view;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use crossterm::{cursor, execute, terminal};
use node_metrics::recent::Recent;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

use crate::error::{Error, doing, failed};
use crate::report;
use figures::Figures;

/// How long a signal may wait.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// One look at a node.
pub(crate) struct Look {
    at: Instant,
    figures: Figures,
    recent: Recent,
}

fn look(host: &str) -> Result<Look, Error> {
    let figures = Figures::parse(&http::get(host, "/metrics")?);
    let recent = serde_json::from_str(&http::get(host, "/recent")?).map_err(failed(&format!(
        "reading http://{host}/recent: is it the endpoint of a node?"
    )))?;
    Ok(Look {
        at: Instant::now(),
        figures,
        recent,
    })
}

/// Shows the node behind `url` until q, Esc or Ctrl-C; or once, where the output is no terminal.
pub(crate) fn run(url: &str, every: Duration, once: bool) -> Result<(), Error> {
    let host = http::host_of(url)?;
    let mut before = look(host)?;
    if once || !std::io::stdout().is_terminal() {
        std::thread::sleep(every);
        let frame = view::frame(url, &before, &look(host)?, 100, usize::MAX);
        return report::print(&frame);
    }
    let ended = ending_signals()?;
    let screen = Screen::take()?;
    loop {
        let next = Instant::now() + every;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if let signal @ 1.. = ended.load(Ordering::Relaxed) {
                drop(screen);
                return emulate_default_handler(signal as i32).map_err(doing("ending by a signal"));
            }
            if poll(left.min(SIGNALS_EVERY)).map_err(doing("reading keys"))?
                && is_farewell(&read().map_err(doing("reading keys"))?)
            {
                return Ok(());
            }
        }
        let (width, height) = terminal::size().map_err(doing("asking for the terminal's size"))?;
        match look(host) {
            Ok(after) => {
                let frame = view::frame(url, &before, &after, width.into(), height.into());
                screen.show(&frame)?;
                before = after;
            }
            // It may be starting anew.
            Err(error) => screen.show(&format!("{error}\n\nq quits; trying again\n"))?,
        }
    }
}

/// Holds the ending signal that came: it ends this program only when the terminal is as it was.
fn ending_signals() -> Result<Arc<AtomicUsize>, Error> {
    let ended = Arc::new(AtomicUsize::new(0));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register_usize(signal, Arc::clone(&ended), signal as usize)
            .map_err(doing("watching for signals"))?;
    }
    Ok(ended)
}

fn is_farewell(event: &Event) -> bool {
    match event {
        Event::Key(key) => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
            _ => false,
        },
        _ => false,
    }
}

/// The terminal, given back as it was.
struct Screen;

impl Screen {
    fn take() -> Result<Screen, Error> {
        terminal::enable_raw_mode().map_err(doing("taking the terminal"))?;
        let screen = Screen;
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
            .map_err(doing("taking the terminal"))?;
        Ok(screen)
    }

    fn show(&self, frame: &str) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        let written = (|| {
            execute!(out, cursor::MoveTo(0, 0))?;
            for line in frame.lines() {
                write!(out, "{line}\x1b[K\r\n")?;
            }
            execute!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
            out.flush()
        })();
        written.map_err(doing("writing to the terminal"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}
