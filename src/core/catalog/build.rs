//! The index of a snapshot, and the names of its objects.

use super::{
    Oid, OidMap, PUBLIC, Policy, Relation, Role, RoleSetting, Routine, RoutineKind, Schema,
    Snapshot,
};
use crate::sql::identifiers::{SyntaxError, split_identifiers, split_uncut};
use crate::sql::{printable, quote_ident, safe_ident, safe_qualified, safe_sql};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

/// Returns the places of the elements of a list in the order of a rank, a name, and what `rest`
/// says about elements of one name.
fn order<'t, T, R: Ord>(
    list: &'t [T],
    rank_and_name: impl Fn(&'t T) -> (usize, &'t str),
    rest: impl Fn(&'t T) -> R,
) -> Vec<usize> {
    // Most names differ in their first bytes, which one comparison of numbers compares.
    let start = |name: &str| {
        let mut bytes = [0; 8];
        let length = name.len().min(bytes.len());
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        u64::from_be_bytes(bytes)
    };
    let keys: Vec<(usize, u64, &str)> = list
        .iter()
        .map(|element| {
            let (rank, name) = rank_and_name(element);
            (rank, start(name), name)
        })
        .collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| {
        keys[*a].cmp(&keys[*b]).then_with(|| rest(&list[*a]).cmp(&rest(&list[*b])))
    });
    order
}

/// Puts the elements of a list in an order of their places.
fn put_in(order: &[usize], list: &mut Vec<impl Default>) {
    *list = order.iter().map(|place| std::mem::take(&mut list[*place])).collect();
}

