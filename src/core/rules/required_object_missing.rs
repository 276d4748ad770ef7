//! A schema, table, view or routine that the contract declares is not there, or is something else.

use super::{Area, Context, Rule};
use crate::catalog::{Object, ObjectId, Relation, RelationKind, Routine, RoutineKind};
use crate::contract::{FunctionDecl, GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::{Change, Mend, RoutineChange, Statement};
use crate::search_path::{set_clause, stored_value};
use crate::sql::{quote_ident, safe_ident, safe_qualified, safe_sql};
use serde_json::json;
use std::collections::HashMap;

/// The rule.
pub static RULE: Rule = Rule {
    id: "required_object_missing",
    title: "A declared schema, table, view or function is missing or of the wrong kind",
    area: Area::Objects,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "3",
    why: "Clients and workers rely on what the contract declares, and what is declared about an object that is not there \
          protects nothing.",
    mend: "Restore the object from its migration. A schema, a view whose query the contract knows, and a routine that only lost \
           SECURITY DEFINER are mended by SQL.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut named: HashMap<(&str, &str), &Relation> = HashMap::new();
    for (relation, schema) in cx.relations() {
        named.insert((&schema.name, &relation.name), relation);
    }
    for schema in &cx.contract.schemas {
        if cx.snapshot.schema_named(&schema.name).is_none() {
            let sql = safe_ident(&schema.name);
            let object = Context::schema_object(&schema.name);
            let create = Statement::new(Change::AddSchema(schema.name.clone()), format!("CREATE SCHEMA {sql};"));
            out.push(missing(object, &format!("Schema {sql}"), "does not exist", Mend::by(create)));
        }
    }
    for table in &cx.contract.tables {
        let kind = named.get(&(table.schema.as_str(), table.name.as_str())).map(|r| r.kind);
        if !kind.is_some_and(RelationKind::is_table) {
            let sql = safe_qualified(&table.schema, &table.name);
            let object = relation("table", &table.schema, &table.name);
            let mend = from_migration(kind, &format!("CREATE TABLE {sql} (...);"));
            out.push(missing(object, &format!("Table {sql}"), &problem(kind), mend));
        }
    }
    for view in &cx.contract.views {
        let kind = named.get(&(view.schema.as_str(), view.name.as_str())).map(|r| r.kind);
        let (word, wanted) = match view.materialized {
            true => ("materialized view", RelationKind::MaterializedView),
            false => ("view", RelationKind::View),
        };
        if kind != Some(wanted) {
            let sql = safe_qualified(&view.schema, &view.name);
            let create = view.definition.as_ref().filter(|_| kind.is_none());
            let mend = match create {
                Some(query) => Mend::by(Statement::new(
                    Change::AddRelation(wanted, view.schema.clone(), view.name.clone()),
                    format!("CREATE {} {sql} AS {}", word.to_uppercase(), ended(query)),
                )),
                None => from_migration(kind, &format!("CREATE {} {sql} AS SELECT ...;", word.to_uppercase())),
            };
            let subject = format!("{}{} {sql}", word[..1].to_uppercase(), &word[1..]);
            out.push(missing(relation(word, &view.schema, &view.name), &subject, &problem(kind), mend));
        }
    }
    for sequence in &cx.contract.sequences {
        let kind = named.get(&(sequence.schema.as_str(), sequence.name.as_str())).map(|r| r.kind);
        if kind != Some(RelationKind::Sequence) {
            let sql = safe_qualified(&sequence.schema, &sequence.name);
            let create = format!("CREATE SEQUENCE {sql};");
            let mend = match kind {
                Some(_) => from_migration(kind, &create),
                None => Mend::by(Statement::new(
                    Change::AddRelation(RelationKind::Sequence, sequence.schema.clone(), sequence.name.clone()),
                    create,
                )),
            };
            let object = relation("sequence", &sequence.schema, &sequence.name);
            out.push(missing(object, &format!("Sequence {sql}"), &problem(kind), mend));
        }
    }
    let mut routines: HashMap<(&str, &str), Vec<&Routine>> = HashMap::new();
    for (routine, schema) in cx.routines() {
        routines.entry((&schema.name, &routine.name)).or_default().push(routine);
    }
    for function in &cx.contract.functions {
        let of_that_name = routines.get(&(function.schema.as_str(), function.name.as_str()));
        self::function(cx, function, of_that_name.map_or(&[], Vec::as_slice), out);
    }
}

fn function(cx: &Context<'_>, declared: &FunctionDecl, of_that_name: &[&Routine], out: &mut Vec<Draft>) {
    let candidates: Vec<&&Routine> = of_that_name
        .iter()
        .filter(|r| r.kind != RoutineKind::Aggregate || declared.security_definer != Some(true))
        .filter(|r| cx.has_arguments(r, declared.arguments.as_deref()))
        .collect();
    if candidates.is_empty() {
        let arguments = declared.arguments.as_deref().unwrap_or("...");
        let identity = format!("{}.{}({arguments})", quote_ident(&declared.schema), quote_ident(&declared.name));
        let subject = format!("Function {}({arguments})", safe_qualified(&declared.schema, &declared.name));
        let object = Object {
            object_type: "function",
            schema: Some(declared.schema.clone()),
            identity,
            managed_by: None,
            id: ObjectId::Named,
        };
        let problem = if of_that_name.is_empty() { "does not exist" } else { "does not exist with these arguments" };
        let definer = match declared.security_definer {
            Some(true) => {
                format!(" SECURITY DEFINER SET search_path = {}", set_clause(&cx.contract.security_definer.search_path))
            }
            _ => String::new(),
        };
        let name = safe_qualified(&declared.schema, &declared.name);
        let mend =
            from_migration(None, &format!("CREATE FUNCTION {name}({}) RETURNS ...{definer} AS ...;", safe_sql(arguments)));
        out.push(missing(object, &subject, problem, mend));
        return;
    }
    let Some(wanted) = declared.security_definer else { return };
    for routine in candidates.into_iter().filter(|r| r.security_definer != wanted) {
        let sql = cx.snapshot.routine_sql(routine);
        let path = set_clause(&cx.contract.security_definer.search_path);
        let mut actions = vec![RoutineChange::SecurityDefiner(wanted)];
        let (is, clause) = match wanted {
            true => {
                actions.push(RoutineChange::SearchPath(stored_value(&cx.contract.security_definer.search_path)));
                ("is not SECURITY DEFINER", format!("SECURITY DEFINER SET search_path = {path}"))
            }
            false => ("is SECURITY DEFINER", "SECURITY INVOKER".to_owned()),
        };
        let subject = format!("Function {}", cx.snapshot.routine_message(routine));
        let change = Change::AlterRoutine(routine.oid, actions);
        let mend = Mend::by(Statement::new(change, format!("ALTER ROUTINE {sql} {clause};")));
        let draft = missing(cx.routine_object(routine), &subject, is, mend);
        out.push(Draft { measure: Measure::default(), ..draft });
    }
}

fn relation(object_type: &'static str, schema: &str, name: &str) -> Object {
    let identity = format!("{}.{}", quote_ident(schema), quote_ident(name));
    Object { object_type, schema: Some(schema.to_owned()), identity, managed_by: None, id: ObjectId::Named }
}

/// A query with its end, which a comment in its last line must not swallow.
fn ended(query: &str) -> String {
    let query = query.trim_end().trim_end_matches(';');
    let end = if query.lines().last().is_some_and(|line| line.contains("--")) { "\n;" } else { ";" };
    format!("{query}{end}")
}

fn problem(kind: Option<RelationKind>) -> String {
    kind.map_or_else(|| "does not exist".to_owned(), |kind| format!("is a {}", kind.object_type()))
}

/// What only its migration can bring back; what stands in its place goes first.
fn from_migration(in_its_place: Option<RelationKind>, create: &str) -> Mend {
    let first = in_its_place.map(|kind| format!("The {} of that name has to go or to be renamed. ", kind.object_type()));
    Mend::Proposal(format!("{}From its migration:\n{create}", first.unwrap_or_default()))
}

fn missing(object: Object, subject: &str, problem: &str, mend: Mend) -> Draft {
    Draft {
        object,
        role: None,
        severity: Severity::Error,
        key: String::new(),
        measure: Measure::lack("", vec![]),
        detail: format!("{subject}, which the contract declares, {problem}."),
        evidence: json!({"problem": problem}),
        mend,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::RelationKind;

    #[test]
    fn what_is_declared_must_be_there_and_of_its_kind() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.relation("public.judgments").kind = RelationKind::View;
        world.snapshot.relations.retain(|r| r.name != "v_rls_coverage");
        world.snapshot.routines.retain(|r| r.name != "get_call_queue");
        world.routine("get_ceo_metrics").security_definer = false;
        assert_eq!(
            world.found(&RULE),
            [
                "error function api.get_call_queue(): Function api.get_call_queue(), which the contract declares, does not exist.",
                "error function api.get_ceo_metrics(): Function api.get_ceo_metrics(), which the contract declares, is not SECURITY \
                 DEFINER. => ALTER ROUTINE api.get_ceo_metrics() SECURITY DEFINER SET search_path = public, pg_temp;",
                "error view ops.v_rls_coverage: View ops.v_rls_coverage, which the contract declares, does not exist. \
                 => CREATE VIEW ops.v_rls_coverage AS SELECT * FROM ops.rls_coverage();",
                "error table public.judgments: Table public.judgments, which the contract declares, is a view."
            ]
        );
    }

    #[test]
    fn a_missing_schema_is_made() {
        let mut world = World::conforming();
        world.snapshot.schemas.retain(|s| s.name != "enforcement");
        assert_eq!(
            world.found(&RULE),
            ["error schema enforcement: Schema enforcement, which the contract declares, does not exist. \
              => CREATE SCHEMA enforcement;"]
        );
    }
}
