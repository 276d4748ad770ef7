//! The statements that complete a transaction so that the guard allows it, and the cause that
//! several findings share, as parts of one DETAIL and one HINT. A cause is one of: default
//! privileges, a policy that applies to PUBLIC, another name of something declared.

use super::change::Regression;
use super::declared::Declared;
use super::renamed::{Renamed, renamed};
use crate::catalog::{DefaultAcl, ObjectId, ObjectKind, Oid, PUBLIC, Privileges};
use crate::declare::Declaration;
use crate::finding::Finding;
use crate::fix::{Change, Statement, Verb, alter_default_privileges, default_acl_objects};
use crate::rules::{Context, default_privileges};
use crate::sql::{listed, printable, safe_ident};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The statements after which a transaction has no findings that the guard rejects or warns about,
/// as far as statements can fix them.
#[derive(Debug, Clone, Default)]
pub struct Completion {
    /// The statements, in order.
    pub statements: Vec<String>,
    /// The fingerprints of the findings that the statements fix.
    pub fixes: HashSet<String>,
    /// The causes of these findings.
    pub causes: Vec<Cause>,
    /// The declarations under which the contract would allow what may be intended.
    pub declared: Vec<Declared>,
    /// The declarations under which new tables keep the privileges that their policies give a use,
    /// with the statements that revoke the others.
    pub kept: Option<Declared>,
    /// The declarations under which the contract would follow what has been renamed, where it
    /// would then allow everything that is rejected because of it.
    pub renamed: Option<Declared>,
    /// The statements of the call of `ops.declare()` that has executed what is rejected: they have
    /// to be executed again.
    pub again: Option<String>,
}

impl Completion {
    /// Says that a call of `ops.declare()` with these statements has executed what is rejected.
    pub fn called_with(&mut self, statements: &str) {
        self.again = Some(statements.to_owned());
        for declared in self.declared.iter_mut().chain(&mut self.renamed) {
            declared.called_with(statements);
        }
    }
}

/// What findings have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What it is.
    pub kind: CauseKind,
    /// One sentence.
    pub problem: String,
    /// The statements that remove it, beyond those that fix the findings: ALTER DEFAULT PRIVILEGES
    /// ... REVOKE, one for each type of objects. For a schema: the statement that renames it back.
    pub statements: Vec<String>,
    /// The fingerprints of the findings that it explains.
    pub findings: HashSet<String>,
    /// For something renamed: the declarations by which the contract follows.
    pub declares: Vec<Declaration>,
}

/// The kinds of causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CauseKind {
    /// Default privileges of one role in one schema have granted what the findings are about.
    DefaultPrivileges,
    /// A policy applies to PUBLIC, which is the default.
    PolicyForPublic,
    /// The transaction has renamed a relation, a column or a role, or moved a relation to another
    /// schema, and what the contract declares for its name stayed on it. Contains what it is now,
    /// with its type.
    Renamed(String),
    /// The transaction has renamed a schema whose declared objects are missing under its earlier
    /// name. Contains what it is now.
    RenamedSchema(String),
}

impl Cause {
    /// Whether it is a schema that has been renamed: creating what is missing would not replace
    /// what is in it.
    #[must_use]
    pub fn is_renamed_schema(&self) -> bool {
        matches!(self.kind, CauseKind::RenamedSchema(_))
    }
}

/// Returns the causes of `regressions`. `before` and `after` are the catalog without and with the
/// changes of the transaction, which `runner` executes.
#[must_use]
pub fn causes(
    before: &Context<'_>,
    after: &Context<'_>,
    runner: Oid,
    regressions: &[&Regression],
) -> Vec<Cause> {
    let mut causes = renamings(before, after, regressions);
    causes.extend(default_privileges_behind(after, runner, regressions));
    causes.extend(policies_for_public(after, regressions));
    causes
}

/// Returns what has another name than before the transaction, with the findings about it.
fn renamings(before: &Context<'_>, after: &Context<'_>, regressions: &[&Regression]) -> Vec<Cause> {
    let cause = |(renamed, findings): (Renamed, HashSet<String>)| {
        let Renamed { was, is, declared, is_schema, back, declares } = renamed;
        let number = counted(findings.len());
        let problem = format!("The cause of {number} is that {was} has become {is}: {declared}");
        let kind = if is_schema { CauseKind::RenamedSchema(is) } else { CauseKind::Renamed(is) };
        let statements = back.into_iter().collect();
        Cause { kind, problem, statements, findings, declares }
    };
    renamed(before, after, regressions).into_iter().map(cause).collect()
}

