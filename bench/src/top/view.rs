//! What two looks at a node make on the screen. Names come from peers: they are escaped.

use std::fmt::Write;

use node_metrics::names;

use super::Look;
use super::figures::Figure;

/// The deepest mailboxes that are shown.
const MAILBOXES: usize = 10;
/// The latest dead letters and events that are shown.
const LATEST: usize = 5;

/// One screen of at most so many columns and lines.
pub(super) fn frame(url: &str, before: &Look, after: &Look, width: usize, height: usize) -> String {
    let mut out = String::new();
    head(&mut out, url, after);
    links(&mut out, before, after);
    mailboxes(&mut out, before, after);
    dead_letters(&mut out, before, after);
    events(&mut out, after);
    out.lines()
        .take(height.saturating_sub(1))
        .map(|line| {
            let mut cut: String = line.chars().take(width).collect();
            cut.push('\n');
            cut
        })
        .collect()
}

fn head(out: &mut String, url: &str, after: &Look) {
    let up = after.figures.named(names::UPTIME).next();
    let (node, seconds) = up.map_or(("?", 0.0), |up| (up.label("node"), up.value));
    let _ = writeln!(out, "node {}   up {}   {url}\n", escaped(node), duration(seconds));
}

fn links(out: &mut String, before: &Look, after: &Look) {
    let _ = writeln!(
        out,
        "{:<20} {:>5} {:>12} {:>12} {:>12} {:>10} {:>8}",
        "PEER", "LINK", "SENT/s", "RECEIVED/s", "MSGS SENT/s", "RING FULL", "CREDIT"
    );
    let mut any = false;
    let carried = |figure: &&Figure| figure.value > 0.0;
    for link in after.figures.named(names::LINK).filter(carried) {
        any = true;
        let peer = link.label("peer");
        let of_peer = |figure: &Figure| figure.label("peer") == peer;
        let rate = |name| rate(before, after, name, of_peer);
        let fullest = after
            .figures
            .named(names::RING_FILL)
            .filter(|figure| of_peer(figure));
        let fullest = fullest.map(|figure| figure.value).fold(0.0, f64::max);
        let credit = after
            .figures
            .named(names::CREDIT)
            .filter(|figure| of_peer(figure));
        let least = credit.map(|figure| figure.value).reduce(f64::min);
        let _ = writeln!(
            out,
            "{:<20} {:>5} {:>12} {:>12} {:>12} {:>9.0}% {:>8}",
            escaped(peer),
            link.label("transport"),
            bytes(rate(names::SENT_BYTES)),
            bytes(rate(names::RECEIVED_BYTES)),
            count(rate(names::SENT_MESSAGES)),
            fullest * 100.0,
            least.map_or("-".to_owned(), count),
        );
    }
    if !any {
        out.push_str("no peers\n");
    }
    out.push('\n');
}

fn mailboxes(out: &mut String, before: &Look, after: &Look) {
    let _ = writeln!(
        out,
        "{:<20} {:<16} {:>8} {:>12} {:>9} {:>9} {:>9}",
        "MAILBOX", "PROTOCOL", "DEPTH", "TAKEN/s", "p50", "p99", "p99.9"
    );
    let mut deepest: Vec<&Figure> = after.figures.named(names::DEPTH).collect();
    deepest.sort_by(|a, b| b.value.total_cmp(&a.value));
    for mailbox in deepest.into_iter().take(MAILBOXES) {
        let name = mailbox.label("mailbox");
        let waited = |quantile| {
            let labels = [("mailbox", name), ("quantile", quantile)];
            let waited = after.figures.value(names::WAITED, &labels);
            waited.map_or("-".to_owned(), duration)
        };
        let taken = rate(before, after, names::TAKEN_MESSAGES, |figure| {
            figure.label("mailbox") == name
        });
        let _ = writeln!(
            out,
            "{:<20} {:<16} {:>8} {:>12} {:>9} {:>9} {:>9}",
            escaped(name),
            escaped(mailbox.label("protocol")),
            mailbox.value,
            count(taken),
            waited("0.5"),
            waited("0.99"),
            waited("0.999"),
        );
    }
    out.push('\n');
}

fn dead_letters(out: &mut String, before: &Look, after: &Look) {
    let all = rate(before, after, names::DEAD_LETTERS, |_| true);
    let _ = writeln!(out, "DEAD LETTERS {}/s", count(all));
    for reason in after
        .figures
        .named(names::DEAD_LETTERS)
        .filter(|figure| figure.value > 0.0)
    {
        let _ = writeln!(out, "  {:>8}  {}", reason.value, reason.label("reason"));
    }
    for letter in after.recent.dead_letters.iter().rev().take(LATEST) {
        let here = || "here".to_owned();
        let _ = writeln!(
            out,
            "  {} -> {} {} ({}), {} bytes, {}: {}",
            letter.from.as_deref().map_or_else(here, escaped),
            letter.to.as_deref().map_or_else(here, escaped),
            escaped(&letter.mailbox),
            escaped(letter.protocol.as_deref().unwrap_or("raw bytes")),
            letter.len,
            letter.age_ms.map_or("age unknown".to_owned(), |age| format!(
                "{} old",
                duration(age as f64 / 1e3)
            )),
            letter.reason,
        );
    }
    out.push('\n');
}

fn events(out: &mut String, after: &Look) {
    out.push_str("EVENTS\n");
    for event in after.recent.events.iter().rev().take(LATEST) {
        let ago = duration(event.ago_ms as f64 / 1e3);
        let _ = writeln!(out, "  {ago:>8} ago  {}", escaped(&event.what));
    }
}

/// How much the figures of this name that are chosen have grown in a second, all together.
fn rate(before: &Look, after: &Look, name: &str, which: impl Fn(&Figure) -> bool) -> f64 {
    let sum = |look: &Look| -> f64 {
        let chosen = look.figures.named(name).filter(|figure| which(figure));
        chosen.map(|figure| figure.value).sum()
    };
    let seconds = after.at.duration_since(before.at).as_secs_f64().max(1e-3);
    // A session that ended, or a node that was started anew, begins from nothing.
    ((sum(after) - sum(before)) / seconds).max(0.0)
}

fn escaped(name: &str) -> String {
    name.escape_debug().to_string()
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 3600.0 => format!("{:.1} h", s / 3600.0),
        s if s >= 60.0 => format!("{:.1} min", s / 60.0),
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 1e-3 => format!("{:.1} ms", s * 1e3),
        s => format!("{:.0} us", s * 1e6),
    }
}

fn count(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} K", n / 1e3),
        n if n >= 100.0 || n == n.trunc() => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

fn bytes(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} KB", n / 1e3),
        n => format!("{n:.0} B"),
    }
}
