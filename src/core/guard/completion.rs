//! The statements that complete a transaction so that the guard allows it, and the cause that
//! several findings share, as parts of one DETAIL and one HINT.

use super::change::Regression;
use crate::catalog::{DefaultAcl, ObjectId, ObjectKind, Oid, Privileges};
use crate::finding::Finding;
use crate::fix::{Change, Statement, Verb, alter_default_privileges, default_acl_objects};
use crate::rules::{Context, default_privileges};
use crate::sql::{listed, printable, safe_ident};
use std::collections::{BTreeMap, HashSet};

/// The statements after which a transaction has no findings that the guard rejects.
#[derive(Debug, Clone, Default)]
pub struct Completion {
    /// The statements, in order.
    pub statements: Vec<String>,
    /// The fingerprints of the findings that the statements fix.
    pub fixes: HashSet<String>,
    /// The causes of these findings.
    pub causes: Vec<Cause>,
}

/// Default privileges of one role in one schema that have granted what findings report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// One sentence.
    pub problem: String,
    /// ALTER DEFAULT PRIVILEGES ... REVOKE, one for each type of objects.
    pub statements: Vec<String>,
    /// The fingerprints of the findings that it explains.
    pub findings: HashSet<String>,
}

/// Returns the default privileges that have granted what `regressions` are about. `cx` is the
/// catalog with the changes of the transaction.
#[must_use]
pub fn causes(cx: &Context<'_>, regressions: &[&Regression]) -> Vec<Cause> {
    let mut found: BTreeMap<(Oid, Oid), Found<'_>> = BTreeMap::new();
    for regression in regressions.iter().filter(|r| r.can_be_completed) {
        for default in defaults_behind(cx, &regression.finding) {
            let cause = found.entry((default.role, default.schema)).or_default();
            cause.findings.insert(regression.finding.fingerprint.clone());
            if !cause.defaults.contains(&default) {
                cause.defaults.push(default);
            }
        }
    }
    let revocable = Revocable::of(cx);
    found.into_values().filter_map(|found| found.cause(cx, &revocable)).collect()
}

/// The default privileges of one role in one schema, and the findings that they explain.
#[derive(Default)]
struct Found<'a> {
    defaults: Vec<&'a DefaultAcl>,
    findings: HashSet<String>,
}

impl Found<'_> {
    /// Returns the cause; `None` where the contract allows these default privileges.
    fn cause(self, cx: &Context<'_>, revocable: &Revocable) -> Option<Cause> {
        let first = self.defaults.first()?;
        let (mut objects, mut grantees, mut statements) = (vec![], vec![], vec![]);
        for default in &self.defaults {
            let word = default_acl_objects(default.object_type)?;
            let revoked = revocable.statements(cx, default, word);
            if !revoked.is_empty() {
                objects.push(word.to_lowercase());
            }
            for (statement, roles) in revoked {
                statements.push(statement);
                grantees.extend(roles);
            }
        }
        if statements.is_empty() {
            return None;
        }
        grantees.sort_unstable();
        grantees.dedup();
        let roles: Vec<String> = grantees.iter().map(|oid| subject(cx, *oid)).collect();
        let in_schema = match first.schema {
            0 => String::new(),
            schema => format!(" in schema {}", safe_ident(cx.snapshot.schema_name(schema))),
        };
        let count = match self.findings.len() {
            1 => "one finding".to_owned(),
            count => format!("{count} findings"),
        };
        let problem = format!(
            "The cause of {count} is that default privileges of role \"{}\"{in_schema} grant \
             privileges on new {} to {}.",
            printable(&cx.snapshot.role_name(first.role)),
            listed(&objects),
            listed(&roles)
        );
        Some(Cause { problem, statements, findings: self.findings })
    }
}

/// Returns a grantee for a message.
fn subject(cx: &Context<'_>, grantee: Oid) -> String {
    if grantee == crate::catalog::PUBLIC {
        return "PUBLIC".to_owned();
    }
    format!("role \"{}\"", printable(&cx.snapshot.role_name(grantee)))
}

