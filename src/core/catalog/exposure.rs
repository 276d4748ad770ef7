//! What a policy lets a role reach, as the analysis of its condition found.

use super::{Calls, Command, Oid, Unindexed};
use crate::sql::listed_set;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a policy lets a role reach with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyExposure {
    /// The policy.
    pub policy: Oid,
    /// The role.
    pub role: Oid,
    /// The command.
    pub command: Command,
    /// The rows that are asked about.
    pub rows: Rows,
    /// What is reached.
    pub exposure: Rc<Exposure>,
    /// Another permissive policy that lets the role reach all of that, whatever this one is.
    pub covered_by: Option<Oid>,
    /// The triggers that see a row before it is written, and may change it or refuse it; without
    /// those that clients can change.
    pub triggers: Rc<BTreeSet<String>>,
}

impl PolicyExposure {
    /// Whether it is about the rows that UPDATE replaces.
    #[must_use]
    pub fn is_of_old(&self) -> bool {
        self.rows == Rows::Existing
    }
}

/// The rows that a command asks a policy about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Those that exist: USING.
    Existing,
    /// Those that are written: WITH CHECK, or USING where there is none.
    New,
}

/// A permissive policy of storage.objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePolicy {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// What it lets clients reach.
    pub exposures: Vec<PolicyExposure>,
}

/// What a policy lets a role reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Every row, whatever the session is.
    pub is_always_true: bool,
    /// Whether it matters which role asks.
    pub asks_role: bool,
    /// No row.
    pub is_never_true: bool,
    /// Every row, in each session of the role.
    pub ignores_row: bool,
    /// Whether the role's sessions have a user.
    pub caller: Option<Caller>,
    /// The columns that tie a row to the caller: those of each way in which it is tied.
    pub ties: BTreeSet<BTreeSet<String>>,
    /// The same, with the parts of columns that do.
    pub tied_by: BTreeSet<BTreeSet<TiedBy>>,
    /// The values of the caller that the conditions ask for, as people write them.
    pub values_of_caller: BTreeSet<String>,
    /// The columns of which each is a unique key of the table.
    pub unique: BTreeSet<String>,
    /// Whether callers with a right reach rows that are not tied to them.
    pub has_privileged: bool,
    /// The ways in which other rows are reached, one of each kind.
    pub open: Vec<Open>,
    /// The tables and views that are looked up.
    pub lookups: BTreeSet<String>,
    /// The columns of lookups that the role can write and by which it can make rows its own.
    pub forgeable: BTreeSet<Forgeable>,
    /// What may write lookups: it is not known which of their rows.
    pub lookup_writers: BTreeSet<String>,
    /// What could not be read.
    pub unknown: BTreeSet<String>,
    /// The relations that the reader of a lookup has no privilege on.
    pub denied: BTreeSet<String>,
    /// The tables of which no policy lets the reader of a lookup read a row, where rows would pass
    /// if one did.
    pub hidden: BTreeSet<String>,
    /// The ways in which rows that are not tied to the caller would be reached if the reader of
    /// lookups could read rows of these relations: one of each kind.
    pub latent: Vec<Open>,
    /// The functions that are declared IMMUTABLE although they ask the session or tables.
    pub immutable: BTreeSet<String>,
    /// The functions whose caller can give names in their texts to other objects.
    pub captured: BTreeMap<String, BTreeSet<String>>,
    /// The functions that their caller has no privilege on.
    pub not_executable: BTreeSet<String>,
    /// The tables whose policies lead to themselves.
    pub recursive: BTreeSet<String>,
    /// What the condition calls.
    pub calls: Calls,
    /// The columns that rows are found by without an index.
    pub unindexed: BTreeSet<Unindexed>,
    /// The columns that are equal to something in each way in which a row passes.
    pub fixed: BTreeSet<String>,
    /// The columns that have one of certain values in each way in which a row passes, with these.
    pub values: BTreeMap<String, BTreeSet<String>>,
}

