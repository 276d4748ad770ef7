//! Rejections as data: whether an error was raised by the guard, and for which rule.

use crate::pg::{report, subtransaction};
use dragonfly_core::rule::Rule;
use dragonfly_core::rules::RULES;
use pgrx::pg_sys::panic::CaughtError;

/// The origin of errors by which the guard protects itself rather than enforces a rule.
pub(super) const GUARD: &str = "guard";

/// Why the guard has rejected a statement.
#[derive(Clone, Copy)]
pub enum Rejection {
    /// The statement violates this rule. The error's origin is the rule's id.
    Rule(&'static Rule),
    /// The guard protects itself.
    Guard,
}

impl Rejection {
    /// Returns the rejection that an error reports; `None` for an error with another origin,
    /// whatever its text and SQLSTATE are.
    pub fn of(error: &CaughtError) -> Option<Self> {
        let origin = report::origin(subtransaction::report(error))?;
        let rule = RULES.iter().copied().find(|rule| rule.id == origin).map(Self::Rule);
        rule.or((origin == GUARD).then_some(Self::Guard))
    }

    /// Returns the origin of its error.
    pub fn origin(self) -> &'static str {
        match self {
            Self::Rule(rule) => rule.id,
            Self::Guard => GUARD,
        }
    }

    /// Returns the violated rule.
    pub fn rule(self) -> Option<&'static Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Guard => None,
        }
    }
}
