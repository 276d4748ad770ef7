//! Rejections as data: whether an error is the guard's, and by which rule.

use crate::pg::{report, subtransaction};
use dragonfly_core::rules::{RULES, Rule};
use pgrx::pg_sys::panic::CaughtError;

/// The origin of errors by which the guard protects itself, and not a rule.
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
    /// The rejection that an error is; `None` for an error of anything else, whatever its text and
    /// its SQLSTATE are.
    pub fn of(error: &CaughtError) -> Option<Self> {
        let origin = report::origin(subtransaction::report(error))?;
        let rule = RULES.iter().copied().find(|rule| rule.id == origin).map(Self::Rule);
        rule.or((origin == GUARD).then_some(Self::Guard))
    }

    /// The origin that its error has.
    pub fn origin(self) -> &'static str {
        match self {
            Self::Rule(rule) => rule.id,
            Self::Guard => GUARD,
        }
    }

    /// The rule that is violated.
    pub fn rule(self) -> Option<&'static Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Guard => None,
        }
    }
}
