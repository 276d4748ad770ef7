//! What the bodies of SECURITY DEFINER routines let their callers do, as the analysis of the bodies
//! found.

use super::{Command, Oid, Opening};
use std::collections::BTreeSet;

/// What the body of a SECURITY DEFINER routine lets its callers do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefinerBody {
    /// The routine.
    pub routine: Oid,
    /// By client: what the statements do with rows of tables whose row security does not apply to
    /// the owner of the routine.
    pub accesses: Vec<(Oid, Vec<BodyAccess>)>,
    /// The SQL text made of arguments that the body executes.
    pub executed: Option<ExecutedText>,
    /// The parameters that the body sets to what its caller chooses.
    pub parameters: BTreeSet<SetParameter>,
    /// Why statements of the body are not read; `None` where all are.
    pub unread: Option<String>,
    /// The tables whose row security does not apply to the owner and whose names are in the text
    /// of a body that is not read.
    pub named: Vec<Oid>,
    /// What statements in the text of a body that is not read do with rows of `named` tables,
    /// besides reading them.
    pub written: Vec<(Oid, Command)>,
}

/// Rows of a table that a body reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyAccess {
    /// The table.
    pub relation: Oid,
    /// What is done with the rows.
    pub command: Command,
    /// Whether the caller is only told whether there are such rows.
    pub is_asked_only: bool,
    /// The ways in which rows are reached that are not tied to the caller.
    pub ways: Vec<BodyWay>,
}

/// A way in which a body reaches rows that are not tied to the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyWay {
    /// What kind of opening it is.
    pub opening: Opening,
    /// The columns of the row that are asked for something.
    pub columns: BTreeSet<String>,
    /// The tables and views in which a row is found.
    pub lookups: BTreeSet<String>,
    /// The columns of the row that are equal to an argument.
    pub by_argument: BTreeSet<String>,
    /// Whether an argument is asked for something.
    pub has_argument: bool,
    /// The name that means a column, and was meant to be an argument or the column of another row.
    pub captured: Option<String>,
    /// What holds in this way: a left operand, an operator and a right operand.
    pub witness: Vec<[String; 3]>,
}

/// SQL text that is made of an argument.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExecutedText {
    /// The argument.
    pub argument: String,
    /// Whether the body compares the argument with something first.
    pub is_tested: bool,
}

/// A parameter that is set to what the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetParameter {
    /// The parameter; `None` where its name is computed.
    pub name: Option<String>,
    /// The argument that its value, or its name, is made of.
    pub argument: String,
    /// Whether the body tests the argument first.
    pub is_tested: bool,
}
