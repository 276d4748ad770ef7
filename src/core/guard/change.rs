//! What a transaction has made worse: the findings of the catalog as it is now that were none
//! without what the transaction did.
//!
//! Rules say nothing about before and after. Both states are judged by the same rules, and what the
//! second has more of than the first is new. Both may show a part of the catalog only, as long as
//! it is the same part.

use crate::catalog::{ObjectId, Snapshot};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding};
use crate::rule::Rule;
use crate::rules::Context;
use std::collections::{HashMap, HashSet};

/// The catalog without what the transaction has done, and with it.
pub struct Change<'a> {
    before: &'a Context<'a>,
    after: &'a Context<'a>,
    /// What was there before, with the name it had.
    existed: HashMap<ObjectId, String>,
    names: HashSet<String>,
    /// What is there now.
    exists: HashSet<ObjectId>,
}

/// Something that the transaction has made worse.
#[derive(Debug)]
pub struct Regression {
    /// What is wrong now.
    pub finding: Finding,
    /// What the contract says about it: [`GuardAction::Warn`] or [`GuardAction::Block`].
    pub action: GuardAction,
    /// No later statement of the transaction is expected to put it right: it is about something
    /// that was there before, under the same name, and has been given too much. Everything else is
    /// judged when the transaction commits, for only then can it be whole: a view that is dropped
    /// and made anew, a table that gets its row security in the next statement.
    pub settled: bool,
    /// Another statement of the same transaction can put it right, rather than leaving this one
    /// away.
    pub completes: bool,
}

impl<'a> Change<'a> {
    /// From one state to the other.
    #[must_use]
    pub fn new(before: &'a Context<'a>, after: &'a Context<'a>) -> Self {
        let existed = objects(before.snapshot);
        let names = existed.values().cloned().collect();
        Self {
            before,
            after,
            existed,
            names,
            exists: objects(after.snapshot).into_keys().collect(),
        }
    }

    /// What has become worse, as far as the contract wants the guard to do something about it.
    #[must_use]
    pub fn worse(&self, rule: &'static Rule) -> Vec<Regression> {
        let by_contract = self.after.guard_action(rule);
        let mut now: Vec<Draft> = self.after.drafts(rule);
        now.retain(|draft| self.is_matter_of_the_guard(draft));
        if by_contract == GuardAction::Audit || now.is_empty() {
            return vec![];
        }
        let mut past: HashMap<Key, Vec<Draft>> = HashMap::new();
        for draft in self.before.drafts(rule) {
            if let Some(subject) = self.past_subject(&draft) {
                past.entry(Key::of(subject, &draft)).or_default().push(draft);
            }
        }
        let new = |draft: &Draft| !self.is_excused(draft, &past) && !self.is_progress(draft);
        now.into_iter()
            .filter(new)
            .map(|draft| Regression {
                action: by_contract.min(self.at_most(&draft)),
                settled: self.is_settled(&draft),
                completes: draft.measure.lacks
                    || (!self.existed.contains_key(&draft.object.id)
                        && !matches!(draft.object.id, ObjectId::Policy(_))),
                finding: draft.finish(rule, Severity::Error),
            })
            .collect()
    }

    /// Notes are no matter of the guard's; nor is what PUBLIC has, where there is no client to make
    /// use of it.
    fn is_matter_of_the_guard(&self, draft: &Draft) -> bool {
        draft.weight() > Severity::Info
            && draft.measure.at_most > GuardAction::Audit
            && !(draft.role.as_deref() == Some("PUBLIC") && self.after.clients.is_empty())
    }

    /// The same was so before, or worse; or everybody had what now a role has by itself. What
    /// everybody had by default, and has still, is the same: a grant to anybody makes an entry of
    /// it.
    fn is_excused(&self, draft: &Draft, past: &HashMap<Key, Vec<Draft>>) -> bool {
        let covers = |earlier: &Draft| {
            earlier.weight() >= draft.weight()
                && (earlier.measure.at_most >= draft.measure.at_most
                    || draft.role.as_deref() == Some("PUBLIC"))
                && draft.measure.extent.iter().all(|part| earlier.measure.extent.contains(part))
        };
        let key = Key::of(self.subject(draft), draft);
        let public = Key { role: Some("PUBLIC".into()), ..key.clone() };
        [key, public].iter().filter_map(|key| past.get(key)).flatten().any(covers)
    }

