//! Look-ups over a snapshot, made once when it is complete, and the names of its objects.

use super::{Oid, PUBLIC, Policy, Relation, Role, Routine, RoutineKind, Schema, Snapshot};
use crate::sql::identifiers::{SyntaxError, split_identifiers, split_uncut};
use crate::sql::{printable, quote_ident, safe_ident, safe_qualified, safe_sql};

impl Snapshot {
    /// Completes a snapshot whose lists have been filled: sorts them by name, so that findings come
    /// in a stable order whatever the OIDs, and builds the look-ups.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.index = super::Index::default();
        self.roles.sort_by(|a, b| a.name.cmp(&b.name));
        self.schemas.sort_by(|a, b| a.name.cmp(&b.name));
        self.index.role_by_oid = self.roles.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        self.index.schema_by_oid =
            self.schemas.iter().enumerate().map(|(i, s)| (s.oid, i)).collect();
        let rank = |oid: Oid| self.index.schema_by_oid.get(&oid).copied().unwrap_or(usize::MAX);
        self.relations
            .sort_by(|a, b| rank(a.schema).cmp(&rank(b.schema)).then_with(|| a.name.cmp(&b.name)));
        self.index.relation_by_oid =
            self.relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        let place = |oid: Oid| self.index.relation_by_oid.get(&oid).copied().unwrap_or(usize::MAX);
        self.policies.sort_by(|a, b| {
            place(a.relation).cmp(&place(b.relation)).then_with(|| a.name.cmp(&b.name))
        });
        self.index.relation_by_name = self
            .relations
            .iter()
            .enumerate()
            .map(|(i, r)| ((r.schema, r.name.clone()), i))
            .collect();
        for (i, policy) in self.policies.iter().enumerate() {
            let range = self.index.policies_by_relation.entry(policy.relation).or_insert(i..i);
            range.end = i + 1;
        }
        let types = &self.types;
        let key = |oid: &Oid| types.get(oid).map_or("", String::as_str);
        self.routines.sort_by(|a, b| {
            rank(a.schema)
                .cmp(&rank(b.schema))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| a.arguments.iter().map(key).cmp(b.arguments.iter().map(key)))
        });
        self
    }

    /// The names in a value of search_path, as this server reads it.
    ///
    /// # Errors
    /// Where it is no list of names.
    pub fn split_path(&self, value: &str) -> Result<Vec<String>, SyntaxError> {
        match self.cuts_names {
            true => split_identifiers(value, self.version),
            false => split_uncut(value, self.version),
        }
    }

    /// The role with this OID.
    #[must_use]
    pub fn role(&self, oid: Oid) -> Option<&Role> {
        self.index.role_by_oid.get(&oid).map(|&i| &self.roles[i])
    }

    /// The role with this name.
    #[must_use]
    pub fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.binary_search_by(|r| r.name.as_str().cmp(name)).ok().map(|i| &self.roles[i])
    }

    /// The schema with this OID.
    #[must_use]
    pub fn schema(&self, oid: Oid) -> Option<&Schema> {
        self.index.schema_by_oid.get(&oid).map(|&i| &self.schemas[i])
    }

    /// The schema with this name.
    #[must_use]
    pub fn schema_named(&self, name: &str) -> Option<&Schema> {
        self.schemas.binary_search_by(|s| s.name.as_str().cmp(name)).ok().map(|i| &self.schemas[i])
    }

    /// The relation with this OID.
    #[must_use]
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.index.relation_by_oid.get(&oid).map(|&i| &self.relations[i])
    }

    /// The relation of this name in a schema.
    #[must_use]
    pub fn relation_named(&self, schema: Oid, name: &str) -> Option<&Relation> {
        self.index.relation_by_name.get(&(schema, name.to_owned())).map(|&i| &self.relations[i])
    }

    /// The policies of a relation, in order of name.
    #[must_use]
    pub fn policies_of(&self, relation: Oid) -> &[Policy] {
        self.index
            .policies_by_relation
            .get(&relation)
            .map_or(&[], |range| &self.policies[range.clone()])
    }

    /// A role's name: `PUBLIC` for PUBLIC, the OID where the role is gone (as psql shows dangling
    /// grantees).
    #[must_use]
    pub fn role_name(&self, oid: Oid) -> String {
        if oid == PUBLIC {
            return "PUBLIC".to_owned();
        }
        self.role(oid).map_or_else(|| oid.to_string(), |r| r.name.clone())
    }

    /// A grantee as SQL writes it: `PUBLIC`, or the quoted role name.
    #[must_use]
    pub fn grantee(&self, oid: Oid) -> String {
        if oid == PUBLIC {
            "PUBLIC".to_owned()
        } else {
            safe_ident(&self.role_name(oid)).into_owned()
        }
    }

    /// A schema's name, the empty string where it is gone.
    #[must_use]
    pub fn schema_name(&self, oid: Oid) -> &str {
        self.schema(oid).map_or("", |s| s.name.as_str())
    }

    /// The identity of a relation, as `pg_identify_object` says it.
    #[must_use]
    pub fn relation_identity(&self, relation: &Relation) -> String {
        format!(
            "{}.{}",
            quote_ident(self.schema_name(relation.schema)),
            quote_ident(&relation.name)
        )
    }

    /// The relation as generated SQL names it.
    #[must_use]
    pub fn relation_sql(&self, relation: &Relation) -> String {
        safe_qualified(self.schema_name(relation.schema), &relation.name)
    }

    /// The identity of a policy, as `pg_identify_object` says it.
    #[must_use]
    pub fn policy_identity(&self, policy: &Policy, relation: &Relation) -> String {
        format!("{} on {}", quote_ident(&policy.name), self.relation_identity(relation))
    }

    /// The identity of a routine, as `pg_identify_object` says it:
    /// `api.f(integer,pg_catalog.text)`.
    #[must_use]
    pub fn routine_identity(&self, routine: &Routine) -> String {
        format!(
            "{}.{}({})",
            quote_ident(self.schema_name(routine.schema)),
            quote_ident(&routine.name),
            self.argument_list(routine)
        )
    }

    /// The routine as generated SQL names it, after the word ROUTINE (which does for functions and
    /// procedures).
    #[must_use]
    pub fn routine_sql(&self, routine: &Routine) -> String {
        // A procedure's OUT arguments can be left away only where the others are marked
        // (LookupFuncWithArgs).
        let arguments = match routine.kind {
            RoutineKind::Procedure if !routine.arguments.is_empty() => {
                format!("IN {}", self.argument_names(routine).join(", IN "))
            }
            _ => self.argument_list(routine),
        };
        format!(
            "{}({})",
            safe_qualified(self.schema_name(routine.schema), &routine.name),
            safe_sql(&arguments)
        )
    }

    /// The routine as a message names it: nothing unprintable, `pg_catalog.` left away.
    #[must_use]
    pub fn routine_message(&self, routine: &Routine) -> String {
        printable(&self.routine_identity(routine).replace("pg_catalog.", "")).into_owned()
    }

    /// The names of a routine's input argument types; `-` where one is gone.
    #[must_use]
    pub fn argument_names(&self, routine: &Routine) -> Vec<&str> {
        routine
            .arguments
            .iter()
            .map(|oid| self.types.get(oid).map_or("-", String::as_str))
            .collect()
    }

    fn argument_list(&self, routine: &Routine) -> String {
        self.argument_names(routine).join(",")
    }
}

impl Routine {
    /// The object type as `pg_identify_object` says it.
    #[must_use]
    pub fn object_type(&self) -> &'static str {
        match self.kind {
            RoutineKind::Function => "function",
            RoutineKind::Procedure => "procedure",
            RoutineKind::Aggregate => "aggregate",
        }
    }
}
