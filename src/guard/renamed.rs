//! The columns, policies and roles that a transaction has renamed. A finding about one of them has
//! another fingerprint then, and an exemption no longer covers it.

use super::changes::Changed;
use crate::catalog::{self, renamed};
use crate::pg::heap::{State, interrupts};
use crate::store::exemptions::Current;
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::finding::Finding;
use dragonfly_core::sql::printable;
use std::collections::{HashMap, HashSet};

/// The roles that a transaction has renamed: the earlier name of each, by the name now.
pub type Roles = HashMap<String, String>;

/// Returns the renamed roles.
pub fn roles(changed: &[Changed], then: &State, now: &State) -> Roles {
    if !changed.contains(&Changed::Roles) {
        return Roles::new();
    }
    renamed::roles(then, now).into_iter().map(|(was, is)| (is, was)).collect()
}

/// What a transaction has renamed.
pub struct Renamed {
    roles: Roles,
    /// The earlier name of each renamed column, by relation and name now.
    columns: HashMap<(Oid, String), String>,
    /// The names of the relations with a renamed column or policy: schema and name, quoted.
    relations: HashSet<String>,
}

impl Renamed {
    /// Finds what is renamed in the changed relations that exemptions are about.
    pub fn find(
        roles: Roles,
        changed: &[Changed],
        current: &Current<'_>,
        [then, now]: [&State; 2],
    ) -> Self {
        let mut found = Self { roles, columns: HashMap::new(), relations: HashSet::new() };
        let basis = current.basis();
        for one in changed {
            let Changed::Relation(oid) = *one else { continue };
            interrupts();
            let name = catalog::qualified_name(now, catalog::PG_CLASS, oid);
            let Some(name) = name.filter(|name| basis.contains(name.as_str())) else { continue };
            let columns = renamed::columns(then, now, oid);
            if !columns.is_empty() || !renamed::policies(then, now, oid).is_empty() {
                found.relations.insert(name);
            }
            found.columns.extend(columns.into_iter().map(|(was, is)| ((oid, is), was)));
        }
        found
    }

    /// Whether nothing is renamed.
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.relations.is_empty()
    }

    /// Whether findings about an object, by schema and name, may have another fingerprint. Those
    /// about a role can be about any object.
    pub fn concerns(&self, name: &str) -> bool {
        !self.roles.is_empty() || self.relations.contains(name)
    }

    /// Whether a finding of the earlier state and one of the later state are the same, but for what
    /// is renamed.
    pub fn is_same(&self, earlier: &Finding, later: &Finding) -> bool {
        earlier.rule == later.rule
            && is_same_object(earlier, later)
            && earlier.roles.len() == later.roles.len()
            && later.roles.iter().all(|role| earlier.roles.contains(self.earlier_role(role)))
            && column(earlier) == column(later).map(|column| self.earlier_column(later, column))
    }

    fn earlier_role<'r>(&'r self, name: &'r String) -> &'r String {
        self.roles.get(name).unwrap_or(name)
    }

    fn earlier_column<'c>(&'c self, finding: &Finding, column: &'c str) -> &'c str {
        let ObjectId::Relation(oid) = finding.object.id else { return column };
        self.columns.get(&(oid, column.to_owned())).map_or(column, String::as_str)
    }

    /// Returns what is renamed and makes two findings differ.
    pub fn sentence(&self, earlier: &Finding, later: &Finding) -> String {
        let (was, is) = self.names(earlier, later);
        format!("This transaction has renamed {was} to {is}.")
    }

    fn names(&self, earlier: &Finding, later: &Finding) -> (String, String) {
        let object = later.object.name_in_message();
        if let (Some(was), Some(is)) = (column(earlier), column(later))
            && was != is
        {
            return (format!("column {} of {object}", quoted(was)), quoted(is));
        }
        if earlier.object.identity != later.object.identity {
            let object_type = earlier.object.type_in_message();
            return (format!("{object_type} {}", earlier.object.name_in_message()), object);
        }
        let role = later.roles.iter().find(|role| self.roles.contains_key(*role));
        let role = role.map_or("", String::as_str);
        let was = self.roles.get(role).map_or(role, String::as_str);
        (format!("role {}", quoted(was)), quoted(role))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", printable(name))
}

fn is_same_object(earlier: &Finding, later: &Finding) -> bool {
    let (then, now) = (&earlier.object, &later.object);
    then.id == now.id && (then.id != ObjectId::Named || then.identity == now.identity)
}

fn column(finding: &Finding) -> Option<&str> {
    finding.evidence["column"].as_str()
}
