//! A declared schema, table, view, sequence or routine is missing or of another kind.

use super::context::Context;
use super::shared::definer_path;
use crate::catalog::{Object, ObjectId, Relation, RelationKind, Routine, RoutineKind};
use crate::contract::{ColumnGrants, ColumnGrantsByRole, FunctionDecl, GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, RoutineChange, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::search_path::set_clause;
use crate::sql::{capitalized, quote_ident, safe_ident, safe_qualified, safe_sql};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The rule.
pub static RULE: Rule = Rule {
    id: "required_object_missing",
    title: "A declared schema, table, view, sequence or function is missing or of another kind",
    area: Area::Objects,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::DependentObjectsStillExist,
    recheck: Recheck::Names,
    breaks_declared: true,
    checks: "Every schema, table, view, sequence and function that the contract declares \
             exists, is of the declared kind and, for a function, has the declared argument \
             types and SECURITY DEFINER. Columns that column_grants, keys and open_rows name \
             exist.",
    why: "Clients and workers depend on the declared objects, and declarations about a missing \
          object protect nothing.",
    fix: "Create the object again from its migration, in the same transaction where it is \
          replaced, or remove it from the contract with ops.declare().",
    exempt: "An object that a later release adds. Prefer removing it from the contract until \
             then.",
    exempt_by_pattern: true,
    example: Example {
        violating: "DROP VIEW ops.v_event_log_recent;",
        correct: "CREATE OR REPLACE VIEW ops.v_event_log_recent AS\n\
                  \x20  SELECT * FROM ops.event_log ORDER BY at DESC LIMIT 50;",
    },
    references: &["CWE-693"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    schemas(cx, out);
    relations(cx, out);
    columns(cx, out);
    routines(cx, out);
}

/// Adds a finding for each column that `column_grants`, `keys` or `open_rows` names and that does
/// not exist.
fn columns(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for table in cx.contract.tables.iter().filter(|table| cx.wants_name(&table.name)) {
        let keys = table.keys.iter().map(|column| ("keys", column));
        let open = table.open_rows.values().flatten().map(|column| ("open_rows", column));
        let named = granted(&table.column_grants).chain(keys).chain(open);
        missing_columns(cx, &table.schema, &table.name, named, out);
    }
    for view in cx.contract.views.iter().filter(|view| cx.wants_name(&view.name)) {
        missing_columns(cx, &view.schema, &view.name, granted(&view.column_grants), out);
    }
}

/// Returns the columns that `column_grants` names, each with where it is named.
fn granted(grants: &ColumnGrantsByRole) -> impl Iterator<Item = (&'static str, &String)> {
    let columns = grants.values().flat_map(ColumnGrants::each).flat_map(|(_, names)| names);
    columns.map(|column| ("column_grants", column))
}

fn missing_columns<'a>(
    cx: &Context<'_>,
    schema: &str,
    name: &str,
    named: impl Iterator<Item = (&'static str, &'a String)>,
    out: &mut Vec<Draft>,
) {
    let relation =
        cx.snapshot.schema_named(schema).and_then(|of| cx.snapshot.relation_named(of.oid, name));
    // A missing relation is a finding of its own.
    let Some(relation) = relation else { return };
    let mut missing: BTreeMap<&String, BTreeSet<&str>> = BTreeMap::new();
    for (place, column) in named.filter(|(_, column)| !relation.column_names.contains(column)) {
        missing.entry(column).or_default().insert(place);
    }
    let drafts = missing.into_iter().map(|(column, places)| {
        let places = places.into_iter().collect::<Vec<_>>().join(" and ");
        missing_column(relation, schema, column, &places)
    });
    out.extend(drafts);
}

/// Returns the finding about a missing column; `places` is where the contract names it.
fn missing_column(relation: &Relation, schema: &str, column: &str, places: &str) -> Draft {
    let object = Object {
        object_type: relation.kind.column_type(),
        schema: Some(schema.to_owned()),
        identity: format!(
            "{}.{}.{}",
            quote_ident(schema),
            quote_ident(&relation.name),
            quote_ident(column)
        ),
        managed_by: None,
        id: ObjectId::Named,
    };
    let table = safe_qualified(schema, &relation.name);
    let subject =
        format!("Column {} of {} {table}", safe_ident(column), relation.kind.object_type());
    let proposal = format!(
        "Create the column again from its migration:\nALTER TABLE {table} ADD COLUMN {} ...;\n\
         Or remove it from {places} in the contract.",
        safe_ident(column)
    );
    let fix = Fix::Proposal(match relation.kind {
        RelationKind::View | RelationKind::MaterializedView => format!(
            "Create the view again from its migration, or remove the column from {places} in the \
             contract."
        ),
        _ => proposal,
    });
    missing(object, &subject, "does not exist", fix)
}

fn schemas(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let is_missing = |name: &str| cx.wants_name(name) && cx.snapshot.schema_named(name).is_none();
    for schema in cx.contract.schemas.iter().filter(|schema| is_missing(&schema.name)) {
        let sql = safe_ident(&schema.name);
        let create = Statement::with_repeatable(
            Change::AddSchema(schema.name.clone()),
            format!("CREATE SCHEMA {sql};"),
            format!("CREATE SCHEMA IF NOT EXISTS {sql};"),
        );
        let object = Context::schema_object(&schema.name);
        out.push(missing(object, &format!("Schema {sql}"), "does not exist", Fix::by(create)));
    }
}

/// A relation that the contract declares.
struct DeclaredRelation<'a> {
    object_type: &'static str,
    schema: &'a str,
    name: &'a str,
    /// Whether a relation of this kind is what the contract declares.
    is_kind: fn(RelationKind) -> bool,
    create: Create<'a>,
}

