//! What the text of a body mentions that the role it runs as may not use. The server checks that
//! only when the body runs, and the statement may not be reached: it is a note, and never a
//! verdict.

use super::uses::{Text, Verbs, of_routine, of_schema};
use crate::catalog::{ObjectKind, Oid, PG_CATALOG, Privileges, Relation, Role, Routine};
use crate::rules::Context;
use crate::search_path::settings;
use crate::sql::body::{Language, Mentions};
use crate::sql::{listed_as_alternatives, printable, safe_ident};
use std::collections::HashMap;

/// Looks up what texts mention among the objects of a snapshot.
pub struct Mentioned<'c, 'a> {
    cx: &'c Context<'a>,
    relations: HashMap<&'a str, Vec<&'a Relation>>,
    routines: HashMap<&'a str, Vec<&'a Routine>>,
}

/// The words before the name of a table.
const BEFORE_TABLES: [&str; 6] = ["from", "into", "join", "only", "table", "update"];

impl<'c, 'a> Mentioned<'c, 'a> {
    /// Returns the look-up in the snapshot of a context.
    #[must_use]
    pub fn new(cx: &'c Context<'a>) -> Self {
        let mut new = Self { cx, relations: HashMap::new(), routines: HashMap::new() };
        for relation in &cx.snapshot.relations {
            new.relations.entry(&relation.name).or_default().push(relation);
        }
        for routine in &cx.snapshot.routines {
            new.routines.entry(&routine.name).or_default().push(routine);
        }
        new
    }

    /// Whether the text of a routine may name a relation or routine, so that what it may do depends
    /// on privileges.
    #[must_use]
    pub fn names_objects(&self, routine: &Routine, text: &Text) -> bool {
        let mentions = Mentions::of(&text.source, text.language);
        let (relations, routines) = self.named(routine, text, &mentions);
        mentions.runs_text
            || text.language == Language::Other
            || !(relations.is_empty() && routines.is_empty())
    }

    /// Returns a sentence about what the text of a routine mentions and a role may not use; `None`
    /// where nothing is found.
    #[must_use]
    pub fn missing(&self, routine: &Routine, text: &Text, role: &Role) -> Option<String> {
        let cx = self.cx;
        cx.check_interrupts();
        // What it looks up in another language is not known.
        if cx.access.is_superuser(role.oid) || text.language == Language::Other {
            return None;
        }
        let mut missing = self.missing_privileges(routine, text, role);
        missing.sort();
        missing.dedup();
        (!missing.is_empty()).then(|| {
            format!(
                "Role \"{}\" does not have {}, which it mentions.",
                printable(&role.name),
                printable(&listed_as_alternatives(&missing))
            )
        })
    }

    /// Returns privileges on objects, such as `SELECT on table app.posts`.
    fn missing_privileges(&self, routine: &Routine, text: &Text, role: &Role) -> Vec<String> {
        let mentions = Mentions::of(&text.source, text.language);
        let (relations, routines) = self.named(routine, text, &mentions);
        let verbs = Verbs::of(text);
        let relations = relations.into_iter().filter_map(|r| self.on_relation(r, role, &verbs));
        relations.chain(routines.into_iter().filter_map(|r| self.on_routine(r, role))).collect()
    }

    /// Returns the relations and the routines that a text names where it uses them: with their
    /// schema, or where only the name of a table or a call can be.
    fn named(
        &self,
        routine: &Routine,
        text: &Text,
        mentions: &Mentions,
    ) -> (Vec<&'a Relation>, Vec<&'a Routine>) {
        let (source, path) = (Source::of(&text.source), self.path(routine));
        let is_meant = |name: &str, schema: Oid, is_call: bool| {
            let written = self.cx.snapshot.schema_name(schema);
            mentions.qualified.contains_key(name) && source.contains(written, name, is_call)
                || mentions.words.contains_key(name)
                    && !mentions.temporary.contains(name)
                    && source.uses(name, is_call)
                    && self.found_in(&path, name, is_call) == Some(schema)
        };
        let (mut relations, mut routines) = (Vec::new(), Vec::new());
        for (name, is_call) in mentions.words.iter().chain(&mentions.qualified) {
            let of_name = self.relations.get(name.as_str()).into_iter().flatten();
            relations.extend(of_name.filter(|found| is_meant(name, found.schema, false)));
            let of_name = self.routines.get(name.as_str()).filter(|_| *is_call);
            let of_name = of_name.into_iter().flatten();
            routines.extend(
                of_name.filter(|found| {
                    found.schema != PG_CATALOG && is_meant(name, found.schema, true)
                }),
            );
        }
        (relations, routines)
    }

