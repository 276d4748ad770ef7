//! The verdict on a path: which untrusted roles could make a SECURITY DEFINER routine use an object
//! of theirs?

use super::value::{settings, stored_value};
use crate::access::Access;
use crate::catalog::{
    Acl, ContentKind, ObjectKind, Oid, OidMap, PG_CATALOG, PG_DATABASE_OWNER, PUBLIC, Privileges,
    Schema, Snapshot,
};
use crate::sql::printable;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

/// The verdict on a path, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// No untrusted role can make the routine use an object of its own.
    Safe,
    /// Not exploitable today, but a change that fires no event trigger can make it exploitable.
    Fragile,
    /// An untrusted role can run code as the owner.
    Exploitable,
}

impl Verdict {
    /// Returns the value in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Fragile => "fragile",
            Self::Exploitable => "exploitable",
        }
    }
}

/// Why a path is not safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum ReasonCode {
    NoPath,
    Syntax,
    DuplicateSetting,
    UserVar,
    MissingSchema,
    Writable,
    ForeignObjects,
    TempNotListed,
    TempNotLast,
    TempByNumber,
    CatalogNotFirst,
    CallerTypes,
}

impl ReasonCode {
    /// Returns the code in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPath => "NO_PATH",
            Self::Syntax => "SYNTAX",
            Self::DuplicateSetting => "DUPLICATE_SETTING",
            Self::UserVar => "USER_VAR",
            Self::MissingSchema => "MISSING_SCHEMA",
            Self::Writable => "WRITABLE",
            Self::ForeignObjects => "FOREIGN_OBJECTS",
            Self::TempNotListed => "TEMP_NOT_LISTED",
            Self::TempNotLast => "TEMP_NOT_LAST",
            Self::TempByNumber => "TEMP_BY_NUMBER",
            Self::CatalogNotFirst => "CATALOG_NOT_FIRST",
            Self::CallerTypes => "CALLER_TYPES",
        }
    }
}

/// Who could exploit a path. A role can have the name "PUBLIC" and is not PUBLIC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exploiter {
    /// Every role.
    Public,
    /// The role of this name.
    Role(String),
}

impl Exploiter {
    /// Returns `PUBLIC`, or the name of the role.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Public => "PUBLIC",
            Self::Role(name) => name,
        }
    }

    /// Returns the subject of a sentence: `every role`, or the role.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Public => "every role".to_owned(),
            Self::Role(name) => format!("role \"{}\"", printable(name)),
        }
    }
}

/// One reason why a path is not safe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason {
    /// The kind of reason.
    pub code: ReasonCode,
    /// The verdict if this were the only reason.
    pub verdict: Verdict,
    /// The element of the path.
    pub schema: Option<String>,
    /// Who could exploit it.
    pub role: Option<Exploiter>,
    /// For FOREIGN_OBJECTS: whether there are other objects than tables and views, or any in
    /// pg_catalog. Only then does the guard block, because an application's own tables in a shared
    /// schema are common.
    pub planted_code: bool,
    /// For CALLER_TYPES: what the role can do, as the rest of a sentence about it.
    pub ability: Option<String>,
}

/// `CODE[:schema[:role]]`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())?;
        let role = self.role.as_ref().map(Exploiter::as_str);
        for part in [self.schema.as_deref(), role].into_iter().flatten() {
            write!(f, ":{}", printable(part))?;
        }
        Ok(())
    }
}