/// How a declared relation can be created.
enum Create<'a> {
    /// By its migration; the rest of the statement after the name, with gaps.
    ByMigration(&'static str),
    /// By the query of the view in the contract.
    View(RelationKind, &'a str),
    Sequence,
}

fn relations(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut existing: HashMap<(&str, &str), RelationKind> = HashMap::new();
    for (relation, schema) in cx.relations() {
        existing.insert((&schema.name, &relation.name), relation.kind);
    }
    for declared in declared_relations(cx).filter(|declared| cx.wants_name(declared.name)) {
        let kind = existing.get(&(declared.schema, declared.name)).copied();
        if !kind.is_some_and(declared.is_kind) {
            out.push(declared.missing(kind));
        }
    }
}

fn declared_relations<'a>(cx: &Context<'a>) -> impl Iterator<Item = DeclaredRelation<'a>> {
    let tables = cx.contract.tables.iter().map(|table| DeclaredRelation {
        object_type: "table",
        schema: &table.schema,
        name: &table.name,
        is_kind: RelationKind::is_table,
        create: Create::ByMigration("(...)"),
    });
    let views = cx.contract.views.iter().map(|view| {
        let kind =
            if view.materialized { RelationKind::MaterializedView } else { RelationKind::View };
        DeclaredRelation {
            object_type: kind.object_type(),
            schema: &view.schema,
            name: &view.name,
            is_kind: if view.materialized {
                |kind| kind == RelationKind::MaterializedView
            } else {
                |kind| kind == RelationKind::View
            },
            create: match &view.definition {
                // The roles that read the tables behind it may need privileges on these first.
                _ if view.security_invoker => {
                    Create::ByMigration("WITH (security_invoker = true) AS SELECT ...")
                }
                Some(query) => Create::View(kind, query),
                None => Create::ByMigration("AS SELECT ..."),
            },
        }
    });
    let sequences = cx.contract.sequences.iter().map(|sequence| DeclaredRelation {
        object_type: "sequence",
        schema: &sequence.schema,
        name: &sequence.name,
        is_kind: |kind| kind == RelationKind::Sequence,
        create: Create::Sequence,
    });
    tables.chain(views).chain(sequences)
}

