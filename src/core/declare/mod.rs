//! The contract in SQL: statements that amend it, such as GRANT, and the statements that describe
//! it.
//!
//! The edge parses SQL into [`Declaration`]s with the server's parser, and [`amend`] applies them
//! to a contract. [`statements`] describes a contract, and a declaration prints itself as SQL that
//! the edge parses into the same declaration.

mod accept;
mod amend;
mod amendment;
mod candidates;
mod created;
mod grants;
mod held;
mod meant;
mod objects;
mod print;
mod rename;
mod rows;
mod sequence;
mod setting;
mod statements;

#[cfg(test)]
mod tests;

pub use accept::{Accepted, Attempt, accepting, attempt, declare_call};
pub(crate) use accept::{amended, reported};
pub use amend::amend;
pub(crate) use candidates::{add, candidates, contradicts};
pub(crate) use created::for_created;
pub use meant::{meant, meant_rows};
pub use print::headed;
pub use sequence::sequence_of_column;
pub use statements::{Section, statements};

use crate::catalog::{Attribute, Command, Privileges};
use crate::contract::{ByRole, PolicyCommand, RoleKind};
use crate::sql::capitalized;
use crate::sql::similar::did_you_mean;

/// The name of an object with its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema.
    pub schema: String,
    /// The name in the schema.
    pub name: String,
}

impl Name {
    /// Returns the name of an object.
    #[must_use]
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

/// What a statement creates, drops or comments on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A role.
    Role(String),
    /// A schema.
    Schema(String),
    /// A table.
    Table(Name),
    /// A view.
    View(Name),
    /// A materialized view.
    MaterializedView(Name),
    /// A sequence.
    Sequence(Name),
    /// A function or procedure.
    Function(FunctionName),
}

impl Target {
    /// Returns the name, without the schema.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Role(name) | Self::Schema(name) => name,
            Self::Function(function) => &function.name.name,
            Self::Table(name)
            | Self::View(name)
            | Self::MaterializedView(name)
            | Self::Sequence(name) => &name.name,
        }
    }

    /// Returns the schema that the object is in; `None` for a role or a schema.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        match self {
            Self::Role(_) | Self::Schema(_) => None,
            Self::Function(function) => Some(&function.name.schema),
            Self::Table(name)
            | Self::View(name)
            | Self::MaterializedView(name)
            | Self::Sequence(name) => Some(&name.schema),
        }
    }
}

/// A routine by name and types of its input arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionName {
    /// The schema and the name.
    pub name: Name,
    /// The types of its input arguments, in the form of the contract; `None` for any arguments.
    pub arguments: Option<String>,
}

/// A statement that changes whether row security applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSecurity {
    /// ENABLE ROW LEVEL SECURITY.
    Enable,
    /// DISABLE ROW LEVEL SECURITY.
    Disable,
    /// FORCE ROW LEVEL SECURITY.
    Force,
    /// NO FORCE ROW LEVEL SECURITY.
    NoForce,
}

/// What GRANT and REVOKE name after ON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// Schemas.
    Schemas(Vec<String>),
    /// Tables and views.
    Tables(Vec<Name>),
    /// Sequences.
    Sequences(Vec<Name>),
    /// Functions and procedures.
    Functions(Vec<FunctionName>),
    /// ALL TABLES IN SCHEMA.
    AllTables(Vec<String>),
    /// ALL SEQUENCES IN SCHEMA.
    AllSequences(Vec<String>),
    /// ALL FUNCTIONS, PROCEDURES or ROUTINES IN SCHEMA.
    AllFunctions(Vec<String>),
}

impl On {
    /// Whether both name the same object, or one of them all objects of a schema.
    fn has_same(&self, other: &Self) -> bool {
        fn any<T: PartialEq>(one: &[T], other: &[T]) -> bool {
            one.iter().any(|name| other.contains(name))
        }
        match (self, other) {
            (
                Self::Tables(one) | Self::Sequences(one),
                Self::Tables(all) | Self::Sequences(all),
            ) => any(one, all),
            (Self::Functions(one), Self::Functions(all)) => any(one, all),
            (Self::Schemas(one), Self::Schemas(all)) => any(one, all),
            (Self::Schemas(_), _)
            | (_, Self::Schemas(_))
            | (Self::Tables(_) | Self::Sequences(_), Self::Functions(_))
            | (Self::Functions(_), Self::Tables(_) | Self::Sequences(_)) => false,
            _ => true,
        }
    }
}

/// One privilege of GRANT or REVOKE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The privilege; `None` for ALL.
    pub privilege: Option<Privileges>,
    /// The columns; empty for the whole object.
    pub columns: Vec<String>,
}

/// GRANT or REVOKE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whether it is REVOKE.
    pub is_revoke: bool,
    /// The privileges.
    pub privileges: Vec<Granted>,
    /// The objects.
    pub on: On,
    /// The grantees.
    pub roles: Vec<String>,
    /// Whether PUBLIC is a grantee as well.
    pub to_public: bool,
}

/// A permissive policy: what CREATE POLICY says before the conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyHeader {
    /// The name of the policy, which contracts do not contain.
    pub name: String,
    /// The table.
    pub table: Name,
    /// The commands; all four for FOR ALL.
    pub commands: Vec<Command>,
    /// The roles, without PUBLIC.
    pub roles: Vec<String>,
    /// The commands for which its condition is the constant true.
    pub all_rows: Vec<Command>,
}

/// What ALTER gives another name or schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renamed {
    /// An object, and its new name; for a role or a schema, the name alone counts.
    Object(Target, Name),
    /// A column of a relation: from, to.
    Column(Name, String, String),
}