    /// What the server gives to everybody with a new routine is only warned of; but where one of
    /// that name was closed, closing its successor is a part of making it.
    fn at_most(&self, draft: &Draft) -> GuardAction {
        let succeeds = !self.existed.contains_key(&draft.object.id)
            && self.names.contains(&draft.object.identity);
        if succeeds && matches!(draft.object.id, ObjectId::Routine(_)) {
            GuardAction::Block
        } else {
            draft.measure.at_most
        }
    }

    /// Something is lacking on an object that was not there at all before.
    fn is_progress(&self, draft: &Draft) -> bool {
        draft.measure.lacks
            && draft.object.id != ObjectId::Named
            && !self.existed.contains_key(&draft.object.id)
            && !self.names.contains(&draft.object.identity)
    }

    /// What is called the same now as before, and has too much rather than too little.
    fn is_settled(&self, draft: &Draft) -> bool {
        let same_name =
            self.existed.get(&draft.object.id).is_some_and(|name| *name == draft.object.identity);
        !draft.measure.lacks && (draft.object.id == ObjectId::Named || same_name)
    }

    /// What was there before is told by what it is; what is new stands for what had its name.
    fn subject(&self, draft: &Draft) -> Subject {
        match self.existed.contains_key(&draft.object.id) {
            true => Subject::Object(draft.object.id),
            false => Subject::Name(draft.object.identity.clone()),
        }
    }

    /// What is gone has a successor in what has its name; what is still there excuses nobody else.
    fn past_subject(&self, draft: &Draft) -> Option<Subject> {
        Some(match draft.object.id {
            id if self.exists.contains(&id) => Subject::Object(id),
            _ => Subject::Name(draft.object.identity.clone()),
        })
    }
}

/// The objects of a snapshot that have an identity of their own, with their names.
fn objects(snapshot: &Snapshot) -> HashMap<ObjectId, String> {
    let mut objects = HashMap::new();
    for role in &snapshot.roles {
        objects.insert(ObjectId::Role(role.oid), crate::sql::quote_ident(&role.name).into_owned());
    }
    for schema in &snapshot.schemas {
        objects.insert(
            ObjectId::Schema(schema.oid),
            crate::sql::quote_ident(&schema.name).into_owned(),
        );
    }
    for relation in &snapshot.relations {
        objects.insert(ObjectId::Relation(relation.oid), snapshot.relation_identity(relation));
        for policy in snapshot.policies_of(relation.oid) {
            objects
                .insert(ObjectId::Policy(policy.oid), snapshot.policy_identity(policy, relation));
        }
    }
    for routine in &snapshot.routines {
        objects.insert(ObjectId::Routine(routine.oid), snapshot.routine_identity(routine));
    }
    objects
}

/// What a finding is about, for the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Object(ObjectId),
    Name(String),
}

/// What two findings of a rule must have in common to be the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    subject: Subject,
    role: Option<String>,
    kind: String,
}

