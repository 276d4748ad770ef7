//! What the server evaluates for the rows that a statement writes, beside the statement itself: the
//! constraints of the table and of the domains of its columns, generated columns, the expressions
//! of indexes and of partition keys, and the conditions of triggers (nodeModifyTable.c, execMain.c,
//! execIndexing.c, execPartition.c, trigger.c). What the trigger functions do is not visible.

use super::reader::Reader;
use super::written::{
    Command, Generated, Trigger, Triggers, Written, checks, children, depends_on, generated,
    indexes, parent, partition_key, predicates, triggers, types, virtual_columns,
};
use crate::catalog::{self, oids};
use crate::pg::heap::interrupts;
use crate::pg::list::nodes;
use dragonfly_core::catalog::Oid;
use dragonfly_core::explain::Moment;
use pgrx::pg_sys;
use std::collections::HashSet;
use std::ffi::{CStr, CString};

impl Reader {
    /// Records what writing to a table needs, and to the tables that inherit from it. Which
    /// partition a new row is for is not known.
    pub(super) fn written(&self, written: Written) {
        let Written { table, command, changed } = written;
        self.written_to_one(table, command, &changed, true);
        let (mut parents, mut seen) = (vec![table], HashSet::from([table]));
        while let Some(parent) = parents.pop().filter(|_| command != Command::Insert) {
            interrupts();
            for child in children(&self.state, parent)
                .into_iter()
                .filter(|child| seen.insert(*child))
                .collect::<Vec<_>>()
            {
                // TRUNCATE is executed on each.
                self.written_to_one(child, command, &changed, command == Command::Truncate);
                parents.push(child);
            }
        }
        self.moment.set(Moment::Start);
    }

    /// Records what writing to one table needs. `named` are the columns that an UPDATE names, and
    /// `fires_once` tells whether triggers for each statement fire.
    fn written_to_one(&self, table: Oid, command: Command, named: &[String], fires_once: bool) {
        let computed = self.computed(table, command, named);
        let computed_names: Vec<String> = computed.iter().map(|c| c.name.clone()).collect();
        let changed = &[named, &computed_names].concat();
        self.moment.set(Moment::Start);
        if command == Command::Insert {
            // A column without a default is set to NULL, which the domain of its type checks
            // (preptlist.c).
            types(&self.state, table).into_iter().for_each(|of| self.domain(of));
        }
        let Triggers { firing: triggers, .. } = triggers(&self.state, table, command, changed);
        // In PostgreSQL 15 they are initialized before the statement begins (nodeModifyTable.c,
        // `ExecInitModifyTable`).
        self.moment.set(if catalog::VERSION < 16 { Moment::Start } else { Moment::Row });
        computed.iter().for_each(|column| self.stored(&column.expression));
        if fires_once {
            self.conditions(table, &triggers, Moment::Statement);
        }
        self.moment.set(Moment::Row);
        if command == Command::Insert {
            self.all(&partition_key(&self.state, table));
        }
        self.conditions(table, &triggers, Moment::Row);
        if command.makes_rows() {
            self.moment.set(Moment::Kept);
            self.constraints(table);
            self.partition(table, command);
            self.all(&indexes(&self.state, table, command, changed));
        }
        if command == Command::Truncate {
            // Its indexes are rebuilt as the owner (index.c, `reindex_index`).
            self.moment.set(Moment::Row);
            let before = self.acting.replace(catalog::relation_owner(&self.state, table));
            self.all(&predicates(&self.state, table));
            self.acting.set(before);
        }
        self.conditions(table, &triggers, Moment::Kept);
        if fires_once {
            self.conditions(table, &triggers, Moment::End);
        }
    }

    /// The generated columns that a command computes. One is computed when a column that it depends
    /// on changes (execUtils.c, `ExecGetExtraUpdatedCols`), and always where a trigger may change
    /// any column (nodeModifyTable.c, `ExecInitGenerated`).
    fn computed(&self, table: Oid, command: Command, named: &[String]) -> Vec<Generated> {
        if !command.makes_rows() {
            return vec![];
        }
        let Triggers { can_change_rows, .. } = triggers(&self.state, table, command, named);
        let mut columns = generated(&self.state, table);
        columns.retain(|column| {
            command == Command::Insert
                || can_change_rows
                || depends_on(&column.expression, table, named)
        });
        columns
    }

    /// The constraints of a table: NOT NULL of virtual columns first (execMain.c,
    /// `ExecConstraints`).
    fn constraints(&self, table: Oid) {
        for column in virtual_columns(&self.state, table).iter().filter(|c| c.is_not_null) {
            self.stored(&column.expression);
        }
        for check in checks(&self.state, "conrelid", oids::PG_CONSTRAINT_RELID_INDEX, table) {
            self.stored(&check);
            self.virtual_columns_in(&check, table);
        }
    }

    /// The virtual columns of a table that an expression reads: the server replaces them by their
    /// expressions.
    fn virtual_columns_in(&self, expression: &CStr, table: Oid) {
        for column in virtual_columns(&self.state, table) {
            if depends_on(expression, table, std::slice::from_ref(&column.name)) {
                self.stored(&column.expression);
            }
        }
    }

    fn all(&self, expressions: &[CString]) {
        expressions.iter().for_each(|expression| self.stored(expression));
    }

    fn conditions(&self, table: Oid, triggers: &[Trigger], moment: Moment) {
        self.moment.set(moment);
        for condition in
            triggers.iter().filter(|t| t.moment == moment).filter_map(|t| t.condition.as_ref())
        {
            // Each part of it is initialized separately (trigger.c, `TriggerEnabled`).
            // SAFETY: the server has written it with nodeToString.
            unsafe {
                let node = pg_sys::stringToNode(condition.as_ptr()).cast();
                nodes(pg_sys::make_ands_implicit(node).cast())
                    .for_each(|part| self.expression(part));
            }
            self.virtual_columns_in(condition, table);
        }
    }

    /// The check that a row belongs to the partition to which it is written, by the keys of the
    /// tables that this is a partition of. INSERT into the partitioned table itself only finds the
    /// partition. (The server's own function for that condition evaluates constants in it, and may
    /// call untrusted functions.)
    fn partition(&self, table: Oid, command: Command) {
        if command == Command::Update {
            self.all(&partition_key(&self.state, table));
        }
        let mut part = table;
        // SAFETY: a look-up in the system cache.
        while unsafe { pg_sys::get_rel_relispartition(part.into()) } {
            interrupts();
            let Some(whole) = parent(&self.state, part) else { break };
            self.all(&partition_key(&self.state, whole));
            part = whole;
        }
    }
}
