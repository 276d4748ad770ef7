//! The parsed bodies of routines (BEGIN ATOMIC): each statement in them is checked when the routine
//! runs, as the role that calls it or as the owner of a SECURITY DEFINER routine (functions.c,
//! `init_execution_state`). Other bodies are text, which only the execution interprets.

use super::reader::Reader;
use crate::catalog::{self, oids};
use crate::pg::heap::{interrupts, of_row};
use crate::pg::list::nodes;
use crate::pg::restricted;
use dragonfly_core::catalog::{FIRST_UNPINNED, Oid, Privileges};
use dragonfly_reader::needs::{Body, Needs};
use pgrx::{PgSqlErrorCode, ereport, pg_sys};
use std::collections::HashSet;
use std::ffi::CString;

/// Bodies with relations whose rules make more statements of one are not read.
const MOST_PRODUCTS: u64 = 200;

impl Reader {
    /// Reads the bodies of the routines that have been called, and of those that these call.
    pub(super) fn bodies(&self) -> Vec<Body> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for (routine, caller) in self.entered.take() {
            self.body(routine, caller, &mut seen, &mut found);
        }
        found
    }

    /// Reads the body of a routine, where it is a parsed one that has not been read for the same
    /// role before.
    fn body(
        &self,
        routine: Oid,
        caller: Option<Oid>,
        seen: &mut HashSet<(Oid, Option<Oid>)>,
        found: &mut Vec<Body>,
    ) {
        interrupts();
        // SAFETY: raises an error where the stack is too deep.
        unsafe { pg_sys::check_stack_depth() };
        let Some(text) = self.parsed_body(routine) else { return self.text(routine, caller) };
        let runs_as = catalog::definer(&self.state, routine).or(caller);
        if !seen.insert((routine, runs_as)) {
            return;
        }
        self.reject_complex(routine);
        // SAFETY: the server has written it with nodeToString: a query, or a list of a list of
        // queries (functioncmds.c, `interpret_AS_clause`).
        let statements = unsafe {
            let node: *mut pg_sys::Node = pg_sys::stringToNode(text.as_ptr()).cast();
            match (*node).type_ {
                pg_sys::NodeTag::T_Query => vec![node],
                _ => nodes(node.cast())
                    .flat_map(|list| nodes(list.cast::<pg_sys::List>()).collect::<Vec<_>>())
                    .collect(),
            }
        };
        for statement in statements {
            let needs = self.statement(statement.cast(), runs_as);
            found.push(Body { routine, runs_as, needs });
            for (routine, caller) in self.entered.take() {
                self.body(routine, caller, seen, found);
            }
        }
    }

    /// Records a routine whose body is text.
    fn text(&self, routine: Oid, caller: Option<Oid>) {
        if routine < FIRST_UNPINNED || !catalog::has_text(&self.state, routine) {
            return;
        }
        let found = (routine, catalog::definer(&self.state, routine).or(caller));
        let mut texts = self.texts.borrow_mut();
        if !texts.contains(&found) {
            texts.push(found);
        }
    }

    /// Reads one statement of a body.
    fn statement(&self, query: *mut pg_sys::Query, runs_as: Option<Oid>) -> Needs {
        let before = (self.needs.take(), self.acting.replace(runs_as));
        self.forget_domains();
        // SAFETY: a query that `stringToNode` has made, and which is this function's to change. The
        // server rewrites it likewise, as the role that runs it.
        unsafe {
            if (*query).commandType != pg_sys::CmdType::CMD_UTILITY {
                pg_sys::AcquireRewriteLocks(query, true, false);
                let role = runs_as.unwrap_or(self.role);
                let queries = restricted::as_role(role, || pg_sys::QueryRewrite(query));
                nodes(queries).for_each(|query| self.expression(query));
            }
        }
        self.all_written();
        let mut needs = self.needs.replace(before.0);
        self.acting.set(before.1);
        // The role that runs the body is that of the body, and not of the single call.
        let own =
            |check_as: &mut Option<Oid>| *check_as = check_as.filter(|_| *check_as != runs_as);
        needs.calls.iter_mut().for_each(|call| own(&mut call.check_as));
        // The routine may have a result where row security excludes the rows of a statement.
        let inserts = |privileges: Privileges| privileges.contains(Privileges::INSERT);
        needs.needs.iter_mut().for_each(|need| need.is_target &= inserts(need.privileges));
        needs
    }

    /// Returns the parsed body of a routine as the catalog stores it.
    fn parsed_body(&self, routine: Oid) -> Option<CString> {
        if routine < FIRST_UNPINNED {
            return None;
        }
        of_row(&self.state, oids::PROC_BY_OID, routine, "prosqlbody", |row, body| row.bytes(body))
            .flatten()
            .and_then(|text| CString::new(text).ok())
    }

    /// Raises an error where rewriting the statements of a body could exhaust the memory.
    fn reject_complex(&self, routine: Oid) {
        let is_complex = |relation: &Oid| {
            catalog::products(&self.state, *relation, MOST_PRODUCTS) >= MOST_PRODUCTS
        };
        if catalog::relations_of_body(&self.state, routine).iter().any(is_complex) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX,
                "the body of a routine depends on too many views or rules"
            );
        }
    }

    /// Returns the defaults of the arguments of a routine, in order.
    pub(super) fn defaults(&self, routine: Oid) -> Vec<*mut pg_sys::Node> {
        if routine < FIRST_UNPINNED {
            return vec![];
        }
        let by = oids::PROC_BY_OID;
        let text = of_row(&self.state, by, routine, "proargdefaults", |row, c| row.bytes(c));
        let text = text.flatten().and_then(|text| CString::new(text).ok());
        // SAFETY: the server has written it with nodeToString: a list of expressions.
        text.map_or_else(Vec::new, |text| unsafe {
            nodes(pg_sys::stringToNode(text.as_ptr()).cast()).collect()
        })
    }

    /// Reads a default that a call evaluates.
    pub(super) fn argument(&self, default: *mut pg_sys::Node) {
        // SAFETY: an expression that `stringToNode` has made.
        unsafe { self.expression(default) };
    }

    /// Reads the defaults of the arguments that a call omits (clauses.c,
    /// `expand_function_arguments`).
    ///
    /// # Safety
    /// A valid call.
    pub(super) unsafe fn omitted_arguments(&self, call: *mut pg_sys::FuncExpr) {
        // SAFETY: as the caller promises; a node is what its tag says.
        let (routine, given) = unsafe {
            let place = |(place, argument): (usize, *mut pg_sys::Node)| {
                if (*argument).type_ == pg_sys::NodeTag::T_NamedArgExpr {
                    (*argument.cast::<pg_sys::NamedArgExpr>()).argnumber as usize
                } else {
                    place
                }
            };
            let given: HashSet<usize> = nodes((*call).args).enumerate().map(place).collect();
            ((*call).funcid.to_u32(), given)
        };
        if routine < FIRST_UNPINNED || self.ignores_calls.get() {
            return;
        }
        let count = catalog::argument_type_oids(&self.state, routine).len();
        if given.len() >= count {
            return;
        }
        let defaults = self.defaults(routine);
        let first = count.saturating_sub(defaults.len());
        for (place, default) in defaults.into_iter().enumerate() {
            if !given.contains(&(first + place)) {
                self.argument(default);
            }
        }
    }
}