impl Reason {
    /// Returns the reason as a clause without a period.
    #[must_use]
    pub fn describe(&self) -> String {
        let schema = printable(self.schema.as_deref().unwrap_or_default());
        let who = self.role.as_ref().map(Exploiter::subject).unwrap_or_default();
        match self.code {
            ReasonCode::NoPath => {
                "no search_path is set, so names in its body are looked up in the caller's \
                 search_path"
                    .to_owned()
            }
            ReasonCode::Syntax => "the search_path is not a list of names, so every call \
                                   fails"
                .to_owned(),
            ReasonCode::DuplicateSetting => "search_path is set twice, and only the last setting \
                counts"
                .to_owned(),
            ReasonCode::UserVar => {
                "\"$user\" is the schema with the name of the owner, which another role could \
                 create"
                    .to_owned()
            }
            ReasonCode::MissingSchema => self.describe_missing(&schema, &who),
            ReasonCode::Writable => format!("{who} can create objects in schema \"{schema}\""),
            ReasonCode::ForeignObjects => {
                format!("schema \"{schema}\" contains objects owned by {who}")
            }
            ReasonCode::TempNotListed if self.role.is_some() => format!(
                "pg_temp is not listed, so it is searched first for tables and types, and {who} \
                 can \
                 create temporary objects"
            ),
            ReasonCode::TempNotListed => {
                "pg_temp is not listed, so it is searched first for tables and types".to_owned()
            }
            ReasonCode::TempNotLast => {
                "pg_temp is listed before other schemas, so temporary objects hide objects in these"
                    .to_owned()
            }
            ReasonCode::TempByNumber => {
                format!("\"{schema}\" is the temporary schema of one session")
            }
            ReasonCode::CallerTypes => {
                format!("{who} {}", self.ability.as_deref().unwrap_or_default())
            }
            ReasonCode::CatalogNotFirst => {
                "pg_catalog is listed after another schema, whose objects hide built-in objects"
                    .to_owned()
            }
        }
    }

    /// Returns the clause about a schema that does not exist.
    fn describe_missing(&self, schema: &str, who: &str) -> String {
        if schema.contains(',') {
            format!(
                "\"{schema}\" is one schema name with a comma in it, and no such schema exists: \
                 the whole list is enclosed in one pair of quotes"
            )
        } else if schema.is_empty() {
            "an empty name is not the name of a schema".to_owned()
        } else if self.role.is_some() {
            format!("schema \"{schema}\" does not exist, and {who} can create it")
        } else {
            format!(
                "schema \"{schema}\" does not exist, and a role that creates it later controls \
                 what the routine calls"
            )
        }
    }
}

/// How many reasons a message lists: a path may name thousands of schemas.
const MOST_REASONS: usize = 6;

/// The verdict on one path, with the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The worst verdict of the reasons.
    pub verdict: Verdict,
    /// In the order of the path; empty for a safe one.
    pub reasons: Vec<Reason>,
    /// The value in force, as stored; `None` if no path is set.
    pub value: Option<String>,
    /// The names in it; `None` if no path is set or it cannot be parsed.
    pub path: Option<Vec<String>>,
}

impl Assessment {
    /// Whether the path is exactly the contract's.
    #[must_use]
    pub fn is_canonical(&self, canonical: &[String]) -> bool {
        self.path.as_deref() == Some(canonical)
    }

    /// Whether the path is the empty list, `''`.
    #[must_use]
    pub fn is_empty_path(&self) -> bool {
        matches!(self.path.as_deref(), Some([]))
            || matches!(self.path.as_deref(), Some([one]) if one.is_empty())
    }

    /// Returns the reasons as one enumeration.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut words: Vec<String> =
            self.reasons.iter().take(MOST_REASONS).map(Reason::describe).collect();
        if let Some(more) = self.reasons.len().checked_sub(MOST_REASONS).filter(|more| *more > 0) {
            words.push(format!("and {more} other reasons"));
        }
        words.join("; ")
    }

    /// Returns an explanation if the path is a common mistake.
    #[must_use]
    pub fn trap(&self) -> Option<String> {
        if self.is_empty_path() {
            return Some(
                "search_path = '' looks strict, but pg_temp is then searched first for tables and \
                 types: a temporary type with the name of a built-in type makes the routine run \
                 the caller's code as the owner."
                    .to_owned(),
            );
        }
        let path = self.path.as_deref()?;
        match path {
            [one] if one.contains(',') => Some(format!(
                "Quotes around the whole list make it one schema named \"{}\"; quote each name \
                 separately or not at all.",
                printable(one)
            )),
            [one] if self.reasons.iter().any(|r| r.code == ReasonCode::TempNotListed) => {
                Some(format!(
                    "The only name in the list is \"{}\". ALTER FUNCTION ... SET SCHEMA '{}', with \
                     quotes, does not move the function: it is another way to write SET \
                     search_path.",
                    printable(one),
                    printable(one)
                ))
            }
            _ => None,
        }
    }
}

