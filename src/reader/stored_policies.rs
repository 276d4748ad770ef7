//! The policies of one table, with their conditions as they are stored.

use crate::oids;
use crate::rights::Rights;
use crate::source::State;
use dragonfly_core::catalog::{Command, Oid, Rows};
use dragonfly_core::policy::types::BOOL;
use dragonfly_core::stored::{self, Constant, Expression};

/// A policy.
pub struct StoredPolicy {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Whether it is permissive.
    pub is_permissive: bool,
    /// `None`: for all commands.
    command: Option<Command>,
    roles: Vec<Oid>,
    using: Option<Condition>,
    check: Option<Condition>,
}

/// A condition, with the text as which it is stored.
struct Condition {
    text: String,
    expression: Expression,
}

impl StoredPolicy {
    /// Whether its condition for new rows has a subquery.
    #[must_use]
    pub fn check_has_subquery(&self) -> bool {
        self.check.as_ref().is_some_and(|check| check.expression.has_subquery())
    }

    /// Whether it applies to a command of a role, with the memberships of a state.
    pub fn is_for(&self, command: Command, role: Oid, rights: &dyn Rights) -> bool {
        self.command.is_none_or(|of| of == command)
            && self.roles.iter().any(|of| *of == 0 || rights.has_privileges_of(role, *of))
    }

    /// Returns the condition of rows.
    #[must_use]
    pub fn condition(&self, rows: Rows) -> Option<&Expression> {
        self.of_rows(rows).map(|of| &of.expression)
    }

    /// Returns the condition of rows as it is stored.
    #[must_use]
    pub fn text(&self, rows: Rows) -> Option<&str> {
        self.of_rows(rows).map(|of| of.text.as_str())
    }

    /// Whether the condition of rows is the constant true.
    #[must_use]
    pub fn is_true(&self, rows: Rows) -> bool {
        let is_true = |of: &Constant| {
            of.data_type == BOOL && of.value.as_ref().is_some_and(|bytes| bytes.first() == Some(&1))
        };
        matches!(self.condition(rows), Some(Expression::Constant(of)) if is_true(of))
    }

    fn of_rows(&self, rows: Rows) -> Option<&Condition> {
        match rows {
            Rows::Existing => self.using.as_ref(),
            Rows::New => self.check.as_ref().or(self.using.as_ref()),
        }
    }
}

/// Returns the policies of a table, in the order of their names.
pub fn stored_policies(state: &dyn State, relation: Oid) -> Vec<StoredPolicy> {
    let table = state.table(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, name) = (column("oid"), column("polname"));
    let (command, permissive) = (column("polcmd"), column("polpermissive"));
    let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
    let (mut found, keys) = (Vec::new(), [(column("polrelid"), relation)]);
    table.lookup(oids::PG_POLICY_RELID_INDEX, &keys, |row| {
        // A condition that cannot be read may be true.
        let condition = |column| {
            let unread = || Expression::Unknown("an expression that cannot be read".to_owned());
            row.text(column).map(|text| {
                let expression = stored::expression(&text).unwrap_or_else(|_| unread());
                Condition { text, expression }
            })
        };
        found.push(StoredPolicy {
            oid: row.oid(oid),
            name: row.name(name),
            is_permissive: row.bool(permissive),
            command: command_of(row.char(command)),
            roles: row.oids(roles),
            using: condition(using),
            check: condition(check),
        });
    });
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Returns the command of `pg_policy.polcmd`; `None`: all commands.
#[must_use]
pub fn command_of(letter: u8) -> Option<Command> {
    match letter {
        b'r' => Some(Command::Select),
        b'a' => Some(Command::Insert),
        b'w' => Some(Command::Update),
        b'd' => Some(Command::Delete),
        _ => None,
    }
}
