//! Regressions of a transaction: findings in the catalog as it is now that were not there before.
//!
//! Rules do not compare states. Both states are checked by the same rules, and what the second has
//! in addition is a regression. Both may show only a part of the catalog, provided that it is the
//! same part.

use super::held::was_held_through_public;
use super::names::{is_same_column, renames_roles};
use crate::access::Access;
use crate::catalog::{ObjectId, Oid, OidMap, Privileges, Snapshot};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Common, Draft, Finding, Problem};
use crate::rule::Rule;
use crate::rules::{Context, rls_disabled};
use crate::sql::quote_ident;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

/// The catalog before the transaction and as it is now.
pub struct Change<'a> {
    before: &'a Context<'a>,
    after: &'a Context<'a>,
    /// The objects before.
    existed: Objects<'a>,
    /// The objects now.
    exists: Objects<'a>,
    /// Whether a role has another name than before, which findings name it by.
    renames_roles: bool,
    /// The routines on which the transaction has granted EXECUTE to PUBLIC.
    granted_to_public: HashSet<Oid>,
}

/// A violation of the contract that the transaction has added or extended.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// The violation, of the grantees that did not have it before.
    pub finding: Finding,
    /// The violation as the audit reports it, of all its grantees. Exemptions are about this.
    pub audited: Finding,
    /// The action of the guard: [`GuardAction::Warn`] or [`GuardAction::Block`].
    pub action: GuardAction,
    /// No later statement of the transaction is expected to fix it: an object that existed before,
    /// under the same name, allows more. Everything else is checked at commit: a view that is
    /// dropped and created again, a table that gets row security in the next statement, a column
    /// whose name another one takes.
    pub settled: bool,
    /// Whether another statement of the same transaction can fix it.
    pub can_be_completed: bool,
    /// Whether something is missing, rather than there in excess.
    pub is_missing: bool,
    /// Whether the object existed before the transaction, under whatever name.
    pub existed: bool,
    /// The statement that is a safer choice than to declare it: row security of a table that did
    /// not have it before either.
    pub safer: Option<String>,
}

/// A finding that is what remains of an earlier one.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Remaining {
    pub was: Finding,
    pub is: Finding,
}

impl<'a> Change<'a> {
    /// Compares two states.
    #[must_use]
    pub fn new(before: &'a Context<'a>, after: &'a Context<'a>) -> Self {
        Self {
            before,
            after,
            existed: Objects::of(before.snapshot),
            exists: Objects::of(after.snapshot),
            renames_roles: renames_roles(before.snapshot, after.snapshot),
            granted_to_public: HashSet::new(),
        }
    }

    /// Adds the routines on which the transaction has granted EXECUTE to PUBLIC: the state does not
    /// show the difference to the privilege that the server grants on every new routine.
    #[must_use]
    pub fn with_grants_to_public(mut self, routines: HashSet<Oid>) -> Self {
        self.granted_to_public = routines;
        self
    }

    /// Returns the regressions of one rule that the guard blocks or warns about.
    #[must_use]
    pub fn regressions(&self, rule: &'static Rule) -> Vec<Regression> {
        let by_contract = self.after.guard_action(rule);
        if by_contract == GuardAction::Audit {
            return vec![];
        }
        let mut now: Vec<Draft> = self.after.drafts(rule);
        now.retain(|draft| self.concerns_the_guard(draft));
        if now.is_empty() {
            return vec![];
        }
        let mut past: HashMap<Key, Vec<Draft>> = HashMap::new();
        for draft in self.before.drafts(rule) {
            let key = Key::of(self.past_subject(&draft), &draft);
            past.entry(key).or_default().push(draft);
        }
        let mut groups: Vec<(Reaction, Vec<Draft>)> = Vec::new();
        for draft in now {
            let at_most = self.at_most_beside(&past, &draft);
            if at_most == GuardAction::Audit {
                continue;
            }
            let reaction = self.reaction(by_contract.min(at_most), &draft);
            match groups.iter_mut().find(|(known, _)| *known == reaction) {
                Some((_, drafts)) => drafts.push(draft),
                None => groups.push((reaction, vec![draft])),
            }
        }
        if groups.is_empty() {
            return vec![];
        }
        let audited = Audited::new(rule, self.after.drafts(rule));
        let regressions = |(reaction, drafts)| {
            let audited = &audited;
            Problem::all_of(drafts).into_iter().map(move |new| {
                let regression = audited.regression(new, reaction);
                Regression { safer: self.safer(&regression.finding), ..regression }
            })
        };
        groups.into_iter().flat_map(regressions).collect()
    }