/// Assesses paths in one snapshot.
#[derive(Debug)]
pub struct SearchPaths<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) access: &'a Access<'a>,
    /// Roles that the contract trusts.
    trusted: HashSet<Oid>,
    /// Assessments by owner and path: thousands of routines share a few of both.
    known: RefCell<OidMap<HashMap<String, Rc<Assessment>>>>,
    /// The same by owner and list of names.
    known_lists: RefCell<OidMap<HashMap<Vec<String>, Rc<Assessment>>>>,
    /// The assessment of no path, once something has asked.
    no_path: OnceCell<Rc<Assessment>>,
    /// The grantees and owners that can create types, temporary ones included.
    creators: OnceCell<HashSet<Oid>>,
}

impl<'a> SearchPaths<'a> {
    /// Returns the assessor of a snapshot. `trusted` contains the OIDs of the contract's trusted
    /// roles.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, access: &'a Access<'a>, trusted: HashSet<Oid>) -> Self {
        Self {
            snapshot,
            access,
            trusted,
            known: RefCell::default(),
            known_lists: RefCell::default(),
            no_path: OnceCell::new(),
            creators: OnceCell::new(),
        }
    }

    /// Whether `role` is trusted by a routine of `owner`: superusers, the owner, roles that can act
    /// as the owner, and, unless the owner is a superuser, the contract's trusted roles.
    #[must_use]
    pub fn trusts(&self, role: Oid, owner: Oid) -> bool {
        role != PUBLIC
            && (role == owner
                || self.access.is_superuser(role)
                || self.access.can_act_as(role, owner)
                || (self.trusted.contains(&role) && !self.access.is_superuser(owner)))
    }

    /// Returns the assessment of a routine's `proconfig` for its `owner`.
    #[must_use]
    pub fn config(&self, config: &[String], owner: Oid) -> Rc<Assessment> {
        match settings(config)[..] {
            [] => Rc::clone(self.no_path.get_or_init(|| {
                let reasons = vec![plain(ReasonCode::NoPath, Verdict::Exploitable)];
                Rc::new(Assessment {
                    verdict: Verdict::Exploitable,
                    reasons,
                    value: None,
                    path: None,
                })
            })),
            [value] => self.path(value, owner),
            [.., last] => {
                let mut assessment = (*self.path(last, owner)).clone();
                assessment.reasons.insert(0, plain(ReasonCode::DuplicateSetting, Verdict::Fragile));
                assessment.verdict = assessment.verdict.max(Verdict::Fragile);
                Rc::new(assessment)
            }
        }
    }

    /// Returns the assessment of a `search_path` value for a routine of `owner`.
    #[must_use]
    pub fn path(&self, value: &str, owner: Oid) -> Rc<Assessment> {
        if let Some(known) = self.known.borrow().get(&owner).and_then(|paths| paths.get(value)) {
            return Rc::clone(known);
        }
        let assessment = Rc::new(self.assess(value, owner));
        self.known
            .borrow_mut()
            .entry(owner)
            .or_default()
            .insert(value.to_owned(), Rc::clone(&assessment));
        assessment
    }

    /// Returns the assessment of a list of names.
    #[must_use]
    pub fn names(&self, path: &[String], owner: Oid) -> Rc<Assessment> {
        if let Some(known) = self.known_lists.borrow().get(&owner).and_then(|of| of.get(path)) {
            return Rc::clone(known);
        }
        let assessment = self.path(&stored_value(path), owner);
        let mut known = self.known_lists.borrow_mut();
        known.entry(owner).or_default().insert(path.to_vec(), Rc::clone(&assessment));
        assessment
    }

    fn assess(&self, value: &str, owner: Oid) -> Assessment {
        let Ok(path) = self.snapshot.split_path(value) else {
            let reason = plain(ReasonCode::Syntax, Verdict::Fragile);
            return Assessment {
                verdict: Verdict::Fragile,
                reasons: vec![reason],
                value: Some(value.to_owned()),
                path: None,
            };
        };
        let mut reasons = Vec::new();
        let mut seen = HashSet::new();
        for name in &path {
            if !seen.insert(name.as_str()) || name == "pg_temp" || name == "pg_catalog" {
                continue;
            }
            if is_numbered_temp(name) {
                reasons.push(about(ReasonCode::TempByNumber, Verdict::Exploitable, name, None));
            } else if name == "$user" {
                reasons.push(plain(ReasonCode::UserVar, Verdict::Fragile));
                self.element(&self.snapshot.role_name(owner), owner, &mut reasons);
            } else {
                self.element(name, owner, &mut reasons);
            }
        }
        // pg_catalog is searched even if it is not listed.
        if let Some(catalog) = self.snapshot.schema_named("pg_catalog") {
            self.schema(catalog, owner, &mut reasons);
        }
        self.temp(&path, owner, &mut reasons);
        if path.iter().position(|name| name == "pg_catalog").is_some_and(|at| at > 0) {
            reasons.push(plain(ReasonCode::CatalogNotFirst, Verdict::Fragile));
        }
        let verdict = reasons.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Safe);
        Assessment { verdict, reasons, value: Some(value.to_owned()), path: Some(path) }
    }

    /// Adds the reasons about one named schema of the path.
    fn element(&self, name: &str, owner: Oid, reasons: &mut Vec<Reason>) {
        let Some(schema) = self.snapshot.schema_named(name) else {
            let database = &self.snapshot.database;
            let creator = self.untrusted_holder(
                owner,
                database.owner,
                database.acl.as_ref(),
                ObjectKind::Database,
                Privileges::CREATE,
            );
            let verdict = if creator.is_some() { Verdict::Exploitable } else { Verdict::Fragile };
            reasons.push(about(
                ReasonCode::MissingSchema,
                verdict,
                name,
                creator.map(|role| self.exploiter(role)),
            ));
            return;
        };
        self.schema(schema, owner, reasons);
    }

    /// Adds the reasons about a schema that exists: who can create objects there, and who owns
    /// some.
    fn schema(&self, schema: &Schema, owner: Oid, reasons: &mut Vec<Reason>) {
        self.writers(schema, owner, reasons);
        // By role, whether it owns other objects than an application's own relations.
        let mut owners: BTreeMap<Exploiter, bool> = BTreeMap::new();
        for &(content_owner, kind) in self.snapshot.contents.get(&schema.oid).into_iter().flatten()
        {
            if !self.trusts(content_owner, owner) {
                let role = self.exploiter(content_owner);
                // A relation in pg_catalog hides those of the application.
                let is_code = kind != ContentKind::Relation || schema.oid == PG_CATALOG;
                *owners.entry(role).or_default() |= is_code;
            }
        }
        for (role, planted_code) in owners {
            let reason =
                about(ReasonCode::ForeignObjects, Verdict::Exploitable, &schema.name, Some(role));
            reasons.push(Reason { planted_code, ..reason });
        }
    }

    /// Adds a reason for each untrusted role that can create objects in `schema`: grantees of
    /// CREATE, and the owner, which can grant it to itself.
    fn writers(&self, schema: &Schema, owner: Oid, reasons: &mut Vec<Reason>) {
        let acl =
            schema.acl.clone().unwrap_or_else(|| ObjectKind::Schema.default_acl(schema.owner));
        let grantees =
            acl.iter().filter(|i| i.privileges.intersects(Privileges::CREATE)).map(|i| i.grantee);
        let mut seen = HashSet::new();
        for holder in std::iter::once(schema.owner).chain(grantees) {
            let holder = self.resolve(holder);
            if seen.insert(holder) && !self.trusts(holder, owner) {
                let role = self.exploiter(holder);
                reasons.push(about(
                    ReasonCode::Writable,
                    Verdict::Exploitable,
                    &schema.name,
                    Some(role),
                ));
            }
        }
    }

    /// Adds the reason about the position of pg_temp; exploitable if a role can create temporary
    /// objects.
    fn temp(&self, path: &[String], owner: Oid, reasons: &mut Vec<Reason>) {
        let code = match path.iter().position(|name| name == "pg_temp") {
            None => ReasonCode::TempNotListed,
            Some(at) if path[at..].iter().any(|name| name != "pg_temp") => ReasonCode::TempNotLast,
            Some(_) => return,
        };
        let database = &self.snapshot.database;
        let holder = self.untrusted_holder(
            owner,
            database.owner,
            database.acl.as_ref(),
            ObjectKind::Database,
            Privileges::TEMPORARY,
        );
        let verdict = if holder.is_some() { Verdict::Exploitable } else { Verdict::Fragile };
        let role = holder.map(|role| self.exploiter(role));
        reasons.push(Reason { role, ..plain(code, verdict) });
    }

    /// Returns a role, not trusted by `owner`, that has `privilege` on an object or owns it; PUBLIC
    /// before others.
    fn untrusted_holder(
        &self,
        owner: Oid,
        object_owner: Oid,
        acl: Option<&Acl>,
        kind: ObjectKind,
        privilege: Privileges,
    ) -> Option<Oid> {
        let acl = acl.cloned().unwrap_or_else(|| kind.default_acl(object_owner));
        let grantees = acl.iter().filter(|i| i.privileges.intersects(privilege)).map(|i| i.grantee);
        let mut untrusted: Vec<Oid> = std::iter::once(object_owner)
            .chain(grantees)
            .map(|r| self.resolve(r))
            .filter(|r| !self.trusts(*r, owner))
            .collect();
        untrusted.sort_by_key(|r| (*r != PUBLIC, self.snapshot.role_name(*r)));
        untrusted.first().copied()
    }

    /// Returns the grantees and owners that can create types: permanent ones in some schema, or
    /// temporary ones.
    pub(super) fn creators(&self) -> &HashSet<Oid> {
        self.creators.get_or_init(|| type_creators(self.snapshot))
    }

    pub(super) fn exploiter(&self, role: Oid) -> Exploiter {
        if role == PUBLIC {
            Exploiter::Public
        } else {
            Exploiter::Role(self.snapshot.role_name(role))
        }
    }

    /// Returns the owner of the database for `pg_database_owner`, and otherwise `role`.
    fn resolve(&self, role: Oid) -> Oid {
        if role == PG_DATABASE_OWNER { self.snapshot.database.owner } else { role }
    }
}

