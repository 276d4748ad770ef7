//! Which tables a statement on a view changes by itself: the server rewrites it to one on the table
//! that the view reads, unless an INSTEAD OF trigger or a rule DO INSTEAD replaces it.

use crate::objects::numbered_columns;
use crate::oids;
use crate::source::{State, of_row};
use dragonfly_core::catalog::{Command, Oid, RelationKind};
use dragonfly_core::stored::{Column, Expression, query, updatable};
use std::collections::{HashMap, HashSet};

/// The commands that change rows.
pub const WRITES: [Command; 3] = [Command::Insert, Command::Update, Command::Delete];

/// The table that statements on a view change, with the commands that do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Target {
    pub table: Oid,
    pub commands: Vec<Command>,
}

/// What a view has that decides about the statements that change it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its query, as the catalog stores it.
    query: Option<String>,
    /// The commands that triggers and rules replace.
    replaced: Vec<Command>,
}

impl Facts {
    /// Returns the query of the view, as the catalog stores it.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether a trigger or a rule replaces a command.
    #[must_use]
    pub fn replaces(&self, command: Command) -> bool {
        self.replaced.contains(&command)
    }

    /// Returns the relation to which the server rewrites a command; `None` where it does not.
    #[must_use]
    pub fn changes(&self, command: Command) -> Option<Oid> {
        let found = updatable(self.query()?).ok().flatten()?;
        found.is_for(command).then_some(found.relation)
    }

    /// Returns the columns of the relation that the view reads, by the columns of the view that
    /// show them.
    #[must_use]
    pub fn shown_columns(&self, state: &dyn State, view: Oid, base: Oid) -> Vec<(String, String)> {
        let query = self.query().and_then(|text| query(text).ok().flatten());
        let of_view = numbered_columns(state, view);
        let of_base: HashMap<i16, String> = numbered_columns(state, base).into_iter().collect();
        let targets = query.iter().flat_map(|query| &query.targets).filter(|of| !of.is_hidden);
        let shown = targets.zip(of_view).filter_map(|(target, (_, name))| {
            let Expression::Column(Column { number, level: 0, .. }) = &target.expression else {
                return None;
            };
            Some((name, of_base.get(number)?.clone()))
        });
        shown.collect()
    }
}

/// Reads what decides about the statements that change a view.
pub fn facts(state: &dyn State, view: Oid) -> Facts {
    let mut facts = Facts::default();
    let table = state.table(oids::PG_REWRITE);
    let column = |name| table.column(name);
    let (on, event, enabled) = (column("ev_class"), column("ev_type"), column("ev_enabled"));
    let (instead, action) = (column("is_instead"), column("ev_action"));
    table.lookup(oids::PG_REWRITE_RELATION_INDEX, &[(on, view)], |row| {
        let is_enabled = !matches!(row.char(enabled), b'D' | b'R');
        match row.char(event) {
            b'1' => facts.query = row.text(action),
            // With a condition as well: the server then rejects the statement.
            b'2' if row.bool(instead) && is_enabled => facts.replaced.push(Command::Update),
            b'3' if row.bool(instead) && is_enabled => facts.replaced.push(Command::Insert),
            b'4' if row.bool(instead) && is_enabled => facts.replaced.push(Command::Delete),
            _ => {}
        }
    });
    let table = state.table(oids::PG_TRIGGER);
    let (on, kind) = (table.column("tgrelid"), table.column("tgtype"));
    table.lookup(oids::PG_TRIGGER_RELID_INDEX, &[(on, view)], |row| {
        // A view cannot have disabled triggers.
        let bits = row.int(kind) & 0xffff;
        if bits & INSTEAD != 0 {
            let commands = EVENTS.iter().filter(|(bit, _)| bits & bit != 0);
            facts.replaced.extend(commands.map(|(_, command)| *command));
        }
    });
    facts.replaced.sort_unstable();
    facts.replaced.dedup();
    facts
}

/// Bits of `pg_trigger.tgtype`.
const INSTEAD: i32 = 64;
const EVENTS: [(i32, Command); 3] =
    [(4, Command::Insert), (8, Command::Delete), (16, Command::Update)];

/// Returns the table that statements on a view change without a trigger or a rule; `None` where
/// none does. This parses stored queries, and neither locks nor executes anything.
pub fn target(state: &dyn State, view: Oid) -> Option<Target> {
    let (mut commands, mut relation) = (WRITES.to_vec(), view);
    let mut seen = HashSet::new();
    while kind(state, relation)? == RelationKind::View {
        state.interrupts();
        if !seen.insert(relation) {
            return None;
        }
        let facts = facts(state, relation);
        let base = updatable(&facts.query?).ok().flatten()?;
        commands.retain(|c| base.is_for(*c) && !facts.replaced.contains(c));
        if commands.is_empty() {
            return None;
        }
        relation = base.relation;
    }
    Some(Target { table: relation, commands })
}

/// Whether a command on a view may change rows of a table: the server rewrites it to one on this
/// table, or a trigger or a rule replaces it, which may do anything.
pub fn may_write(state: &dyn State, view: Oid, table: Oid, command: Command) -> bool {
    let (mut relation, mut seen) = (view, HashSet::new());
    while kind(state, relation) == Some(RelationKind::View) {
        state.interrupts();
        let facts = facts(state, relation);
        if facts.replaced.contains(&command) || !seen.insert(relation) {
            return true;
        }
        let base = facts.query.and_then(|query| updatable(&query).ok().flatten());
        let Some(base) = base.filter(|base| base.is_for(command)) else { return false };
        relation = base.relation;
    }
    relation == table
}

fn kind(state: &dyn State, relation: Oid) -> Option<RelationKind> {
    of_row(state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| row.char(kind))
        .and_then(RelationKind::from_relkind)
}
