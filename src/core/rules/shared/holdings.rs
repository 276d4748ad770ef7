//! What one role has in one schema, for rules that report it in one row.

use crate::catalog::Privileges;
use crate::fix::Grantee;
use crate::sql::listed;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A kind of object, as sentences name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub(crate) enum Kind {
    Schema,
    Relation,
    Column,
    Sequence,
    Routine,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Relation => "relation",
            Self::Column => "column",
            Self::Sequence => "sequence",
            Self::Routine => "routine",
        }
    }
}

/// The privileges of one role on objects of one schema.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// By kind and privilege: the identities of the objects.
    objects: BTreeMap<(Kind, &'static str), Vec<String>>,
    /// The statements that revoke them, by object.
    revoke: Vec<String>,
}

/// What a REVOKE statement names between ON and FROM, and the column.
pub(crate) struct Revoked<'h> {
    /// The object in SQL, such as `TABLE public.t`.
    pub sql: &'h str,
    /// The column in SQL, for a column.
    pub column: Option<&'h str>,
    pub privileges: Privileges,
}

impl Holdings {
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Adds the privileges on one object; `identity` is for the evidence.
    pub fn add(&mut self, kind: Kind, identity: &str, privileges: Privileges) {
        for word in privileges.words() {
            self.objects.entry((kind, word)).or_default().push(identity.to_owned());
        }
    }

    /// Adds the statement that revokes the privileges on one object.
    pub fn add_revoke(&mut self, revoked: &Revoked<'_>, grantee: &Grantee) {
        let privileges: Vec<String> = revoked
            .privileges
            .words()
            .iter()
            .map(|word| match revoked.column {
                Some(column) => format!("{word} ({column})"),
                None => (*word).to_owned(),
            })
            .collect();
        self.revoke.push(format!(
            "REVOKE {} ON {} FROM {};",
            privileges.join(", "),
            revoked.sql,
            grantee.sql
        ));
    }

    /// Returns the privileges with the number of objects: `USAGE, SELECT on 2 relations`. The
    /// schema is not counted.
    pub fn summary(&self) -> String {
        let part = |((kind, word), objects): (&(Kind, &'static str), &Vec<String>)| match kind {
            Kind::Schema => (*word).to_owned(),
            kind => {
                let plural = if objects.len() == 1 { "" } else { "s" };
                format!("{word} on {} {}{plural}", objects.len(), kind.noun())
            }
        };
        listed(&self.objects.iter().map(part).collect::<Vec<_>>())
    }

    /// Returns the objects by privilege and kind.
    pub fn evidence(&self) -> Value {
        let parts = self.objects.iter().map(|((kind, word), objects)| {
            json!({"privilege": word, "on": kind.noun(), "objects": objects})
        });
        parts.collect()
    }

    /// Returns the names of the privileges, each once.
    pub fn words(&self) -> Vec<&'static str> {
        let mut words: Vec<&str> = self.objects.keys().map(|(_, word)| *word).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    /// Returns the statements that revoke the privileges.
    pub fn revoke(&self) -> String {
        self.revoke.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_counts_objects_by_kind_and_privilege() {
        let mut holdings = Holdings::default();
        let reader = Grantee { oid: 1, sql: "reader".into() };
        let mut add = |kind, name: &str, column, privileges| {
            holdings.add(kind, name, privileges);
            let sql = format!("TABLE {name}");
            holdings.add_revoke(&Revoked { sql: &sql, column, privileges }, &reader);
        };
        add(Kind::Relation, "s.a", None, Privileges::SELECT | Privileges::INSERT);
        add(Kind::Relation, "s.b", None, Privileges::SELECT);
        add(Kind::Column, "s.c", Some("x"), Privileges::UPDATE);
        assert_eq!(
            holdings.summary(),
            "INSERT on 1 relation, SELECT on 2 relations and UPDATE on 1 column"
        );
        assert_eq!(
            holdings.revoke(),
            "REVOKE SELECT, INSERT ON TABLE s.a FROM reader;\nREVOKE SELECT ON TABLE s.b FROM \
             reader;\nREVOKE UPDATE (x) ON TABLE s.c FROM reader;"
        );
        assert_eq!(holdings.words(), ["INSERT", "SELECT", "UPDATE"]);
    }
}
