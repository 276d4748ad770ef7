//! The search_path of a SECURITY DEFINER routine under a contract, for audit and guard: verdict,
//! accepted exceptions, fix.

use super::{creators, owners};
use crate::catalog::{ObjectKind, Oid, Routine};
use crate::contract::Accept;
use crate::fix::{Change, Fix, RoutineChange, Statement};
use crate::rules::context::Context;
use crate::search_path::{
    Assessment, Exploiter, Lost, Path, Reason, ReasonCode, Searched, Verdict,
};
use crate::sql::{listed, printable, safe_ident};
use std::cell::LazyCell;
use std::rc::Rc;

/// Returns the assessment of a routine's path; `None` for SECURITY INVOKER.
#[must_use]
pub fn assess(cx: &Context<'_>, routine: &Routine) -> Option<Rc<Assessment>> {
    routine.security_definer.then(|| cx.paths.config(&routine.config, routine.owner))
}

/// Returns the proposal for a routine that executes code of types which its callers choose. It is
/// no statement: a fixed type is another routine, and whether a role needs EXECUTE is a decision.
#[must_use]
pub fn caller_types_fix(cx: &Context<'_>, routine: &Routine) -> Fix {
    let sql = cx.snapshot.routine_sql(routine);
    let built_in = || ObjectKind::Routine.default_acl(routine.owner);
    let acl = routine.acl.clone().unwrap_or_else(built_in);
    let untrusted = acl.iter().filter(|item| !cx.paths.trusts(item.grantee, routine.owner));
    let mut grantees: Vec<String> =
        untrusted.map(|item| cx.snapshot.grantee(item.grantee)).collect();
    grantees.sort();
    grantees.dedup();
    let instead = if cx.paths.are_cursors_chosen(routine) {
        "Open the cursor in the routine before it fetches"
    } else {
        "Create the routine with a type that the caller does not choose, such as jsonb or text, \
         and drop this one"
    };
    Fix::Proposal(format!(
        "{instead}; or revoke EXECUTE from all untrusted roles:\n\
         REVOKE EXECUTE ON ROUTINE {sql} FROM {};",
        grantees.join(", ")
    ))
}

/// Whether the path is empty and the contract accepts that.
#[must_use]
pub fn accepts_empty(cx: &Context<'_>, assessment: &Assessment) -> bool {
    cx.contract.security_definer.accept_empty && assessment.is_empty_path()
}

/// Whether all reasons are grants of CREATE on governed schemas, which are findings of their own.
#[must_use]
pub fn follows_from_schema(cx: &Context<'_>, assessment: &Assessment) -> bool {
    assessment.reasons.iter().all(|reason| match (reason.code, &reason.schema, &reason.role) {
        (ReasonCode::Writable, Some(schema), Some(role)) => creators::reports(cx, schema, role),
        _ => false,
    })
}

/// Whether all reasons are findings of other rules: grants of CREATE on governed schemas, or
/// objects there that belong to a role which the contract does not name.
#[must_use]
pub fn follows_from_findings(cx: &Context<'_>, assessment: &Assessment) -> bool {
    assessment.reasons.iter().all(|reason| match (reason.code, &reason.schema, &reason.role) {
        (ReasonCode::Writable, Some(schema), Some(role)) => creators::reports(cx, schema, role),
        (ReasonCode::ForeignObjects, Some(schema), Some(Exploiter::Role(role))) => {
            owners::reports(cx, schema, role)
        }
        _ => false,
    })
}

/// Returns the statements that revoke CREATE on governed schemas, if these grants are the only
/// reasons; otherwise `None`.
#[must_use]
pub fn schema_cause(cx: &Context<'_>, assessment: &Assessment) -> Option<String> {
    if assessment.reasons.is_empty() || !follows_from_schema(cx, assessment) {
        return None;
    }
    let mut statements: Vec<String> = assessment
        .reasons
        .iter()
        .filter_map(|r| {
            let grantee = match r.role.as_ref()? {
                Exploiter::Public => "PUBLIC".into(),
                Exploiter::Role(name) => safe_ident(name),
            };
            Some(format!(
                "REVOKE CREATE ON SCHEMA {} FROM {grantee};",
                safe_ident(r.schema.as_deref()?)
            ))
        })
        .collect();
    statements.dedup();
    Some(statements.join(" "))
}

