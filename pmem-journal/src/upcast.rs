//! Old events in the newest form: a chain of upcasters, applied as events are read.
//!
//! What is in the journal never changes. A rule takes events of one type and schema version and says what they are in
//! a later schema: none, one or several events. Its results go through the chain again, until no rule concerns them.
//! A chain always ends: a result of the same type must have a higher schema version, and the number of rules that
//! one event may take is bounded.
//!
//! The idea is that of event-sourcing's upcasters (Greg Young, "Versioning in an Event Sourced System").

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, Result, RuleError, UpcastError};
use crate::event::{OwnedEvent, Recorded};
use crate::extension;

/// Rules that one event may take on its way to its newest forms.
pub const MAX_UPCASTS: usize = 4096;

/// What an upcaster makes of an event; everything else (entity, position, time, tags) stays the event's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upcast {
    /// The application's number for the type of event.
    pub kind: u16,
    /// Version of the payload's schema.
    pub schema_version: u16,
    /// The event itself.
    pub payload: Vec<u8>,
}

type Rule = dyn Fn(&Recorded<'_>) -> std::result::Result<Vec<Upcast>, RuleError> + Send + Sync;

/// The chain of upcasters of an application.
///
/// ```
/// use pmem_journal::{Upcast, Upcasters};
///
/// const OPENED: u16 = 1;
/// const CREDITED: u16 = 2;
/// let upcasters = Upcasters::new()
///     // In schema 1 an account was opened with a balance; since schema 2 that is two events.
///     .rule(OPENED, 1, |event| {
///         let mut forms = vec![Upcast { kind: OPENED, schema_version: 2, payload: Vec::new() }];
///         if event.payload != b"0" {
///             forms.push(Upcast { kind: CREDITED, schema_version: 1, payload: event.payload.to_vec() });
///         }
///         Ok(forms)
///     })
///     .newest(OPENED, 2)
///     .oldest(OPENED, 2)
///     .newest(CREDITED, 1);
/// # let temporary = tempfile::tempdir().unwrap();
/// # let (journal, _) = pmem_journal::Journal::open(temporary.path()).unwrap();
/// # journal.append(&[pmem_journal::Event::new(9, OPENED, b"100")], pmem_journal::Expected::None).unwrap();
/// let mut replay = journal.replay(0)?;
/// let mut seen = Vec::new();
/// while let Some(event) = replay.next_event()? {
///     for event in upcasters.apply(event)?.iter() {
///         seen.push((event.kind, event.schema_version, event.payload.to_vec()));
///     }
/// }
/// assert_eq!(seen, [(OPENED, 2, vec![]), (CREDITED, 1, b"100".to_vec())]);
/// # Ok::<(), pmem_journal::Error>(())
/// ```
#[derive(Default)]
pub struct Upcasters {
    rules: HashMap<(u16, u16), Box<Rule>>,
    newest: HashMap<u16, u16>,
    oldest: HashMap<u16, u16>,
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules: Vec<_> = self.rules.keys().collect();
        rules.sort_unstable();
        f.debug_struct("Upcasters")
            .field("rules", &rules)
            .field("newest", &self.newest)
            .field("oldest", &self.oldest)
            .finish()
    }
}

impl Upcasters {
    /// No rules: every event is in its newest form.
    pub fn new() -> Upcasters {
        Upcasters::default()
    }

