//! Figures as Prometheus reads them: `name{label="value",…} number`, one a line.

use std::collections::BTreeMap;

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Figure {
    /// The value of a label, empty when it has none of this name.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All figures of one scrape.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<Figure>);

impl Figures {
    /// What is no figure is left out.
    pub(super) fn parse(text: &str) -> Figures {
        Figures(text.lines().filter_map(parse_line).collect())
    }

    pub(super) fn named<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f Figure> {
        self.0.iter().filter(move |figure| figure.name == name)
    }

    /// The buckets of the histogram of this name with these labels: upper bounds, each with how many were below it.
    pub(super) fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = self
            .named(&name)
            .filter(|figure| labels.iter().all(|(label, value)| figure.label(label) == *value))
            .filter_map(|figure| Some((figure.label("le").parse().ok()?, figure.value)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

/// What was counted in these buckets and not in those before; all of it where nothing was counted since.
pub(super) fn since(before: &[(f64, f64)], after: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let counted = |bound: f64| {
        let same = before.iter().find(|(known, _)| *known == bound);
        same.map_or(0.0, |(_, count)| *count)
    };
    let grown: Vec<(f64, f64)> = after
        .iter()
        .map(|(bound, count)| (*bound, count - counted(*bound)))
        .collect();
    // Less than before, it was started anew.
    match grown.iter().any(|(_, count)| *count < 0.0) || grown.last().is_none_or(|(_, count)| *count == 0.0) {
        true => after.to_vec(),
        false => grown,
    }
}

/// The value that this share of what the buckets count is below, by a straight line through its bucket; `None` where they
/// count nothing.
pub(super) fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let wanted = buckets.last().filter(|(_, all)| *all > 0.0)?.1 * share;
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets.iter().copied() {
        if count >= wanted {
            let part = (wanted - below.1) / (count - below.1).max(f64::MIN_POSITIVE);
            return Some(match bound.is_finite() {
                true => below.0 + (bound - below.0) * part,
                false => below.0,
            });
        }
        below = (bound, count);
    }
    None
}

fn parse_line(line: &str) -> Option<Figure> {
    if line.starts_with('#') {
        return None;
    }
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    Some(Figure {
        name: name.to_owned(),
        labels,
        value: value.split_whitespace().next()?.parse().ok()?,
    })
}

/// The labels up to the closing bracket, and what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => {
                    rest = &quoted[at + 1..];
                    break;
                }
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name_and_labels_and_anything_else_is_left_out() {
        let figures = Figures::parse(
            "# TYPE depth gauge\ndepth{mailbox=\"a \\\"b\\\", c\",node=\"x\"} 4\nplain 2.5\nbroken{\nnonsense\n",
        );
        assert_eq!(figures.0.len(), 2);
        let depth = figures.named("depth").next().unwrap();
        assert_eq!((depth.value, depth.label("node")), (4.0, "x"));
        assert_eq!((depth.label("mailbox"), depth.label("other")), ("a \"b\", c", ""));
        assert_eq!(figures.named("plain").next().unwrap().value, 2.5);
        assert_eq!(figures.named("nonsense").count(), 0);
    }

    #[test]
    fn quantiles_are_of_what_was_counted_between_two_looks() {
        let look = |counts: [u32; 3]| {
            let [first, second, all] = counts;
            let text = format!(
                "w_bucket{{m=\"a\",le=\"0.1\"}} {first}\nw_bucket{{m=\"a\",le=\"+Inf\"}} {all}\n\
                 w_bucket{{m=\"b\",le=\"0.1\"}} 7\nw_bucket{{m=\"a\",le=\"0.2\"}} {second}\n"
            );
            Figures::parse(&text).buckets("w", &[("m", "a")])
        };
        let (before, after) = (look([100, 100, 100]), look([100, 110, 110]));
        assert_eq!(after, [(0.1, 100.0), (0.2, 110.0), (f64::INFINITY, 110.0)]);
        let close = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-9;
        assert!(close(quantile(&since(&before, &after), 0.5), 0.15));
        assert!(close(quantile(&after, 0.5), 0.055));
        // Nothing since, and a node that was started anew: all that there is.
        assert_eq!(since(&after, &after), after);
        assert_eq!(since(&after, &before), before);
        // Beyond the last bound nothing is known but that.
        assert!(close(quantile(&look([0, 0, 4]), 0.5), 0.2));
        assert_eq!(quantile(&look([0, 0, 0]), 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
