//! What the rules about EXECUTE have in common.

use crate::catalog::Routine;
use crate::contract::Severity;
use crate::rules::context::Context;

/// Whether it does not matter who has EXECUTE on a routine.
///
/// The server fires triggers without a check of EXECUTE, and a function that returns a trigger can
/// be called in no other way. A SECURITY DEFINER function can be called through a trigger of a
/// temporary table, with the privileges of its owner.
///
/// The constructors of a range type make a value of it, as a literal does, and each role that
/// uses the type calls them.
pub(crate) fn is_of_no_concern(routine: &Routine) -> bool {
    !routine.security_definer && (routine.is_trigger || routine.is_constructor)
}

/// Returns the severity of EXECUTE beyond the declared one: `worst`, or information where no
/// statement can name the routine, because neither PUBLIC nor a declared role has USAGE on the
/// schema.
pub(crate) fn severity(cx: &Context<'_>, routine: &Routine, worst: Severity) -> Severity {
    if cx.is_reachable(routine.schema) { worst } else { Severity::Info }
}
