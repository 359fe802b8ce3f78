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

    /// The value of the first figure of this name with these labels.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.named(name)
            .find(|figure| labels.iter().all(|(label, value)| figure.label(label) == *value))
            .map(|figure| figure.value)
    }
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
        assert_eq!(figures.value("depth", &[("node", "x")]), Some(4.0));
        assert_eq!(
            figures.named("depth").next().unwrap().label("mailbox"),
            "a \"b\", c"
        );
        assert_eq!(figures.value("plain", &[]), Some(2.5));
        assert_eq!(figures.value("depth", &[("node", "y")]), None);
    }
}
