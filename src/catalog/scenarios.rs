//! Rows and sessions with which rows pass policies.

use super::expressions::Mentioned;
use super::stored_policies::StoredPolicy;
use dragonfly_core::catalog::{Command, Oid, Rows};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Question, Scenario, TooLarge, Written, scenarios as of_question};
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
    let conditions_of = |rows| {
        let others = policies.iter().filter(|other| !other.is_permissive);
        let others = others.filter(|other| other.is_for(command, role, catalog.rights()));
        others.filter_map(|other| other.condition(rows)).collect::<Vec<&Expression>>()
    };
    let (restrictive, of_old) = (conditions_of(rows), conditions_of(Rows::Existing));
    let written = match (command, rows) {
        (Command::Insert, _) => Some(Written::Inserted),
        (Command::Update, Rows::New) => {
            let using = policy.condition(Rows::Existing);
            Some(Written::Updated { using, restrictive: &of_old })
        }
        _ => None,
    };
    of_question(&Question {
        catalog,
        identities,
        relation,
        role,
        condition: policy.condition(rows),
        restrictive: &restrictive,
        written,
    })
}