    /// Returns the findings of a rule that were not there before although they are no regressions,
    /// each with the earlier one of which it is what remains: of fewer grantees, for example, or
    /// fewer privileges. An exemption of the earlier one is not about it.
    #[must_use]
    pub fn remaining(&self, rule: &'static Rule) -> Vec<Remaining> {
        let now = self.after.run(rule);
        if now.is_empty() || self.after.guard_action(rule) == GuardAction::Audit {
            return vec![];
        }
        let past = self.before.run(rule);
        let known = |all: &[Finding]| -> HashSet<String> {
            all.iter().map(|finding| finding.fingerprint.clone()).collect()
        };
        let (earlier, later) = (known(&past), known(&now));
        let gone: Vec<Finding> =
            past.into_iter().filter(|one| !later.contains(&one.fingerprint)).collect();
        if gone.is_empty() {
            return vec![];
        }
        let worse: HashSet<String> =
            self.regressions(rule).into_iter().map(|worse| worse.audited.fingerprint).collect();
        let is_new = |one: &Finding| {
            one.severity > Severity::Info
                && !earlier.contains(&one.fingerprint)
                && !worse.contains(&one.fingerprint)
        };
        let remains_of = |is: &Finding, was: &Finding| {
            (was.object.id, &was.object.identity) == (is.object.id, &is.object.identity)
                && (is.roles.is_empty() || is.roles.iter().any(|role| was.roles.contains(role)))
        };
        let remaining = |is: Finding| {
            let was = gone.iter().find(|was| remains_of(&is, was))?.clone();
            Some(Remaining { was, is })
        };
        now.into_iter().filter(is_new).filter_map(remaining).collect()
    }

    /// Returns what the guard does about a draft that was not there before.
    fn reaction(&self, at_most: GuardAction, draft: &Draft) -> Reaction {
        let settled = self.is_settled(draft);
        Reaction {
            action: at_most.min(self.at_most(draft)),
            settled,
            is_missing: draft.measure.is_missing,
            existed: self.existed.contain(draft.object.id),
            can_be_completed: draft.measure.is_missing
                || (!settled
                    && !self.existed.contain(draft.object.id)
                    && !matches!(draft.object.id, ObjectId::Policy(_))),
        }
    }

    /// Whether the guard acts on a finding: not on information, and not on privileges of PUBLIC
    /// while no client role exists, unless the contract has none.
    fn concerns_the_guard(&self, draft: &Draft) -> bool {
        let after = self.after;
        !draft.is_covered
            && draft.guard_severity() > Severity::Info
            && self.at_most(draft) > GuardAction::Audit
            && !(draft.is_to_public
                && after.clients.is_empty()
                && !after.counts_public_without_clients(draft.object.id))
    }

    /// Returns the strongest action about a draft beside those of the earlier state: none where the
    /// same violation, or a greater one, existed before. Where PUBLIC had what one role has now,
    /// the role can do nothing new, and the audit has a new finding: this is only a warning. A
    /// privilege that PUBLIC had by default counts as well: the first GRANT writes it into the
    /// ACL. See also [`was_held_through_public`].
    fn at_most_beside(&self, past: &HashMap<Key, Vec<Draft>>, draft: &Draft) -> GuardAction {
        let covers = |earlier: &Draft| {
            earlier.guard_severity() >= draft.guard_severity()
                && (earlier.measure.at_most >= draft.measure.at_most || draft.is_to_public)
                && draft.measure.extent.iter().all(|part| earlier.measure.extent.contains(part))
        };
        let is_covered = |key: &Key| past.get(key).is_some_and(|all| all.iter().any(covers));
        let role = draft.role.as_deref().map(|name| self.earlier_name(name));
        let key = Key { role, ..Key::of(self.subject(draft), draft) };
        if is_covered(&key) || self.is_progress(draft) {
            return GuardAction::Audit;
        }
        let public = Key { role: Some("PUBLIC".into()), is_to_public: true, ..key };
        if is_covered(&public) || was_held_through_public(self.before, self.after, draft) {
            return GuardAction::Warn;
        }
        GuardAction::Block
    }

    /// Returns the name that a role had before. What a role could do under another name, and the
    /// contract did not declare for that either, is not worse.
    fn earlier_name(&self, name: &str) -> String {
        let role = self.after.snapshot.role_named(name);
        let earlier = role.and_then(|role| self.before.snapshot.role(role.oid));
        earlier.map_or(name, |role| &role.name).to_owned()
    }

    /// Returns the strongest action about a draft. The server grants EXECUTE on a new routine to
    /// PUBLIC, which is only a warning; a GRANT to PUBLIC is not, and the successor of a routine
    /// without that privilege must not have it either.
    fn at_most(&self, draft: &Draft) -> GuardAction {
        let ObjectId::Routine(routine) = draft.object.id else { return draft.measure.at_most };
        let is_new = !self.existed.contain(draft.object.id);
        if is_new && self.existed.contain_name(&draft.object.identity) {
            GuardAction::Block
        } else if !draft.is_to_public {
            draft.measure.at_most
        } else if is_new {
            if self.granted_to_public.contains(&routine) {
                GuardAction::Block
            } else {
                draft.measure.at_most.min(GuardAction::Warn)
            }
        } else if self.public_could_execute(routine) {
            draft.measure.at_most
        } else {
            GuardAction::Block
        }
    }

    /// Whether PUBLIC had EXECUTE on a routine before.
    fn public_could_execute(&self, routine: Oid) -> bool {
        let acl = self.before.snapshot.routine(routine).map(|r| r.acl.as_ref());
        acl.is_some_and(|acl| {
            acl.is_none_or(|acl| Access::public(acl).contains(Privileges::EXECUTE))
        })
    }

