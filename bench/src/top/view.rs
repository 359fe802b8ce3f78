//! What two looks at a node make on the screen. Names come from peers: they are escaped, and cut where a column ends.

use node_metrics::names;

use super::Look;
use super::figures::{Figure, quantile, since};

/// The deepest mailboxes that are shown.
const MAILBOXES: usize = 10;
/// The latest dead letters and events that are shown.
const LATEST: usize = 5;
/// The narrowest screen that the columns fit on; what is wider is given to names.
const NARROWEST: usize = 80;
/// The lowest screen with lines between the sections.
const ROOMY: usize = 20;
/// The most that names are given.
const LONGEST_NAME: usize = 32;

/// A part of the screen: a line that says what follows, and what follows, the most important first.
struct Section {
    head: String,
    rows: Vec<String>,
}

/// One screen of at most so many columns and lines. Where there are too few lines, every section gives some up.
pub(super) fn frame(url: &str, before: &Look, after: &Look, width: usize, height: usize) -> String {
    let name = (16 + width.saturating_sub(NARROWEST) / 2).min(LONGEST_NAME);
    let sections = [
        links(before, after, name),
        mailboxes(before, after, name),
        dead_letters(before, after),
        events(after),
    ];
    let between = usize::from(height >= ROOMY);
    let heads = 1 + sections.len() * (1 + between);
    let shown = share(
        height.saturating_sub(heads + 1),
        sections.each_ref().map(|section| section.rows.len()),
    );
    let mut lines = vec![head(url, after)];
    for (section, shown) in sections.iter().zip(shown) {
        let left_out = section.rows.len() - shown;
        lines.extend(std::iter::repeat_n(String::new(), between));
        lines.push(match left_out {
            0 => section.head.clone(),
            some => {
                let note = format!("  ({some} more)");
                let head = section.head.chars().take(width.saturating_sub(note.len()));
                head.collect::<String>() + &note
            }
        });
        lines.extend(section.rows[..shown].iter().cloned());
    }
    lines
        .into_iter()
        .take(height.saturating_sub(1))
        .map(|line| {
            let mut cut: String = line.chars().take(width).collect();
            cut.push('\n');
            cut
        })
        .collect()
}

/// How many rows each section shows, where there are so many lines: one for each in turn, as long as there are any.
fn share<const SECTIONS: usize>(mut lines: usize, wanted: [usize; SECTIONS]) -> [usize; SECTIONS] {
    let mut given = [0; SECTIONS];
    while lines > 0 && given != wanted {
        for (given, wanted) in given.iter_mut().zip(wanted) {
            if *given < wanted && lines > 0 {
                *given += 1;
                lines -= 1;
            }
        }
    }
    given
}

fn head(url: &str, after: &Look) -> String {
    let up = after.figures.named(names::UPTIME).next();
    let (node, seconds) = up.map_or(("?", 0.0), |up| (up.label("node"), up.value));
    format!("node {}   up {}   {url}", escaped(node), duration(seconds))
}

fn links(before: &Look, after: &Look, name: usize) -> Section {
    let head = format!(
        "{:<name$} {:>5} {:>10} {:>10} {:>9} {:>9} {:>5} {:>7}",
        "PEER", "LINK", "SENT/s", "RECV/s", "SENT M/s", "RECV M/s", "RING", "CREDIT"
    );
    let carried = |figure: &&Figure| figure.value > 0.0;
    let rows = after.figures.named(names::LINK).filter(carried).map(|link| {
        let peer = link.label("peer");
        let of_peer = |figure: &Figure| figure.label("peer") == peer;
        let rate = |name| rate(before, after, name, of_peer);
        let values = |name| after.figures.named(name).filter(|figure| of_peer(figure));
        let fullest = values(names::RING_FILL)
            .map(|figure| figure.value)
            .fold(0.0, f64::max);
        let least = values(names::CREDIT).map(|figure| figure.value).reduce(f64::min);
        format!(
            "{:<name$} {:>5} {:>10} {:>10} {:>9} {:>9} {:>4.0}% {:>7}",
            fitted(peer, name),
            link.label("transport"),
            bytes(rate(names::SENT_BYTES)),
            bytes(rate(names::RECEIVED_BYTES)),
            count(rate(names::SENT_MESSAGES)),
            count(rate(names::RECEIVED_FROM_PEER)),
            fullest * 100.0,
            least.map_or("-".to_owned(), count),
        )
    });
    let mut rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        rows.push("no peers".to_owned());
    }
    Section { head, rows }
}

