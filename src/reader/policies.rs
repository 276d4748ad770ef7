//! Reads `pg_policy`.

use crate::expressions::{Assumed, Mentioned};
use crate::oids;
use crate::source::{Column, Row, State, of_row};
use crate::stored_policies::command_of;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{
    Command, FIRST_UNPINNED, Oid, Policy, Snapshot, tells_of_memberships,
};
use dragonfly_core::policy::facts::Catalog;
use dragonfly_core::{policy, stored};
use std::collections::{HashMap, HashSet};

/// The maximum number of relations whose policies are looked up one by one; for more, one pass over
/// the catalog is faster.
const MOST_LOOKUPS: usize = 100;

/// Reads the policies of the relations in the snapshot.
pub fn read(state: &dyn State, snapshot: &mut Snapshot) {
    let wanted: HashSet<Oid> = snapshot.relations.iter().map(|r| r.oid).collect();
    let table = state.table(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, name, relation, command, permissive) = (
        column("oid"),
        column("polname"),
        column("polrelid"),
        column("polcmd"),
        column("polpermissive"),
    );
    let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
    let reads_all = wanted.len() > MOST_LOOKUPS;
    let of_database = Snapshot {
        database: snapshot.database.clone(),
        roles: snapshot.roles.clone(),
        memberships: snapshot.memberships.clone(),
        schemas: snapshot.schemas.clone(),
        index: snapshot.index.clone(),
        ..Snapshot::default()
    };
    let of_database = of_database.with_roles_and_schemas();
    let access = Access::new(&of_database);
    let mut mentioned = Mentioned::new(state, state.rights(&of_database, &access), None);
    if reads_all {
        mentioned = mentioned.with_all_defaults();
    }
    let (mut policies, mut conditions) = (Vec::new(), Conditions::new(&mentioned));
    let mut each = |row: Row<'_>| {
        if !wanted.contains(&row.oid(relation)) {
            return;
        }
        let command = command_of(row.char(command));
        let of = row.oid(relation);
        let mut condition = |column| conditions.of(&row, column, of);
        let (using, check) = (condition(using), condition(check));
        let condition = if command == Some(Command::Insert) { check } else { using };
        policies.push(Policy {
            oid: row.oid(oid),
            name: row.name(name),
            relation: row.oid(relation),
            command,
            permissive: row.bool(permissive),
            roles: row.oids(roles),
            always_true: condition.is_some_and(|c| c.is_always_true),
            unchecked: check.is_some_and(|c| c.is_always_true),
            has_check: check.is_some(),
            requires_authentication: requires_authentication(command, using, check),
            asks_memberships: using.iter().chain(&check).any(|c| c.asks_memberships),
            never_true: condition.is_some_and(|c| c.is_never_true_for_any_caller),
            rejects_new_rows: check.or(using).is_some_and(|c| c.is_never_true_for_any_caller),
        });
    };
    if reads_all {
        table.scan(each);
    } else {
        for oid in &wanted {
            table.lookup(oids::PG_POLICY_RELID_INDEX, &[(relation, *oid)], &mut each);
        }
    }
    snapshot.policies = policies;
}

/// Returns the relations with a policy whose condition calls a routine, or a routine with a parsed
/// body that calls it, as deeply as bodies are followed.
pub fn relations_with_call(state: &dyn State, routine: Oid) -> Vec<Oid> {
    let table = state.table(oids::PG_DEPEND);
    let (class, object) = (table.column("classid"), table.column("objid"));
    let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
    let (mut relations, mut known, mut called) =
        (Vec::new(), HashSet::from([routine]), vec![routine]);
    for _ in 0..policy::DEEPEST {
        let mut callers = Vec::new();
        for routine in called {
            state.interrupts();
            let keys = [(to_class, oids::PG_PROC), (to_object, routine)];
            table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
                let user = row.oid(object);
                match row.oid(class) {
                    oids::PG_POLICY => relations.extend(relation_of(state, user)),
                    oids::PG_PROC if known.insert(user) => callers.push(user),
                    _ => {}
                }
            });
        }
        called = callers;
    }
    relations
}

/// Returns the relation of a policy.
fn relation_of(state: &dyn State, policy: Oid) -> Option<Oid> {
    of_row(state, oids::POLICY_BY_OID, policy, "polrelid", |row, of| row.oid(of))
}