/// Whether a safe path violates the contract: the routine is in a governed schema, and the contract
/// accepts only its own path.
#[must_use]
pub fn must_be_canonical(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> bool {
    let policy = &cx.contract.security_definer;
    policy.accept == Accept::Canonical
        && assessment.verdict == Verdict::Safe
        && cx.governed(routine.schema).is_some()
        && !assessment.is_canonical(&policy.search_path)
}

/// The path that a routine should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The path.
    pub path: Rc<Path>,
    /// What the body finds along its current path and not along this one. If there is anything, the
    /// change is a person's decision.
    pub lost: Vec<Lost>,
}

impl Remedy {
    /// Returns what is lost as an enumeration.
    #[must_use]
    pub fn describe_lost(&self, cx: &Context<'_>) -> String {
        let mut phrases: Vec<String> =
            self.lost.iter().take(MOST_LOST).map(|l| l.describe(cx.snapshot).to_string()).collect();
        if let Some(more) = self.lost.len().checked_sub(MOST_LOST).filter(|more| *more > 0) {
            phrases.push(format!("{more} other names"));
        }
        listed(&phrases)
    }
}

/// How many lost names a message lists.
const MOST_LOST: usize = 6;

/// Whether a fix may change the path of a routine, so that its body has to be read: a SECURITY
/// DEFINER routine, or one that the contract declares as such.
#[must_use]
pub fn may_change(cx: &Context<'_>, routine: &Routine) -> bool {
    let is_declared = || {
        cx.governed(routine.schema).is_some_and(|schema| {
            cx.contract
                .functions_named(&schema.name, &routine.name)
                .any(|f| f.security_definer == Some(true))
        })
    };
    (routine.security_definer || is_declared()) && {
        let assessment = cx.paths.config(&routine.config, routine.owner);
        assessment.verdict != Verdict::Safe || must_be_canonical(cx, routine, &assessment)
    }
}

