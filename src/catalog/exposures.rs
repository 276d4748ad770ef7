//! What each policy of a table lets roles reach.

use super::expressions::{Mentioned, applies, has_active_policies};
use super::oids;
use crate::pg::heap::{State, Table, interrupts};
use crate::pg::privileges;
use dragonfly_core::catalog::{Command, Oid};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Exposure, Question, exposure};
use dragonfly_core::stored::{self, Expression};
use pgrx::pg_sys;

/// The rows that a command asks a policy about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Those that exist: USING.
    Existing,
    /// Those that are written: WITH CHECK, or USING where there is none.
    New,
}

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

/// A policy as it is stored.
struct Stored {
    name: String,
    /// `None`: for all commands.
    command: Option<Command>,
    is_permissive: bool,
    roles: Vec<Oid>,
    using: Option<Expression>,
    check: Option<Expression>,
}

impl Stored {
    fn is_for(&self, command: Command, role: Oid) -> bool {
        self.command.is_none_or(|of| of == command) && applies(&self.roles, role)
    }

    fn condition(&self, rows: Rows) -> Option<&Expression> {
        match rows {
            Rows::Existing => self.using.as_ref(),
            Rows::New => self.check.as_ref().or(self.using.as_ref()),
        }
    }
}

/// Returns what each permissive policy of a table lets roles reach with the commands that they have
/// a privilege for, in the order of the names.
pub fn exposures(
    state: &State,
    identities: &Identities,
    relation: Oid,
    roles: &[Oid],
) -> Vec<PolicyExposure> {
    let policies = stored_policies(state, relation);
    let catalog = Mentioned::with_texts(state);
    let mut found = Vec::new();
    for policy in policies.iter().filter(|policy| policy.is_permissive) {
        for role in roles.iter().filter(|role| has_active_policies(**role, relation)) {
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

/// Returns the names of the policies of a table.
pub fn policy_names(state: &State, relation: Oid) -> Vec<String> {
    stored_policies(state, relation).into_iter().map(|policy| policy.name).collect()
}

/// What a policy is asked.
const QUESTIONS: [(Command, Rows); 5] = [
    (Command::Select, Rows::Existing),
    (Command::Insert, Rows::New),
    (Command::Update, Rows::Existing),
    (Command::Update, Rows::New),
    (Command::Delete, Rows::Existing),
];

fn stored_policies(state: &State, relation: Oid) -> Vec<Stored> {
    let table = Table::open(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (name, command, permissive) =
        (column("polname"), column("polcmd"), column("polpermissive"));
    let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
    let (mut found, keys) = (Vec::new(), [(column("polrelid"), relation)]);
    table.lookup(state, oids::PG_POLICY_RELID_INDEX, &keys, |row| {
        let condition = |column| {
            let unread = || Expression::Unknown("an expression that cannot be read".to_owned());
            row.text(column).map(|text| stored::expression(&text).unwrap_or_else(|_| unread()))
        };
        found.push(Stored {
            name: row.name(name),
            command: match row.char(command) {
                b'r' => Some(Command::Select),
                b'a' => Some(Command::Insert),
                b'w' => Some(Command::Update),
                b'd' => Some(Command::Delete),
                _ => None,
            },
            is_permissive: row.bool(permissive),
            roles: row.oids(roles),
            using: condition(using),
            check: condition(check),
        });
    });
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Whether a role has the privilege for a command on a table, or on a column of it.
fn has_privilege(role: Oid, relation: Oid, command: Command) -> bool {
    let privilege = match command {
        Command::Select => pg_sys::ACL_SELECT,
        Command::Insert => pg_sys::ACL_INSERT,
        Command::Update => pg_sys::ACL_UPDATE,
        Command::Delete => pg_sys::ACL_DELETE,
    };
    privileges::on_relation(role, relation, privilege)
        || command != Command::Delete && privileges::on_any_column(role, relation, privilege)
}
