//! Why events cannot be given in their newest form.

/// What a rule may answer when it cannot make sense of an event.
pub type RuleError = Box<dyn std::error::Error + Send + Sync>;

/// Why an event cannot be given in its newest form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpcastError {
    /// The rule itself refused.
    #[error(
        "the event at position {position} (type {kind}, schema {schema_version}) cannot be upcast: {cause}"
    )]
    Refused {
        /// Position of the event.
        position: u64,
        /// Type the rule was given.
        kind: u16,
        /// Schema version the rule was given.
        schema_version: u16,
        /// What the rule said.
        cause: RuleError,
    },
    /// A result of the same type has no higher schema version: the chain would not end. Mend the rule.
    #[error(
        "the upcaster of type {kind}, schema {from} makes schema {to} of the event at position {position}: it must \
         make a higher one"
    )]
    DoesNotRise {
        /// Position of the event.
        position: u64,
        /// Its type.
        kind: u16,
        /// Schema version the rule was given.
        from: u16,
        /// Schema version it made.
        to: u16,
    },
    /// Rules lead from type to type without end. Mend them.
    #[error(
        "the event at position {position} is not in its newest form after {max} upcasts: rules go in a circle"
    )]
    Endless {
        /// Position of the event.
        position: u64,
        /// [`MAX_UPCASTS`](crate::MAX_UPCASTS).
        max: usize,
    },
    /// The event is of a newer schema than this program knows. Use a newer build of the program.
    #[error(
        "the event at position {position} has schema {found} of type {kind}, and this program knows up to {newest}: \
         use a newer build of it"
    )]
    TooNew {
        /// Position of the event.
        position: u64,
        /// Its type.
        kind: u16,
        /// Schema version found.
        found: u16,
        /// Newest known, as told to [`Upcasters::newest`](crate::Upcasters::newest).
        newest: u16,
    },
    /// The event is of an older schema than this program understands, and no rule takes it further. Add the rule.
    #[error(
        "the event at position {position} has schema {found} of type {kind}, no rule takes it further, and this program \
         understands it from {oldest} on: add a rule"
    )]
    TooOld {
        /// Position of the event.
        position: u64,
        /// Its type, or that of what rules have made of it.
        kind: u16,
        /// Schema version found, or made by rules.
        found: u16,
        /// Oldest understood, as told to [`Upcasters::oldest`](crate::Upcasters::oldest).
        oldest: u16,
    },
}