/// What a stored condition says.
#[derive(Debug, Clone, Copy)]
struct Condition {
    /// Whether it is true for every row in which nothing that it compares is null, as far as that
    /// can be determined without executing anything; see [`policy::prove`].
    is_always_true: bool,
    /// Whether it is never true for an anonymous caller.
    is_never_true: bool,
    /// Whether it is true for no row and no caller, as far as that can be determined in the same
    /// way.
    is_never_true_for_any_caller: bool,
    /// Whether it calls a built-in function that tells of memberships.
    asks_memberships: bool,
}

/// Columns of a table as they are where a condition has been read.
type Columns = Vec<(i16, Option<policy::facts::Column>)>;

/// Conditions by their stored text: many policies have the same one. With the columns of the table
/// on which the answers depend.
struct Conditions<'a> {
    mentioned: &'a Mentioned<'a>,
    known: HashMap<Vec<u8>, (Condition, Depends)>,
}

/// What the answers about a condition depend on.
enum Depends {
    /// On these columns not being generated, and not on which columns can be null.
    Plain(Vec<i16>),
    /// On these columns as they are.
    Columns(Columns),
}

impl<'a> Conditions<'a> {
    fn new(mentioned: &'a Mentioned<'a>) -> Self {
        Self { mentioned, known: HashMap::new() }
    }

    /// Returns what the condition in a column says about rows of a relation; `None` where there is
    /// none.
    fn of(&mut self, row: &Row<'_>, column: Column, relation: Oid) -> Option<Condition> {
        let text = row.bytes(column)?;
        let column_is = |(number, is): &(i16, _)| self.mentioned.column(relation, *number) == *is;
        if let Some((known, depends)) = self.known.get(&text)
            && match depends {
                Depends::Plain(columns) => !self.mentioned.generates(relation, columns),
                Depends::Columns(columns) => columns.iter().all(column_is),
            }
        {
            return Some(*known);
        }
        let stored = row.text(column).and_then(|text| stored::expression(&text).ok());
        let (proven, depends) = match &stored {
            Some(condition) => self.prove(relation, condition),
            None => (policy::Proven::default(), Depends::Plain(vec![])),
        };
        let condition = Condition {
            // A row in which the condition is null because a column is, is an exception.
            is_always_true: proven.is_true_unless_null,
            is_never_true: stored.is_some_and(|condition| {
                policy::is_never_true_for_anonymous(self.mentioned, &condition)
            }),
            is_never_true_for_any_caller: proven.is_never_true,
            asks_memberships: asks_memberships(self.mentioned.state(), &text),
        };
        self.known.insert(text, (condition, depends));
        Some(condition)
    }

    /// Proves what it can of a condition. Which columns can be null is read only if it matters:
    /// thousands of tables have policies with the same condition.
    fn prove(&self, relation: Oid, condition: &stored::Expression) -> (policy::Proven, Depends) {
        let assume = |nullable| {
            policy::prove(&Assumed { of: self.mentioned, nullable }, relation, condition)
        };
        let proven = assume(true);
        let columns: Vec<i16> = proven.columns.iter().copied().collect();
        if proven == assume(false) && !self.mentioned.generates(relation, &columns) {
            return (proven, Depends::Plain(columns));
        }
        let proven = policy::prove(self.mentioned, relation, condition);
        let column = |number: &i16| (*number, self.mentioned.column(relation, *number));
        let columns = proven.columns.iter().map(column).collect();
        (proven, Depends::Columns(columns))
    }
}

/// Whether a stored expression or query calls a built-in function that tells of memberships.
pub fn asks_memberships(state: &dyn State, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let functions = stored::oids_in(&text, ":funcid ").flatten();
    let mut built_in = functions.filter(|function| *function < FIRST_UNPINNED);
    built_in.any(|function| {
        let name = |row: Row<'_>, name| tells_of_memberships(&row.name(name));
        of_row(state, oids::PROC_BY_OID, function, "proname", name) == Some(true)
    })
}

/// Whether a policy admits no anonymous caller: for every command, if the policy is for all
/// commands. `WITH CHECK` restricts INSERT; where it is missing, `USING` does.
fn requires_authentication(
    command: Option<Command>,
    using: Option<Condition>,
    check: Option<Condition>,
) -> bool {
    let is_never_true = |condition: Condition| condition.is_never_true;
    match command {
        Some(Command::Insert) => check.is_some_and(is_never_true),
        Some(_) => using.is_some_and(is_never_true),
        None => using.is_some_and(is_never_true) && check.is_none_or(is_never_true),
    }
}
