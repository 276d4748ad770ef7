//! Rows and sessions with which rows pass policies.

use super::expressions::Mentioned;
use super::stored_policies::StoredPolicy;
use dragonfly_core::catalog::{Command, Oid, Rows};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Question, Scenario, TooLarge, scenarios as of_question};
use dragonfly_core::stored::Expression;

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
    (command, rows): (Command, Rows),
) -> Result<Vec<Scenario>, TooLarge> {
    let others = policies.iter().filter(|other| !other.is_permissive);
    let restrictive: Vec<&Expression> = others
        .filter(|other| other.is_for(command, role))
        .filter_map(|other| other.condition(rows))
        .collect();
    of_question(&Question {
        catalog,
        identities,
        relation,
        role,
        condition: policy.condition(rows),
        restrictive: &restrictive,
    })
}
