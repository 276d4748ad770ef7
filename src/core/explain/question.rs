//! Questions, and the links of an answer.

use crate::catalog::{
    FIRST_UNPINNED, Oid, Privileges, Relation, RelationKind, Role, Routine, Schema,
};
use crate::rules::Context;
use crate::sql::printable;

/// One condition of the access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is checked.
    pub step: String,
    /// Whether the condition holds; `None` for information that does not affect the verdict.
    pub ok: Option<bool>,
    /// The result of the check, as a sentence.
    pub detail: String,
    /// The smallest statement that fixes it.
    pub fix: Option<String>,
}

impl Link {
    /// Returns the link of a condition that fails. `why` is a clause in the style of an error
    /// message.
    pub(super) fn failed(step: &str, why: &str, fix: Option<String>) -> Self {
        Self { step: step.into(), ok: Some(false), detail: sentence(why), fix }
    }
}

/// The object that the role accesses.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Subject<'a> {
    Schema(&'a Schema),
    /// A call of a routine.
    Routine(Execution<'a>),
    /// With the other forms of the statement.
    Relation(Attempt<'a>, Vec<Variant<'a>>),
    /// No such object.
    Missing(Missing<'a>),
}

/// An object that does not exist.
#[derive(Debug, Default)]
pub struct Missing<'a> {
    /// Its schema, where that exists.
    pub schema: Option<&'a Schema>,
    /// The object as messages name it: `function api.f(integer)`.
    pub object: String,
    /// The objects with this name that exist, as messages name them.
    pub existing: Vec<String>,
    /// A question about the name that was probably meant.
    pub similar: Option<String>,
}

/// A form of a statement that needs more than the plain statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// An UPDATE or DELETE that reads a column in its condition.
    Where,
    /// An INSERT that returns a column.
    Returning,
    /// An INSERT that updates the row that has the same key.
    OnConflict,
}

/// Returns why no role can execute TRUNCATE on a relation; `None` where a role can (tablecmds.c,
/// `truncate_check_rel`).
#[must_use]
pub fn never_truncated(relation: Oid, kind: RelationKind, name: &str) -> Option<String> {
    let name = printable(name);
    if relation < FIRST_UNPINNED && kind == RelationKind::Table {
        return Some(format!("permission denied: \"{name}\" is a system catalog"));
    }
    (!kind.is_table()).then(|| format!("\"{name}\" is not a table"))
}

impl Form {
    /// Returns the privileges that it needs beside that of the plain statement.
    #[must_use]
    pub fn privileges(self) -> Privileges {
        match self {
            Self::Where | Self::Returning => Privileges::SELECT,
            Self::OnConflict => Privileges::SELECT | Privileges::UPDATE,
        }
    }

    /// Returns the statement as messages name it.
    pub(super) fn describe(self, privilege: Privileges) -> String {
        match self {
            Self::Where => format!("{privilege} ... WHERE"),
            Self::Returning => format!("{privilege} ... RETURNING"),
            Self::OnConflict => format!("{privilege} ... ON CONFLICT DO UPDATE"),
        }
    }
}

/// A statement in another form.
#[derive(Debug)]
pub struct Variant<'a> {
    /// The form.
    pub form: Form,
    /// The statement.
    pub attempt: Attempt<'a>,
}

/// A statement on a relation, as the server sees it.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The relation.
    pub relation: &'a Relation,
    /// What the statement itself needs.
    pub checks: Checks<'a>,
    /// What the statements in the bodies of the functions need that it calls.
    pub bodies: Vec<Body<'a>>,
    /// The functions that it calls and whose bodies are text.
    pub texts: Vec<TextBody<'a>>,
    /// Why no role can execute the statement, such as an INSERT into a view that is not updatable.
    pub impossible: Option<String>,
    /// Why the statement fails for a role with all privileges, such as a SELECT from a materialized
    /// view that has not been populated.
    pub unusable: Option<String>,
}