/// Returns the default ACLs that give every privilege which the fix of a finding revokes from a new
/// object; none where it revokes nothing, or also what a role has granted.
fn defaults_behind<'a>(cx: &Context<'a>, finding: &Finding) -> Vec<&'a DefaultAcl> {
    let snapshot = cx.snapshot;
    let (owner, schema, object_type) = match finding.object.id {
        ObjectId::Relation(oid) => {
            let Some(relation) = snapshot.relation(oid) else { return vec![] };
            let is_sequence = relation.kind.acl_kind() == ObjectKind::Sequence;
            (relation.owner, relation.schema, if is_sequence { b'S' } else { b'r' })
        }
        ObjectId::Routine(oid) => {
            let Some(routine) = snapshot.routines.iter().find(|r| r.oid == oid) else {
                return vec![];
            };
            (routine.owner, routine.schema, b'f')
        }
        ObjectId::Schema(oid) => {
            let Some(schema) = snapshot.schema(oid) else { return vec![] };
            (schema.owner, 0, b'n')
        }
        _ => return vec![],
    };
    let defaults: Vec<&DefaultAcl> = snapshot
        .default_acls
        .iter()
        .filter(|d| d.role == owner && d.object_type == object_type)
        .filter(|d| d.schema == 0 || d.schema == schema)
        .collect();
    let gives = |grantee: Oid, privileges: Privileges| {
        let given = defaults.iter().flat_map(|d| &d.acl).filter(|i| i.grantee == grantee);
        given.fold(Privileges::NONE, |all, item| all | item.privileges).contains(privileges)
    };
    let revoked: Vec<(Oid, Privileges)> = finding
        .fix
        .statements()
        .iter()
        .filter_map(|statement| match statement {
            Statement::Acl(acl) if acl.verb == Verb::Revoke => Some(acl),
            _ => None,
        })
        .flat_map(|acl| acl.grantees.iter().map(|grantee| (grantee.oid, acl.privileges)))
        .collect();
    if revoked.is_empty() || !revoked.iter().all(|(role, all)| gives(*role, *all)) {
        return vec![];
    }
    let concerns = |d: &&DefaultAcl| {
        revoked.iter().any(|(role, all)| {
            d.acl.iter().any(|i| i.grantee == *role && i.privileges.intersects(*all))
        })
    };
    defaults.into_iter().filter(concerns).collect()
}

/// The default privileges that rule `default_privileges` would revoke.
struct Revocable(Vec<Change>);

impl Revocable {
    fn of(cx: &Context<'_>) -> Self {
        let drafts = cx.drafts(&default_privileges::RULE);
        let changes = drafts.iter().flat_map(|draft| draft.fix.statements()).filter_map(|s| {
            if let Statement::Ddl(ddl) = s { Some(ddl.change.clone()) } else { None }
        });
        Self(changes.collect())
    }

    /// Returns the statements that revoke default privileges, each with its grantees: one for all
    /// roles that lose the same privileges.
    fn statements(
        &self,
        cx: &Context<'_>,
        default: &DefaultAcl,
        word: &str,
    ) -> Vec<(String, Vec<Oid>)> {
        let mut by_privileges: BTreeMap<String, Vec<Oid>> = BTreeMap::new();
        for change in &self.0 {
            let Change::RevokeDefault { role, schema, object_type, grantee, privileges } = change
            else {
                continue;
            };
            if (*role, *schema, *object_type) != (default.role, default.schema, default.object_type)
            {
                continue;
            }
            let given = default.acl.iter().filter(|item| item.grantee == *grantee);
            let given = given.fold(Privileges::NONE, |all, item| all | item.privileges);
            let words =
                if given == *privileges { "ALL".to_owned() } else { privileges.to_string() };
            by_privileges.entry(words).or_default().push(*grantee);
        }
        let alter = alter_default_privileges(cx.snapshot, default.role, default.schema);
        by_privileges
            .into_iter()
            .map(|(words, grantees)| {
                let names: Vec<String> =
                    grantees.iter().map(|grantee| cx.snapshot.grantee(*grantee)).collect();
                let sql = format!("{alter} REVOKE {words} ON {word} FROM {};", names.join(", "));
                (sql, grantees)
            })
            .collect()
    }
}