/// Returns the grantees and owners that can create types: permanent ones in some schema, or
/// temporary ones.
#[must_use]
pub fn type_creators(snapshot: &Snapshot) -> HashSet<Oid> {
    let database = &snapshot.database;
    let of_database = Privileges::TEMPORARY | Privileges::CREATE;
    let mut found =
        holders(ObjectKind::Database, database.owner, database.acl.as_ref(), of_database);
    for schema in snapshot.schemas.iter().filter(|schema| !schema.is_temporary()) {
        let acl = schema.acl.as_ref();
        found.extend(holders(ObjectKind::Schema, schema.owner, acl, Privileges::CREATE));
    }
    found
}

/// Returns the owner of an object and the grantees that have one of `privileges` on it.
pub(super) fn holders(
    kind: ObjectKind,
    owner: Oid,
    acl: Option<&Acl>,
    privileges: Privileges,
) -> HashSet<Oid> {
    let default;
    let acl = if let Some(acl) = acl {
        acl
    } else {
        default = kind.default_acl(owner);
        &default
    };
    let grantees = acl.iter().filter(|item| item.privileges.intersects(privileges));
    std::iter::once(owner).chain(grantees.map(|item| item.grantee)).collect()
}

pub(super) fn plain(code: ReasonCode, verdict: Verdict) -> Reason {
    Reason { code, verdict, schema: None, role: None, planted_code: false, ability: None }
}