impl DeclaredRelation<'_> {
    /// Returns the finding; `kind` is the kind of an existing relation of that name.
    fn missing(&self, kind: Option<RelationKind>) -> Draft {
        let sql = safe_qualified(self.schema, self.name);
        let identity = format!("{}.{}", quote_ident(self.schema), quote_ident(self.name));
        let schema = Some(self.schema.to_owned());
        let object = Object {
            object_type: self.object_type,
            schema,
            identity,
            managed_by: None,
            id: ObjectId::Named,
        };
        let problem = kind.map_or_else(
            || "does not exist".to_owned(),
            |kind| format!("is a {}", kind.object_type()),
        );
        let subject = format!("{} {sql}", capitalized(self.object_type));
        let mut draft = missing(object, &subject, &problem, self.fix(&sql, kind));
        if let Some(kind) = kind {
            draft.evidence["differs"] = differs("kind", self.object_type, kind.object_type());
        }
        draft
    }

    fn fix(&self, sql: &str, kind: Option<RelationKind>) -> Fix {
        let words = self.object_type.to_uppercase();
        let names = (self.schema.to_owned(), self.name.to_owned());
        match (&self.create, kind) {
            (Create::ByMigration(rest), kind) => {
                from_migration(kind, &format!("CREATE {words} {sql} {rest};"))
            }
            (Create::View(..), kind @ Some(_)) => {
                from_migration(kind, &format!("CREATE {words} {sql} AS SELECT ...;"))
            }
            (Create::Sequence, kind @ Some(_)) => {
                from_migration(kind, &format!("CREATE SEQUENCE {sql};"))
            }
            (Create::View(kind, query), None) => {
                let rest = format!("{sql} AS {}", terminated(query));
                let again = match kind {
                    RelationKind::MaterializedView => "CREATE MATERIALIZED VIEW IF NOT EXISTS",
                    _ => "CREATE OR REPLACE VIEW",
                };
                let change = Change::AddRelation(*kind, names.0, names.1);
                let create = format!("CREATE {words} {rest}");
                Fix::by(Statement::with_repeatable(change, create, format!("{again} {rest}")))
            }
            (Create::Sequence, None) => Fix::by(Statement::with_repeatable(
                Change::AddRelation(RelationKind::Sequence, names.0, names.1),
                format!("CREATE SEQUENCE {sql};"),
                format!("CREATE SEQUENCE IF NOT EXISTS {sql};"),
            )),
        }
    }
}

fn routines(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut existing: HashMap<(&str, &str), Vec<&Routine>> = HashMap::new();
    for (routine, schema) in cx.routines() {
        existing.entry((&schema.name, &routine.name)).or_default().push(routine);
    }
    for declared in cx.contract.functions.iter().filter(|f| cx.wants_name(&f.name)) {
        let of_that_name = existing.get(&(declared.schema.as_str(), declared.name.as_str()));
        function(cx, declared, of_that_name.map_or(&[], Vec::as_slice), out);
    }
}

fn function(
    cx: &Context<'_>,
    declared: &FunctionDecl,
    of_that_name: &[&Routine],
    out: &mut Vec<Draft>,
) {
    let candidates: Vec<&&Routine> = of_that_name
        .iter()
        .filter(|r| r.kind != RoutineKind::Aggregate || declared.security_definer != Some(true))
        .filter(|r| cx.has_arguments(r, declared.arguments.as_deref()))
        .collect();
    if candidates.is_empty() {
        out.push(missing_function(cx, declared, !of_that_name.is_empty()));
        return;
    }
    let Some(wanted) = declared.security_definer else { return };
    for routine in candidates.into_iter().filter(|r| r.security_definer != wanted) {
        let subject = format!("Function {}", cx.snapshot.routine_message(routine));
        let (is, fix) = if wanted {
            ("is not SECURITY DEFINER", definer_path::become_definer(cx, routine))
        } else {
            let actions = vec![RoutineChange::SecurityDefiner(false)];
            let sql =
                format!("ALTER ROUTINE {} SECURITY INVOKER;", cx.snapshot.routine_sql(routine));
            let change = Change::AlterRoutine(routine.oid, actions);
            ("is SECURITY DEFINER", Fix::by(Statement::new(change, sql)))
        };
        let mut draft = missing(cx.routine_object(routine), &subject, is, fix);
        let (expected, actual) =
            if wanted { ("DEFINER", "INVOKER") } else { ("INVOKER", "DEFINER") };
        draft.evidence["differs"] = differs("security", expected, actual);
        out.push(draft.measure(Measure::default()));
    }
}

/// Returns the finding about a function that does not exist; `is_overloaded` where functions of
/// that name have other arguments.
fn missing_function(cx: &Context<'_>, declared: &FunctionDecl, is_overloaded: bool) -> Draft {
    let arguments = declared.arguments.as_deref().unwrap_or("...");
    let identity =
        format!("{}.{}({arguments})", quote_ident(&declared.schema), quote_ident(&declared.name));
    let name = safe_qualified(&declared.schema, &declared.name);
    let object = Object {
        object_type: "function",
        schema: Some(declared.schema.clone()),
        identity,
        managed_by: None,
        id: ObjectId::Named,
    };
    let problem =
        if is_overloaded { "does not exist with these arguments" } else { "does not exist" };
    let definer = if declared.security_definer == Some(true) {
        let path = set_clause(&cx.contract.security_definer.search_path);
        format!(" SECURITY DEFINER SET search_path = {path}")
    } else {
        String::new()
    };
    let sql = safe_sql(arguments);
    let create = format!("CREATE FUNCTION {name}({sql}) RETURNS ...{definer} AS ...;");
    let subject = format!("Function {name}({arguments})");
    missing(object, &subject, problem, from_migration(None, &create))
}