impl Key {
    fn of(subject: Subject, draft: &Draft) -> Self {
        Self {
            subject,
            role: draft.role.clone(),
            kind: draft.measure.kind.as_ref().unwrap_or(&draft.key).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::{PUBLIC, Privileges, Relation};
    use crate::rules::find;
    use crate::rules::testing::World;

    /// What is worse in `after`, a line each.
    fn worse(before: &World, after: &World, rule: &str) -> Vec<String> {
        let (old, new) = (before.snapshot.clone().complete(), after.snapshot.clone().complete());
        let (old_access, new_access) = (Access::new(&old), Access::new(&new));
        let old = Context::new(&before.contract, &old, &old_access, &|| {});
        let new = Context::new(&after.contract, &new, &new_access, &|| {});
        let line = |w: Regression| {
            format!(
                "{} {}: {}",
                w.action.as_str(),
                if w.settled { "now" } else { "at commit" },
                w.finding.detail
            )
        };
        Change::new(&old, &new).worse(find(rule).unwrap()).into_iter().map(line).collect()
    }

    #[test]
    fn more_of_the_same_is_worse_and_less_is_not() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let anon = before.role("anon").oid;
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
        before.grant("public.judgments", anon, Privileges::SELECT | Privileges::REFERENCES);
        after.grant("public.judgments", anon, Privileges::SELECT);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
        let line = "block now: Role \"anon\" has SELECT, REFERENCES on table public.judgments, which the contract does not declare.";
        assert_eq!(worse(&after, &before, "table_privileges"), [line]);
    }

    #[test]
    fn what_everybody_had_a_role_may_have() {
        let (mut before, mut after) = (World::conforming(), World::conforming());
        let anon = before.role("anon").oid;
        before.grant("public.judgments", PUBLIC, Privileges::SELECT);
        after.grant("public.judgments", anon, Privileges::SELECT);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
    }

    #[test]
    fn a_renamed_table_keeps_its_past_and_another_in_its_place_has_none() {
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
                acl: Some(vec![]),
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
        let line = "block at commit: Role \"anon\" has SELECT on table public.notes, which the contract does not declare.";
        assert_eq!(
            worse(&before, &after, "table_privileges"),
            [line],
            "another table took its name"
        );
        // Dropped and made anew: the new one is the old one's successor.
        let mut after = World::conforming();
        add(&mut after, 5003, "notes", true);
        assert_eq!(worse(&before, &after, "table_privileges"), [""; 0]);
    }

    #[test]
    fn what_is_not_there_yet_is_judged_at_commit_and_beginning_is_progress() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.relation("public.judgments").row_security = false;
        let reached = "block now: Row level security is off on table public.judgments, for which the contract demands it.";
        assert_eq!(worse(&before, &after, "rls_disabled"), [reached], "authenticated reads it");
        after.snapshot.relations.retain(|r| r.name != "judgments");
        let gone =
            "block at commit: Table public.judgments, which the contract declares, does not exist.";
        assert_eq!(worse(&before, &after, "required_object_missing"), [gone]);
        // A declared table made for the first time, without anything: better than none.
        let (before, mut bare) = (after, World::conforming());
        let table = bare.relation("public.judgments");
        (table.acl, table.row_security) = (None, false);
        for rule in ["rls_disabled", "table_privileges", "required_object_missing"] {
            assert_eq!(worse(&before, &bare, rule), [""; 0], "{rule}");
        }
        // ... but it must not be opened as it is.
        let mut open = World::conforming();
        open.relation("public.judgments").row_security = false;
        assert_eq!(worse(&bare, &open, "rls_disabled"), [reached]);
    }

    #[test]
    fn notes_defaults_and_a_public_without_clients_are_let_pass() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.relation("public.judgments").force_row_security = false;
        assert_eq!(worse(&before, &after, "rls_not_forced"), [""; 0]);
        let mut routine = after.routine("get_ceo_metrics").clone();
        (routine.oid, routine.name, routine.acl) = (6001, "fresh".into(), None);
        routine.schema = after.schema("ops").oid;
        after.snapshot.routines.push(routine);
        let public = "warn at commit: PUBLIC (every role) has EXECUTE on function ops.fresh() by default, which the contract does not \
                      declare.";
        assert_eq!(worse(&before, &after, "security_definer_executable_by_clients"), [public]);
        let clients = |world: &mut World| {
            world.snapshot.roles.retain(|r| r.name != "anon" && r.name != "authenticated")
        };
        clients(&mut after);
        assert_eq!(worse(&before, &after, "security_definer_executable_by_clients"), [""; 0]);
    }
}