    /// Whether something is missing on an object that did not exist before, although the contract
    /// declares it, which is better than no object. What the contract declares for all objects of a
    /// schema is missing on one that no finding was about.
    fn is_progress(&self, draft: &Draft) -> bool {
        draft.measure.is_missing
            && draft.object.id != ObjectId::Named
            && !self.existed.contain(draft.object.id)
            && !self.existed.contain_name(&draft.object.identity)
            && self.is_declared(draft.object.id)
    }

    /// Whether the contract declares an object by its name, as it does every role and schema that
    /// it is about.
    fn is_declared(&self, object: ObjectId) -> bool {
        let Context { contract, snapshot, .. } = self.after;
        match object {
            ObjectId::Relation(oid) => snapshot.relation(oid).is_none_or(|relation| {
                let schema = snapshot.schema_name(relation.schema);
                contract.declares_relation(schema, &relation.name)
            }),
            ObjectId::Routine(oid) => snapshot.routine(oid).is_none_or(|routine| {
                let schema = snapshot.schema_name(routine.schema);
                contract.functions_named(schema, &routine.name).next().is_some()
            }),
            _ => true,
        }
    }

    /// Whether the object, its column and the roles have the same names as before, and it allows
    /// more rather than less.
    fn is_settled(&self, draft: &Draft) -> bool {
        let same_name =
            self.existed.name(draft.object.id).is_some_and(|name| name == draft.object.identity);
        !draft.measure.is_missing
            && !draft.measure.is_due_at_commit
            && !self.renames_roles
            && (draft.object.id == ObjectId::Named || same_name)
            && self.is_same_column(draft)
    }

    /// Whether a draft is about the object itself, or a column that certainly had its name before.
    fn is_same_column(&self, draft: &Draft) -> bool {
        let (ObjectId::Relation(oid), Some(column)) =
            (draft.object.id, draft.evidence["column"].as_str())
        else {
            return true;
        };
        let states = [self.before, self.after].map(|cx| cx.snapshot.relation(oid));
        let [Some(before), Some(after)] = states else { return true };
        is_same_column(before, after, column)
    }

    /// Returns the statement that enables row security, where the finding is that a table does not
    /// have it, and no statement has disabled it.
    fn safer(&self, finding: &Finding) -> Option<String> {
        let ObjectId::Relation(oid) = finding.object.id else { return None };
        let had = self.before.snapshot.relation(oid)?.row_security;
        let table = self.after.snapshot.relation(oid)?;
        let is_possible = *finding.rule == rls_disabled::RULE && table.kind.has_row_security();
        let sql = self.after.snapshot.relation_sql(table);
        (is_possible && !had).then(|| format!("ALTER TABLE {sql} ENABLE ROW LEVEL SECURITY;"))
    }

    /// Returns what a current finding is compared by: the object, if it existed before; otherwise
    /// its name, as the successor of an earlier object.
    fn subject(&self, draft: &Draft) -> Subject {
        if self.existed.contain(draft.object.id) {
            Subject::Object(draft.object.id)
        } else {
            Subject::Name(draft.object.identity.clone())
        }
    }

    /// Returns what an earlier finding is compared by: the object, if it still exists; otherwise
    /// its name, for a successor.
    fn past_subject(&self, draft: &Draft) -> Subject {
        match draft.object.id {
            id if self.exists.contain(id) => Subject::Object(id),
            _ => Subject::Name(draft.object.identity.clone()),
        }
    }
}

/// What the guard does about a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reaction {
    action: GuardAction,
    settled: bool,
    can_be_completed: bool,
    is_missing: bool,
    existed: bool,
}

/// The problems of one rule in the later state, as the audit reports them.
struct Audited {
    rule: &'static Rule,
    /// Those that may have several grantees.
    problems: HashMap<Common, Problem>,
}

impl Audited {
    fn new(rule: &'static Rule, drafts: Vec<Draft>) -> Self {
        let problems = Problem::all_of(drafts).into_iter();
        let problems = problems.filter_map(|problem| Some((problem.common()?, problem)));
        Self { rule, problems: problems.collect() }
    }

    /// Returns the regression about a problem of the new grantees.
    fn regression(&self, new: Problem, reaction: Reaction) -> Regression {
        let whole = new.common().and_then(|common| self.problems.get(&common));
        let whole = whole.unwrap_or(&new).clone();
        Regression {
            audited: whole.finish(self.rule, Severity::Error),
            finding: new.finish(self.rule, Severity::Error),
            action: reaction.action,
            settled: reaction.settled,
            can_be_completed: reaction.can_be_completed,
            is_missing: reaction.is_missing,
            existed: reaction.existed,
            safer: None,
        }
    }
}

/// The objects of a snapshot that have an OID. Their names are collected only when a finding
/// depends on them: after nearly every statement there is none.
struct Objects<'a> {
    snapshot: &'a Snapshot,
    /// The names of the policies.
    policies: OnceCell<OidMap<String>>,
    /// All names.
    names: OnceCell<HashSet<String>>,
}