/// Returns a query with a semicolon, on a line of its own after a comment.
fn terminated(query: &str) -> String {
    let query = query.trim_end().trim_end_matches(';');
    let end =
        if query.lines().last().is_some_and(|line| line.contains("--")) { "\n;" } else { ";" };
    format!("{query}{end}")
}

/// Returns the proposal for an object of a migration; `other` is an existing relation of that name.
fn from_migration(other: Option<RelationKind>, create: &str) -> Fix {
    let first =
        other.map(|kind| format!("Drop or rename the {} of that name. ", kind.object_type()));
    Fix::Proposal(format!("{}Create it from its migration:\n{create}", first.unwrap_or_default()))
}

/// Returns the evidence of an object that exists and differs from its declaration in one property.
fn differs(property: &str, expected: &str, actual: &str) -> Value {
    json!({"property": property, "expected": expected, "actual": actual})
}

fn missing(object: Object, subject: &str, problem: &str, fix: Fix) -> Draft {
    let detail = format!("{subject}, which the contract declares, {problem}.");
    Draft::new(object, Severity::Error, detail)
        .evidence(json!({"problem": problem}))
        .fix(fix)
        .measure(Measure::missing("", vec![]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::{Context, RULE};
    use crate::access::Access;
    use crate::catalog::RelationKind;
    use std::rc::Rc;

    #[test]
    fn missing_object_and_object_of_another_kind_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.relation("public.judgments").kind = RelationKind::View;
        world.snapshot.relations.retain(|r| r.name != "v_rls_coverage");
        world.snapshot.routines.retain(|r| r.name != "get_call_queue");
        world.routine("get_ceo_metrics").security_definer = false;
        assert_eq!(
            world.found(&RULE),
            [
                "error function api.get_call_queue(): Function api.get_call_queue(), which the \
                 contract declares, does not exist.",
                "error function api.get_ceo_metrics(): Function api.get_ceo_metrics(), which the \
                 contract declares, is not SECURITY \
                 DEFINER. => ALTER ROUTINE api.get_ceo_metrics() SECURITY DEFINER SET search_path \
                 = public, pg_temp;",
                "error view ops.v_rls_coverage: View ops.v_rls_coverage, which the contract \
                 declares, does not exist. \
                 => CREATE VIEW ops.v_rls_coverage AS SELECT * FROM ops.rls_coverage();",
                "error table public.judgments: Table public.judgments, which the contract \
                 declares, is a view."
            ]
        );
    }

    #[test]
    fn only_objects_of_wanted_names_are_reported() {
        let mut world = World::conforming();
        world.snapshot.relations.retain(|r| r.name != "v_rls_coverage" && r.name != "judgments");
        world.snapshot.routines.retain(|r| r.name != "get_call_queue");
        world.snapshot.schemas.retain(|s| s.name != "enforcement");
        let found = |names: &[&str]| {
            let snapshot = world.snapshot.clone().complete();
            let access = Access::new(&snapshot);
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
            let found = cx.about_names(Some(Rc::new(names))).run(&RULE);
            found.into_iter().map(|finding| finding.object.identity).collect::<Vec<_>>()
        };
        assert_eq!(found(&[]), [""; 0]);
        assert_eq!(found(&["v_rls_coverage", "other"]), ["ops.v_rls_coverage"]);
        assert_eq!(found(&["judgments"]), ["public.judgments"]);
        assert_eq!(found(&["get_call_queue"]), ["api.get_call_queue()"]);
    }

    #[test]
    fn missing_schema_is_fixed_by_create_schema() {
        let mut world = World::conforming();
        world.snapshot.schemas.retain(|s| s.name != "enforcement");
        assert_eq!(
            world.found(&RULE),
            ["error schema enforcement: Schema enforcement, which the contract declares, does \
                 not exist. \
              => CREATE SCHEMA enforcement;"]
        );
    }

    #[test]
    fn missing_column_of_keys_and_open_rows_is_reported_once() {
        let mut world = World::conforming();
        let table = world.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        table.keys = vec!["owner".into(), "tenant".into()];
        table.open_rows.insert("authenticated".into(), vec!["owner".into()]);
        world.relation("public.judgments").column_names = ["id", "tenant"].map(String::from).into();
        assert_eq!(
            world.found(&RULE),
            ["error table column public.judgments.owner: Column owner of table public.judgments, \
              which the contract declares, does not exist."]
        );
    }
}