impl Snapshot {
    /// Completes a snapshot after its lists have been filled: sorts them by name, so that the order
    /// of findings does not depend on OIDs, and builds the index.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self = self.with_roles_and_schemas();
        self.index.relations_by_schema.clear();
        self.index.policies_by_relation.clear();
        let schemas = &self.index.schema_by_oid.derived;
        let rank = |oid: Oid| schemas.get(&oid).copied().unwrap_or(usize::MAX);
        let by_name = order(&self.relations, |r| (rank(r.schema), r.name.as_str()), |_| ());
        put_in(&by_name, &mut self.relations);
        self.index.relation_by_oid =
            self.relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        let place = |oid: Oid| self.index.relation_by_oid.get(&oid).copied().unwrap_or(usize::MAX);
        let by_name = order(&self.policies, |p| (place(p.relation), p.name.as_str()), |_| ());
        put_in(&by_name, &mut self.policies);
        for (i, relation) in self.relations.iter().enumerate() {
            let range = self.index.relations_by_schema.entry(relation.schema).or_insert(i..i);
            range.end = i + 1;
        }
        for (i, policy) in self.policies.iter().enumerate() {
            let range = self.index.policies_by_relation.entry(policy.relation).or_insert(i..i);
            range.end = i + 1;
        }
        let types = &self.types;
        let key = |oid: &Oid| types.get(oid).map_or("", String::as_str);
        let by_name = order(
            &self.routines,
            |r| (rank(r.schema), r.name.as_str()),
            |r| r.arguments.iter().map(key).collect::<Vec<_>>(),
        );
        put_in(&by_name, &mut self.routines);
        self.index.routine_by_oid =
            self.routines.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        self
    }

    /// Sorts roles and schemas by name and indexes them and the memberships, as far as they have
    /// changed since that was done last.
    #[must_use]
    pub fn with_roles_and_schemas(mut self) -> Self {
        if !self.index.role_by_oid.list.is_same(&self.roles) {
            self.roles.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if !self.index.schema_by_oid.list.is_same(&self.schemas) {
            self.schemas.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let index = &mut self.index;
        index.role_by_oid.update(&self.roles, |roles| {
            roles.iter().enumerate().map(|(i, r)| (r.oid, i)).collect()
        });
        index.schema_by_oid.update(&self.schemas, |schemas| {
            schemas.iter().enumerate().map(|(i, s)| (s.oid, i)).collect()
        });
        index.memberships_by_member.update(&self.memberships, |_| OnceCell::new());
        self
    }

    /// Returns the positions of memberships by member: snapshots with the same memberships share
    /// them.
    #[must_use]
    pub fn memberships_by_member(&self) -> Rc<OidMap<Vec<usize>>> {
        let by_member = || {
            let mut by_member: OidMap<Vec<usize>> = OidMap::default();
            for (i, membership) in self.memberships.iter().enumerate() {
                by_member.entry(membership.member).or_default().push(i);
            }
            Rc::new(by_member)
        };
        let known = &self.index.memberships_by_member;
        if known.list.is_same(&self.memberships) {
            Rc::clone(known.derived.get_or_init(by_member))
        } else {
            by_member()
        }
    }

    /// Returns the names in a value of search_path, as this server reads it.
    ///
    /// # Errors
    /// If the value is not a list of names.
    pub fn split_path(&self, value: &str) -> Result<Vec<String>, SyntaxError> {
        if self.cuts_names {
            split_identifiers(value, self.version)
        } else {
            split_uncut(value, self.version)
        }
    }

    /// Returns the role with this OID.
    #[must_use]
    pub fn role(&self, oid: Oid) -> Option<&Role> {
        self.index.role_by_oid.derived.get(&oid).map(|&i| &self.roles[i])
    }

    /// Returns the role with this name.
    #[must_use]
    pub fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.binary_search_by(|r| r.name.as_str().cmp(name)).ok().map(|i| &self.roles[i])
    }

    /// Whether PostgREST switches to a role for requests without a token: by its stored setting, or
    /// by the names that its documentation and its platforms use.
    #[must_use]
    pub fn is_anonymous(&self, role: &Role) -> bool {
        matches!(role.name.as_str(), "anon" | "web_anon") || self.anonymous.contains(&role.name)
    }

    /// Returns the stored setting with which sessions of a role start: the one for the role in the
    /// current database, else the one for the role, for the database, and for every role and
    /// database (postinit.c, `process_settings`). A superuser can store the same setting twice with
    /// different capitals; the last one wins.
    #[must_use]
    pub fn setting_of(&self, role: Oid, name: &str) -> Option<&RoleSetting> {
        let applies = |setting: &&RoleSetting| {
            setting.role.is_none_or(|of| of == role) && setting.name.eq_ignore_ascii_case(name)
        };
        let rank = |setting: &&RoleSetting| (setting.role.is_some(), setting.database.is_some());
        self.settings.iter().filter(applies).max_by_key(rank)
    }

    /// Returns the schema with this OID.
    #[must_use]
    pub fn schema(&self, oid: Oid) -> Option<&Schema> {
        self.index.schema_by_oid.derived.get(&oid).map(|&i| &self.schemas[i])
    }

    /// Returns the schema with this name.
    #[must_use]
    pub fn schema_named(&self, name: &str) -> Option<&Schema> {
        self.schemas.binary_search_by(|s| s.name.as_str().cmp(name)).ok().map(|i| &self.schemas[i])
    }

    /// Returns the relation with this OID.
    #[must_use]
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.index.relation_by_oid.get(&oid).map(|&i| &self.relations[i])
    }

    /// Returns the routine with this OID.
    #[must_use]
    pub fn routine(&self, oid: Oid) -> Option<&Routine> {
        self.index.routine_by_oid.get(&oid).map(|&i| &self.routines[i])
    }

    /// Returns the relation of this name in a schema.
    #[must_use]
    pub fn relation_named(&self, schema: Oid, name: &str) -> Option<&Relation> {
        let range = self.index.relations_by_schema.get(&schema)?;
        let relations = &self.relations[range.clone()];
        let found = relations.binary_search_by(|relation| relation.name.as_str().cmp(name)).ok()?;
        Some(&relations[found])
    }

    /// Returns the relation with this schema and name.
    #[must_use]
    pub fn relation_in(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relation_named(self.schema_named(schema)?.oid, name)
    }

    /// Returns the policies of a relation, in order of name.
    #[must_use]
    pub fn policies_of(&self, relation: Oid) -> &[Policy] {
        self.index
            .policies_by_relation
            .get(&relation)
            .map_or(&[], |range| &self.policies[range.clone()])
    }

    /// Returns the name of a role: `PUBLIC` for PUBLIC, the OID if the role does not exist (as psql
    /// shows such grantees).
    #[must_use]
    pub fn role_name(&self, oid: Oid) -> String {
        if oid == PUBLIC {
            return "PUBLIC".to_owned();
        }
        self.role(oid).map_or_else(|| oid.to_string(), |r| r.name.clone())
    }

    /// Returns a grantee as SQL names it: `PUBLIC`, or the quoted role name.
    #[must_use]
    pub fn grantee(&self, oid: Oid) -> String {
        if oid == PUBLIC {
            "PUBLIC".to_owned()
        } else {
            safe_ident(&self.role_name(oid)).into_owned()
        }
    }

    /// Returns the name of a schema; an empty string if the schema does not exist.
    #[must_use]
    pub fn schema_name(&self, oid: Oid) -> &str {
        self.schema(oid).map_or("", |s| s.name.as_str())
    }

    /// Returns the identity of a relation, as `pg_identify_object` returns it.
    #[must_use]
    pub fn relation_identity(&self, relation: &Relation) -> String {
        [&*quote_ident(self.schema_name(relation.schema)), ".", &*quote_ident(&relation.name)]
            .concat()
    }

    /// Returns the relation as generated SQL names it.
    #[must_use]
    pub fn relation_sql(&self, relation: &Relation) -> String {
        safe_qualified(self.schema_name(relation.schema), &relation.name)
    }

    /// Returns the identity of a policy, as `pg_identify_object` returns it.
    #[must_use]
    pub fn policy_identity(&self, policy: &Policy, relation: &Relation) -> String {
        format!("{} on {}", quote_ident(&policy.name), self.relation_identity(relation))
    }

    /// Returns the identity of a routine, as `pg_identify_object` returns it:
    /// `api.f(integer,pg_catalog.text)`.
    #[must_use]
    pub fn routine_identity(&self, routine: &Routine) -> String {
        let schema = quote_ident(self.schema_name(routine.schema));
        let name = quote_ident(&routine.name);
        let mut identity = String::with_capacity(schema.len() + name.len() + 64);
        identity.extend([&*schema, ".", &*name, "("]);
        for (place, argument) in routine.arguments.iter().enumerate() {
            identity.extend([if place == 0 { "" } else { "," }, self.argument_name(*argument)]);
        }
        identity.push(')');
        identity
    }

    /// Returns the routine as generated SQL names it after the keyword ROUTINE, which is valid for
    /// functions and procedures.
    #[must_use]
    pub fn routine_sql(&self, routine: &Routine) -> String {
        // The OUT arguments of a procedure can be omitted only if the others have a mode
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

    /// Returns the routine as messages name it: printable, without `pg_catalog.`.
    #[must_use]
    pub fn routine_message(&self, routine: &Routine) -> String {
        Self::message_of(&self.routine_identity(routine))
    }

    /// Returns the identity of a routine as messages name it: as those of the server, without
    /// `pg_catalog.` and with spaces between the argument types.
    #[must_use]
    pub fn message_of(identity: &str) -> String {
        let short = spaced(&identity.replace("pg_catalog.", ""));
        match printable(&short) {
            Cow::Borrowed(_) => short,
            Cow::Owned(escaped) => escaped,
        }
    }

    /// Returns the names of a routine's input argument types; `-` for a type that does not exist.
    #[must_use]
    pub fn argument_names(&self, routine: &Routine) -> Vec<&str> {
        routine.arguments.iter().map(|oid| self.argument_name(*oid)).collect()
    }

    fn argument_name(&self, argument: Oid) -> &str {
        self.types.get(&argument).map_or("-", String::as_str)
    }

    fn argument_list(&self, routine: &Routine) -> String {
        self.argument_names(routine).join(",")
    }
}

