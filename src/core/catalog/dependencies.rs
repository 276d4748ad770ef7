//! What the server evaluates on behalf of a role that uses an object: the routines that policies,
//! views, constraints, defaults and the like call, and the relations that they read. The edge reads
//! it from `pg_depend`.

use super::{Command, Oid, Policy, Relation, Routine};
use std::collections::{BTreeMap, HashMap};

/// The object that a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Holder {
    Policy(Oid),
    Relation(Oid),
    Routine(Oid),
    Type(Oid),
    EventTrigger(Oid),
}

/// A kind of part that the server evaluates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// The conditions of a policy.
    Policy,
    /// The query of a view or materialized view.
    Query,
    /// A rule for a command.
    Rule(Command),
    /// A CHECK constraint.
    Check,
    /// The default of a column.
    Default,
    /// The expression of a generated column.
    Generated,
    /// The expressions and the condition of an index.
    Index,
    /// The partition key.
    PartitionKey,
    /// The expressions of extended statistics, which ANALYZE evaluates as the owner of the table.
    Statistics,
    /// The function of a trigger. No privilege is needed to execute it.
    TriggerFunction,
    /// The function of an event trigger.
    EventTrigger,
    /// The WHEN condition of a trigger for some commands.
    TriggerCondition(Vec<Command>),
    /// The types of the columns of a relation, as far as they use something.
    Columns,
    /// The types that a type consists of, and the constraints of a domain.
    Type,
    /// The functions that a range type or a base type consists of. No privilege is needed to
    /// execute them.
    TypeFunctions,
    /// The operators and casts of a type, which statements about its values use.
    Operators,
    /// The parsed body of a routine (BEGIN ATOMIC), the defaults of its arguments, and the types of
    /// these.
    Routine {
        /// Whether arguments have defaults, which the caller evaluates.
        has_defaults: bool,
    },
}

/// What a part uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// It calls a routine, by its name or by an operator.
    Routine(Oid),
    /// It reads whole rows of a relation, or uses a sequence.
    Relation(Oid),
    /// It reads a relation and no column of it, as `count(*)` does: the server requires SELECT on
    /// any one column. The column is the first, which stands for it.
    AnyColumn(Oid, String),
    /// It reads a column of a relation.
    Column(Oid, String),
    /// It makes values of a type.
    Type(Oid),
}

/// A part of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The object that it belongs to.
    pub holder: Holder,
    /// What it is.
    pub kind: PartKind,
    /// The name of the policy, constraint, column, index or trigger; empty where there is none.
    pub name: String,
    /// What it uses. The columns of its own relation are no use: the command that evaluates the
    /// part reads them anyway.
    pub uses: Vec<Use>,
}

/// The parts that use something, and the objects outside of the lists of the snapshot that take
/// part.
#[derive(Debug, Default)]
pub struct Dependencies {
    parts: Vec<Part>,
    of: HashMap<Holder, Vec<usize>>,
    children: HashMap<Oid, Vec<Oid>>,
    relations: BTreeMap<Oid, Relation>,
    routines: BTreeMap<Oid, Routine>,
    policies: HashMap<Oid, Vec<Policy>>,
    types: BTreeMap<Oid, TypeOwner>,
}

/// A type that columns use, and that does not belong to a superuser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeOwner {
    /// The qualified name, as SQL.
    pub name: String,
    /// The schema.
    pub schema: Oid,
    /// The owner.
    pub owner: Oid,
}

impl Dependencies {
    /// Returns the dependencies by their parts, and by the partitions and inheritance children of
    /// tables as pairs of parent and child.
    #[must_use]
    pub fn new(parts: Vec<Part>, children: &[(Oid, Oid)]) -> Self {
        let mut new = Self { parts, ..Self::default() };
        for (place, part) in new.parts.iter().enumerate() {
            new.of.entry(part.holder).or_default().push(place);
        }
        for (parent, child) in children {
            new.children.entry(*parent).or_default().push(*child);
        }
        new
    }

    /// Adds objects that the lists of the snapshot do not contain.
    #[must_use]
    pub fn with(
        mut self,
        relations: Vec<Relation>,
        policies: Vec<Policy>,
        routines: Vec<Routine>,
    ) -> Self {
        self.relations.extend(relations.into_iter().map(|r| (r.oid, r)));
        self.routines.extend(routines.into_iter().map(|r| (r.oid, r)));
        for policy in policies {
            self.policies.entry(policy.relation).or_default().push(policy);
        }
        self
    }

    /// Adds types that columns use and that do not belong to superusers.
    #[must_use]
    pub fn with_types(mut self, types: BTreeMap<Oid, TypeOwner>) -> Self {
        self.types = types;
        self
    }

    /// Returns the types that columns use and that do not belong to superusers.
    pub fn types(&self) -> impl Iterator<Item = (Oid, &TypeOwner)> {
        self.types.iter().map(|(oid, of)| (*oid, of))
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns a part by its place.
    #[must_use]
    pub fn part(&self, place: usize) -> &Part {
        &self.parts[place]
    }

    /// Returns all parts with their places.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &Part)> {
        self.parts.iter().enumerate()
    }

    /// Returns the places of the parts of an object.
    #[must_use]
    pub fn parts_of(&self, holder: Holder) -> &[usize] {
        self.of.get(&holder).map_or(&[], Vec::as_slice)
    }

    /// Returns the partitions and inheritance children of a table.
    #[must_use]
    pub fn children_of(&self, table: Oid) -> &[Oid] {
        self.children.get(&table).map_or(&[], Vec::as_slice)
    }

    /// Returns a relation that the snapshot does not list.
    #[must_use]
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    /// Returns the relations that the snapshot does not list.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// Returns a routine that the snapshot does not list.
    #[must_use]
    pub fn routine(&self, oid: Oid) -> Option<&Routine> {
        self.routines.get(&oid)
    }

    /// Returns the routines that the snapshot does not list.
    pub fn routines(&self) -> impl Iterator<Item = &Routine> {
        self.routines.values()
    }

    /// Returns the policies of a relation that the snapshot does not list.
    #[must_use]
    pub fn policies_of(&self, relation: Oid) -> &[Policy] {
        self.policies.get(&relation).map_or(&[], Vec::as_slice)
    }
}
