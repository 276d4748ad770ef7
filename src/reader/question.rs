//! What a policy is asked: the conditions that a row has to meet, and how it comes about.

use crate::Rights;
use crate::expressions::Mentioned;
use crate::stored_policies::StoredPolicy;
use dragonfly_core::catalog::{Command, Oid, Rows};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Question, Written};
use dragonfly_core::stored::Expression;

/// What each policy is asked.
pub const QUESTIONS: [(Command, Rows); 5] = [
    (Command::Select, Rows::Existing),
    (Command::Insert, Rows::New),
    (Command::Update, Rows::Existing),
    (Command::Update, Rows::New),
    (Command::Delete, Rows::Existing),
];

/// The conditions that a row has to meet where a policy is asked for a role.
pub struct Conditions<'p> {
    policy: &'p StoredPolicy,
    asked: (Command, Rows),
    /// Those of the restrictive policies.
    pub restrictive: Vec<&'p Expression>,
    /// Those of the restrictive policies that the row before an update meets.
    of_old: Vec<&'p Expression>,
}

impl<'p> Conditions<'p> {
    /// Returns the conditions of one of the policies of a table, with the restrictive ones.
    pub fn of(
        policy: &'p StoredPolicy,
        policies: &'p [StoredPolicy],
        role: Oid,
        (command, rows): (Command, Rows),
        rights: &dyn Rights,
    ) -> Self {
        let restrictive = |rows| {
            let others = policies.iter().filter(|other| !other.is_permissive);
            let others = others.filter(|other| other.is_for(command, role, rights));
            others.filter_map(|other| other.condition(rows)).collect()
        };
        let of_old = restrictive(Rows::Existing);
        Self { policy, asked: (command, rows), restrictive: restrictive(rows), of_old }
    }

    /// Returns the question about rows of a table.
    pub fn question<'q>(
        &'q self,
        (catalog, identities): (&'q Mentioned<'_>, &'q Identities),
        relation: Oid,
        role: Oid,
    ) -> Question<'q> {
        let written = match self.asked {
            (Command::Insert, _) => Some(Written::Inserted { columns: None }),
            (Command::Update, Rows::New) => Some(Written::Updated {
                columns: None,
                using: self.policy.condition(Rows::Existing),
                restrictive: &self.of_old,
                needs_before: false,
            }),
            _ => None,
        };
        Question {
            catalog,
            identities,
            relation,
            role,
            condition: self.policy.condition(self.asked.1),
            restrictive: &self.restrictive,
            written,
        }
    }
}
