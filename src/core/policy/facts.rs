//! What the meaning of a stored expression depends on in the catalog.

use super::formula::Comparison;
use crate::catalog::{Command, Oid};
use crate::stored::{Expression, Query};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The objects that a stored expression mentions. `None` stands for an object that is not there or
/// cannot be read: then nothing is known of it.
pub trait Catalog {
    /// Returns an operator.
    fn operator(&self, oid: Oid) -> Option<Operator>;
    /// Returns a function.
    fn function(&self, oid: Oid) -> Option<Rc<Function>>;
    /// Returns the symbol of a built-in operator with two operands by its function.
    fn symbol(&self, _function: Oid) -> Option<Rc<str>> {
        None
    }
    /// Returns a column; those with negative numbers are columns of the system.
    fn column(&self, relation: Oid, number: i16) -> Option<Column>;
    /// Returns a view; `None` for other relations.
    fn view(&self, relation: Oid) -> Option<Rc<View>>;
    /// Returns what a role reads of a table or view.
    fn reads(&self, _role: Oid, _relation: Oid) -> Reads {
        Reads::All
    }
    /// Returns what a role can write of a table with INSERT or UPDATE; `None` where it has no
    /// privilege.
    fn writes(&self, _role: Oid, _relation: Oid, _command: Command) -> Option<Rc<Writable>> {
        None
    }
    /// Returns by which other relations a role writes rows of a table.
    fn detours(&self, _role: Oid, _table: Oid, _command: Command) -> Rc<Vec<Detour>> {
        Rc::default()
    }
    /// Whether row security is enabled on a table.
    fn has_row_security(&self, _relation: Oid) -> bool {
        false
    }
    /// Returns the defaults of the columns of a table.
    fn defaults(&self, _relation: Oid) -> Rc<Vec<(i16, Expression)>> {
        Rc::default()
    }
    /// Returns the foreign keys of a table.
    fn references(&self, _relation: Oid) -> Rc<Vec<Reference>> {
        Rc::default()
    }
    /// Returns the columns of each unique key of a table.
    fn unique_keys(&self, _relation: Oid) -> Rc<Vec<BTreeSet<i16>>> {
        Rc::default()
    }
    /// Returns the columns of the unique key that is a constraint.
    fn key_of_constraint(&self, _constraint: Oid) -> Option<BTreeSet<i16>> {
        None
    }
    /// Whether a role may call a function.
    fn may_execute(&self, _role: Oid, _function: Oid) -> bool {
        true
    }
    /// Whether a role may call a function by its name: it also has USAGE on the schema.
    fn may_call(&self, role: Oid, function: Oid) -> bool {
        self.may_execute(role, function)
    }
    /// Whether a role can create functions in a schema.
    fn may_create_functions(&self, _role: Oid) -> bool {
        true
    }
    /// Whether an index of a table begins with a column. True for what is no table.
    fn begins_index(&self, _relation: Oid, _number: i16) -> bool {
        true
    }
    /// Whether there is a parameter of this name, or one can be made up.
    fn has_parameter(&self, _name: &str) -> bool {
        true
    }
    /// Returns the CHECK constraints that hold for every row of a table.
    fn checks(&self, _relation: Oid) -> Rc<Vec<Expression>> {
        Rc::default()
    }
    /// Returns the name of a relation with its schema, as people write it.
    fn relation_name(&self, _relation: Oid) -> Option<String> {
        None
    }
    /// Returns the name of a column.
    fn column_name(&self, _relation: Oid, _number: i16) -> Option<String> {
        None
    }
    /// Whether a relation has a column of this name.
    fn has_column(&self, _relation: Oid, _name: &str) -> bool {
        false
    }
    /// Returns the name of a role.
    fn role_name(&self, _role: Oid) -> Option<String> {
        None
    }
    /// Whether a type is one of an extension whose values are texts.
    fn is_text_of_extension(&self, _type: Oid) -> bool {
        false
    }
    /// Returns the bytes of a constant as its type writes them.
    fn constant(&self, _type: Oid, _bytes: &[u8]) -> Option<String> {
        None
    }
    /// Whether texts that are equal by a collation are the same.
    fn is_deterministic(&self, collation: Oid) -> bool;
    /// Lets the user cancel what takes long. It may not return.
    fn interrupts(&self) {}
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Operator {
    pub name: String,
    /// Whether it was created with the server: schema and name of others tell nothing.
    pub is_built_in: bool,
    /// Whether it belongs to an extension and to a superuser.
    pub is_of_extension: bool,
    /// Whether it is the equality of a btree operator family of any role.
    pub is_equality: bool,
    pub function: Oid,
    /// Whether the result is null where an operand is.
    pub is_strict: bool,
    pub is_volatile: bool,
    /// The comparison that it is in a built-in btree operator family.
    pub comparison: Option<Comparison>,
}

/// A view.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct View {
    pub query: Query,
    /// The role as which it reads its tables; `None` where that is its caller (security_invoker).
    pub owner: Option<Oid>,
}

