//! Rows and sessions with which rows pass policies.

use dragonfly_core::catalog::{Command, Oid, Rows};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Scenario, TooLarge, scenarios as of_question};
use dragonfly_reader::expressions::Mentioned;
use dragonfly_reader::question::Conditions;
use dragonfly_reader::stored_policies::StoredPolicy;

/// Returns a session and rows for each reason why a row of a table passes one of its policies,
/// for a role and a command.
///
/// # Errors
/// The condition is too large.
pub fn scenarios(
    (catalog, identities): (&Mentioned<'_>, &Identities),
    relation: Oid,
    (policy, policies): (&StoredPolicy, &[StoredPolicy]),
    role: Oid,
    asked: (Command, Rows),
) -> Result<Vec<Scenario>, TooLarge> {
    let rights = catalog.rights();
    let conditions = Conditions::of(policy, policies, role, asked, rights);
    of_question(&conditions.question((catalog, identities), relation, role))
}
