//! Which statements complete a transaction so that the guard allows it: the fixes of what it would
//! reject, chosen phase by phase as in a plan, because one fix may make another unnecessary.

use super::order::{Wanted, in_order, phase};
use super::simulate::Simulation;
use crate::access::Access;
use crate::catalog::{ObjectId, Oid, Snapshot};
use crate::contract::Severity;
use crate::declare::amended;
use crate::finding::{Finding, Problem};
use crate::fix::{self, Statement};
use crate::guard::{
    Cause, CauseKind, Change, Completion, Declared, Regression, States, causes, intended, narrowed,
};
use crate::rule::{Area, Rule};
use crate::rules::{Context, rls_policy_always_true};
use std::collections::HashSet;
use std::rc::Rc;

/// How often the changed catalog is checked again: once for each phase, and for findings that a fix
/// adds.
const MOST_ROUNDS: usize = 16;

/// The input of a completion.
pub struct Completer<'a> {
    /// The catalog without the changes of the transaction.
    pub before: &'a Context<'a>,
    /// The catalog with them.
    pub after: &'a Context<'a>,
    /// The rules that are checked.
    pub rules: &'a [&'static Rule],
    /// The routines on which statements of the transaction granted EXECUTE to PUBLIC.
    pub granted_to_public: &'a HashSet<Oid>,
    /// Whether the guard would reject a regression or warn about it, and a statement of the
    /// transaction may fix it.
    pub is_wanted: &'a dyn Fn(&Context<'_>, &Regression) -> bool,
    /// Reads both states of the whole catalog.
    pub whole: &'a dyn Fn() -> Option<[Snapshot; 2]>,
    /// Whether a finding is exempt.
    pub is_exempt: &'a dyn Fn(&Context<'_>, &Finding) -> bool,
    /// The role that executes the transaction.
    pub runner: Oid,
    /// Called repeatedly; unwinds if the query is canceled.
    pub interrupts: &'a dyn Fn(),
}

