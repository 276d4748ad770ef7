//! The access that exists and does not work: the role has the privilege on the object itself, but
//! something else that the server asks for is missing, such as a privilege on a table behind a
//! security_invoker view, or EXECUTE on the function of a CHECK constraint.
//!
//! It is not declared. Otherwise the first check under the contract would report it, and offer to
//! grant what is missing, which no role had before.

use crate::access::Access;
use crate::catalog::{Oid, Privileges, Relation, Snapshot};
use crate::contract::Contract;
use crate::doctor::{
    AccessName, AccessOutcome, DeclaredAccess, Target, declared_accesses, fails, rejects_every_row,
};
use crate::explain::Denial;
use crate::rules::Context;
use crate::sql::{listed, printable};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Receives what the server says about an access.
pub type Answer<'a> = dyn FnMut(DeclaredAccess, AccessOutcome) + 'a;

/// Asks the server about accesses that a contract declares.
pub type Outcomes<'o> = dyn Fn(&Context<'_>, Vec<DeclaredAccess>, &mut Answer<'_>) + 'o;

/// An access that is not declared, because it does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The access.
    pub access: AccessName,
    /// Why it does not work: the server's message, or a clause.
    pub why: String,
    /// The columns on which the privilege works and is declared instead.
    pub columns: Vec<String>,
}

impl LeftOut {
    /// Returns what is left out, without a period.
    #[must_use]
    pub fn message(all: &[Self]) -> String {
        match all.len() {
            1 => "1 privilege is not declared, because its use fails".to_owned(),
            n => format!("{n} privileges are not declared, because their use fails"),
        }
    }

    /// Returns a line for each, as far as a message lists them.
    #[must_use]
    pub fn lines(all: &[Self]) -> String {
        let mut lines: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
        if all.len() > SHOWN {
            lines.push(format!("... and {} more.", all.len() - SHOWN));
        }
        lines.join("\n")
    }
}

/// How many lines a message has.
const SHOWN: usize = 20;

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessName { role, object, privilege } = &self.access;
        let (object, role) = (printable(object), printable(role));
        write!(f, "{privilege} on {object} by \"{role}\": {}", self.why)?;
        match self.columns.as_slice() {
            [] => f.write_str("."),
            [one] => write!(f, "; declared on column {} instead.", printable(one)),
            several => write!(f, "; declared on columns {} instead.", printable(&listed(several))),
        }
    }
}

/// Privileges, and the columns on which they work.
pub(super) type OnColumns = (Privileges, Vec<String>);

/// What is known about the access that does not work.
#[derive(Default)]
pub(super) struct Failing {
    /// By access: whether it works; `None` where that is not known. Most accesses work, and there
    /// may be hundreds of thousands.
    known: HashMap<DeclaredAccess, Option<bool>>,
    denied: HashMap<DeclaredAccess, Denial>,
    on_objects: HashMap<(Target, Oid), Privileges>,
    on_columns: HashMap<(Oid, Oid, String), Privileges>,
    /// By relation and role: the columns on which a privilege works that fails on the relation.
    instead: HashMap<(Oid, Oid), Vec<OnColumns>>,
    with_instead: HashSet<Oid>,
    /// Schemas and roles.
    schemas: HashSet<(Oid, Oid)>,
    left_out: Vec<LeftOut>,
}

impl Failing {
    /// Returns the privileges of a role on an object that are not declared.
    pub fn on(&self, target: Target, role: Oid) -> Privileges {
        self.on_objects.get(&(target, role)).copied().unwrap_or_default()
    }

    /// Returns the privileges of a role on a column that are not declared.
    pub fn on_column(&self, relation: Oid, role: Oid, column: &str) -> Privileges {
        let key = (relation, role, column.to_owned());
        self.on_columns.get(&key).copied().unwrap_or_default()
    }

    /// Returns the privileges on columns that are declared instead of those on the relation.
    pub fn instead(&self, relation: Oid, role: Oid) -> &[OnColumns] {
        self.instead.get(&(relation, role)).map_or(&[], Vec::as_slice)
    }

    /// Whether privileges on columns of a relation are declared instead of those on the relation.
    pub fn has_instead(&self, relation: Oid) -> bool {
        self.with_instead.contains(&relation)
    }

    /// Whether something of a role in a schema is not declared, so that not all of it can be.
    pub fn is_in(&self, schema: Oid, role: Oid) -> bool {
        self.schemas.contains(&(schema, role))
    }

    pub fn into_left_out(self) -> Vec<LeftOut> {
        self.left_out
    }

    /// Asks which of the declared access fails. Returns whether something was found that was not
    /// known: then the contract has to be inferred again.
    pub fn learn(
        &mut self,
        contract: &Contract,
        snapshot: &Snapshot,
        interrupts: &dyn Fn(),
        outcomes: &Outcomes<'_>,
    ) -> bool {
        let access = Access::new(snapshot);
        let under = Context::new(contract, snapshot, &access, interrupts);
        let declared = declared_accesses(&under);
        self.ask(&under, &declared, outcomes);
        let mut found = false;
        for access in &declared {
            interrupts();
            if let Some(denial) = self.failure(&under, access) {
                found |= self.leave_out(&under, access, &denial, outcomes);
            }
        }
        found
    }