/// Returns the path that a routine should have: the one that changes as little as possible or, for
/// a routine without a path, the contract's. Where the contract accepts only its own path, that one
/// is preferred as long as the body finds the same along it. `None` if no path is safe.
#[must_use]
pub fn remedy(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Option<Remedy> {
    let is_canonical_only = cx.contract.security_definer.accept == Accept::Canonical
        && cx.governed(routine.schema).is_some();
    let choices: &[Choice] = match &assessment.path {
        // A safe path is changed only to the contract's.
        Some(_) if assessment.verdict == Verdict::Safe => &[Choice::Canonical],
        Some(_) if is_canonical_only => &[Choice::Canonical, Choice::LeastChange],
        Some(_) => &[Choice::LeastChange],
        None => &[Choice::Canonical, Choice::LeastChange, Choice::SchemasOfTheBody],
    };
    let usual = || match &assessment.path {
        Some(path) => least_change(cx, path, routine.owner),
        None => least_change(cx, &default_path(cx), routine.owner),
    };
    let old = LazyCell::new(|| searched(cx, routine, assessment));
    let mut found = None;
    for choice in choices {
        let path = match choice {
            Choice::Canonical => Rc::clone(cx.canonical_path()),
            Choice::LeastChange => usual(),
            Choice::SchemasOfTheBody => {
                Path::new(with_schemas_of_the_body(cx, routine, &usual().names))
            }
        };
        if is_safe(cx, &path.names, routine.owner) {
            let remedy = Remedy { lost: lost(cx, routine, &old, &path.names), path };
            if remedy.lost.is_empty() {
                return Some(remedy);
            }
            // The last one is the nearest to what the routine searches today.
            found = Some(remedy);
        }
    }
    found
}

/// A path that a fix may set.
enum Choice {
    /// The contract's.
    Canonical,
    /// The one that changes as little as possible: of a routine without a path, the default path.
    LeastChange,
    /// The same, with the schemas in which the body finds more.
    SchemasOfTheBody,
}

/// Returns the path that the fix of a routine sets; `None` where none is needed, or where a person
/// has to decide.
#[must_use]
pub fn suggestion(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
) -> Option<Rc<Path>> {
    let is_needed =
        assessment.verdict != Verdict::Safe || must_be_canonical(cx, routine, assessment);
    is_needed
        .then(|| remedy(cx, routine, assessment))
        .flatten()
        .filter(|remedy| is_decided(assessment, remedy))
        .map(|remedy| remedy.path)
}

/// Returns a safe path that changes an unsafe one as little as possible, for a routine of `owner`
/// whose body is not known; the contract's for no path. `None` where none is needed or safe.
#[must_use]
pub fn suggestion_for_path(
    cx: &Context<'_>,
    assessment: &Assessment,
    owner: Oid,
) -> Option<Rc<Path>> {
    let path = match &assessment.path {
        _ if assessment.verdict == Verdict::Safe => None,
        Some(path) => Some(least_change(cx, path, owner)),
        None => Some(Rc::clone(cx.canonical_path())),
    };
    path.filter(|path| is_safe(cx, &path.names, owner))
}

/// Returns the contract's path for a routine that is not accepted with another one; `None` unless
/// the contract accepts only its own path, and that one is safe.
#[must_use]
pub fn required(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Option<Remedy> {
    let policy = &cx.contract.security_definer;
    let is_required = policy.accept == Accept::Canonical && cx.governed(routine.schema).is_some();
    (is_required && is_safe(cx, &policy.search_path, routine.owner)).then(|| {
        let old = LazyCell::new(|| searched(cx, routine, assessment));
        let lost = lost(cx, routine, &old, &policy.search_path);
        Remedy { path: Rc::clone(cx.canonical_path()), lost }
    })
}

/// Whether a path is safe. CREATE on a governed schema is a finding of its own, with its own fix.
fn is_safe(cx: &Context<'_>, path: &[String], owner: Oid) -> bool {
    follows_from_schema(cx, &cx.paths.names(path, owner))
}

/// Returns `path` without what makes it unsafe: schemas that are missing or unsafe are omitted,
/// "$user" is replaced by its schema and a list in quotes by its names, `pg_catalog` is not
/// searched later than others, and `pg_temp` is last. It need not be safe: `pg_catalog` may be the
/// reason.
fn least_change(cx: &Context<'_>, path: &[String], owner: Oid) -> Rc<Path> {
    let known = cx.least_changes.borrow().get(&owner).and_then(|paths| paths.get(path).cloned());
    known.unwrap_or_else(|| {
        let change = Path::new(safe_part(cx, path, owner));
        let mut changes = cx.least_changes.borrow_mut();
        changes.entry(owner).or_default().insert(path.to_vec(), Rc::clone(&change));
        change
    })
}

/// Determines [`least_change`].
fn safe_part(cx: &Context<'_>, path: &[String], owner: Oid) -> Vec<String> {
    let own = cx.snapshot.role_name(owner);
    let exists = |name: &str| cx.snapshot.schema_named(name).is_some();
    let meant = |name: &String| match name.as_str() {
        "$user" => vec![own.clone()],
        list if list.contains(',') && !exists(list) => {
            cx.snapshot.split_path(list).unwrap_or_default()
        }
        name => vec![name.to_owned()],
    };
    let is_kept = |name: &String| {
        name == "pg_catalog"
            || exists(name) && is_safe(cx, &[name.clone(), "pg_temp".to_owned()], owner)
    };
    let mut kept: Vec<String> = path.iter().flat_map(meant).filter(is_kept).collect();
    // pg_catalog is searched first where it is not listed.
    if kept.first().is_some_and(|first| first != "pg_catalog") {
        kept.retain(|name| name != "pg_catalog");
    }
    if kept.is_empty() {
        kept.push("pg_catalog".to_owned());
    }
    kept.push("pg_temp".to_owned());
    kept
}

/// Returns the path of a session without "$user", which is another schema for each caller.
fn default_path(cx: &Context<'_>) -> Vec<String> {
    let value = cx.snapshot.default_path.as_deref().unwrap_or_default();
    let mut path = cx.snapshot.split_path(value).unwrap_or_default();
    path.retain(|name| name != "$user");
    path
}

/// Adds to a path the safe schemas in which the body of a routine without a path finds more.
fn with_schemas_of_the_body(cx: &Context<'_>, routine: &Routine, path: &[String]) -> Vec<String> {
    let old = LazyCell::new(|| searched_without_path(cx, routine));
    let mut path = path.to_vec();
    for lost in lost(cx, routine, &old, &path) {
        let schema = lost.found_in().and_then(|oid| cx.snapshot.schema(oid));
        let Some(schema) = schema.filter(|schema| !path.contains(&schema.name)) else { continue };
        if is_safe(cx, &[schema.name.clone(), "pg_temp".to_owned()], routine.owner) {
            path.insert(path.len() - 1, schema.name.clone());
        }
    }
    path
}

/// Returns what a routine searches today.
fn searched(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Searched {
    match &assessment.path {
        Some(path) => Searched::by(cx.snapshot, path, routine.owner),
        None => searched_without_path(cx, routine),
    }
}

/// Returns what a routine without a path may search: the default path, and the schemas where its
/// author or its callers may expect names to be found.
fn searched_without_path(cx: &Context<'_>, routine: &Routine) -> Searched {
    let of_roles = cx.snapshot.role_paths.iter().flat_map(|path| {
        let names = cx.snapshot.split_path(path).unwrap_or_default();
        names.into_iter().filter_map(|name| cx.snapshot.schema_named(&name)).map(|s| s.oid)
    });
    Searched::by(cx.snapshot, &default_path(cx), routine.owner)
        .with(std::iter::once(routine.schema).chain(of_roles))
}

/// Returns what the body of a routine finds along `old` and not along `path`.
fn lost(
    cx: &Context<'_>,
    routine: &Routine,
    old: &LazyCell<Searched, impl FnOnce() -> Searched>,
    path: &[String],
) -> Vec<Lost> {
    let new = || Searched::by(cx.snapshot, path, routine.owner);
    match cx.snapshot.bodies.get(&routine.oid) {
        Some(body) if body.is_independent() => vec![],
        Some(body) => old.lost(body, &new()),
        None => old.lost_by_unknown(&new()),
    }
}

/// Returns the fix of a routine's path: the statement that sets a safe one, or a proposal.
#[must_use]
pub fn fix(cx: &Context<'_>, routine: &Routine, assessment: &Assessment) -> Fix {
    let Some(remedy) = remedy(cx, routine, assessment) else {
        return Fix::Proposal(cause_in_schema(assessment).unwrap_or_else(|| {
            format!(
                "ALTER ROUTINE {} SET search_path = ..., pg_temp;",
                cx.snapshot.routine_sql(routine)
            )
        }));
    };
    let statement = alter(cx, routine, assessment, &remedy.path);
    match statement {
        Some(statement) if is_decided(assessment, &remedy) => Fix::by(statement),
        statement => Fix::Proposal(proposal(cx, routine, assessment, &remedy, statement)),
    }
}

/// Whether a fix may set the path: the body finds the same along it, and the cause is not only that
/// a schema contains objects of untrusted roles. Then these objects should go and not the schema.
fn is_decided(assessment: &Assessment, remedy: &Remedy) -> bool {
    let is_content = |reason: &Reason| reason.code == ReasonCode::ForeignObjects;
    let is_cause_in_schema =
        !assessment.reasons.is_empty() && assessment.reasons.iter().all(is_content);
    remedy.lost.is_empty() && !is_cause_in_schema
}

/// Returns the fix that makes a routine SECURITY DEFINER, with a safe path.
#[must_use]
pub fn become_definer(cx: &Context<'_>, routine: &Routine) -> Fix {
    let assessment = cx.paths.config(&routine.config, routine.owner);
    let sql = cx.snapshot.routine_sql(routine);
    let own = assessment
        .path
        .clone()
        .filter(|_| assessment.verdict == Verdict::Safe)
        .filter(|_| !must_be_canonical(cx, routine, &assessment))
        .map(|path| Remedy { path: Path::new(path), lost: vec![] });
    let Some(remedy) = own.or_else(|| remedy(cx, routine, &assessment)) else {
        let gap = format!("ALTER ROUTINE {sql} SECURITY DEFINER SET search_path = ..., pg_temp;");
        return Fix::Proposal(gap);
    };
    let path = RoutineChange::SearchPath(remedy.path.stored.clone());
    let statement = Statement::new(
        Change::AlterRoutine(routine.oid, vec![RoutineChange::SecurityDefiner(true), path]),
        format!("ALTER ROUTINE {sql} SECURITY DEFINER SET search_path = {};", remedy.path.clause),
    );
    if is_decided(&assessment, &remedy) {
        Fix::by(statement)
    } else {
        Fix::Proposal(proposal(cx, routine, &assessment, &remedy, Some(statement)))
    }
}

/// Returns the proposal of a path along which the body finds less, or of a path that no single
/// statement sets.
fn proposal(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
    remedy: &Remedy,
    statement: Option<Statement>,
) -> String {
    let mut lines = Vec::new();
    if !remedy.lost.is_empty() {
        lines.push(format!(
            "With this search_path, the body or what it calls would no longer find {}. Write \
             these names with their schemas in the body first, or keep the path.",
            remedy.describe_lost(cx)
        ));
    }
    lines.extend(cause_in_schema(assessment));
    lines.push(statement.map_or_else(
        || {
            format!(
                "ALTER ROUTINE {} SET search_path = {};",
                cx.snapshot.routine_sql(routine),
                remedy.path.clause
            )
        },
        |statement| statement.to_string(),
    ));
    lines.join("\n")
}

/// Returns what to do about a schema with objects of untrusted roles, if that is a reason.
pub(crate) fn cause_in_schema(assessment: &Assessment) -> Option<String> {
    let reason = assessment.reasons.iter().find(|r| r.code == ReasonCode::ForeignObjects)?;
    Some(format!(
        "Drop the objects of role \"{}\" in schema \"{}\", or change their owner to a trusted \
         owner.",
        printable(reason.role.as_ref().map(Exploiter::as_str).unwrap_or_default()),
        printable(reason.schema.as_deref().unwrap_or_default())
    ))
}

/// Returns the ALTER ROUTINE that sets a path; `None` where it would have to remove settings that a
/// person has to see.
fn alter(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
    path: &Path,
) -> Option<Statement> {
    let reset = if assessment.reasons.iter().any(|r| r.code == ReasonCode::DuplicateSetting) {
        let others =
            routine.config.iter().any(|c| !c.to_ascii_lowercase().starts_with("search_path="));
        let odd = routine.config.iter().any(|c| !c.starts_with("search_path="));
        match (odd, others) {
            (false, _) => "RESET search_path ",
            (true, false) => "RESET ALL ",
            (true, true) => return None,
        }
    } else {
        ""
    };
    Some(Statement::new(
        Change::AlterRoutine(routine.oid, vec![RoutineChange::SearchPath(path.stored.clone())]),
        format!(
            "ALTER ROUTINE {} {reset}SET search_path = {};",
            cx.snapshot.routine_sql(routine),
            path.clause
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::security_definer_search_path::RULE;
    use super::super::super::testing::World;
    use crate::catalog::{
        Body, BodyName, ContentKind, NameKind, Named, Oid, PG_CATALOG, Privileges, Schema,
    };
    use crate::contract::Accept;
    use crate::fix::Fix;
    use crate::rules::Context;
    use crate::search_path::Verdict;
    use proptest::prelude::*;
    use std::rc::Rc;

    /// Schemas other than those of the contract: two that only the owner can create objects in, one
    /// that a client can, and one with a function of a client.
    const SCHEMAS: [(Oid, &str); 5] = [
        (PG_CATALOG, "pg_catalog"),
        (7001, "rb"),
        (7002, "extensions"),
        (7003, "shared"),
        (7004, "planted"),
    ];

    /// Returns a world in which api.get_call_queue() has a path, `None` for none, and a body.
    fn world(path: Option<&str>, body: Option<Body>) -> World {
        let mut world = World::conforming();
        let (owner, anon) = (world.role("postgres").oid, world.role("anon").oid);
        for (oid, name) in SCHEMAS {
            let owner = if oid == PG_CATALOG { world.role("root").oid } else { owner };
            world.snapshot.schemas.push(Schema { oid, name: name.into(), owner, acl: None });
        }
        world.grant_schema("shared", anon, Privileges::CREATE);
        world.snapshot.contents.insert(7004, [(anon, ContentKind::Routine)].into());
        let routine = world.routine("get_call_queue");
        routine.config = path.map(|path| format!("search_path={path}")).into_iter().collect();
        let bodies = body.map(|body| (routine.oid, body.into())).into_iter().collect();
        world.snapshot.bodies = Rc::new(bodies);
        world
    }

    fn body(names: &[(NameKind, &str, &[Oid])]) -> Body {
        let names = names.iter().map(|(kind, name, schemas)| BodyName {
            kind: *kind,
            name: (*name).to_owned(),
            objects: schemas
                .iter()
                .map(|schema| Named { schema: *schema, arguments: vec![] })
                .collect(),
        });
        Body { names: names.collect(), ..Body::default() }
    }

    /// Returns the path of the fix; with `?` before it and the text of the proposal where it is
    /// one, and nothing where there is no finding.
    fn fixed(world: &World) -> String {
        match world.findings(&RULE).pop().map(|finding| finding.fix) {
            None => String::new(),
            Some(Fix::Proposal(text)) => format!("? {text}"),
            Some(fix) => {
                let sql = fix.sql().unwrap();
                let path =
                    sql.strip_prefix("ALTER ROUTINE api.get_call_queue() SET search_path = ");
                path.unwrap_or_else(|| panic!("{sql}")).to_owned()
            }
        }
    }

    fn fix(path: &str) -> String {
        fixed(&world(Some(path), Some(Body::default())))
    }

    #[test]
    fn path_is_changed_as_little_as_possible() {
        for (path, safe) in [
            ("rb", "rb, pg_temp;"),
            ("public, extensions", "public, extensions, pg_temp;"),
            ("extensions, public, rb", "extensions, public, rb, pg_temp;"),
            ("\"\"", "pg_catalog, pg_temp;"),
            ("", "pg_catalog, pg_temp;"),
            ("pg_catalog", "pg_catalog, pg_temp;"),
            ("pg_catalog, rb", "pg_catalog, rb, pg_temp;"),
            ("pg_temp, rb, public", "rb, public, pg_temp;"),
            ("rb, pg_temp, public, pg_temp", "rb, public, pg_temp;"),
            // Duplicates are harmless.
            ("rb, public, rb", "rb, public, rb, pg_temp;"),
            // A schema that does not exist, and one that exists as "$user".
            ("rb, missing, public, pg_temp", "rb, public, pg_temp;"),
            ("\"$user\", public", "public, pg_temp;"),
            ("\"public, pg_temp\"", "public, pg_temp;"),
            ("\"rb, extensions\", public", "rb, extensions, public, pg_temp;"),
            ("rb, pg_temp_3", "rb, pg_temp;"),
            // Unsafe schemas in which the body finds nothing.
            ("rb, shared, public", "rb, public, pg_temp;"),
            ("planted, rb", "rb, pg_temp;"),
            // pg_catalog is searched first if it is not listed.
            ("rb, pg_catalog, pg_temp", "rb, pg_temp;"),
            ("missing, pg_catalog, rb", "pg_catalog, rb, pg_temp;"),
            // Nothing is known about the intended path.
            ("\"rb", "public, pg_temp;"),
        ] {
            assert_eq!(fix(path), safe, "{path}");
        }
        assert_eq!(
            fix("planted, rb, pg_temp"),
            "? Drop the objects of role \"anon\" in schema \"planted\", or change their owner to a \
             trusted owner.\nALTER ROUTINE api.get_call_queue() SET search_path = rb, pg_temp;",
            "the schema is the cause"
        );
        for safe in ["rb, pg_temp", "public, extensions, pg_temp", "pg_catalog, pg_temp"] {
            assert_eq!(fix(safe), "", "{safe}");
        }
    }

    #[test]
    fn schema_of_the_owner_replaces_user() {
        let mut world = world(Some("\"$user\", rb"), Some(Body::default()));
        let owner = world.role("postgres").oid;
        world.snapshot.schemas.push(Schema {
            oid: 7005,
            name: "postgres".into(),
            owner,
            acl: None,
        });
        assert_eq!(fixed(&world), "postgres, rb, pg_temp;");
    }

    #[test]
    fn path_along_which_names_are_lost_is_a_proposal() {
        let body = body(&[
            (NameKind::Function, "next_no", &[7003]),
            (NameKind::Operator, "%", &[7004]),
            (NameKind::Relation, "log", &[7001]),
        ]);
        assert_eq!(
            fixed(&world(Some("rb, shared"), Some(body.clone()))),
            "? With this search_path, the body or what it calls would no longer find function \
             next_no() of schema shared. Write these names with their schemas in the body \
             first, or keep the path.\n\
             ALTER ROUTINE api.get_call_queue() SET search_path = rb, pg_temp;"
        );
        assert_eq!(
            fixed(&world(Some("planted, rb, pg_temp"), Some(body.clone()))),
            "? With this search_path, the body or what it calls would no longer find operator % of \
             schema planted. Write these names with their schemas in the body \
             first, or keep the path.\n\
             Drop the objects of role \"anon\" in schema \"planted\", or change their owner to a \
             trusted owner.\n\
             ALTER ROUTINE api.get_call_queue() SET search_path = rb, pg_temp;"
        );
        assert_eq!(fixed(&world(Some("rb"), Some(body))), "rb, pg_temp;");
    }

    #[test]
    fn unknown_body_may_need_every_schema() {
        assert_eq!(fixed(&world(Some("rb"), None)), "rb, pg_temp;");
        assert!(fixed(&world(Some("rb, shared"), None)).starts_with("? "));
        let text = Body { runs_text: true, ..Body::default() };
        assert_eq!(fixed(&world(Some("rb"), Some(text.clone()))), "rb, pg_temp;");
        assert!(fixed(&world(Some("rb, shared"), Some(text))).starts_with("? "));
    }

    #[test]
    fn routine_without_a_path_gets_the_contracts_if_that_is_sufficient() {
        let fixed = |default: &str, names: &[(NameKind, &str, &[Oid])]| {
            let mut world = world(None, Some(body(names)));
            world.snapshot.default_path = Some(default.to_owned());
            world.snapshot.role_paths = vec!["public, extensions".into()];
            fixed(&world)
        };
        let default = "\"$user\", public";
        assert_eq!(fixed(default, &[]), "public, pg_temp;");
        let log = (NameKind::Relation, "log", &[7001][..]);
        assert_eq!(fixed("rb, public", &[log]), "rb, public, pg_temp;", "of the database");
        let crypt = (NameKind::Function, "crypt", &[7002][..]);
        assert_eq!(fixed(default, &[crypt]), "public, extensions, pg_temp;", "of a role");
        assert_eq!(fixed("public, shared, rb", &[log]), "public, rb, pg_temp;", "safe ones only");
        let unsafe_log = (NameKind::Relation, "log", &[7003][..]);
        assert!(fixed("public, shared", &[unsafe_log]).starts_with("? "));
    }

    #[test]
    fn routine_without_a_path_finds_the_names_of_its_own_schema() {
        let mut world = world(None, None);
        let (api, oid) = (world.schema("api").oid, world.routine("get_call_queue").oid);
        let own = body(&[(NameKind::Function, "next_no", &[api])]);
        world.snapshot.bodies = Rc::new([(oid, own.into())].into_iter().collect());
        world.snapshot.default_path = Some("public".into());
        assert_eq!(fixed(&world), "public, api, pg_temp;");
    }

    #[test]
    fn only_path_that_is_accepted_is_proposed_if_names_are_lost() {
        let log = body(&[(NameKind::Relation, "log", &[7001])]);
        let fixed = |path, body| {
            let mut world = world(Some(path), Some(body));
            world.contract.security_definer.accept = Accept::Canonical;
            fixed(&world)
        };
        assert_eq!(fixed("rb", Body::default()), "public, pg_temp;");
        assert_eq!(fixed("rb, pg_temp", Body::default()), "public, pg_temp;");
        assert_eq!(fixed("rb", log.clone()), "rb, pg_temp;", "safe at least");
        assert_eq!(
            fixed("rb, pg_temp", log),
            "? With this search_path, the body or what it calls would no longer find relation log \
             of schema rb. Write these names with their schemas in the body \
             first, or keep the path.\n\
             ALTER ROUTINE api.get_call_queue() SET search_path = public, pg_temp;"
        );
    }

    proptest! {
        #[test]
        fn statement_makes_the_path_safe_and_keeps_its_order(
            path in proptest::collection::vec(0usize..11, 0..6),
            found in proptest::collection::vec((0usize..4, 0usize..3), 0..4),
        ) {
            let names = ["", "pg_temp", "$user", "missing", "pg_temp_3", "pg_catalog", "rb",
                "extensions", "shared", "planted", "public"];
            let path: Vec<String> = path.into_iter().map(|i| names[i].to_owned()).collect();
            let kinds = [NameKind::Relation, NameKind::Operator, NameKind::Function];
            let found: Vec<(NameKind, String, [Oid; 1])> = found
                .into_iter()
                .map(|(schema, kind)| (kinds[kind], format!("x{schema}"), [7001 + schema as Oid]))
                .collect();
            let found: Vec<(NameKind, &str, &[Oid])> =
                found.iter().map(|(kind, name, at)| (*kind, name.as_str(), &at[..])).collect();
            let world = world(Some(&crate::search_path::stored_value(&path)), Some(body(&found)));
            let snapshot = world.snapshot.clone().complete();
            let access = crate::access::Access::new(&snapshot);
            let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
            let owner = snapshot.role_named("postgres").unwrap().oid;
            let was = cx.paths.names(&path, owner);
            let fixed = fixed(&world);
            prop_assert_eq!(fixed.is_empty(), was.verdict == Verdict::Safe);
            if !fixed.is_empty() && !fixed.starts_with('?') {
                let new = snapshot.split_path(fixed.trim_end_matches(';')).unwrap();
                prop_assert_eq!(cx.paths.names(&new, owner).verdict, Verdict::Safe, "{}", fixed);
                let mut rest = path.iter().filter(|name| *name != "pg_temp");
                for name in new.iter().filter(|name| *name != "pg_temp") {
                    let is_kept = rest.any(|old| old == name);
                    prop_assert!(is_kept || *name == "pg_catalog", "{:?}: {}", path, fixed);
                }
                // What the body finds, it still finds.
                for (_, _, at) in found {
                    let schema = snapshot.schema_name(at[0]).to_owned();
                    prop_assert_eq!(path.contains(&schema), new.contains(&schema));
                }
            }
        }
    }
}