fn mailboxes(before: &Look, after: &Look, name: usize) -> Section {
    let head = format!(
        "{:<name$} {:<name$} {:>8} {:>9} {:>8} {:>8} {:>8}",
        "MAILBOX", "PROTOCOL", "DEPTH", "TAKEN/s", "p50", "p99", "p99.9"
    );
    let mut deepest: Vec<&Figure> = after.figures.named(names::DEPTH).collect();
    deepest.sort_by(|a, b| b.value.total_cmp(&a.value));
    let rows = deepest.into_iter().take(MAILBOXES).map(|mailbox| {
        let labels = [("mailbox", mailbox.label("mailbox"))];
        let buckets = |look: &Look| look.figures.buckets(names::WAITED, &labels);
        let waited = since(&buckets(before), &buckets(after));
        let waited = |share| quantile(&waited, share).map_or("-".to_owned(), duration);
        let taken = rate(before, after, names::TAKEN_MESSAGES, |figure| {
            figure.label("mailbox") == mailbox.label("mailbox")
        });
        format!(
            "{:<name$} {:<name$} {:>8} {:>9} {:>8} {:>8} {:>8}",
            fitted(mailbox.label("mailbox"), name),
            fitted(mailbox.label("protocol"), name),
            mailbox.value,
            count(taken),
            waited(0.5),
            waited(0.99),
            waited(0.999),
        )
    });
    let rows = rows.collect();
    Section { head, rows }
}

fn dead_letters(before: &Look, after: &Look) -> Section {
    let all = rate(before, after, names::DEAD_LETTERS, |_| true);
    let letters = after.figures.named(names::DEAD_LETTERS);
    let reasons = letters
        .filter(|figure| figure.value > 0.0)
        .map(|reason| format!("  {:>8}  {}", reason.value, reason.label("reason")));
    let here = || "here".to_owned();
    let latest = after.recent.dead_letters.iter().rev().take(LATEST).map(|letter| {
        format!(
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
        )
    });
    Section {
        head: format!("DEAD LETTERS {}/s", count(all)),
        rows: reasons.chain(latest).collect(),
    }
}

fn events(after: &Look) -> Section {
    let latest = after.recent.events.iter().rev().take(LATEST).map(|event| {
        let ago = duration(event.ago_ms as f64 / 1e3);
        format!("  {ago:>8} ago  {}", escaped(&event.what))
    });
    Section {
        head: "EVENTS".to_owned(),
        rows: latest.collect(),
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

/// A name that fits its column.
fn fitted(name: &str, columns: usize) -> String {
    let name = escaped(name);
    if name.chars().count() <= columns {
        return name;
    }
    let mut cut: String = name.chars().take(columns - 1).collect();
    cut.push('…');
    cut
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

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::*;

    #[test]
    fn every_section_shows_something_where_lines_are_few_and_all_where_there_are_enough() {
        assert_eq!(share(usize::MAX, [1_000, 10, 7, 5]), [1_000, 10, 7, 5]);
        assert_eq!(share(14, [1_000, 10, 7, 5]), [4, 4, 3, 3]);
        assert_eq!(share(14, [1, 10, 0, 5]), [1, 8, 0, 5]);
        assert_eq!(share(0, [1, 1, 1, 1]), [0; 4]);
    }

    #[test]
    fn a_low_and_narrow_screen_shows_something_of_every_section_and_how_much_is_left_out() {
        let look = || Look {
            at: std::time::Instant::now(),
            figures: Figures::parse(
                "node_link{peer=\"a\",transport=\"tcp\"} 1\nnode_link{peer=\"c\",transport=\"shm\"} 1\n\
                 node_mailbox_depth{mailbox=\"inbox\"} 7\n",
            ),
            recent: serde_json::from_str(r#"{"dead_letters":[],"events":[]}"#).unwrap(),
        };
        let shown = frame("http://b:1", &look(), &look(), 60, 10);
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        for wanted in ["a  ", "inbox", "DEAD LETTERS", "EVENTS"] {
            assert!(
                shown.lines().any(|line| line.starts_with(wanted)),
                "{wanted:?} in {shown}"
            );
        }
        let shown = frame("http://b:1", &look(), &look(), 60, 7);
        assert!(shown.contains("(1 more)"), "{shown}");
    }

    #[test]
    fn a_name_is_cut_where_its_column_ends_and_cannot_move_the_cursor() {
        assert_eq!(fitted("short", 8), "short");
        assert_eq!(fitted("much too long", 8), "much to…");
        assert_eq!(fitted("\x1b[2J", 16), "\\u{1b}[2J");
    }
}