impl<'a> Objects<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, policies: OnceCell::new(), names: OnceCell::new() }
    }

    fn contain(&self, object: ObjectId) -> bool {
        let snapshot = self.snapshot;
        match object {
            ObjectId::Role(oid) => snapshot.role(oid).is_some(),
            ObjectId::Schema(oid) => snapshot.schema(oid).is_some(),
            ObjectId::Relation(oid) => snapshot.relation(oid).is_some(),
            ObjectId::Routine(oid) => snapshot.routine(oid).is_some(),
            ObjectId::Policy(oid) => self.policies().contains_key(&oid),
            ObjectId::Type(_) | ObjectId::Named => false,
        }
    }

    /// Returns the name of an object; `None` where it does not exist.
    fn name(&self, object: ObjectId) -> Option<String> {
        let snapshot = self.snapshot;
        match object {
            ObjectId::Role(oid) => snapshot.role(oid).map(|role| quoted(&role.name)),
            ObjectId::Schema(oid) => snapshot.schema(oid).map(|schema| quoted(&schema.name)),
            ObjectId::Relation(oid) => {
                snapshot.relation(oid).map(|r| snapshot.relation_identity(r))
            }
            ObjectId::Routine(oid) => snapshot.routine(oid).map(|r| snapshot.routine_identity(r)),
            ObjectId::Policy(oid) => self.policies().get(&oid).cloned(),
            ObjectId::Type(_) | ObjectId::Named => None,
        }
    }

    fn contain_name(&self, name: &str) -> bool {
        self.names.get_or_init(|| self.all_names()).contains(name)
    }

    fn policies(&self) -> &OidMap<String> {
        self.policies.get_or_init(|| {
            let tables = self.snapshot.relations.iter();
            let policies = tables.flat_map(|table| {
                let policies = self.snapshot.policies_of(table.oid).iter();
                policies.map(move |of| (of.oid, self.snapshot.policy_identity(of, table)))
            });
            policies.collect()
        })
    }

    fn all_names(&self) -> HashSet<String> {
        let snapshot = self.snapshot;
        let roles = snapshot.roles.iter().map(|role| quoted(&role.name));
        let schemas = snapshot.schemas.iter().map(|schema| quoted(&schema.name));
        let relations = snapshot.relations.iter().map(|r| snapshot.relation_identity(r));
        let routines = snapshot.routines.iter().map(|r| snapshot.routine_identity(r));
        let policies = self.policies().values().cloned();
        roles.chain(schemas).chain(relations).chain(routines).chain(policies).collect()
    }
}

fn quoted(name: &str) -> String {
    quote_ident(name).into_owned()
}

/// The object of a finding, for the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Object(ObjectId),
    Name(String),
}

/// Findings of a rule with equal keys are compared with each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    subject: Subject,
    role: Option<String>,
    is_to_public: bool,
    kind: String,
}

impl Key {
    fn of(subject: Subject, draft: &Draft) -> Self {
        Self {
            subject,
            role: draft.role.clone(),
            is_to_public: draft.is_to_public,
            kind: draft.measure.kind.as_ref().unwrap_or(&draft.key).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Acl, AclItem, ObjectKind, PUBLIC, Relation};
    use crate::rules::find;
    use crate::rules::testing::World;

    /// Returns the regressions of `after`, one line each.
    fn worse(before: &World, after: &World, rule: &str) -> Vec<String> {
        let line = |w: Regression| {
            format!(
                "{} {}: {}",
                w.action.as_str(),
                if w.settled { "now" } else { "at commit" },
                w.finding.detail
            )
        };
        before.compared_with(after, |old, new| {
            Change::new(old, new).regressions(find(rule).unwrap()).into_iter().map(line).collect()
        })
    }

    #[test]
    fn privilege_that_makes_an_idle_policy_effective_is_a_regression() {
        let before = World::conforming();
        let mut idle = before.clone();
        let (anon, queue) = (idle.role("anon").oid, idle.relation("public.job_queue").oid);
        idle.snapshot.policies.push(crate::catalog::Policy {
            oid: 4711,
            name: "idle".into(),
            relation: queue,
            permissive: true,
            roles: vec![anon],
            always_true: true,
            ..crate::catalog::Policy::default()
        });
        assert_eq!(worse(&before, &idle, "rls_policy_always_true"), [""; 0]);
        let mut effective = idle.clone();
        effective.grant("public.job_queue", anon, Privileges::SELECT);
        let found = worse(&idle, &effective, "rls_policy_always_true");
        assert!(found.len() == 1 && found[0].starts_with("block now: Policy idle"), "{found:?}");
    }

    #[test]
    fn row_security_is_the_safer_choice_unless_a_statement_has_disabled_it() {
        let safer = |before: &World, after: &World| {
            before.compared_with(after, |old, new| {
                let worse = Change::new(old, new).regressions(&rls_disabled::RULE);
                worse.into_iter().map(|one| one.safer).collect::<Vec<_>>()
            })
        };
        let enabled = World::conforming();
        let mut disabled = enabled.clone();
        disabled.relation("public.job_queue").row_security = false;
        let table = disabled.contract.tables.iter_mut().find(|table| table.name == "job_queue");
        table.unwrap().row_security = false;
        let mut granted = disabled.clone();
        let anon = granted.role("anon").oid;
        granted.grant("public.job_queue", anon, Privileges::SELECT);
        let enable = "ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY;";
        assert_eq!(safer(&disabled, &granted), [Some(enable.to_owned())]);
        let mut by_statement = enabled.clone();
        by_statement.relation("public.job_queue").row_security = false;
        assert_eq!(safer(&enabled, &by_statement), [None]);
    }

    #[test]
    fn more_privileges_are_a_regression_and_fewer_are_not() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let anon = before.role("anon").oid;
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
        before.grant("public.judgments", anon, Privileges::SELECT | Privileges::REFERENCES);
        after.grant("public.judgments", anon, Privileges::SELECT);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
        let line = "block now: Role \"anon\" has SELECT, REFERENCES on table public.judgments, \
                    which the contract does not declare.";
        assert_eq!(worse(&after, &before, "table_privileges"), [line]);
    }