/// What a table declares about who its rows belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// The columns by which a row is its caller's.
    Keys(Vec<String>),
    /// The columns that may open a row, by role.
    OpenRows(ByRole<String>),
    /// The roles that may insert rows that belong to no caller.
    AppendOnlyBy(Vec<String>),
    /// Whether a caller who is found in the table has a right.
    Privileged(bool),
}

/// What one statement says about a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declaration {
    /// RESET ALL: the statements after it describe the whole contract.
    ResetAll,
    /// `SET contract.<path> = ...`: a field of the contract that is no list of objects, by its
    /// path. Without values, its default.
    Set(Vec<String>, Vec<String>),
    /// CREATE of a role, schema, table or sequence.
    Create(Target),
    /// The sequence that CREATE TABLE creates for a serial or identity column. It is declared where
    /// a later statement names it.
    SequenceOfColumn(Name),
    /// CREATE VIEW or MATERIALIZED VIEW.
    CreateView {
        /// The view.
        name: Name,
        /// Whether it is a materialized view.
        is_materialized: bool,
        /// Whether it has the option security_invoker.
        security_invoker: bool,
        /// Its query; `None` where the contract does not have it.
        definition: Option<String>,
    },
    /// CREATE FUNCTION or PROCEDURE.
    CreateFunction {
        /// The routine.
        function: FunctionName,
        /// SECURITY DEFINER (true) or INVOKER (false); `None` where the statement does not say.
        security_definer: Option<bool>,
    },
    /// `ALTER ROUTINE ... SET contract.arguments = any`: a routine with this name must exist, with
    /// any arguments.
    AnyArguments(Name),
    /// DROP.
    Drop(Target),
    /// DROP ... IF EXISTS: nothing where the object is not declared.
    DropIfDeclared(Target),
    /// ALTER ... RENAME or SET SCHEMA.
    Rename(Renamed),
    /// ALTER ROLE, or the attributes of CREATE ROLE.
    Attributes(String, Vec<(Attribute, bool)>),
    /// `ALTER ROLE ... SET contract.kind = ...`.
    Kind(String, RoleKind),
    /// ALTER TABLE ... ROW LEVEL SECURITY.
    RowSecurity(Name, RowSecurity),
    /// `ALTER TABLE ... SET (contract.all_rows = declared)`: a policy of the table may allow a
    /// client every row only where that is declared. False for RESET.
    AllRows(Name, bool),
    /// `ALTER TABLE ... SET (contract.all_rows = '{...}')`: the field as JSON, for commands that no
    /// policy is declared for.
    AllRowsOf(Name, ByRole<PolicyCommand>),
    /// `ALTER TABLE ... SET (contract.keys = 'a, b')`: who the rows belong to. RESET: nothing is
    /// declared.
    Rows(Name, Rows),
    /// ALTER VIEW ... SET (`security_invoker` = ...).
    SecurityInvoker(Name, bool),
    /// ALTER FUNCTION ... SECURITY DEFINER (true) or INVOKER (false).
    SecurityDefiner(FunctionName, bool),
    /// `ALTER ROUTINE ... SET contract.all_rows = ...`: whether a SECURITY DEFINER routine is meant
    /// to reach rows that are not its caller's.
    AllRowsOfRoutine(FunctionName, bool),
    /// GRANT or REVOKE on objects.
    Grant(Grant),
    /// GRANT or REVOKE of a role: contracts do not contain memberships.
    Membership {
        /// The role that is granted.
        role: String,
        /// Its member.
        member: String,
        /// Whether it is REVOKE.
        is_revoke: bool,
    },
    /// CREATE POLICY.
    CreatePolicy(PolicyHeader),
    /// DROP POLICY, of a policy with this header.
    DropPolicy(PolicyHeader),
    /// DROP POLICY, of a policy that is looked up in the catalog and among those that earlier
    /// statements create.
    DropPolicyNamed {
        /// The table.
        table: Name,
        /// The name of the policy.
        name: String,
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// COMMENT ON: the purpose of an object, or the description of a role.
    Comment(Target, String),
}

/// Which kind of reason it is, for the SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The statement says something that it must not say.
    Invalid,
    /// A contract has no place for what the statement says.
    Inexpressible,
    /// The statement names something that is neither declared nor there.
    Unknown,
}

/// Why a statement cannot amend a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unfit {
    /// Which kind of reason it is.
    pub cause: Cause,
    /// The primary message: short, no period.
    pub message: String,
    /// What to do instead, in full sentences.
    pub hint: String,
}

impl Unfit {
    /// Returns the reason for a statement that is not valid, with what to do instead.
    #[must_use]
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { cause: Cause::Invalid, message: message.into(), hint: hint.into() }
    }

    /// Returns the reason for a clause that no contract can express.
    #[must_use]
    pub fn inexpressible(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { cause: Cause::Inexpressible, ..Self::new(message, hint) }
    }

    /// Returns the reason for a name that is not known: the hint asks for the `known` name that is
    /// most similar, if one is.
    #[must_use]
    pub fn unknown<'n>(
        message: impl Into<String>,
        hint: impl Into<String>,
        given: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let others = known.into_iter().filter(|name| *name != given);
        let question = did_you_mean(given, others).map(|text| format!("{} ", capitalized(&text)));
        let hint = format!("{}{}", question.unwrap_or_default(), hint.into());
        Self { cause: Cause::Unknown, ..Self::new(message, hint) }
    }
}
