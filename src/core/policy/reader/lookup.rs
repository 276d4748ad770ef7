//! Tables in subqueries, as the role that reads them sees them.

use super::expression::{all, any};
use super::{Entry, Reader, Scope};
use crate::catalog::{CapturedArgument, Oid};
use crate::policy::facts::{Body, Function, Policies, Reads};
use crate::policy::formula::Formula;
use crate::policy::term::{Row, Term, TermId};
use crate::policy::value::{Meaning, Value};
use crate::sql::quote_ident;
use crate::stored::{Expression, Query};
use std::collections::BTreeSet;
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
        if let (Body::Text(_, captured), Some(client)) = (&function.body, self.users.first()) {
            // Temporary functions are found only by their schema.
            let functions = captured.functions.iter();
            let functions = functions.filter(|_| self.catalog.may_create_functions(*client));
            let names: BTreeSet<String> =
                captured.relations.iter().chain(functions).cloned().collect();
            if !names.is_empty() {
                self.found.captured.insert(function.signature.clone(), names);
            }
        }
    }

    /// Notes the rows of a body that has an argument about the checked row and does not ask for it,
    /// because its name means a column there: those since `first`.
    pub(super) fn note_arguments(
        &mut self,
        function: &Function,
        query: &Query,
        arguments: &[Meaning],
        first: u32,
    ) {
        if self.policies_of.len() > 1 {
            return;
        }
        let is_since = |(row, _): &(&Row, &Oid)| row.0 > first;
        let rows: Vec<(Row, Oid)> =
            self.found.rows.iter().filter(is_since).map(|(row, of)| (*row, *of)).collect();
        let names = function.argument_names.iter().enumerate();
        let captured = names.filter(|(_, name)| !name.is_empty()).find(|(index, name)| {
            let is_of_checked = || match arguments.get(*index) {
                Some(Meaning::Value(Value::Term(term))) => self.is_of_checked(*term),
                _ => false,
            };
            let is_column = || rows.iter().any(|(_, of)| self.catalog.has_column(*of, name));
            is_of_checked() && !query.has_parameter(index + 1) && is_column()
        });
        if let Some((_, name)) = captured {
            let captured = CapturedArgument {
                function: function.signature.clone(),
                argument: quote_ident(name).into_owned(),
            };
            let of_rows = rows.into_iter().map(|(row, _)| (row, captured.clone()));
            self.found.without_argument.extend(of_rows);
        }
    }

    /// Whether a column of the checked row is in a term.
    fn is_of_checked(&self, term: TermId) -> bool {
        match self.terms.get(term) {
            Term::Column { row, .. } => *row == Row::CHECKED,
            Term::Applied { arguments, .. } => arguments.iter().any(|of| self.is_of_checked(*of)),
            Term::Array(elements) => elements.iter().any(|of| self.is_of_checked(*of)),
            _ => false,
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
                self.unreadable(row)
            }
            Reads::Policies(policies) if self.leads_to_itself(relation, &policies) => {
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
                    return self.unreadable(row);
                }
                let entry = Entry::Row { row, relation, nullable };
                self.policies_of.push(relation);
                let condition = self.of_policies(&policies, entry);
                self.policies_of.pop();
                condition
            }
        }
    }

    /// Whether the server raises an error because policies of a table lead to themselves. It notes
    /// the tables whose policies it expands, and those without a subquery need no expanding; where
    /// functions read the table, it is read once more, and then again.
    fn leads_to_itself(&self, relation: Oid, policies: &Policies) -> bool {
        let times = self.policies_of.iter().filter(|of| **of == relation).count();
        times > 1 || times == 1 && policies.have_subquery()
    }

    /// Returns the condition of a row that its reader cannot read.
    fn unreadable(&mut self, row: Row) -> Formula {
        if self.policies_of.len() <= 1 {
            self.found.unreadable.insert(row);
        }
        Formula::Constant(Some(self.finds_unreadable))
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