    /// Events of this type and schema version are what `rule` makes of them; an earlier rule for the same is replaced.
    #[must_use]
    pub fn rule(
        mut self,
        kind: u16,
        schema_version: u16,
        rule: impl Fn(&Recorded<'_>) -> std::result::Result<Vec<Upcast>, RuleError> + Send + Sync + 'static,
    ) -> Upcasters {
        self.rules.insert((kind, schema_version), Box::new(rule));
        self
    }

    /// The newest schema version of this type that the program understands: a later one is
    /// [`UpcastError::TooNew`]. Without this, events that no rule concerns are given as they are.
    #[must_use]
    pub fn newest(mut self, kind: u16, schema_version: u16) -> Upcasters {
        self.newest.insert(kind, schema_version);
        self
    }

    /// The oldest schema version of this type that the program understands: an earlier one is [`UpcastError::TooOld`] where no rule
    /// takes it further, so that a rule that was forgotten is an error and no misread payload. Without this, such an event is given as it is.
    #[must_use]
    pub fn oldest(mut self, kind: u16, schema_version: u16) -> Upcasters {
        self.oldest.insert(kind, schema_version);
        self
    }

    /// The event in its newest forms, in order. One that no rule concerns is lent on without a copy.
    pub fn apply<'a>(&self, event: Recorded<'a>) -> Result<Forms<'a>> {
        if !self.rules.contains_key(&(event.kind, event.schema_version)) {
            self.check_known(&event, event.kind, event.schema_version)?;
            return Ok(Forms { event, cast: None });
        }
        let mut done = Vec::new();
        let mut steps = 0;
        // A stack, so that the results of one rule keep their place among those of others.
        let mut ahead = vec![Cow::Borrowed(event.payload)];
        let mut types = vec![(event.kind, event.schema_version)];
        while let (Some(payload), Some((kind, schema_version))) = (ahead.pop(), types.pop()) {
            let Some(rule) = self.rules.get(&(kind, schema_version)) else {
                self.check_known(&event, kind, schema_version)?;
                let payload = payload.into_owned();
                done.push(Upcast {
                    kind,
                    schema_version,
                    payload,
                });
                continue;
            };
            steps += 1;
            if steps > MAX_UPCASTS {
                let (position, max) = (event.position, MAX_UPCASTS);
                return Err(UpcastError::Endless { position, max }.into());
            }
            let given = Recorded {
                kind,
                schema_version,
                payload: &payload,
                ..event
            };
            let made = rule(&given).map_err(|cause| UpcastError::Refused {
                position: event.position,
                kind,
                schema_version,
                cause,
            })?;
            for form in made.into_iter().rev() {
                if form.kind == kind && form.schema_version <= schema_version {
                    return Err(UpcastError::DoesNotRise {
                        position: event.position,
                        kind,
                        from: schema_version,
                        to: form.schema_version,
                    }
                    .into());
                }
                types.push((form.kind, form.schema_version));
                ahead.push(Cow::Owned(form.payload));
            }
        }
        let cast = Some(done);
        Ok(Forms { event, cast })
    }

    /// As [`Upcasters::apply`], over events that own themselves. It ends after the first error.
    pub fn over(
        &self,
        events: impl Iterator<Item = Result<OwnedEvent>>,
    ) -> impl Iterator<Item = Result<OwnedEvent>> {
        let mut failed = false;
        events
            .flat_map(
                move |event| match event.and_then(|event| self.apply_owned(event)) {
                    Ok(forms) => forms.into_iter().map(Ok).collect(),
                    Err(e) => vec![Err(e)],
                },
            )
            .take_while(move |event| !std::mem::replace(&mut failed, event.is_err()))
    }

    fn apply_owned(&self, event: OwnedEvent) -> Result<Vec<OwnedEvent>> {
        let extension = extension_of(&event);
        let forms = self.apply(event.lend(&extension, false))?;
        match forms.cast {
            None => Ok(vec![event]),
            Some(cast) => Ok(cast
                .into_iter()
                .map(|form| OwnedEvent {
                    kind: form.kind,
                    schema_version: form.schema_version,
                    payload: form.payload,
                    ..event.clone()
                })
                .collect()),
        }
    }

    fn check_known(&self, event: &Recorded<'_>, kind: u16, found: u16) -> Result<()> {
        let position = event.position;
        if let Some(newest) = self.newest.get(&kind).copied()
            && found > newest
        {
            return Err(Error::from(UpcastError::TooNew {
                position,
                kind,
                found,
                newest,
            }));
        }
        if let Some(oldest) = self.oldest.get(&kind).copied()
            && found < oldest
        {
            return Err(Error::from(UpcastError::TooOld {
                position,
                kind,
                found,
                oldest,
            }));
        }
        Ok(())
    }
}

/// An event in its newest forms.
#[derive(Clone, Debug)]
pub struct Forms<'a> {
    event: Recorded<'a>,
    /// `None`: as it is in the journal.
    cast: Option<Vec<Upcast>>,
}

impl Forms<'_> {
    /// Each form, with the place, time, key and tags of the event it comes from.
    pub fn iter(&self) -> impl Iterator<Item = Recorded<'_>> {
        let as_it_is = self.cast.is_none().then_some(self.event);
        let cast = self.cast.iter().flatten().map(|form| Recorded {
            kind: form.kind,
            schema_version: form.schema_version,
            payload: &form.payload,
            ..self.event
        });
        as_it_is.into_iter().chain(cast)
    }
}