/// A call of a routine, as the server sees it.
#[derive(Debug)]
pub struct Execution<'a> {
    /// The routine.
    pub routine: &'a Routine,
    /// The functions that the call needs EXECUTE on beside the routine itself.
    pub calls: Vec<Called<'a>>,
    /// What the defaults of the arguments need, where the call omits these.
    pub defaults: Checks<'a>,
    /// What the statements need in its body and in those of the routines that it calls, as far as
    /// the server has parsed them.
    pub bodies: Vec<Body<'a>>,
    /// The routine and those that it calls, as far as their bodies are text.
    pub texts: Vec<TextBody<'a>>,
    /// Why no role can execute it.
    pub impossible: Option<String>,
}

/// What the server checks for one statement.
#[derive(Debug, Default)]
pub struct Checks<'a> {
    /// The privileges on relations; those on the relation that the statement names first.
    pub needs: Vec<Need>,
    /// The functions that the statement calls.
    pub calls: Vec<Called<'a>>,
    /// Sequences that are named by a text without a schema: which sequence that is depends on the
    /// search_path of the session.
    pub unresolved: Vec<String>,
}

/// A statement in the parsed body of a routine (BEGIN ATOMIC).
#[derive(Debug)]
pub struct Body<'a> {
    /// The routine.
    pub routine: &'a Routine,
    /// The role that runs it, where that is not the role that calls the routine.
    pub runs_as: Option<Oid>,
    /// What the statement needs.
    pub checks: Checks<'a>,
}

/// A routine whose body is text, which only its execution interprets: what the body may do is
/// checked then.
#[derive(Debug, Clone)]
pub struct TextBody<'a> {
    /// The routine.
    pub routine: &'a Routine,
    /// Whether the text may name a relation or routine, so that privileges matter.
    pub names_objects: bool,
    /// A sentence about what it mentions that the role may not use which runs it.
    pub missing: Option<String>,
}

/// A function that a statement calls.
#[derive(Debug)]
pub struct Called<'a> {
    /// The function.
    pub routine: &'a Routine,
    /// The role that needs EXECUTE, where it is not the role that runs the statement: the owner of
    /// an aggregate (nodeAgg.c), or of a table whose indexes are rebuilt.
    pub check_as: Option<Oid>,
    /// When the server checks it.
    pub moment: Moment,
}

/// The privileges on one relation that the server checks for a statement (`RTEPermissionInfo`; in
/// PostgreSQL 15 a part of `RangeTblEntry`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// The relation.
    pub relation: Oid,
    /// The role that is checked, where it is not the role itself: the owner of a view.
    pub check_as: Option<Oid>,
    /// All of these are needed ...
    pub privileges: Privileges,
    /// ... or one of these instead.
    pub or: Privileges,
    /// The columns that are read. Where there are none, SELECT on any column is sufficient.
    pub selected: Vec<String>,
    /// The column on which SELECT is granted where any is sufficient: the first.
    pub any_column: Option<String>,
    /// The columns that INSERT sets.
    pub inserted: Vec<String>,
    /// The columns that UPDATE sets.
    pub updated: Vec<String>,
    /// When the server checks it.
    pub moment: Moment,
    /// Whether the relation is looked up by its name then, which requires USAGE on its schema.
    pub by_name: bool,
    /// Whether the statement itself reads or changes the relation, so that its result depends on
    /// it.
    pub is_target: bool,
    /// Whether only these columns are needed: the question names them, or a view reads no others.
    pub is_partial: bool,
}

/// When, in the course of a statement, the server checks a privilege. In this order; the policies
/// are checked before or after [`Moment::Row`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before execution starts: on relations, then on functions (execMain.c, `InitPlan`).
    #[default]
    Start,
    /// Once, whether or not there is a row: the conditions of triggers before the statement.
    Statement,
    /// When the values of a row are computed: sequences, the partition that the row belongs to, the
    /// conditions of triggers before the row, generated columns.
    Row,
    /// When the row has passed the policies: constraints, indexes, the conditions of triggers after
    /// the row.
    Kept,
    /// Once, at the end: the conditions of triggers after the statement.
    End,
}

impl Moment {
    /// All moments, in order.
    pub const ALL: [Self; 5] = [Self::Start, Self::Statement, Self::Row, Self::Kept, Self::End];
}

/// A question: whether a role has a privilege on an object, and why.
#[derive(Debug)]
pub struct Question<'a> {
    /// The role.
    pub role: &'a str,
    /// The role that PostgREST logs in as, from which requests become the other role.
    pub authenticator: &'a str,
    /// Whether the role owns an object in this or another database.
    pub owns_objects: bool,
    /// One privilege.
    pub privilege: Privileges,
    /// The object.
    pub subject: Subject<'a>,
}