/// Returns an identity with a space after each comma that is in no name.
fn spaced(identity: &str) -> String {
    let (mut is_quoted, mut follows_comma) = (false, false);
    let mut out = String::with_capacity(identity.len() + 8);
    for c in identity.chars() {
        if follows_comma && c != ' ' {
            out.push(' ');
        }
        is_quoted ^= c == '"';
        follows_comma = c == ',' && !is_quoted;
        out.push(c);
    }
    out
}

impl Routine {
    /// Returns the object type, as `pg_identify_object` returns it.
    #[must_use]
    pub fn object_type(&self) -> &'static str {
        match self.kind {
            RoutineKind::Function => "function",
            RoutineKind::Procedure => "procedure",
            RoutineKind::Aggregate => "aggregate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_a_routine_as_the_server_does() {
        for (identity, message) in [
            ("app.f(bigint,pg_catalog.date)", "app.f(bigint, date)"),
            ("app.\"f,g\"(app.\"a,b\",integer)", "app.\"f,g\"(app.\"a,b\", integer)"),
            ("app.f()", "app.f()"),
            ("app.f(bigint, date)", "app.f(bigint, date)"),
        ] {
            assert_eq!(Snapshot::message_of(identity), message);
        }
    }

    #[test]
    fn setting_of_role_in_database_wins_over_role_database_and_all() {
        let setting = |role: Option<Oid>, database: Option<&str>, value: &str| RoleSetting {
            role,
            database: database.map(str::to_owned),
            name: "pgrst.db_schemas".into(),
            value: value.into(),
        };
        let mut snapshot = Snapshot {
            settings: vec![
                setting(Some(1), Some("app"), "role in database"),
                setting(None, None, "all"),
                setting(Some(1), None, "role"),
                setting(None, Some("app"), "database"),
                setting(Some(2), Some("app"), "another role"),
            ],
            ..Snapshot::default()
        };
        let mut in_force = Vec::new();
        while let Some(found) = snapshot.setting_of(1, "PGRST.db_schemas").cloned() {
            snapshot.settings.retain(|setting| *setting != found);
            in_force.push(found.value);
        }
        assert_eq!(in_force, ["role in database", "role", "database", "all"]);
    }
}