impl Completer<'_> {
    /// Returns the statements that fix `regressions`, and what these have in common. They also add
    /// what is missing on new objects, so that these have no finding at all. A contract is sought
    /// that allows what is `rejected` and, if possible, what would be `warned` about.
    #[must_use]
    pub fn complete(
        &self,
        regressions: &[&Regression],
        rejected: &[&Regression],
        warned: &[&Regression],
    ) -> Completion {
        let causes = causes(self.before, self.after, self.runner, regressions);
        let moved: HashSet<String> = causes
            .iter()
            .filter(|cause| cause.is_renamed_schema())
            .flat_map(|cause| cause.findings.iter().cloned())
            .collect();
        let findings = regressions.iter().map(|r| r.finding.clone());
        let findings: Vec<Finding> =
            findings.filter(|finding| !moved.contains(&finding.fingerprint)).collect();
        let existed: HashSet<ObjectId> = objects(self.before.snapshot).collect();
        let new = objects(self.after.snapshot).filter(|id| !existed.contains(id)).collect();
        let (chosen, left) = self.choose(findings.clone(), &new, &moved);
        let left: HashSet<&str> = left.iter().map(|f| f.fingerprint.as_str()).collect();
        let fixed = findings.into_iter().map(|f| f.fingerprint);
        let everything: Vec<&Regression> = rejected.iter().chain(warned).copied().collect();
        let states = States {
            before: self.before,
            after: self.after,
            granted_to_public: self.granted_to_public,
            whole: self.whole,
            is_exempt: self.is_exempt,
        };
        let renamed = Declared::of_renamed(states, &causes, &everything);
        let is_followed = |r: &&Regression| renamed.as_ref().is_some_and(|one| one.covers(&[r]));
        let [mut rejected, mut all] =
            [rejected, &everything].map(|some| intended(some.iter().copied(), &causes));
        rejected.retain(|r| !is_followed(r));
        all.retain(|r| !is_followed(r));
        let declared = Declared::of(states, &all).or_else(|| {
            let is_other = all.len() > rejected.len();
            is_other.then(|| Declared::of(states, &rejected)).flatten()
        });
        let kept = declared.as_ref().and_then(|of| self.kept(of, &causes, &everything, &new));
        Completion {
            kept,
            declared: declared.into_iter().collect(),
            statements: in_order(&chosen).iter().map(|w| w.statement.to_string()).collect(),
            fixes: fixed.filter(|f| !left.contains(f.as_str())).chain(moved).collect(),
            causes,
            renamed,
            again: None,
        }
    }

    /// Returns the part of declarations that policies of new tables give a use, with the statements
    /// that revoke what default privileges grant beyond it; `None` where these leave a finding.
    fn kept(
        &self,
        declared: &Declared,
        causes: &[Cause],
        regressions: &[&Regression],
        new: &HashSet<ObjectId>,
    ) -> Option<Declared> {
        let is_by_default = causes.iter().any(|of| of.kind == CauseKind::DefaultPrivileges);
        // What such a policy allows is what is wrong.
        let is_open = causes.iter().any(|of| of.kind == CauseKind::PolicyForPublic)
            || regressions.iter().any(|r| {
                let rule = r.finding.rule;
                *rule == rls_policy_always_true::RULE || rule.area == Area::Policies
            });
        if !is_by_default || is_open {
            return None;
        }
        let is_new = |relation| new.contains(&ObjectId::Relation(relation));
        let declarations = narrowed(self.after, declared.declarations(), &is_new)?;
        let contract = amended(self.after, &declarations)?;
        let [before, after] = [self.before, self.after]
            .map(|cx| Context::new(&contract, cx.snapshot, cx.access, self.interrupts));
        let change =
            Change::new(&before, &after).with_grants_to_public(self.granted_to_public.clone());
        let found = self.rules.iter().flat_map(|rule| change.regressions(rule));
        let found = found.filter(|r| (self.is_wanted)(&after, r)).map(|r| r.finding).collect();
        let with_contract = Completer {
            before: &before,
            after: &after,
            rules: self.rules,
            granted_to_public: self.granted_to_public,
            is_wanted: self.is_wanted,
            whole: self.whole,
            is_exempt: self.is_exempt,
            runner: self.runner,
            interrupts: self.interrupts,
        };
        let (chosen, left) = with_contract.choose(found, new, &HashSet::new());
        let revokes = in_order(&chosen).iter().map(|w| w.statement.to_string()).collect();
        (left.is_empty() && !chosen.is_empty())
            .then(|| Declared::following(regressions, declarations, vec![], revokes))
    }

    /// Returns the statements that fix findings, and the findings that are left after them, except
    /// those about what has `moved` with its schema: renaming that back fixes them. Where
    /// something on the `new` objects is missing, which the guard allows, the statements add it.
    fn choose(
        &self,
        mut found: Vec<Finding>,
        new: &HashSet<ObjectId>,
        moved: &HashSet<String>,
    ) -> (Vec<Wanted>, Vec<Finding>) {
        let mut chosen: Vec<Wanted> = Vec::new();
        found.extend(self.missing(self.after, new));
        for _ in 0..MOST_ROUNDS {
            let fresh = fresh(&found, &chosen);
            if fresh.is_empty() {
                break;
            }
            fresh.into_iter().for_each(|wanted| choose_one(&mut chosen, wanted));
            found = self.left_after(&chosen, new);
            found.retain(|finding| !moved.contains(&finding.fingerprint));
        }
        let left: HashSet<&str> = found.iter().map(|f| f.fingerprint.as_str()).collect();
        chosen.retain(|w| w.findings.iter().any(|f| !left.contains(f.fingerprint.as_str())));
        (chosen, found)
    }

    /// Returns the findings about what is missing on the `new` objects.
    fn missing(&self, cx: &Context<'_>, new: &HashSet<ObjectId>) -> Vec<Finding> {
        let mut found = Vec::new();
        for rule in self.rules {
            let mut drafts = cx.drafts(rule);
            drafts.retain(|d| d.measure.is_missing && new.contains(&d.object.id));
            let problems = Problem::all_of(drafts).into_iter();
            found.extend(problems.map(|problem| problem.finish(rule, Severity::Error)));
        }
        found.retain(|finding| !finding.fix.statements().is_empty());
        found
    }

    /// Returns the findings that the guard would still report after some statements, and what is
    /// still missing on the `new` objects.
    fn left_after(&self, chosen: &[Wanted], new: &HashSet<ObjectId>) -> Vec<Finding> {
        let snapshot = self.simulate(chosen);
        let access = Access::new(&snapshot);
        let cx = Context::new(self.after.contract, &snapshot, &access, self.interrupts);
        let change =
            Change::new(self.before, &cx).with_grants_to_public(self.granted_to_public.clone());
        let mut left = self.missing(&cx, new);
        for rule in self.rules {
            let regressions = change.regressions(rule);
            left.extend(
                regressions.into_iter().filter(|r| (self.is_wanted)(&cx, r)).map(|r| r.finding),
            );
        }
        left
    }

    fn simulate(&self, chosen: &[Wanted]) -> Snapshot {
        let mut simulation = Simulation::new(self.after.snapshot.clone(), self.runner);
        for wanted in in_order(chosen) {
            (self.interrupts)();
            simulation.execute(&wanted.statement);
        }
        simulation.complete()
    }
}

