//! Mending: the statements that bring a database into its contract, and the plan that puts them in order.
//!
//! A rule says with each finding how it is mended ([`Mend`]): by statements whose effect on the catalog is known ([`Change`]), or by a
//! proposal with a gap that a person fills in. The plan carries the statements out on a copy of the snapshot, judges that again by the
//! same rules, and so finds what a mend brings up that was not there before: a role that did not exist lacks its grants once it does.

mod apply;
mod plan;
mod statement;
mod undo;

#[cfg(test)]
mod tests;

pub use plan::{Plan, Planner, Step};
pub(crate) use statement::unless;
pub use statement::{AclStatement, Change, Grantee, Mend, RoutineChange, Securable, Statement, Verb, repeatable};