fn extension_of(event: &OwnedEvent) -> Vec<u8> {
    let mut extension = Vec::new();
    let tags = event.tags.iter().map(String::as_str);
    extension::append(&mut extension, tags, event.correlation);
    extension
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EntityId;

    fn event(kind: u16, schema_version: u16, payload: &[u8]) -> OwnedEvent {
        OwnedEvent {
            position: 7,
            entity: EntityId(3),
            sequence: 2,
            kind,
            schema_version,
            idempotency_key: 5,
            timestamp: 11,
            tags: vec!["a".to_owned(), "b".to_owned()],
            correlation: Some(13),
            payload: payload.to_vec(),
        }
    }

    fn form(kind: u16, schema_version: u16, payload: &[u8]) -> Upcast {
        let payload = payload.to_vec();
        Upcast {
            kind,
            schema_version,
            payload,
        }
    }

    fn forms(rules: &Upcasters, event: OwnedEvent) -> Result<Vec<(u16, u16, Vec<u8>)>> {
        rules
            .over([Ok(event)].into_iter())
            .map(|event| event.map(|e| (e.kind, e.schema_version, e.payload)))
            .collect()
    }

    #[test]
    fn an_event_takes_every_step_of_the_chain_and_keeps_its_place() {
        let rules = Upcasters::new()
            .rule(1, 1, |e| Ok(vec![form(1, 2, &[e.payload, b"+2"].concat())]))
            .rule(1, 2, |e| {
                assert_eq!((e.position, e.tags().count(), e.correlation()), (7, 2, Some(13)));
                Ok(vec![form(1, 3, &[e.payload, b"+3"].concat())])
            });
        let old: Vec<_> = rules
            .over([Ok(event(1, 1, b"x"))].into_iter())
            .map(Result::unwrap)
            .collect();
        let expected = OwnedEvent {
            schema_version: 3,
            payload: b"x+2+3".to_vec(),
            ..event(1, 1, b"x")
        };
        assert_eq!(old, [expected]);
        assert_eq!(forms(&rules, event(1, 3, b"y")).unwrap(), [(1, 3, b"y".to_vec())]);
        assert_eq!(forms(&rules, event(2, 1, b"z")).unwrap(), [(2, 1, b"z".to_vec())]);
    }

    #[test]
    fn one_event_becomes_none_or_several_in_order() {
        let rules = Upcasters::new()
            .rule(1, 1, |_| Ok(vec![]))
            .rule(2, 1, |_| {
                Ok(vec![
                    form(3, 1, b"a"),
                    form(4, 1, b"b"),
                    form(1, 1, b""),
                    form(3, 2, b"c"),
                ])
            })
            .rule(3, 1, |_| Ok(vec![form(3, 2, b"a1"), form(5, 1, b"a2")]));
        assert_eq!(forms(&rules, event(1, 1, b"gone")).unwrap(), []);
        let made = forms(&rules, event(2, 1, b"")).unwrap();
        let expected = [
            (3, 2, b"a1".to_vec()),
            (5, 1, b"a2".to_vec()),
            (4, 1, b"b".to_vec()),
            (3, 2, b"c".to_vec()),
        ];
        assert_eq!(made, expected);
    }

    #[test]
    fn rules_that_would_never_end_or_know_too_little_are_told_from_each_other() {
        let circle = Upcasters::new()
            .rule(1, 1, |_| Ok(vec![form(2, 1, b"")]))
            .rule(2, 1, |_| Ok(vec![form(1, 1, b""), form(1, 1, b"")]));
        let e = forms(&circle, event(1, 1, b"")).unwrap_err();
        assert!(
            matches!(e, Error::Upcast(UpcastError::Endless { position: 7, .. })),
            "{e}"
        );
        let flat = Upcasters::new().rule(1, 2, |_| Ok(vec![form(1, 2, b"")]));
        let e = forms(&flat, event(1, 2, b"")).unwrap_err();
        assert!(
            matches!(e, Error::Upcast(UpcastError::DoesNotRise { from: 2, to: 2, .. })),
            "{e}"
        );
        let refusing = Upcasters::new().rule(1, 1, |_| Err("no such currency".into()));
        let e = forms(&refusing, event(1, 1, b"")).unwrap_err();
        assert!(e.to_string().contains("no such currency"), "{e}");
        let old = Upcasters::new().newest(1, 2);
        assert!(forms(&old, event(1, 2, b"")).is_ok());
        let e = forms(&old, event(1, 3, b"")).unwrap_err();
        assert!(
            matches!(
                e,
                Error::Upcast(UpcastError::TooNew {
                    found: 3,
                    newest: 2,
                    ..
                })
            ),
            "{e}"
        );
        let rising = Upcasters::new()
            .rule(1, 1, |_| Ok(vec![form(1, 4, b"")]))
            .newest(1, 3);
        assert!(matches!(
            forms(&rising, event(1, 1, b"")),
            Err(Error::Upcast(UpcastError::TooNew { found: 4, .. }))
        ));
    }

    #[test]
    fn an_old_event_that_the_chain_leaves_behind_is_an_error_where_the_program_says_what_it_understands() {
        let forgotten = || Upcasters::new().rule(1, 1, |_| Ok(vec![form(1, 2, b"")]));
        assert!(forms(&forgotten(), event(1, 1, b"")).is_ok());
        let rules = forgotten().newest(1, 3).oldest(1, 3);
        for version in [0, 1, 2] {
            let e = forms(&rules, event(1, version, b"")).unwrap_err();
            let Error::Upcast(UpcastError::TooOld { found, oldest: 3, .. }) = e else {
                panic!("{e}")
            };
            assert_eq!(found, if version == 1 { 2 } else { version });
        }
        assert!(forms(&rules, event(1, 3, b"")).is_ok());
        assert!(forms(&rules, event(2, 1, b"")).is_ok());
    }

    #[test]
    fn nothing_comes_after_an_error() {
        let rules = Upcasters::new().rule(1, 1, |_| Err("no".into()));
        let all = [Ok(event(2, 1, b"")), Ok(event(1, 1, b"")), Ok(event(2, 1, b""))];
        let given: Vec<_> = rules.over(all.into_iter()).map(|e| e.is_ok()).collect();
        assert_eq!(given, [true, false]);
    }
}