fn about(code: ReasonCode, verdict: Verdict, schema: &str, role: Option<Exploiter>) -> Reason {
    Reason { schema: Some(schema.to_owned()), role, ..plain(code, verdict) }
}

/// Whether a name is that of a session's temporary schema: `pg_temp_3`, `pg_toast_temp_1`.
fn is_numbered_temp(name: &str) -> bool {
    ["pg_temp_", "pg_toast_temp_"]
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{AclItem, Database, Role};

    const APP: Oid = 1;
    const MALLORY: Oid = 2;
    const SUPER: Oid = 3;

    fn world(grant: impl Fn(&mut Snapshot)) -> Snapshot {
        let role = |oid, name: &str, superuser| Role {
            oid,
            name: name.to_owned(),
            superuser,
            ..Role::default()
        };
        let schema =
            |oid, name: &str, owner| Schema { oid, name: name.to_owned(), owner, acl: None };
        let mut snapshot = Snapshot {
            version: 15,
            cuts_names: true,
            database: Database { name: "d".into(), owner: APP, ..Database::default() },
            roles: vec![
                role(APP, "app_owner", false),
                role(MALLORY, "mallory", false),
                role(SUPER, "root", true),
            ]
            .into(),
            schemas: vec![
                schema(11, "pg_catalog", SUPER),
                schema(12, "public", PG_DATABASE_OWNER),
                schema(13, "api", APP),
            ]
            .into(),
            ..Snapshot::default()
        };
        grant(&mut snapshot);
        snapshot.complete()
    }

    fn reasons(snapshot: &Snapshot, value: &str, owner: Oid) -> (Verdict, Vec<String>) {
        let access = Access::new(snapshot);
        let assessment = SearchPaths::new(snapshot, &access, HashSet::new()).path(value, owner);
        (assessment.verdict, assessment.reasons.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn path_is_safe_while_only_the_owner_can_create_in_its_schemas() {
        let s = world(|_| {});
        assert_eq!(reasons(&s, "public, pg_temp", APP), (Verdict::Safe, vec![]));
        let (verdict, why) = reasons(&s, "public, pg_temp", SUPER);
        assert_eq!(
            (verdict, why),
            (Verdict::Exploitable, vec!["WRITABLE:public:app_owner".to_owned()])
        );
    }

    #[test]
    fn empty_path_is_exploitable_by_temporary_objects() {
        let s = world(|_| {});
        assert_eq!(reasons(&s, "\"\"", APP).0, Verdict::Exploitable);
        assert_eq!(reasons(&s, "", APP).1, ["TEMP_NOT_LISTED:PUBLIC"]);
    }

    #[test]
    fn create_of_an_untrusted_role_counts_at_any_position() {
        let s = world(|s| {
            let create = Privileges::CREATE;
            s.schemas[2].acl = Some(
                vec![AclItem {
                    grantee: MALLORY,
                    grantor: APP,
                    privileges: create,
                    grantable: Privileges::NONE,
                }]
                .into(),
            );
        });
        assert_eq!(reasons(&s, "pg_catalog, api, pg_temp", APP).1, ["WRITABLE:api:mallory"]);
    }

    #[test]
    fn role_with_the_name_public_is_not_every_role() {
        let s = world(|s| {
            s.roles[1].name = "PUBLIC".into();
            s.schemas[2].acl = Some(
                vec![AclItem {
                    grantee: MALLORY,
                    grantor: APP,
                    privileges: Privileges::CREATE,
                    grantable: Privileges::NONE,
                }]
                .into(),
            );
        });
        let access = Access::new(&s);
        let assessment = SearchPaths::new(&s, &access, HashSet::new()).path("api, pg_temp", APP);
        assert_eq!(assessment.describe(), "role \"PUBLIC\" can create objects in schema \"api\"");
    }

    #[test]
    fn objects_of_an_untrusted_role_count_without_create() {
        let s = world(|s| {
            s.contents.insert(
                12,
                HashSet::from([(MALLORY, ContentKind::Routine), (APP, ContentKind::Relation)]),
            );
        });
        assert_eq!(reasons(&s, "public, pg_temp", APP).1, ["FOREIGN_OBJECTS:public:mallory"]);
    }

    #[test]
    fn path_that_a_silent_change_makes_unsafe_is_fragile() {
        let s = world(|_| {});
        assert_eq!(
            reasons(&s, "missing_s, public, pg_temp", APP),
            (Verdict::Fragile, vec!["MISSING_SCHEMA:missing_s".into()])
        );
        assert_eq!(reasons(&s, "api, pg_catalog, pg_temp", APP).1, ["CATALOG_NOT_FIRST"]);
        assert_eq!(
            reasons(&s, "\"public, pg_temp", APP),
            (Verdict::Fragile, vec!["SYNTAX".into()])
        );
    }

    #[test]
    fn last_of_several_settings_is_in_force() {
        let s = world(|_| {});
        let access = Access::new(&s);
        let paths = SearchPaths::new(&s, &access, HashSet::new());
        let config =
            ["SEARCH_PATH=public, pg_temp".to_owned(), "search_path=pg_temp, public".to_owned()];
        let codes: Vec<_> = paths.config(&config, APP).reasons.iter().map(|r| r.code).collect();
        assert_eq!(codes, [ReasonCode::DuplicateSetting, ReasonCode::TempNotLast]);
        assert_eq!(paths.config(&config[..1], APP).verdict, Verdict::Safe);
        assert_eq!(
            paths.config(&["work_mem=1MB".to_owned()], APP).reasons[0].code,
            ReasonCode::NoPath
        );
    }
}