    #[test]
    fn grant_to_a_role_of_what_public_had_is_only_a_warning() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let anon = before.role("anon").oid;
        before.grant("public.judgments", PUBLIC, Privileges::SELECT);
        after.grant("public.judgments", anon, Privileges::SELECT);
        let line = "warn now: Role \"anon\" has SELECT on table public.judgments, which the \
                    contract does not declare.";
        assert_eq!(worse(&before, &after, "table_privileges"), [line]);
    }

    #[test]
    fn execute_that_public_had_is_only_a_warning_through_a_membership() {
        const INVOKER: &str = "routine_privileges";
        const DEFINER: &str = "security_definer_executable_by_clients";
        let mut group = World::conforming();
        group.add_role("callers");
        group.grant_role("callers", "anon");
        let [callers, anon, declared] =
            ["callers", "anon", "service_role"].map(|name| group.role(name).oid);
        // The routine with EXECUTE for grantees; for PUBLIC by default where there are none.
        let world = |security_definer: bool, grantees: &[Oid]| {
            let mut world = group.clone();
            let routine = world.routine("complete_outbox_message");
            let item = |grantee: &Oid| AclItem {
                grantee: *grantee,
                grantor: routine.owner,
                privileges: Privileges::EXECUTE,
                grantable: Privileges::NONE,
            };
            // The contract declares EXECUTE for one role, which has it in any case.
            let acl: Acl = grantees.iter().chain([&declared]).map(item).collect();
            routine.acl = (!grantees.is_empty()).then_some(acl);
            routine.security_definer = security_definer;
            world
        };
        for (rule, definer) in [(INVOKER, false), (DEFINER, true)] {
            let (open, closed) = (world(definer, &[]), world(definer, &[1]));
            let after = world(definer, &[callers]);
            let action = |before: &World, after: &World| match worse(before, after, rule).as_slice()
            {
                [one] => one.split(' ').next().unwrap().to_owned(),
                other => panic!("{other:?}"),
            };
            assert_eq!(action(&open, &after), "warn", "{rule}");
            assert_eq!(action(&closed, &after), "block", "{rule}: it is new");
            let by_name = world(definer, &[callers, anon]);
            assert_eq!(action(&open, &by_name), "block", "{rule}: by name");
            let mut moved = after.clone();
            moved.routine("complete_outbox_message").owner = callers;
            assert_eq!(action(&open, &moved), "block", "{rule}: another owner");
        }
        let turned = worse(&world(false, &[]), &world(true, &[callers]), DEFINER);
        assert_eq!(turned.len(), 1, "it has become SECURITY DEFINER");
    }

    #[test]
    fn column_that_public_had_is_only_a_warning_through_a_membership() {
        const RULE: &str = "column_privileges";
        let mut before = World::conforming();
        before.add_role("readers");
        before.grant_role("readers", "anon");
        let [readers, anon] = ["readers", "anon"].map(|name| before.role(name).oid);
        let closed = before.clone();
        before.grant("public.job_queue", PUBLIC, Privileges::SELECT);
        let with = |grantee: Oid, privileges: Privileges| {
            let mut after = closed.clone();
            after.grant_column("public.job_queue", "kind", grantee, privileges);
            after
        };
        let read = with(readers, Privileges::SELECT);
        assert!(worse(&before, &read, RULE)[0].starts_with("warn"));
        assert!(worse(&closed, &read, RULE)[0].starts_with("block"), "it is new");
        assert_eq!(worse(&before, &with(readers, Privileges::UPDATE), RULE).len(), 1, "another");
        assert_eq!(worse(&before, &with(anon, Privileges::SELECT), RULE).len(), 1, "by name");
        let mut open = read;
        for world in [&mut before, &mut open] {
            world.relation("public.job_queue").row_security = true;
        }
        open.relation("public.job_queue").row_security = false;
        assert_eq!(worse(&before, &open, RULE).len(), 1, "without row security");
    }

    #[test]
    fn regression_is_about_the_new_grantee_and_the_audit_about_all() {
        const RULE: &str = "security_definer_executable_by_clients";
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let grant = |world: &mut World, name: &str| {
            let grantee = world.role(name).oid;
            let routine = world.routine("complete_outbox_message");
            let item = AclItem {
                grantee,
                grantor: routine.owner,
                privileges: Privileges::EXECUTE,
                grantable: Privileges::NONE,
            };
            routine.acl.as_mut().unwrap().push(item);
        };
        let text = "on function ops.complete_outbox_message(uuid), which the contract does not \
                    declare.";
        grant(&mut after, "anon");
        grant(&mut after, "authenticated");
        let both = format!("Roles \"anon\" and \"authenticated\" have EXECUTE {text}");
        assert_eq!(worse(&before, &after, RULE), [format!("block now: {both}")]);
        grant(&mut before, "anon");
        let new = format!("block now: Role \"authenticated\" has EXECUTE {text}");
        assert_eq!(worse(&before, &after, RULE), [new]);
        assert_eq!(worse(&after, &before, RULE), [""; 0], "one grantee less");
        before.compared_with(&after, |old, new| {
            let found = Change::new(old, new).regressions(find(RULE).unwrap());
            assert_eq!(found[0].audited, new.run(find(RULE).unwrap())[0]);
            assert_eq!(found[0].audited.detail, both);
        });
    }

    #[test]
    fn membership_that_becomes_stronger_is_a_regression() {
        let with = |role: &str, [inherit, set, admin]: [bool; 3]| {
            let mut world = World::conforming();
            world.snapshot.version = 16;
            world.add_role("helper");
            world.grant_role(role, "anon");
            let membership = world.snapshot.memberships.last_mut().unwrap();
            (membership.inherit, membership.set, membership.admin) = (inherit, set, admin);
            world
        };
        let options = [[false; 3], [false, true, false], [true, true, false], [true; 3]];
        for (role, action) in [("helper", "warn now"), ("service_role", "block now")] {
            for (i, before) in options.iter().enumerate() {
                for (j, after) in options.iter().enumerate() {
                    let found = worse(&with(role, *before), &with(role, *after), "role_membership");
                    assert_eq!(found.len(), usize::from(i < j), "{before:?} {after:?} {found:?}");
                    assert!(found.iter().all(|line| line.starts_with(action)), "{found:?}");
                }
            }
        }
    }

    #[test]
    fn revoked_truncate_leaves_no_regression_of_the_rule_that_takes_over() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let anon = before.role("anon").oid;
        let left_over = Privileges::REFERENCES | Privileges::TRIGGER;
        let read = Privileges::SELECT;
        before.grant("public.job_queue", anon, left_over | read | Privileges::TRUNCATE);
        after.grant("public.job_queue", anon, left_over | read);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
        assert_eq!(worse(&before, &after, "direct_write"), [""; 0]);
        let line = "block now: Role \"anon\" has TRUNCATE, REFERENCES, TRIGGER on table \
                    public.job_queue, which the contract does not declare.";
        assert_eq!(worse(&after, &before, "direct_write"), [line]);
        assert_eq!(worse(&after, &before, "table_privileges"), [""; 0]);
    }

    #[test]
    fn what_a_role_with_the_name_public_had_excuses_no_other_role() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        for world in [&mut before, &mut after] {
            world.add_role("PUBLIC");
            world.add_role("tenant");
            let named_public = world.role("PUBLIC").oid;
            world.grant_schema("enforcement", named_public, Privileges::CREATE);
        }
        let tenant = after.role("tenant").oid;
        after.grant_schema("enforcement", tenant, Privileges::CREATE);
        let found = worse(&before, &after, "schema_create");
        assert!(found.len() == 1 && found[0].contains("Role \"tenant\""), "{found:?}");
    }

    #[test]
    fn renamed_table_keeps_its_history_and_another_of_its_name_has_none() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let anon = before.role("anon").oid;
        let owner = before.relation("public.judgments").owner;
        let schema = before.schema("public").oid;
        let add = |world: &mut World, oid, name: &str, open: bool| {
            world.add_relation(Relation {
                oid,
                name: name.into(),
                schema,
                owner,
                acl: Some(vec![].into()),
                ..Relation::default()
            });
            if open {
                world.grant(&format!("public.{name}"), anon, Privileges::SELECT);
            }
        };
        add(&mut before, 5001, "notes", true);
        add(&mut before, 5002, "secrets", false);
        add(&mut after, 5001, "old_notes", true);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0], "renamed");
        add(&mut after, 5002, "notes", true);
        let line = "block at commit: Role \"anon\" has SELECT on table public.notes, which the \
                    contract does not declare.";
        assert_eq!(
            worse(&before, &after, "table_privileges"),
            [line],
            "another table took its name"
        );
        // Dropped and created again: the new table is the successor of the old one.
        let mut after = World::conforming();
        add(&mut after, 5003, "notes", true);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
    }

    #[test]
    fn missing_object_is_checked_at_commit_and_an_incomplete_new_one_passes() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.relation("public.judgments").row_security = false;
        let reached = "block now: Row security is disabled on table public.judgments, for which \
                       the contract requires it.";
        assert_eq!(worse(&before, &after, "rls_disabled"), [reached], "authenticated reads it");
        after.snapshot.relations.retain(|r| r.name != "judgments");
        let gone =
            "block at commit: Table public.judgments, which the contract declares, does not exist.";
        assert_eq!(worse(&before, &after, "required_object_missing"), [gone]);
        // A declared table that is created for the first time, without privileges and row security.
        let (before, mut bare) = (after, World::conforming());
        let table = bare.relation("public.judgments");
        (table.acl, table.row_security) = (None, false);
        for rule in ["rls_disabled", "table_privileges", "required_object_missing"] {
            assert_eq!(worse(&before, &bare, rule), [""; 0], "{rule}");
        }
        // A client must not be able to access it in this state.
        let mut open = World::conforming();
        open.relation("public.judgments").row_security = false;
        assert_eq!(worse(&bare, &open, "rls_disabled"), [reached]);
    }

    #[test]
    fn weakened_guard_does_not_excuse_a_disabled_one() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        before.snapshot.guard.triggers[1].enabled = b'O';
        assert_eq!(worse(&after, &before, "guard_tampered").len(), 1);
        after.snapshot.guard.triggers[1].enabled = b'D';
        let disabled = "block now: Event trigger zz_dragonfly_guard_end is disabled.";
        assert_eq!(worse(&before, &after, "guard_tampered"), [disabled]);
        assert_eq!(worse(&after, &after, "guard_tampered"), [""; 0]);
    }

    #[test]
    fn information_defaults_and_public_without_clients_pass() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.relation("public.judgments").force_row_security = false;
        assert_eq!(worse(&before, &after, "rls_not_forced"), [""; 0]);
        let mut routine = after.routine("get_ceo_metrics").clone();
        (routine.oid, routine.name, routine.acl) = (6001, "fresh".into(), None);
        routine.schema = after.schema("ops").oid;
        after.snapshot.routines.push(routine);
        let public = "warn at commit: PUBLIC (every role) has EXECUTE on function ops.fresh() by \
                      default, which the contract does not \
                      declare.";
        assert_eq!(worse(&before, &after, "security_definer_executable_by_clients"), [public]);
        let clients = |world: &mut World| {
            world.snapshot.roles.retain(|r| r.name != "anon" && r.name != "authenticated");
        };
        clients(&mut after);
        assert_eq!(worse(&before, &after, "security_definer_executable_by_clients"), [""; 0]);
    }

    #[test]
    fn grant_to_public_is_a_regression_where_the_contract_has_no_client() {
        let mut without = World::conforming();
        without.snapshot.roles.retain(|r| r.name != "anon" && r.name != "authenticated");
        let mut open = without.clone();
        open.grant("public.job_queue", PUBLIC, Privileges::SELECT | Privileges::INSERT);
        let rules = ["table_privileges", "direct_write"];
        for rule in rules {
            assert_eq!(worse(&without, &open, rule), [""; 0], "the clients do not exist: {rule}");
            assert_eq!(open.found(find(rule).unwrap()), [""; 0], "{rule}");
        }
        for world in [&mut without, &mut open] {
            world.contract.roles.retain(|role| role.kind != crate::contract::RoleKind::Client);
        }
        for (rule, privilege) in rules.into_iter().zip(["SELECT", "INSERT"]) {
            let line = format!(
                "block now: PUBLIC (every role) has {privilege} on table public.job_queue, which \
                 the contract does not declare."
            );
            assert_eq!(worse(&without, &open, rule), [line]);
            assert_eq!(open.found(find(rule).unwrap()).len(), 1, "{rule}");
        }
    }

    #[test]
    fn execute_of_public_on_a_new_routine_is_a_warning_unless_it_was_granted() {
        const RULE: &str = "security_definer_executable_by_clients";
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let worker = after.role("service_role").oid;
        let mut routine = after.routine("get_ceo_metrics").clone();
        (routine.oid, routine.name) = (6001, "fresh".into());
        let mut acl = ObjectKind::Routine.default_acl(routine.owner);
        let item = AclItem { grantee: worker, ..acl[1] };
        acl.push(item);
        routine.schema = after.schema("ops").oid;
        routine.acl = Some(acl);
        after.snapshot.routines.push(routine.clone());
        let actions = |before: &World, after: &World, granted: &[Oid]| -> Vec<GuardAction> {
            before.compared_with(after, |old, new| {
                let granted = granted.iter().copied().collect();
                let change = Change::new(old, new).with_grants_to_public(granted);
                change.regressions(find(RULE).unwrap()).iter().map(|w| w.action).collect()
            })
        };
        assert_eq!(actions(&before, &after, &[]), [GuardAction::Warn]);
        assert_eq!(actions(&before, &after, &[6001]), [GuardAction::Block]);
        // It existed, and only its owner could execute it.
        let mut closed = routine.clone();
        closed.acl = Some(vec![].into());
        before.snapshot.routines.push(closed);
        assert_eq!(actions(&before, &after, &[]), [GuardAction::Block]);
        // It existed with the same privileges, and has become SECURITY DEFINER.
        before.snapshot.routines.pop();
        let mut invoker = routine;
        invoker.security_definer = false;
        before.snapshot.routines.push(invoker);
        assert_eq!(actions(&before, &after, &[]), [GuardAction::Warn]);
        // The ACL is the result of a GRANT to PUBLIC.
        for world in [&mut before, &mut after] {
            world.routine("fresh").acl.as_mut().unwrap().pop();
        }
        assert_eq!(actions(&before, &after, &[]), [GuardAction::Block]);
    }

    #[test]
    fn what_all_objects_of_a_schema_declare_is_missing_on_a_new_one() {
        let (before, mut after) = (World::conforming(), World::conforming());
        let mut table = after.relation("ops.outbox").clone();
        (table.oid, table.name, table.acl) = (9001, "more".into(), Some(vec![].into()));
        after.add_relation(table);
        let line = "warn at commit: Role \"service_role\" does not have SELECT, INSERT, UPDATE, \
                    DELETE, TRUNCATE, REFERENCES, TRIGGER on table ops.more, which the contract \
                    declares.";
        assert_eq!(worse(&before, &after, "table_privileges"), [line]);
    }

    #[test]
    fn new_privilege_of_an_undeclared_role_is_a_warning_and_an_earlier_one_is_not() {
        let mut before = World::conforming();
        before.add_role("reports");
        let reports = before.role("reports").oid;
        let mut after = before.clone();
        after.grant("public.judgments", reports, Privileges::SELECT);
        let line = "warn now: Role \"reports\", which the contract does not declare, has SELECT on \
                    1 relation in schema public.";
        assert_eq!(worse(&before, &after, "undeclared_role_privileges"), [line]);
        assert_eq!(worse(&after, &after, "undeclared_role_privileges"), [""; 0]);
    }

    #[test]
    fn execute_of_public_on_a_new_invoker_is_silent_unless_it_was_granted() {
        const RULE: &str = "routine_executable_by_public";
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let mut routine = after.routine("get_ceo_metrics").clone();
        (routine.oid, routine.name, routine.acl) = (6001, "fresh".into(), None);
        routine.security_definer = false;
        after.snapshot.routines.push(routine.clone());
        let actions = |before: &World, granted: &[Oid]| -> Vec<GuardAction> {
            before.compared_with(&after, |old, new| {
                let granted = granted.iter().copied().collect();
                let change = Change::new(old, new).with_grants_to_public(granted);
                change.regressions(find(RULE).unwrap()).iter().map(|w| w.action).collect()
            })
        };
        assert_eq!(after.found(find(RULE).unwrap()).len(), 1);
        assert_eq!(actions(&before, &[]), []);
        assert_eq!(actions(&before, &[6001]), [GuardAction::Warn]);
        routine.acl = Some(vec![].into());
        before.snapshot.routines.push(routine);
        assert_eq!(actions(&before, &[]), [GuardAction::Warn], "only its owner could execute it");
    }

    #[test]
    fn privilege_of_public_that_only_workers_should_not_have_is_a_warning() {
        let mut before = World::conforming();
        let grants = |world: &mut World, roles: &[&str]| {
            let table = world.contract.tables.iter_mut().find(|t| t.name == "job_queue").unwrap();
            table.grants.clear();
            for role in roles {
                let select = vec![crate::contract::TablePrivilege::Select];
                table.grants.insert((*role).to_owned(), select);
            }
            world.contract.schemas.iter_mut().for_each(|schema| schema.all_on_objects.clear());
        };
        grants(&mut before, &["anon", "authenticated"]);
        let mut after = before.clone();
        after.grant("public.job_queue", PUBLIC, Privileges::SELECT);
        let line = |action| {
            format!(
                "{action} now: PUBLIC (every role) has SELECT on table public.job_queue, which the \
                 contract does not declare."
            )
        };
        assert_eq!(worse(&before, &after, "table_privileges"), [line("warn")]);
        for world in [&mut before, &mut after] {
            grants(world, &["anon", "authenticated", "service_role"]);
        }
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
        for world in [&mut before, &mut after] {
            grants(world, &["anon", "service_role"]);
        }
        assert_eq!(worse(&before, &after, "table_privileges"), [line("block")]);
    }

    #[test]
    fn what_remains_of_a_finding_is_told_from_regressions() {
        let mut before = World::conforming();
        let [anon, authenticated] = ["anon", "authenticated"].map(|name| before.role(name).oid);
        let conforming = before.clone();
        let mut less = before.clone();
        less.grant("public.job_queue", anon, Privileges::SELECT);
        for client in [anon, authenticated] {
            before.grant("public.job_queue", client, Privileges::SELECT);
        }
        let remaining = |before: &World, after: &World| -> Vec<[Vec<String>; 2]> {
            before.compared_with(after, |old, new| {
                let found = Change::new(old, new).remaining(find("table_privileges").unwrap());
                found.into_iter().map(|one| [one.was.roles, one.is.roles]).collect()
            })
        };
        let roles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected: [Vec<String>; 2] = [roles(&["anon", "authenticated"]), roles(&["anon"])];
        assert_eq!(remaining(&before, &less), [expected]);
        assert!(remaining(&less, &before).is_empty(), "a regression");
        assert!(remaining(&before, &before).is_empty());
        assert!(remaining(&before, &conforming).is_empty());
    }
}