    /// Returns the schemas in which a name without a schema is looked up: those of the search_path
    /// of the routine. Without one it is that of the session, in which the schema of the routine
    /// probably is.
    fn path(&self, routine: &Routine) -> Vec<Oid> {
        let snapshot = self.cx.snapshot;
        let set = settings(&routine.config);
        let Some(path) = set.last() else { return vec![routine.schema] };
        let names = snapshot.split_path(path).unwrap_or_default();
        names.iter().filter_map(|name| Some(snapshot.schema_named(name)?.oid)).collect()
    }

    fn found_in(&self, path: &[Oid], name: &str, is_call: bool) -> Option<Oid> {
        let is_in = |schema: &Oid| {
            if is_call {
                let named = self.routines.get(name).into_iter().flatten();
                named.into_iter().any(|routine| routine.schema == *schema)
            } else {
                let named = self.relations.get(name).into_iter().flatten();
                named.into_iter().any(|relation| relation.schema == *schema)
            }
        };
        path.iter().copied().find(is_in)
    }

    /// Returns what a role lacks to use a relation at all with statements of these verbs.
    fn on_relation(&self, relation: &Relation, role: &Role, verbs: &Verbs) -> Option<String> {
        let cx = self.cx;
        let possible = verbs.privileges(relation.kind);
        let held_on_columns = relation.columns.iter().any(|(_, acl)| {
            let acl = Some(acl);
            let held = cx.access.privileges(role.oid, relation.owner, acl, ObjectKind::Column);
            held.intersects(possible)
        });
        let held = cx.access.relation_privileges(role.oid, relation);
        if possible.is_empty() || held.intersects(possible) || held_on_columns {
            return self.on_schema(relation.schema, role);
        }
        let (kind, name) = (relation.kind.object_type(), cx.snapshot.relation_sql(relation));
        let is_one = possible.words().len() == 1;
        let privilege = if is_one { possible.to_string() } else { "a privilege".to_owned() };
        Some(format!("{privilege} on {kind} {name}"))
    }

    fn on_routine(&self, called: &Routine, role: &Role) -> Option<String> {
        let cx = self.cx;
        let executes = |routine: &&Routine| {
            of_routine(cx.access, role.oid, routine).contains(Privileges::EXECUTE)
        };
        let of_name = self.routines.get(called.name.as_str()).into_iter().flatten();
        // Which of several the arguments select is not known.
        if of_name.copied().filter(|other| other.schema == called.schema).any(|r| executes(&r)) {
            return self.on_schema(called.schema, role);
        }
        let (kind, name) = (called.object_type(), cx.snapshot.routine_message(called));
        Some(format!("EXECUTE on {kind} {name}"))
    }

    fn on_schema(&self, schema: Oid, role: &Role) -> Option<String> {
        let cx = self.cx;
        let schema = cx.snapshot.schema(schema)?;
        let held = of_schema(cx.access, role.oid, schema);
        (!held.contains(Privileges::USAGE))
            .then(|| format!("USAGE on schema {}", safe_ident(&schema.name)))
    }
}

/// A text as its words and the characters between them, folded.
struct Source {
    text: String,
}

impl Source {
    fn of(source: &str) -> Self {
        Self { text: source.to_lowercase().replace('"', "") }
    }

    /// Whether the text contains `schema.name`, as a call if it must be one.
    fn contains(&self, schema: &str, name: &str, is_call: bool) -> bool {
        let wanted = format!("{}.{}", schema.to_lowercase(), name.to_lowercase());
        self.places(&wanted).any(|at| !is_call || self.is_call(at + wanted.len()))
    }

    /// Whether the text has a name without a schema where that of a table is, or a call.
    fn uses(&self, name: &str, is_call: bool) -> bool {
        let name = name.to_lowercase();
        self.places(&name).any(|at| {
            let before = self.text[..at].trim_end();
            let is_table = || {
                before.len() < at && BEFORE_TABLES.iter().any(|word| ends_with_word(before, word))
            };
            if is_call { self.is_call(at + name.len()) } else { is_table() }
        })
    }

    /// Whether a parenthesis follows.
    fn is_call(&self, at: usize) -> bool {
        self.text[at..].trim_start().starts_with('(')
    }

    /// Returns the places of a name that is no part of a longer one.
    fn places<'s>(&'s self, name: &'s str) -> impl Iterator<Item = usize> + 's {
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        self.text.match_indices(name).map(|(at, _)| at).filter(move |at| {
            let before = self.text[..*at].chars().next_back();
            let after = self.text[*at + name.len()..].chars().next();
            !before.is_some_and(|c| is_name(c) || c == '.') && !after.is_some_and(is_name)
        })
    }
}