/// Returns the schemas, relations and routines of a snapshot.
fn objects(snapshot: &Snapshot) -> impl Iterator<Item = ObjectId> {
    let schemas = snapshot.schemas.iter().map(|schema| ObjectId::Schema(schema.oid));
    let relations = snapshot.relations.iter().map(|relation| ObjectId::Relation(relation.oid));
    let routines = snapshot.routines.iter().map(|routine| ObjectId::Routine(routine.oid));
    schemas.chain(relations).chain(routines)
}

/// Adds a fix to the chosen ones. A later one of the same policy takes the place of the first: it
/// is about the policy as the first has left it.
fn choose_one(chosen: &mut Vec<Wanted>, wanted: Wanted) {
    let of_policy = |one: &Wanted| policy_of(&one.statement);
    let policy = of_policy(&wanted);
    match chosen.iter_mut().find(|one| policy.is_some() && of_policy(one) == policy) {
        Some(first) => {
            first.statement = wanted.statement;
            first.findings.extend(wanted.findings);
        }
        None => chosen.push(wanted),
    }
}

/// Returns the policy whose roles a statement changes, or that it drops.
fn policy_of(statement: &Statement) -> Option<Oid> {
    match statement {
        Statement::Ddl(ddl) => match &ddl.change {
            fix::Change::PolicyRoles(policy, _) | fix::Change::DropPolicy(policy) => Some(*policy),
            _ => None,
        },
        Statement::Acl(_) => None,
    }
}