/// What ties a row to the caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TiedBy {
    /// The column.
    pub column: String,
    /// The part of it, such as `data ->> 'owner'`; `None`: the column itself.
    pub part: Option<String>,
}

impl TiedBy {
    /// Whether a value that ties by the one ties by the other: nothing is known of parts of a
    /// column that ties itself.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let is_whole = self.part.is_none() || other.part.is_none();
        self.column == other.column && (is_whole || self.part == other.part)
    }

    /// Returns what people write.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.part.as_deref().unwrap_or(&self.column)
    }
}

/// A way in which a row that is not tied to the caller is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    /// What kind of opening it is.
    pub opening: Opening,
    /// The columns of the row that are asked for something.
    pub columns: BTreeSet<String>,
    /// Whether all that is asked is that these columns have certain values.
    pub is_flag: bool,
    /// The tables and views in which a row is found; `None` where it also matters that none is.
    pub lookups: Option<BTreeSet<String>>,
    /// What holds in this way: a left operand, an operator and a right operand.
    pub witness: Vec<[String; 3]>,
    /// The argument that was meant by a captured name, where that is one of a function.
    pub captured: Option<CapturedArgument>,
}

/// An argument that the body of its function does not ask for: a column there has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct CapturedArgument {
    pub function: String,
    pub argument: String,
}

impl CapturedArgument {
    /// Returns a clause that says what has happened to it.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { function, argument } = self;
        format!(
            "argument {argument} of function {function} is not asked for, because its name means \
             a column in the function's body"
        )
    }
}

/// A kind of opening. The first that fits is what a way is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opening {
    /// By something that users can change about themselves.
    UserClaim,
    /// By something that the request contains.
    Request,
    /// By a parameter that a session can set.
    SettableParameter,
    /// By an address that may not have been verified.
    Email,
    /// It depends on an operator that is not the server's.
    ForeignOperator,
    /// It depends on something of which nothing is known.
    Opaque,
    /// A pattern with a value of the session.
    Pattern,
    /// A value of the session is different from a column.
    Inverted,
    /// A column is less or greater than something.
    NotEqual,
    /// A column of a lookup is equal to itself: its name was meant to be another table's.
    NameCaptured,
    /// The row that it belongs to has a flag.
    RowOpenByParent,
    /// A lookup has no value of the session in it.
    LookupUnbound,
    /// A lookup of the caller is not joined to the row.
    LookupUncorrelated,
    /// A column is the name of the database role, which serves many callers.
    RoleName,
    /// A column has a value.
    RowOpen,
    /// A column is null.
    NullRowOpen,
    /// A value of the session is null.
    WithoutIdentity,
    /// Nothing is asked of the row.
    #[default]
    IgnoresRow,
}