/// What a role reads of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reads {
    /// An error: it has no privilege.
    Denied,
    /// Every row.
    All,
    /// The rows that policies let it read.
    Policies(Rc<Policies>),
}

/// What a role can write of a table with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// The columns that it has the privilege for.
    pub columns: BTreeSet<i16>,
    /// The conditions of a new row; `None` where no policies are asked.
    pub policies: Option<Policies>,
    /// The conditions of the row that UPDATE replaces.
    pub existing: Policies,
}

/// Another relation by which a role writes rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// What is written, as people name it: `view app.v`.
    pub through: String,
    /// The table whose policies are asked.
    pub table: Oid,
    /// By columns of the wanted table: those of the table whose policies are asked.
    pub columns: BTreeMap<i16, i16>,
    /// What the role can write of that table; `None` where it is not known what is written.
    pub writable: Option<Rc<Writable>>,
    /// Whether the role chooses the values: otherwise it is not known what they are.
    pub is_chosen: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Reference {
    pub columns: BTreeSet<i16>,
    pub target: Oid,
    pub target_columns: BTreeSet<i16>,
}

/// The conditions of the policies of a table for a role and a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of these, one must be true.
    pub permissive: Vec<Expression>,
    /// All of these must be true.
    pub restrictive: Vec<Expression>,
    /// Whether the condition for new rows of one of these policies has a subquery.
    pub checks_have_subquery: bool,
}

impl Policies {
    /// Whether the server expands subqueries for these policies, so that it takes the table for one
    /// that leads to itself where it is read within its own policies. It looks at both conditions
    /// of each policy.
    #[must_use]
    pub fn have_subquery(&self) -> bool {
        let conditions = || self.permissive.iter().chain(&self.restrictive);
        let is_unknown = |of: &Expression| matches!(of, Expression::Unknown(_));
        self.checks_have_subquery || conditions().any(|of| of.has_subquery() || is_unknown(of))
    }
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Function {
    pub name: String,
    /// The name with schema and types of arguments, such as `auth.uid()`; empty for built-in
    /// functions.
    pub signature: String,
    pub is_built_in: bool,
    pub is_strict: bool,
    pub is_volatile: bool,
    pub is_immutable: bool,
    /// Whether the server executes it for each call and cannot make it a part of the query: it is
    /// SECURITY DEFINER, has a SET clause, or is in a language other than SQL, C and internal.
    pub is_called: bool,
    /// The role as which it is executed; `None` where that is its caller.
    pub owner: Option<Oid>,
    pub argument_count: usize,
    /// The names of the arguments; empty for those without one.
    pub argument_names: Vec<String>,
    /// Whether what it returns may depend on who calls it, where its body is not known.
    pub asks_caller: bool,
    /// The defaults of the last arguments.
    pub defaults: Vec<Expression>,
    pub body: Body,
}

/// Volatile functions of the server that do nothing but return a value.
const HARMLESS: [&str; 4] = ["random", "gen_random_uuid", "clock_timestamp", "timeofday"];

/// Volatile functions that return the next value, or one that no row has: nextval, and those of
/// uuid-ossp.
const NEXT: [&str; 4] = ["nextval", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"];

impl Function {
    /// Whether a volatile function does nothing but return a value.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        HARMLESS.contains(&self.name.as_str())
    }

    /// Whether a volatile function returns values that say nothing of the caller.
    #[must_use]
    pub fn is_new_value(&self) -> bool {
        self.is_harmless() || NEXT.contains(&self.name.as_str())
    }
}

/// What is known of the body of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Opaque,
    /// It returns this boolean, or null.
    Constant(Option<bool>),
    /// It is one query.
    Query(Box<Query>),
    /// It is one query, which is read each time it is called.
    Text(Box<Query>, Captured),
}

/// The objects in the text of a function whose names its caller can give to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Tables and views: by the search_path, or by temporary ones.
    pub relations: BTreeSet<String>,
    /// Functions: by the search_path, if the caller can create others.
    pub functions: BTreeSet<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Whether it can be null in the table or in one that inherits from it.
    pub nullable: bool,
    /// The expression of a generated column.
    pub generated: Option<Rc<Expression>>,
}
