//! The reader that visits a statement, and what it records.

use super::written::{Written, checks};
use crate::catalog::{self, oids};
use crate::pg::heap::{State, Table, of_row};
use crate::pg::list::nodes;
use dragonfly_core::catalog::Oid;
use dragonfly_core::explain::{Moment, Need};
use dragonfly_reader::needs::{Call, Needs};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CStr;

/// Reads expressions and queries, and records what they need.
///
/// The server's tree walkers call back with an untyped pointer to it while the methods that started
/// the walk are still running. Therefore there are only shared references to it, and what changes
/// is in cells. No cell is borrowed while a walker runs.
pub(super) struct Reader {
    pub(super) state: State,
    pub(super) needs: RefCell<Needs>,
    /// When the expression that is being read is evaluated.
    pub(super) moment: Cell<Moment>,
    /// The domains whose constraints have been read, with the moment for which.
    domains: RefCell<BTreeSet<(Moment, Oid)>>,
    /// The relations that are written to.
    pub(super) written: RefCell<Vec<Written>>,
    /// The number of queries that enclose the node that is being read.
    pub(super) depth: Cell<u32>,
    /// Whether one of those queries changes or locks rows.
    pub(super) marks_rows: Cell<bool>,
    /// Whether calls of functions are not recorded, because the planner removes them.
    pub(super) ignores_calls: Cell<bool>,
    /// The role that functions are called as, where that is not the role that runs the statement.
    pub(super) acting: Cell<Option<Oid>>,
    /// The role that runs the statement.
    pub(super) role: Oid,
    /// The routines that have been called, with the role that calls them, and whose bodies have not
    /// been read yet.
    pub(super) entered: RefCell<Vec<(Oid, Option<Oid>)>>,
    /// The routines of [`Needs::entered`].
    pub(super) texts: RefCell<Vec<(Oid, Option<Oid>)>>,
}

impl Reader {
    pub(super) fn new(role: Oid) -> Self {
        Self {
            role,
            entered: RefCell::default(),
            texts: RefCell::default(),
            state: State::now(),
            needs: RefCell::default(),
            moment: Cell::new(Moment::Start),
            domains: RefCell::default(),
            written: RefCell::default(),
            depth: Cell::new(0),
            marks_rows: Cell::new(false),
            ignores_calls: Cell::new(false),
            acting: Cell::new(None),
        }
    }

    pub(super) fn need(&self, need: Need) {
        let mut needs = self.needs.borrow_mut();
        if !needs.needs.contains(&need) {
            needs.needs.push(need);
        }
    }

    pub(super) fn call(&self, routine: pg_sys::Oid, check_as: Option<Oid>) {
        if self.ignores_calls.get() {
            return;
        }
        // An aggregate needs EXECUTE as its owner, and its functions run as the caller.
        self.entered.borrow_mut().push((routine.to_u32(), self.acting.get()));
        let check_as = check_as.or(self.acting.get());
        let call = Call { routine: routine.to_u32(), check_as, moment: self.moment.get() };
        let mut needs = self.needs.borrow_mut();
        if !needs.calls.contains(&call) {
            needs.calls.push(call);
        }
    }

    pub(super) fn operator(&self, operator: pg_sys::Oid) {
        // SAFETY: a look-up in the system cache; 0 where there is no such operator.
        self.call(unsafe { pg_sys::get_opcode(operator) }, None);
    }

    /// Records the functions that compare for GROUP BY, DISTINCT and UNION (execExpr.c,
    /// `ExecBuildGroupingEqual`).
    ///
    /// # Safety
    /// A list of `SortGroupClause`.
    pub(super) unsafe fn grouping(&self, clauses: *mut pg_sys::List) {
        // SAFETY: as the caller promises.
        let operators =
            unsafe { nodes(clauses).map(|c| (*c.cast::<pg_sys::SortGroupClause>()).eqop) };
        operators.for_each(|operator| self.operator(operator));
    }

    /// Records an aggregate, and the functions that it consists of, on which its owner needs
    /// EXECUTE (nodeAgg.c, `ExecInitAgg`).
    pub(super) fn aggregate(&self, aggregate: pg_sys::Oid) {
        self.call(aggregate, None);
        let table = Table::open(oids::PG_AGGREGATE);
        let (oid, step, end) =
            (table.column("aggfnoid"), table.column("aggtransfn"), table.column("aggfinalfn"));
        let mut parts = Vec::new();
        let key = [(oid, aggregate.to_u32())];
        table.lookup(&self.state, oids::PG_AGGREGATE_FNOID_INDEX, &key, |row| {
            parts.extend([row.oid(step), row.oid(end)]);
        });
        let owner = catalog::routine_owner(&self.state, aggregate.to_u32());
        parts.into_iter().filter(|part| *part != 0).for_each(|part| self.call(part.into(), owner));
    }

    /// Reads the constraints of a domain and of the domains that it is based on.
    pub(super) fn domain(&self, domain: Oid) {
        let base = |domain| {
            let base =
                of_row(&self.state, oids::TYPE_BY_OID, domain, "typbasetype", |row, base| {
                    row.oid(base)
                });
            base.filter(|base| *base != 0)
        };
        let mut next = (domain, base(domain));
        // Only a domain has a base type.
        while let (domain, Some(below)) = next {
            if !self.ignores_calls.get()
                && self.domains.borrow_mut().insert((self.moment.get(), domain))
            {
                let checks =
                    checks(&self.state, "contypid", oids::PG_CONSTRAINT_TYPE_INDEX, domain);
                checks.iter().for_each(|check| self.stored(check));
            }
            next = (below, base(below));
        }
    }

    /// Forgets which domains have been read: each statement evaluates their constraints again.
    pub(super) fn forget_domains(&self) {
        self.domains.borrow_mut().clear();
    }

    /// Records what the relations that are written to need.
    pub(super) fn all_written(&self) {
        for written in self.written.take() {
            self.written(written);
        }
    }

    /// Reads an expression as a catalog stores it.
    pub(super) fn stored(&self, text: &CStr) {
        // SAFETY: the server has written it with nodeToString.
        unsafe { self.expression(pg_sys::stringToNode(text.as_ptr()).cast()) };
    }
}
