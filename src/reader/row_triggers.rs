//! Triggers of tables that are fired for each row.

use crate::caller_typed::language_of;
use crate::oids;
use crate::rights::Rights;
use crate::source::{State, of_row};
use dragonfly_core::catalog::{Command, Oid};
use dragonfly_core::sql::assigned::assigned;
use dragonfly_core::sql::body::Language;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The bits of pg_trigger.tgtype (catalog/pg_trigger.h).
mod bits {
    pub const ROW: i16 = 1 << 0;
    pub const BEFORE: i16 = 1 << 1;
    pub const INSERT: i16 = 1 << 2;
    pub const DELETE: i16 = 1 << 3;
    pub const UPDATE: i16 = 1 << 4;
}

/// A trigger that is fired for each row.
#[derive(Debug, Clone)]
struct RowTrigger {
    name: String,
    kind: i16,
    function: Oid,
    /// Its arguments, each followed by a zero byte.
    arguments: Vec<u8>,
}

impl RowTrigger {
    /// Whether it is fired for a command before the row is written.
    fn is_before(&self, command: Command) -> bool {
        self.kind & bits::BEFORE != 0 && self.is_for(command)
    }

    fn is_for(&self, command: Command) -> bool {
        let bit = match command {
            Command::Insert => bits::INSERT,
            Command::Update => bits::UPDATE,
            Command::Delete => bits::DELETE,
            Command::Select => 0,
        };
        self.kind & bit != 0
    }
}

/// The triggers of a table that are fired for each row, in ordinary sessions.
pub struct RowTriggers<'a> {
    state: &'a dyn State,
    all: Vec<RowTrigger>,
}

impl<'a> RowTriggers<'a> {
    /// Reads the triggers of a table or view, without those of constraints.
    pub fn of(state: &'a dyn State, relation: Oid) -> Self {
        let table = state.table(oids::PG_TRIGGER);
        let column = |name| table.column(name);
        let (name, kind, function) = (column("tgname"), column("tgtype"), column("tgfoid"));
        let (enabled, internal) = (column("tgenabled"), column("tgisinternal"));
        let arguments = column("tgargs");
        let (mut all, keys) = (Vec::new(), [(column("tgrelid"), relation)]);
        table.lookup(oids::PG_TRIGGER_RELID_INDEX, &keys, |row| {
            let of_row = row.int(kind) as i16;
            let is_fired = matches!(row.char(enabled), b'O' | b'A') && !row.bool(internal);
            if is_fired && of_row & bits::ROW != 0 {
                let function = row.oid(function);
                let arguments = row.bytea(arguments).unwrap_or_default();
                all.push(RowTrigger { name: row.name(name), kind: of_row, function, arguments });
            }
        });
        Self { state, all }
    }

    /// Returns the triggers that are fired before a command, each with the names of the columns
    /// that it writes; `None` where it may write each.
    pub fn assigning(&self, command: Command) -> Vec<(String, Option<BTreeSet<String>>)> {
        let before = self.all.iter().filter(|trigger| trigger.is_before(command));
        before.map(|trigger| (trigger.name.clone(), self.assigned(trigger))).collect()
    }

    fn assigned(&self, trigger: &RowTrigger) -> Option<BTreeSet<String>> {
        let table = self.state.table(oids::PG_PROC);
        let column = |name| table.column(name);
        let (language, text) = (column("prolang"), column("prosrc"));
        let (mut found, keys) = (None, [(column("oid"), trigger.function)]);
        table.lookup(oids::PG_PROC_OID_INDEX, &keys, |row| {
            found = match row.oid(language) {
                // Those of the server write no columns.
                oids::LANGUAGE_INTERNAL => Some(BTreeSet::new()),
                // Such as moddatetime(): the arguments are the columns.
                oids::LANGUAGE_C if !trigger.arguments.is_empty() => {
                    let arguments = trigger.arguments.split(|byte| *byte == 0);
                    Some(arguments.map(|of| String::from_utf8_lossy(of).into_owned()).collect())
                }
                language if language_of(self.state, language) == Language::PlPgSql => {
                    assigned(&row.text(text).unwrap_or_default())
                }
                _ => None,
            };
        });
        found
    }

    /// Returns the triggers that are fired before a command and whose functions none of some roles
    /// can change.
    pub fn before(
        &self,
        command: Command,
        roles: &[Oid],
        rights: &dyn Rights,
    ) -> Rc<BTreeSet<String>> {
        let is_safe = |trigger: &&RowTrigger| {
            let owner = of_row(self.state, oids::PROC_BY_OID, trigger.function, "proowner", {
                |row, owner| row.oid(owner)
            });
            let is_owner = |role: &Oid| owner.is_none_or(|of| rights.has_privileges_of(*role, of));
            !roles.iter().any(is_owner)
        };
        let before = self.all.iter().filter(|trigger| trigger.is_before(command));
        Rc::new(before.filter(is_safe).map(|trigger| trigger.name.clone()).collect())
    }
}