fn ends_with_word(text: &str, word: &str) -> bool {
    text.strip_suffix(word).is_some_and(|rest| {
        !rest.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::rules::testing::World;

    const TABLE: &str = "public.judgments";

    /// Returns what a text of `api.queue_job`, an invoker routine, mentions and `anon` may not use,
    /// and whether it names objects.
    fn told(world: &mut World, language: Language, source: &str) -> (Option<String>, bool) {
        world.routine("queue_job").security_definer = false;
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
        let routine = snapshot.routines.iter().find(|r| r.name == "queue_job").unwrap();
        let text = Text { language, source: source.to_owned() };
        let mentioned = Mentioned::new(&cx);
        let anon = snapshot.role_named("anon").unwrap();
        (mentioned.missing(routine, &text, anon), mentioned.names_objects(routine, &text))
    }

    fn missing(world: &mut World, source: &str) -> String {
        told(world, Language::Sql, source).0.unwrap_or_default()
    }

    #[test]
    fn object_that_the_role_may_not_use_is_named() {
        let world = &mut World::conforming();
        let on_table = "Role \"anon\" does not have SELECT on table public.judgments, which it \
                        mentions.";
        for source in [
            "SELECT count(*) FROM public.judgments",
            "SELECT 1 from PUBLIC . judgments, public.\"judgments\"",
            "SELECT (SELECT id FROM public.judgments LIMIT 1)",
        ] {
            assert_eq!(missing(world, source), on_table, "{source}");
        }
        assert_eq!(
            missing(world, "INSERT INTO public.judgments SELECT 1"),
            "Role \"anon\" does not have a privilege on table public.judgments, which it mentions."
        );
        // Names without a schema are looked up in the path of the routine.
        world.routine("queue_job").config = vec!["search_path=public, pg_temp".into()].into();
        assert_eq!(missing(world, "SELECT id FROM judgments"), on_table);
        world.routine("queue_job").config = vec!["search_path=ops, pg_temp".into()].into();
        assert_eq!(missing(world, "SELECT id FROM judgments"), "");
        let anon = world.role("anon").oid;
        world.grant_column(TABLE, "id", anon, Privileges::SELECT);
        assert_eq!(missing(world, "SELECT id FROM public.judgments"), "");
    }

    #[test]
    fn schema_and_routine_are_named() {
        let world = &mut World::conforming();
        world.routine("get_ceo_metrics").acl = Some(vec![].into());
        assert_eq!(
            missing(world, "SELECT api.get_ceo_metrics()"),
            "Role \"anon\" does not have EXECUTE on function api.get_ceo_metrics(), which it \
             mentions."
        );
        let anon = world.role("anon").oid;
        world.grant("ops.event_log", anon, Privileges::SELECT);
        assert_eq!(
            missing(world, "SELECT id FROM ops.event_log"),
            "Role \"anon\" does not have USAGE on schema ops, which it mentions."
        );
    }

    #[test]
    fn what_is_no_name_of_the_object_is_not_told() {
        let world = &mut World::conforming();
        for source in [
            "SELECT 1",
            "SELECT judgments FROM other_judgments",
            "SELECT public.judgments_old",
            "SELECT x FROM xpublic.judgments",
            "SELECT 'public.judgment'",
        ] {
            assert_eq!(missing(world, source), "", "{source}");
        }
        let source = "CREATE TEMP TABLE judgments (id int); SELECT id FROM judgments";
        world.routine("queue_job").config = vec!["search_path=public, pg_temp".into()].into();
        assert_eq!(missing(world, source), "");
    }

    #[test]
    fn text_names_objects_where_privileges_decide_what_it_does() {
        let world = &mut World::conforming();
        let names = |world: &mut World, language, source: &str| told(world, language, source).1;
        let claim = "SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid";
        assert!(!names(world, Language::Sql, claim));
        for named_alike in ["'app.queue_job'", "'api.queue_job'", "queue_job"] {
            let source = format!("SELECT current_setting({named_alike}) AS judgments");
            assert!(!names(world, Language::Sql, &source), "{source}");
        }
        assert!(names(world, Language::Sql, "SELECT 1 FROM public.judgments"));
        assert!(names(world, Language::Sql, "SELECT api.queue_job()"));
        assert!(names(world, Language::PlPgSql, "BEGIN EXECUTE q; END"));
        assert!(names(world, Language::Other, "return 1"));
    }
}