impl Exposure {
    /// Returns the ways in which rows pass that are not tied to the caller. Of a condition that no
    /// row meets, or all do whatever the session is, there are none.
    #[must_use]
    pub fn openings(&self) -> Vec<Cow<'_, Open>> {
        if self.is_never_true || (self.is_always_true && !self.asks_role) {
            return Vec::new();
        }
        if self.ignores_row || self.is_always_true {
            let opening = self.opening(Opening::IgnoresRow);
            return vec![Cow::Owned(Open { opening, ..Open::default() })];
        }
        let mut ways: Vec<Cow<'_, Open>> = Vec::new();
        for open in &self.open {
            let opening = self.opening(open.opening);
            match ways.iter_mut().find(|known| known.opening == opening) {
                Some(known) => known.to_mut().columns.extend(open.columns.iter().cloned()),
                None if opening == open.opening => ways.push(Cow::Borrowed(open)),
                None => ways.push(Cow::Owned(Open { opening, ..open.clone() })),
            }
        }
        ways
    }

    /// Returns what kind of opening it is for the sessions of the role: without a user, what is
    /// compared with the user is not asked.
    #[must_use]
    pub fn opening(&self, opening: Opening) -> Opening {
        let is_about_user =
            matches!(opening, Opening::Inverted | Opening::NullRowOpen | Opening::IgnoresRow);
        match self.caller {
            Some(Caller::Without) if is_about_user => Opening::WithoutIdentity,
            _ => opening,
        }
    }

    /// Whether each row that passes is tied to the caller, or opened by a right of the caller.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.is_always_true && !self.is_undecided() && self.openings().is_empty()
    }

    /// Whether nothing is known of the rows that pass.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        let is_decided = self.is_always_true || self.is_never_true || self.ignores_row;
        let is_found = self.has_privileged || !self.ties.is_empty() || !self.open.is_empty();
        !is_decided && !is_found && !self.unknown.is_empty()
    }

    /// Whether a row that passes can pass another condition, too: no column is asked for other
    /// values there.
    #[must_use]
    pub fn can_meet(&self, other: &Self) -> bool {
        self.values.iter().all(|(column, values)| {
            other.values.get(column).is_none_or(|others| !values.is_disjoint(others))
        })
    }

    /// Whether asking the condition raises an error.
    #[must_use]
    pub fn fails(&self) -> bool {
        !(self.recursive.is_empty() && self.denied.is_empty() && self.not_executable.is_empty())
    }
}

impl Opening {
    /// Returns the word that stands for it in results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserClaim => "user_claim",
            Self::Request => "request",
            Self::SettableParameter => "settable_parameter",
            Self::Email => "email",
            Self::ForeignOperator => "foreign_operator",
            Self::Opaque => "opaque",
            Self::Pattern => "pattern",
            Self::Inverted => "identity_inverted",
            Self::NotEqual => "identity_not_equal",
            Self::NameCaptured => "name_captured",
            Self::RowOpenByParent => "row_open_by_parent",
            Self::LookupUnbound => "lookup_unbound",
            Self::LookupUncorrelated => "lookup_uncorrelated",
            Self::RoleName => "role_name",
            Self::RowOpen => "row_open",
            Self::NullRowOpen => "null_row_open",
            Self::WithoutIdentity => "open_without_identity",
            Self::IgnoresRow => "ignores_row",
        }
    }
}

/// Whether the sessions of a role have a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// They have one.
    With,
    /// They have none.
    Without,
}

/// Columns of a lookup that a role can write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forgeable {
    /// The command.
    pub command: Command,
    /// The table.
    pub table: String,
    /// What is written instead of it, such as a view.
    pub through: Option<String>,
    /// The columns.
    pub columns: BTreeSet<String>,
    /// Why the role can give them the value that it wants.
    pub why: Free,
}

/// Why a role can give columns a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Free {
    /// No policy restricts the command, because row security is not enabled.
    Unrestricted,
    /// Who passes the policies chooses the value.
    AnyValue,
    /// The policies let the role update rows of others, and these columns say whose they are.
    AnyRow,
    /// Each row that the role may insert has it.
    EachRow,
}

impl Forgeable {
    /// Returns a command, the columns and where they are.
    #[must_use]
    pub fn what(&self, command: &str) -> String {
        let through = self.through.as_ref();
        let through = through.map_or_else(String::new, |of| format!(" through {of}"));
        let columns = listed_set(&self.columns);
        format!("{command} of {columns} on {}{through}", self.table)
    }

    /// Returns the sentence about it.
    #[must_use]
    pub fn describe(&self) -> String {
        let why = match self.why {
            Free::Unrestricted if self.through.is_some() => "no policy restricts that",
            Free::Unrestricted => "row security is not enabled on it",
            Free::AnyValue => "who passes its policies chooses the value",
            Free::AnyRow => "its policies let the caller update rows of others",
            Free::EachRow => "each row that the caller may insert has that value",
        };
        format!(
            "The caller can make a row its own: {}, because {why}.",
            self.what(self.command.as_str())
        )
    }
}