/// Returns the fixes that are not chosen yet, of the first phase that has any; one for each policy,
/// because the next one has to be about what this one leaves.
fn fresh(found: &[Finding], chosen: &[Wanted]) -> Vec<Wanted> {
    let mut known: HashSet<String> = chosen.iter().map(|w| w.statement.to_string()).collect();
    let mut fresh: Vec<Wanted> = Vec::new();
    for finding in found {
        for statement in finding.fix.statements() {
            if known.insert(statement.to_string()) {
                let findings = vec![Rc::new(finding.clone())];
                fresh.push(Wanted { statement: statement.clone(), findings });
            } else if let Some(same) = fresh.iter_mut().find(|w| w.statement == *statement) {
                same.findings.push(Rc::new(finding.clone()));
            }
        }
    }
    let first = fresh.iter().map(|w| phase(&w.statement)).min();
    fresh.retain(|w| Some(phase(&w.statement)) == first);
    let mut policies = HashSet::new();
    fresh.retain(|w| policy_of(&w.statement).is_none_or(|policy| policies.insert(policy)));
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{AclItem, DefaultAcl, PUBLIC, Privileges, Relation, RelationKind};
    use crate::contract::GuardAction;
    use crate::guard::{RejectedAt, Rejection, merged};
    use crate::rules::RULES;
    use crate::rules::testing::{Edit, World, edit};
    use proptest::prelude::*;

    /// What the guard says about a transaction, and what is left after the statements of its HINT.
    struct Outcome {
        rejection: Option<Rejection>,
        completion: Completion,
        left: Vec<Finding>,
    }

    /// Checks the transaction that has changed `before` into `after`, at commit.
    fn check(before: &World, after: &World) -> Outcome {
        before.compared_with(after, outcome)
    }

    fn outcome(old: &Context<'_>, new: &Context<'_>) -> Outcome {
        let change = Change::new(old, new);
        let blocked = |r: &Regression| r.action == GuardAction::Block;
        let found: Vec<Regression> = RULES
            .iter()
            .flat_map(|rule| change.regressions(rule))
            .filter(|regression| blocked(regression))
            .collect();
        let completer = Completer {
            before: old,
            after: new,
            rules: &RULES,
            granted_to_public: &HashSet::new(),
            is_wanted: &|_, regression| blocked(regression),
            whole: &|| None,
            is_exempt: &|_, _| false,
            runner: new.snapshot.role_named("root").unwrap().oid,
            interrupts: &|| {},
        };
        let all: Vec<_> = found.iter().collect();
        let completion = completer.complete(&all, &all, &[]);
        let (_, left) = completer.choose(
            found.iter().map(|r| r.finding.clone()).collect(),
            &HashSet::new(),
            &HashSet::new(),
        );
        let rejection = rejected(new, &found, &completion, RejectedAt::Commit);
        Outcome { rejection, completion, left }
    }

    fn rejected(
        new: &Context<'_>,
        found: &[Regression],
        completion: &Completion,
        at: RejectedAt,
    ) -> Option<Rejection> {
        let rejection = |r: &Regression| Rejection::of_regression(new.contract, r, "COMMIT");
        merged(new.contract, found.iter().map(rejection).collect(), vec![], completion, at)
    }

    /// Returns the HINT of a transaction that is rejected at some time.
    fn hint_at(old: &Context<'_>, new: &Context<'_>, at: RejectedAt) -> String {
        let completion = outcome(old, new).completion;
        let blocked = |r: &Regression| r.action == GuardAction::Block;
        let change = Change::new(old, new);
        let found = RULES.iter().flat_map(|rule| change.regressions(rule)).filter(blocked);
        rejected(new, &found.collect::<Vec<_>>(), &completion, at).unwrap().hint
    }

    fn add_table(world: &mut World, name: &str, kind: RelationKind, acl: &[(Oid, Privileges)]) {
        let (schema, owner) = (world.schema("public").oid, world.role("postgres").oid);
        let oid = 40_000 + world.snapshot.relations.len() as Oid;
        let acl = acl.iter().map(|(grantee, privileges)| AclItem {
            grantee: *grantee,
            grantor: owner,
            privileges: *privileges,
            grantable: Privileges::NONE,
        });
        world.add_relation(Relation {
            oid,
            name: name.into(),
            schema,
            owner,
            kind,
            acl: Some(acl.collect()),
            ..Relation::default()
        });
    }

    /// Lets new tables and sequences of postgres in public be open to both clients.
    fn add_defaults(world: &mut World) -> Vec<Oid> {
        let (role, schema) = (world.role("postgres").oid, world.schema("public").oid);
        let clients = ["anon", "authenticated"].map(|name| world.role(name).oid);
        let kinds = [(b'r', Privileges::ALL_ON_TABLE), (b'S', Privileges::ALL_ON_SEQUENCE)];
        for (object_type, privileges) in kinds {
            let acl = clients.map(|grantee| AclItem {
                grantee,
                grantor: role,
                privileges,
                grantable: Privileges::NONE,
            });
            let default = DefaultAcl { role, schema, object_type, acl: acl.to_vec().into() };
            world.snapshot.default_acls.push(default);
        }
        clients.to_vec()
    }

    #[test]
    fn table_opened_by_default_privileges_gets_one_hint_with_the_cause() {
        let mut before = World::conforming();
        add_defaults(&mut before);
        let mut after = World::conforming();
        let clients = add_defaults(&mut after);
        let all = |privileges| clients.iter().map(|c| (*c, privileges)).collect::<Vec<_>>();
        add_table(&mut after, "notes", RelationKind::Table, &all(Privileges::ALL_ON_TABLE));
        let sequence = all(Privileges::ALL_ON_SEQUENCE);
        add_table(&mut after, "notes_id_seq", RelationKind::Sequence, &sequence);
        let Outcome { rejection, completion, left } = check(&before, &after);
        let rejection = rejection.unwrap();
        assert_eq!(left, []);
        assert_eq!(completion.causes.len(), 1);
        assert_eq!(
            rejection.hint,
            "Run in the same transaction:\n\
             REVOKE ALL ON TABLE public.notes FROM anon, authenticated;\n\
             REVOKE ALL ON SEQUENCE public.notes_id_seq FROM anon, authenticated;\n\
             GRANT ALL ON TABLE public.notes TO service_role;\n\
             GRANT ALL ON SEQUENCE public.notes_id_seq TO service_role;\n\
             ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE ALL ON TABLES \
             FROM anon, authenticated;\n\
             ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE ALL ON SEQUENCES \
             FROM anon, authenticated;\n\
             If this is intended, declare it first: SELECT * FROM ops.declare('CREATE TABLE \
             public.notes (); CREATE SEQUENCE public.notes_id_seq; GRANT SELECT, INSERT, UPDATE, \
             DELETE, TRUNCATE, REFERENCES, TRIGGER ON TABLE public.notes TO anon, authenticated; \
             GRANT SELECT, UPDATE, USAGE ON SEQUENCE public.notes_id_seq TO anon, authenticated', \
             note => '...');\nAfter the statement, run: GRANT ALL ON TABLE public.notes TO \
             service_role; GRANT ALL ON SEQUENCE public.notes_id_seq TO service_role; ALTER TABLE \
             public.notes ENABLE ROW LEVEL SECURITY;"
        );
        let lines: Vec<&str> = rejection.detail.lines().collect();
        assert_eq!(
            lines[0],
            "The cause of 3 violations is that default privileges of role \"postgres\" in schema \
             public grant privileges on new tables and sequences to role \"anon\" and role \
             \"authenticated\"."
        );
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines.contains(
            &"Row security is disabled on table public.notes, which role \"anon\" can access. Rule \
              rls_disabled, contract dragonfly_civil 1.0.0, section 7."
        ));
    }

    #[test]
    fn privileges_that_were_granted_by_hand_have_no_cause() {
        let mut before = World::conforming();
        add_defaults(&mut before);
        let mut after = World::conforming();
        add_defaults(&mut after);
        let all = [(PUBLIC, Privileges::ALL_ON_TABLE)];
        add_table(&mut after, "notes", RelationKind::Table, &all);
        let Outcome { rejection, completion, left } = check(&before, &after);
        assert_eq!((left, completion.causes), (vec![], vec![]));
        assert_eq!(
            rejection.unwrap().hint,
            "If this is intended, declare it first: SELECT * FROM ops.declare('CREATE TABLE \
             public.notes (); GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER \
             ON TABLE public.notes TO anon, authenticated, service_role', note => '...');\nAfter \
             the statement, run: ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;\nOtherwise \
             run in the same transaction:\n\
             GRANT ALL ON TABLE public.notes TO service_role;\n\
             REVOKE ALL ON TABLE public.notes FROM PUBLIC;"
        );
    }

    #[test]
    fn hint_for_very_many_objects_names_the_query_that_lists_the_statements() {
        let before = World::conforming();
        let mut after = World::conforming();
        let anon = after.role("anon").oid;
        for number in 0..100 {
            let acl = [(anon, Privileges::ALL_ON_TABLE)];
            add_table(&mut after, &format!("t{number}"), RelationKind::Table, &acl);
        }
        let Outcome { rejection, left, .. } = check(&before, &after);
        assert_eq!(left, []);
        assert_eq!(
            rejection.unwrap().hint,
            "If this is intended, declare it with ops.declare() first, or exempt each object with \
             ops.exempt().\nOtherwise run in the same transaction the 200 statements that this \
             query lists before COMMIT:\nSELECT statement FROM \
             ops.golden_sql(schemas => ARRAY['public']::name[]);"
        );
    }

    #[test]
    fn intended_grant_can_be_declared_exempted_or_reverted() {
        let before = World::conforming();
        let mut after = World::conforming();
        let anon = after.role("anon").oid;
        after.grant("public.judgments", anon, Privileges::SELECT | Privileges::INSERT);
        let Outcome { rejection, left, .. } = check(&before, &after);
        assert_eq!(left, []);
        let exempt = |rule: &str| {
            format!(
                "SELECT ops.exempt(rule => '{rule}', object => 'public.judgments', role_name => \
                 'anon', reason => '...', expires_at => now() + interval '30 days');"
            )
        };
        assert_eq!(
            rejection.unwrap().hint,
            format!(
                "If this is intended, declare it first: SELECT * FROM ops.declare('GRANT SELECT, \
                 INSERT ON TABLE public.judgments TO anon', note => '...');\nOr exempt \
                 it:\n{}\n{}\n\
                 Otherwise run in the same transaction: REVOKE SELECT, INSERT ON TABLE \
                 public.judgments FROM anon;",
                exempt("direct_write"),
                exempt("table_privileges")
            )
        );
    }

    #[test]
    fn dropped_schema_is_one_declaration_and_nothing_brings_it_back() {
        let before = World::conforming();
        let mut after = World::conforming();
        let intake = after.schema("intake").oid;
        after.snapshot.relations.retain(|relation| relation.schema != intake);
        after.snapshot.routines.retain(|routine| routine.schema != intake);
        after.snapshot.schemas.retain(|schema| schema.oid != intake);
        let relations: HashSet<Oid> = after.snapshot.relations.iter().map(|r| r.oid).collect();
        after.snapshot.policies.retain(|policy| relations.contains(&policy.relation));
        let Outcome { rejection, .. } = check(&before, &after);
        assert_eq!(
            rejection.unwrap().hint,
            "If this is intended, declare it first: SELECT * FROM ops.declare('DROP SCHEMA \
             intake', note => '...');"
        );
    }

    #[test]
    fn dropped_table_has_no_statements_that_bring_it_back() {
        let before = World::conforming();
        let mut after = World::conforming();
        let gone = ["judgments", "judgments_id_seq"];
        after.snapshot.relations.retain(|relation| !gone.contains(&relation.name.as_str()));
        let relations: HashSet<Oid> = after.snapshot.relations.iter().map(|r| r.oid).collect();
        after.snapshot.policies.retain(|policy| relations.contains(&policy.relation));
        for at in [RejectedAt::Commit, RejectedAt::Alone] {
            let hint = before.compared_with(&after, |old, new| hint_at(old, new, at));
            assert!(hint.contains("ops.declare('DROP TABLE public.judgments"), "{hint}");
            assert!(!hint.contains("therwise"), "{hint}");
        }
    }

    #[test]
    fn declared_lack_of_row_security_does_not_tell_to_enable_it() {
        let before = World::conforming();
        let mut after = World::conforming();
        let table = after.relation("public.judgments");
        table.row_security = false;
        table.force_row_security = false;
        for at in [RejectedAt::Statement, RejectedAt::Alone] {
            let hint = before.compared_with(&after, |old, new| hint_at(old, new, at));
            assert!(hint.contains("ops.declare('ALTER TABLE public.judgments DISABLE"), "{hint}");
            assert!(!hint.contains("\nRun"), "{hint}");
        }
    }

    /// Applies an edit that leaves a catalog as a server could: without a new owner, which would
    /// be another grantor, and with one row for each kind of default privileges.
    fn edit_as_a_server(world: &mut World, edit: Edit) {
        if edit.action == 7 {
            return;
        }
        world.edit(edit);
        let mut merged: Vec<DefaultAcl> = Vec::new();
        for default in std::mem::take(&mut world.snapshot.default_acls) {
            let key = |d: &DefaultAcl| (d.role, d.schema, d.object_type);
            match merged.iter_mut().find(|known| key(known) == key(&default)) {
                Some(known) => known.acl.extend(&default.acl),
                None => merged.push(default),
            }
        }
        world.snapshot.default_acls = merged;
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn statements_of_the_hint_leave_nothing_that_the_guard_rejects(
            earlier in proptest::collection::vec(edit(), 0..6),
            edits in proptest::collection::vec(edit(), 0..10),
            tables in proptest::collection::vec(Edit::any(1), 0..4),
            has_defaults in any::<bool>(),
        ) {
            let mut before = World::conforming();
            before.add_role("mallory");
            let mut after = World::conforming();
            after.add_role("mallory");
            for world in [&mut before, &mut after] {
                if has_defaults {
                    add_defaults(world);
                }
                earlier.iter().for_each(|change| edit_as_a_server(world, *change));
            }
            for (i, table) in tables.iter().enumerate() {
                let clients = ["anon", "authenticated"].map(|name| after.role(name).oid);
                let grantee = clients.get(table.role).copied().unwrap_or(PUBLIC);
                let all = Privileges(table.bits) & Privileges::ALL_ON_TABLE;
                let kinds = [RelationKind::Table, RelationKind::View];
                add_table(&mut after, &format!("n{i}"), kinds[i % 2], &[(grantee, all)]);
            }
            edits.iter().for_each(|change| edit_as_a_server(&mut after, *change));
            let Outcome { completion, left, rejection } = check(&before, &after);
            // What is left has no statement that fixes it, and the HINT says what to do instead.
            for finding in &left {
                prop_assert!(finding.fix.statements().is_empty(), "{finding:#?} {completion:#?}");
            }
            if let Some(rejection) = rejection {
                prop_assert!(!rejection.hint.is_empty());
            }
        }
    }
}