    fn ask(&mut self, under: &Context<'_>, accesses: &[DeclaredAccess], outcomes: &Outcomes<'_>) {
        let is_unknown = |access: &&DeclaredAccess| !self.known.contains_key(*access);
        let unknown: Vec<DeclaredAccess> = accesses.iter().filter(is_unknown).cloned().collect();
        if unknown.is_empty() {
            return;
        }
        outcomes(under, unknown, &mut |access, outcome| {
            let works = match outcome {
                AccessOutcome::Works => Some(true),
                AccessOutcome::Unchecked(_) => None,
                AccessOutcome::Denied(denial) => {
                    self.denied.insert(access.clone(), denial);
                    Some(false)
                }
            };
            self.known.insert(access, works);
        });
    }

    /// Returns why an access fails; `None` where it works, or has no rows.
    fn failure(&self, under: &Context<'_>, access: &DeclaredAccess) -> Option<Denial> {
        let denial = self.denied.get(access)?;
        let is_failure = match relation(under, access) {
            Some(relation) => {
                fails(under, relation, access, denial)
                    || rejects_every_row(under, relation, access, denial)
            }
            None => matches!(access.target, Target::Routine(_)),
        };
        is_failure.then(|| denial.clone())
    }

    /// Records that an access is not declared. Returns whether that was not known.
    fn leave_out(
        &mut self,
        under: &Context<'_>,
        access: &DeclaredAccess,
        denial: &Denial,
        outcomes: &Outcomes<'_>,
    ) -> bool {
        let (role, privilege) = (access.role, access.privilege);
        let columns = self.failing_columns(under, access, outcomes);
        let mut is_new = false;
        if let (Target::Relation(oid), false) = (access.target, columns.is_empty()) {
            for column in columns {
                let known = self.on_columns.entry((oid, role, column)).or_default();
                is_new |= !known.contains(privilege);
                *known |= privilege;
            }
        } else {
            let known = self.on_objects.entry((access.target, role)).or_default();
            is_new = !known.contains(privilege);
            *known |= privilege;
        }
        if is_new {
            let columns = self.working_columns(under, access, outcomes);
            if let (Target::Relation(oid), false) = (access.target, columns.is_empty()) {
                self.instead.entry((oid, role)).or_default().push((privilege, columns.clone()));
                self.with_instead.insert(oid);
            }
            self.schemas.extend(schema(under, access).map(|schema| (schema, role)));
            let why = denial.message.clone();
            let name = access.name(under.snapshot);
            self.left_out.extend(name.map(|access| LeftOut { access, why, columns }));
        }
        is_new
    }

    /// Returns the columns of an access that fail by themselves, or all if none does.
    fn failing_columns(
        &mut self,
        under: &Context<'_>,
        access: &DeclaredAccess,
        outcomes: &Outcomes<'_>,
    ) -> Vec<String> {
        let alone =
            |column: &String| DeclaredAccess { columns: vec![column.clone()], ..access.clone() };
        if access.columns.len() > 1 {
            self.ask(under, &access.columns.iter().map(alone).collect::<Vec<_>>(), outcomes);
        }
        let mut failing = access.columns.clone();
        failing.retain(|column| self.failure(under, &alone(column)).is_some());
        if failing.is_empty() { access.columns.clone() } else { failing }
    }

    /// Returns the columns on which a privilege works that fails on the whole relation: INSERT with
    /// a value for each column, where only a default fails, and the columns of a view that do not
    /// call what fails.
    fn working_columns(
        &mut self,
        under: &Context<'_>,
        access: &DeclaredAccess,
        outcomes: &Outcomes<'_>,
    ) -> Vec<String> {
        let relation = relation(under, access).filter(|_| access.columns.is_empty());
        let Some(relation) = relation else { return vec![] };
        let on =
            |columns: &[String]| DeclaredAccess { columns: columns.to_vec(), ..access.clone() };
        let groups: Vec<&[String]> = match access.privilege {
            Privileges::INSERT => vec![&relation.column_names],
            Privileges::SELECT | Privileges::UPDATE => relation.column_names.chunks(1).collect(),
            _ => vec![],
        };
        let asked = groups.iter().filter(|columns| !columns.is_empty());
        self.ask(under, &asked.map(|columns| on(columns)).collect::<Vec<_>>(), outcomes);
        let works = |columns: &&&[String]| self.known.get(&on(columns)) == Some(&Some(true));
        groups.iter().filter(works).flat_map(|columns| columns.iter().cloned()).collect()
    }
}

fn relation<'a>(under: &Context<'a>, access: &DeclaredAccess) -> Option<&'a Relation> {
    match access.target {
        Target::Relation(oid) => under.snapshot.relation(oid),
        Target::Routine(_) | Target::Schema(_) => None,
    }
}

fn schema(under: &Context<'_>, access: &DeclaredAccess) -> Option<Oid> {
    match access.target {
        Target::Schema(oid) => Some(oid),
        Target::Relation(oid) => under.snapshot.relation(oid).map(|relation| relation.schema),
        Target::Routine(oid) => under.snapshot.routine(oid).map(|routine| routine.schema),
    }
}