/// Returns the policies for PUBLIC that findings are about.
fn policies_for_public(cx: &Context<'_>, regressions: &[&Regression]) -> Vec<Cause> {
    let mut found: BTreeMap<Oid, HashSet<String>> = BTreeMap::new();
    for regression in regressions {
        if let ObjectId::Policy(oid) = regression.finding.object.id {
            found.entry(oid).or_default().insert(regression.finding.fingerprint.clone());
        }
    }
    let cause = |(oid, findings): (Oid, HashSet<String>)| {
        let policy = cx.snapshot.policies.iter().find(|p| p.oid == oid)?;
        let relation = cx.snapshot.relation(policy.relation)?;
        if !policy.roles.contains(&PUBLIC) {
            return None;
        }
        let problem = format!(
            "The cause of {} is that policy {} on table {} applies to PUBLIC, every role, as each \
             policy without TO does.",
            counted(findings.len()),
            safe_ident(&policy.name),
            cx.snapshot.relation_sql(relation)
        );
        let kind = CauseKind::PolicyForPublic;
        Some(Cause { kind, problem, statements: vec![], findings, declares: vec![] })
    };
    found.into_iter().filter_map(cause).collect()
}

/// Returns a number of violations in words.
fn counted(count: usize) -> String {
    if count == 1 { "one violation".to_owned() } else { format!("{count} violations") }
}

/// Returns the default privileges that have granted what `regressions` are about. `cx` is the
/// catalog with the changes of the transaction.
fn default_privileges_behind(
    cx: &Context<'_>,
    runner: Oid,
    regressions: &[&Regression],
) -> Vec<Cause> {
    let mut found: BTreeMap<(Oid, Oid), Found<'_>> = BTreeMap::new();
    for regression in regressions.iter().filter(|r| r.can_be_completed) {
        let revoked = revoked(&regression.finding);
        for default in defaults_behind(cx, &regression.finding, &revoked) {
            let cause = found.entry((default.role, default.schema)).or_default();
            cause.findings.insert(regression.finding.fingerprint.clone());
            cause.grantees.extend(revoked.iter().map(|(grantee, _)| *grantee));
            if !cause.defaults.contains(&default) {
                cause.defaults.push(default);
            }
        }
    }
    let revocable = Revocable::of(cx);
    found.into_values().filter_map(|found| found.cause(cx, runner, &revocable)).collect()
}

/// The default privileges of one role in one schema, and the findings that they explain.
#[derive(Default)]
struct Found<'a> {
    defaults: Vec<&'a DefaultAcl>,
    /// The roles that the findings are about, and PUBLIC.
    grantees: BTreeSet<Oid>,
    findings: HashSet<String>,
}

impl Found<'_> {
    /// Returns the cause, with the statements that revoke the default privileges where the contract
    /// does not allow them and `runner` may execute them.
    fn cause(self, cx: &Context<'_>, runner: Oid, revocable: &Revocable) -> Option<Cause> {
        let first = self.defaults.first()?;
        let mut objects = vec![];
        let mut statements = vec![];
        for default in &self.defaults {
            let word = default_acl_objects(default.object_type)?;
            objects.push(word.to_lowercase());
            statements.extend(revocable.statements(cx, default, word));
        }
        let roles: Vec<String> = self.grantees.iter().map(|oid| subject(cx, *oid)).collect();
        let in_schema = match first.schema {
            0 => String::new(),
            schema => format!(" in schema {}", safe_ident(cx.snapshot.schema_name(schema))),
        };
        let problem = format!(
            "The cause of {} is that default privileges of role \"{}\"{in_schema} grant \
             privileges on new {} to {}.",
            counted(self.findings.len()),
            printable(&cx.snapshot.role_name(first.role)),
            listed(&objects),
            listed(&roles)
        );
        if !cx.access.can_act_as(runner, first.role) {
            statements.clear();
        }
        let kind = CauseKind::DefaultPrivileges;
        Some(Cause { kind, problem, statements, findings: self.findings, declares: vec![] })
    }
}

/// Returns a grantee for a message.
fn subject(cx: &Context<'_>, grantee: Oid) -> String {
    if grantee == PUBLIC {
        return "PUBLIC".to_owned();
    }
    format!("role \"{}\"", printable(&cx.snapshot.role_name(grantee)))
}

/// Returns the privileges that the fix of a finding revokes, by grantee.
fn revoked(finding: &Finding) -> Vec<(Oid, Privileges)> {
    finding
        .fix
        .statements()
        .iter()
        .filter_map(|statement| match statement {
            Statement::Acl(acl) if acl.verb == Verb::Revoke => Some(acl),
            _ => None,
        })
        .flat_map(|acl| acl.grantees.iter().map(|grantee| (grantee.oid, acl.privileges)))
        .collect()
}

/// Returns the default ACLs that give every privilege which the fix of a finding has `revoked` from
/// a new object; none where it revokes nothing, or also what a role has granted.
fn defaults_behind<'a>(
    cx: &Context<'a>,
    finding: &Finding,
    revoked: &[(Oid, Privileges)],
) -> Vec<&'a DefaultAcl> {
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

    /// Returns the statements that revoke default privileges, one for all roles that lose the same.
    fn statements(&self, cx: &Context<'_>, default: &DefaultAcl, word: &str) -> Vec<String> {
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
                format!("{alter} REVOKE {words} ON {word} FROM {};", names.join(", "))
            })
            .collect()
    }
}
