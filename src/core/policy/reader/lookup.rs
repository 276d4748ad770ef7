//! Tables in subqueries, as the role that reads them sees them.

use super::expression::{all, any};
use super::{Entry, Reader, Scope};
use crate::catalog::Oid;
use crate::policy::facts::{Body, Function, Policies, Reads};
use crate::policy::formula::Formula;
use crate::policy::term::{Row, Term};
use crate::stored::Expression;
use std::rc::Rc;

impl Reader<'_> {
    /// Returns the role that reads tables and views: the owner of a view, or the current user.
    pub(super) fn reading_user(&self) -> Option<Oid> {
        let user = self.users.last().copied()?;
        Some(self.reads_as.unwrap_or(user))
    }

    /// Whether the reader has a privilege on a view. If not, that is noted.
    pub(super) fn may_read(&mut self, view: Oid) -> bool {
        let Some(user) = self.reading_user() else { return true };
        let is_denied = self.catalog.reads(user, view) == Reads::Denied;
        if is_denied {
            self.found.denied.insert(view);
        }
        !is_denied
    }

    /// Notes a function that its caller has no privilege on.
    pub(super) fn may_execute(&mut self, oid: Oid, function: &Function) {
        let Some(user) = self.users.last() else { return };
        if !function.is_built_in && !self.catalog.may_execute(*user, oid) {
            self.found.not_executable.insert(function.signature.clone());
        }
    }

    /// Notes a function whose result the server may keep although it depends on the session or on
    /// tables, and one whose caller can give the names in it to other objects.
    pub(super) fn note_body(&mut self, function: &Function, asks_session: bool) {
        if function.is_immutable && asks_session {
            self.found.immutable.insert(function.signature.clone());
        }
        if let Body::Text(_, captured) = &function.body
            && !captured.is_empty()
        {
            self.found.captured.insert(function.signature.clone(), captured.clone());
        }
    }

    /// Returns which rows of a table its reader sees, as a condition on one of them.
    pub(super) fn read_rows(&mut self, row: Row, relation: Oid, nullable: bool) -> Formula {
        self.found.rows.insert(row, relation);
        self.asked_session += 1;
        let Some(user) = self.reading_user() else { return Formula::TRUE };
        match self.catalog.reads(user, relation) {
            Reads::All => {
                self.note_access(row, relation);
                Formula::TRUE
            }
            Reads::Denied => {
                self.found.denied.insert(relation);
                Formula::FALSE
            }
            Reads::Policies(_) if self.policies_of.contains(&relation) => {
                self.found.recursive.insert(relation);
                if self.functions == 0 {
                    return Formula::FALSE;
                }
                // The server reads the body of a function when it is called: that can end.
                let number = self.terms.fresh();
                Formula::Holds(self.terms.add(Term::Unknown(number)))
            }
            Reads::Policies(policies) => {
                if policies.permissive.is_empty() {
                    self.found.hidden.insert(relation);
                }
                let entry = Entry::Row { row, relation, nullable };
                self.policies_of.push(relation);
                let condition = self.of_policies(&policies, entry);
                self.policies_of.pop();
                condition
            }
        }
    }

    /// Returns the condition of a row that policies let its reader see.
    fn of_policies(&mut self, policies: &Policies, entry: Entry) -> Formula {
        // A policy is about its own row, and about nothing outside of it.
        let scope = Scope { entries: vec![entry], with: Rc::default() };
        let scopes = std::mem::replace(&mut self.scopes, vec![scope]);
        let (arguments, compared, operands) = (
            std::mem::take(&mut self.arguments),
            std::mem::take(&mut self.compared),
            std::mem::take(&mut self.operands),
        );
        let mut conditions = |of: &[Expression]| -> Vec<_> {
            of.iter().map(|expression| self.condition(expression)).collect()
        };
        let mut parts = conditions(&policies.restrictive);
        parts.push(Rc::new(any(conditions(&policies.permissive))));
        (self.scopes, self.arguments) = (scopes, arguments);
        (self.compared, self.operands) = (compared, operands);
        all(parts)
    }
}
