//! What each policy of a table lets roles reach.

use super::expressions::Mentioned;
use super::stored_policies::{Rows, StoredPolicy};
use crate::pg::heap::{State, interrupts};
use crate::pg::privileges;
use dragonfly_core::catalog::{Command, Oid};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Exposure, Question, exposure};
use dragonfly_core::stored::Expression;
use pgrx::pg_sys;

/// What a policy lets a role reach with a command.
#[derive(Debug)]
pub struct PolicyExposure {
    /// The name of the policy.
    pub policy: String,
    /// The role.
    pub role: Oid,
    pub command: Command,
    pub rows: Rows,
    pub exposure: Exposure,
}

/// Returns what permissive policies of a table let roles reach with the commands that they have a
/// privilege for: those that are `asked` for, of all policies of the table. Row security applies to
/// the roles.
pub fn exposures(
    state: &State,
    identities: &Identities,
    relation: Oid,
    policies: &[StoredPolicy],
    asked: Option<&str>,
    roles: &[Oid],
) -> Vec<PolicyExposure> {
    let catalog = Mentioned::with_texts(state);
    let mut found = Vec::new();
    let is_asked = |of: &&StoredPolicy| of.is_permissive && asked.is_none_or(|n| of.name == n);
    for policy in policies.iter().filter(is_asked) {
        for role in roles {
            for (command, rows) in QUESTIONS {
                interrupts();
                if !policy.is_for(command, *role) || !has_privilege(*role, relation, command) {
                    continue;
                }
                let others = policies.iter().filter(|other| !other.is_permissive);
                let restrictive: Vec<&Expression> = others
                    .filter(|other| other.is_for(command, *role))
                    .filter_map(|other| other.condition(rows))
                    .collect();
                let question = Question {
                    catalog: &catalog,
                    identities,
                    relation,
                    role: *role,
                    condition: policy.condition(rows),
                    restrictive: &restrictive,
                };
                let exposure = exposure(&question);
                let policy = policy.name.clone();
                found.push(PolicyExposure { policy, role: *role, command, rows, exposure });
            }
        }
    }
    found
}

/// What a policy is asked.
const QUESTIONS: [(Command, Rows); 5] = [
    (Command::Select, Rows::Existing),
    (Command::Insert, Rows::New),
    (Command::Update, Rows::Existing),
    (Command::Update, Rows::New),
    (Command::Delete, Rows::Existing),
];

/// Whether a role has the privilege for a command on a table, or on a column of it.
fn has_privilege(role: Oid, relation: Oid, command: Command) -> bool {
    let privilege = match command {
        Command::Select => pg_sys::ACL_SELECT,
        Command::Insert => pg_sys::ACL_INSERT,
        Command::Update => pg_sys::ACL_UPDATE,
        Command::Delete => pg_sys::ACL_DELETE,
    };
    privileges::on_part(role, relation, privilege)
}