/// The kind of an object, as far as its privileges differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum SubjectKind {
    Schema,
    Routine,
    Sequence,
    /// Tables and views of every kind.
    Relation,
    /// An object that does not exist.
    Missing,
}

impl SubjectKind {
    /// Returns the privilege that a question without one is about.
    #[must_use]
    pub fn default_privilege(self) -> Privileges {
        match self {
            Self::Schema | Self::Sequence => Privileges::USAGE,
            Self::Routine => Privileges::EXECUTE,
            Self::Relation | Self::Missing => Privileges::SELECT,
        }
    }

    /// Returns the privileges that exist on such an object in a major version of the server.
    #[must_use]
    pub fn valid_privileges(self, version: u32) -> Privileges {
        match self {
            Self::Schema => Privileges::USAGE | Privileges::CREATE,
            Self::Routine => Privileges::EXECUTE,
            Self::Sequence => Privileges::ALL_ON_SEQUENCE,
            Self::Relation => Privileges::all_on_table(version),
            Self::Missing => Privileges(u32::MAX),
        }
    }
}

/// Why a statement does not do what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A privilege is missing.
    Privilege,
    /// No policy allows a row.
    RowSecurity,
    /// No role can execute it.
    Statement,
}

/// A statement that fails or has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub cause: Cause,
    /// The server's message; where it raises no error, a clause that says which table has no rows.
    pub message: String,
    /// The statements that fix it; `None` where a person has to decide.
    pub fix: Option<String>,
}

/// The result of all checks.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The first error that the server raises, and why.
    error: Option<(Cause, String)>,
    /// The table of which no policy allows a row, so that the statement has none.
    pub no_rows: Option<String>,
    /// Restrictions that are no denial.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Records a missing privilege.
    pub(super) fn deny(&mut self, error: String) {
        self.deny_for(Cause::Privilege, error);
    }

    /// Records an error.
    pub(super) fn deny_for(&mut self, cause: Cause, error: String) {
        self.error.get_or_insert((cause, error));
    }

    /// Records a restriction on the rows, the first one only.
    pub(super) fn note(&mut self, note: String) {
        if self.notes.is_empty() {
            self.notes.push(note);
        }
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.error.is_none() && self.no_rows.is_none()
    }

    /// Returns why the access is denied; `None` where it is allowed.
    pub(super) fn cause(&self) -> Option<Cause> {
        let error = self.error.as_ref().map(|(cause, _)| *cause);
        error.or(self.no_rows.as_ref().map(|_| Cause::RowSecurity))
    }

    /// Returns the denial; `None` where the access is allowed.
    pub(super) fn denial(self, fixes: &[String]) -> Option<Denial> {
        let (cause, message) = match (self.error, self.no_rows) {
            (Some((cause, error)), _) => (cause, error),
            (None, Some(table)) => {
                (Cause::RowSecurity, format!("row security excludes every row of {table}"))
            }
            (None, None) => return None,
        };
        Some(Denial { cause, message, fix: (!fixes.is_empty()).then(|| fixes.join("\n")) })
    }

    pub(super) fn link(self, fixes: &[String]) -> Link {
        let ok = self.is_allowed();
        let detail = match (&self.error, &self.no_rows) {
            (Some((_, error)), _) => format!("Denied: {error}."),
            (None, Some(table)) => format!(
                "Allowed, but row security excludes every row of {table}, and no error is raised."
            ),
            (None, None) => [&["Allowed.".to_owned()], &self.notes[..]].concat().join(" "),
        };
        let fix = (!ok && !fixes.is_empty()).then(|| fixes.join("\n"));
        Link { step: "verdict".into(), ok: Some(ok), detail, fix }
    }
}

/// Returns a clause as a sentence: with a capital letter and a period.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}

/// Returns the role that a need is checked as.
pub(super) fn checked_as<'a>(
    cx: &Context<'a>,
    role: &'a Role,
    check_as: Option<Oid>,
) -> Option<&'a Role> {
    check_as.map_or(Some(role), |oid| cx.snapshot.role(oid))
}
