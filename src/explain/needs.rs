//! The privileges that the server checks before it executes a statement, read from the statement as
//! the server itself rewrites it: views replaced by their queries, policies added. Nothing is
//! planned and nothing is executed.

mod constant;
mod nodes;
mod unused;
mod written;

use crate::pg::heap::{State, Table, of_row};
use crate::pg::inert::{Trust, inert};
use crate::pg::list::nodes;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use crate::scan::{self, oids};
use dragonfly_core::catalog::{BOOTSTRAP_SUPERUSER, Oid, Privileges};
use dragonfly_core::explain::{Moment, Need};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use written::{Command, Written};

/// What a statement needs.
#[derive(Debug, Default)]
pub struct Needs {
    /// On relations, the one that the statement names first.
    pub needs: Vec<Need>,
    /// The functions that it would call, in the order of the statement.
    pub calls: Vec<Call>,
    /// The sequences that it names by a text without a schema.
    pub unresolved: Vec<String>,
}

/// A function that would be called: the role that needs EXECUTE, where that is not the role that
/// runs the statement, and when that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub routine: Oid,
    pub check_as: Option<Oid>,
    pub moment: Moment,
}

/// Why a statement cannot be read.
pub enum Unreadable {
    /// No role can run it: the server's message.
    Never(String),
    /// Not at present: a relation is locked, or the statement is too complex for the server's
    /// limits.
    Now(Box<CaughtError>),
}

/// What a statement needs when `role` runs it. Names in it are looked up as by a superuser: whether
/// the role may use them is not checked here. Reading executes nothing but input functions of
/// types, and those only where `trust` includes their owners.
///
/// # Errors
/// Where the server cannot read it.
pub fn of(sql: &str, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        // SAFETY: a list of queries, which are ours to change.
        unsafe { nodes(rewritten(sql, role)).for_each(|query| reader.expression(query)) };
        for written in reader.written.take() {
            reader.written(written);
        }
    })
}

/// Has the server rewrite and plan the query of a view, as its owner and under the settings in
/// force. Returns false where the name now is another view's, or the view another owner's.
/// `has_mutable_functions` is set where a function in it may return something else another time. An
/// error where the server cannot: there must be a subtransaction.
pub fn view_is_read(view: Oid, name: &str, owner: Oid, has_mutable_functions: &Cell<bool>) -> bool {
    let query = analyzed(&format!("SELECT * FROM {name}"));
    // SAFETY: the query names one relation, which it has locked.
    let found = unsafe { nodes((*query).rtable).next().map(|entry| (*entry.cast::<pg_sys::RangeTblEntry>()).relid.to_u32()) };
    if found != Some(view) || scan::relation_owner(&State::now(), view) != Some(owner) {
        return false;
    }
    // SAFETY: a query as the analysis gave it, and what the server has made of it; the snapshot is
    // taken away again, by an error too.
    restricted::as_role(owner, || unsafe {
        let queries = pg_sys::QueryRewrite(query);
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        for query in nodes(queries) {
            has_mutable_functions.set(has_mutable_functions.get() || pg_sys::contain_mutable_functions(query));
            pg_sys::pg_plan_query(query.cast(), c"".as_ptr(), 0, std::ptr::null_mut());
        }
        pg_sys::PopActiveSnapshot();
    });
    true
}

/// A statement as the server rewrites it for `role`.
fn rewritten(sql: &str, role: Oid) -> *mut pg_sys::List {
    let query = analyzed(sql);
    // SAFETY: a query as the analysis gave it. It is rewritten for the role, whose policies are the
    // ones that count.
    restricted::as_role(role, || unsafe { pg_sys::QueryRewrite(query) })
}

/// A statement as the parser understands it.
fn analyzed(sql: &str) -> *mut pg_sys::Query {
    let text = CString::new(to_server(sql)).expect("names hold no zero byte");
    // SAFETY: a C string with one statement; the parser raises an error or gives a list of one.
    // Reading a statement runs no code of anybody's but the input functions of types, and there is
    // nothing but names in it.
    restricted::as_role(BOOTSTRAP_SUPERUSER, || unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statement = nodes(statements).next().expect("one statement");
        pg_sys::parse_analyze_fixedparams(statement.cast(), text.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut())
    })
}

/// What TRUNCATE needs.
///
/// # Errors
/// As [`of`].
pub fn of_truncate(table: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        reader.need(Need { relation: table, privileges: Privileges::TRUNCATE, ..Need::default() });
        reader.written(Written { table, command: Command::Truncate, changed: vec![] });
    })
}

/// What calling a routine needs beside EXECUTE on it: for an aggregate, what its owner needs; for
/// arguments that are domains, the checks.
///
/// # Errors
/// As [`of`].
pub fn of_call(routine: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        reader.aggregate(routine.into());
        reader.needs.borrow_mut().calls.retain(|call| call.routine != routine);
        scan::argument_type_oids(&State::now(), routine).into_iter().for_each(|of| reader.domain(of));
    })
}

fn reading(trust: &Trust, read: impl FnOnce(&Reader)) -> Result<Needs, Unreadable> {
    let settings = [setting::SAFE_PATH, (c"row_security", c"on")];
    let work = || {
        setting::under(&settings, || {
            let reader = Reader::new();
            read(&reader);
            reader.needs.into_inner()
        })
    };
    let (outcome, refused) = inert(trust, || subtransaction::rolled_back(work));
    outcome.map_err(|error| match subtransaction::report(&error).sql_error_code() {
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
        | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        | PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX => Unreadable::Now(error),
        // Reading it was blocked here; executing it would not be.
        _ if refused.is_some() => Unreadable::Now(error),
        _ => Unreadable::Never(subtransaction::report(&error).message().to_owned()),
    })
}

/// Reads expressions and queries, and records what they need.
///
/// The server's tree walkers call back with an untyped pointer to it, while the methods that
/// started the walk are still running. So all of them share it: there are references only, never an
/// exclusive one, and what changes is in cells. No cell is borrowed while a walker runs.
struct Reader {
    state: State,
    needs: RefCell<Needs>,
    /// When what is being read is evaluated.
    moment: Cell<Moment>,
    /// The domains whose constraints have been read, for which moment.
    domains: RefCell<BTreeSet<(Moment, Oid)>>,
    /// The relations that are written to.
    written: RefCell<Vec<Written>>,
    /// How many queries there are around what is being read.
    depth: Cell<u32>,
    /// Whether one of those changes or locks rows.
    marks_rows: Cell<bool>,
    /// Whether functions do not count.
    is_silent: Cell<bool>,
    /// The role that functions are called as, where that is not the role that runs the statement.
    acting: Cell<Option<Oid>>,
}

impl Reader {
    fn new() -> Self {
        Self {
            state: State::now(),
            needs: RefCell::default(),
            moment: Cell::new(Moment::Start),
            domains: RefCell::default(),
            written: RefCell::default(),
            depth: Cell::new(0),
            marks_rows: Cell::new(false),
            is_silent: Cell::new(false),
            acting: Cell::new(None),
        }
    }

    fn need(&self, need: Need) {
        let mut needs = self.needs.borrow_mut();
        if !needs.needs.contains(&need) {
            needs.needs.push(need);
        }
    }

    fn call(&self, routine: pg_sys::Oid, check_as: Option<Oid>) {
        if self.is_silent.get() {
            return;
        }
        let check_as = check_as.or(self.acting.get());
        let call = Call { routine: routine.to_u32(), check_as, moment: self.moment.get() };
        let mut needs = self.needs.borrow_mut();
        if !needs.calls.contains(&call) {
            needs.calls.push(call);
        }
    }

    fn operator(&self, operator: pg_sys::Oid) {
        // SAFETY: a look-up in the system cache; 0 where there is no such operator.
        self.call(unsafe { pg_sys::get_opcode(operator) }, None);
    }

    /// The functions that compare for GROUP BY, DISTINCT and UNION (execExpr.c,
    /// `ExecBuildGroupingEqual`).
    ///
    /// # Safety
    /// A list of `SortGroupClause`.
    unsafe fn grouping(&self, clauses: *mut pg_sys::List) {
        // SAFETY: as the caller promises.
        let operators = unsafe { nodes(clauses).map(|c| (*c.cast::<pg_sys::SortGroupClause>()).eqop) };
        operators.for_each(|operator| self.operator(operator));
    }

    /// An aggregate, and the functions that it consists of, on which its owner needs EXECUTE
    /// (nodeAgg.c, `ExecInitAgg`).
    fn aggregate(&self, aggregate: pg_sys::Oid) {
        self.call(aggregate, None);
        let table = Table::open(oids::PG_AGGREGATE);
        let (oid, step, end) = (table.column("aggfnoid"), table.column("aggtransfn"), table.column("aggfinalfn"));
        let mut parts = Vec::new();
        let key = [(oid, aggregate.to_u32())];
        table.lookup(&self.state, oids::PG_AGGREGATE_FNOID_INDEX, &key, |row| parts.extend([row.oid(step), row.oid(end)]));
        let owner = scan::routine_owner(&self.state, aggregate.to_u32());
        parts.into_iter().filter(|part| *part != 0).for_each(|part| self.call(part.into(), owner));
    }

    /// The constraints of a domain and of the domains that it is based on.
    fn domain(&self, domain: Oid) {
        let base = |domain| {
            let base = of_row(&self.state, oids::TYPE_BY_OID, domain, "typbasetype", |row, base| row.oid(base));
            base.filter(|base| *base != 0)
        };
        let mut next = (domain, base(domain));
        // Only a domain has a base type.
        while let (domain, Some(below)) = next {
            if !self.is_silent.get() && self.domains.borrow_mut().insert((self.moment.get(), domain)) {
                let checks = written::checks(&self.state, "contypid", oids::PG_CONSTRAINT_TYPE_INDEX, domain);
                checks.iter().for_each(|check| self.stored(check));
            }
            next = (below, base(below));
        }
    }

    /// An expression as a catalog stores it.
    fn stored(&self, text: &CStr) {
        // SAFETY: the server has written it with nodeToString.
        unsafe { self.expression(pg_sys::stringToNode(text.as_ptr()).cast()) };
    }
}

/// The permissions that one level of a query needs on relations.
///
/// # Safety
/// `query` is a query.
#[cfg(feature = "pg15")]
unsafe fn relations(query: *mut pg_sys::Query, depth: u32) -> Vec<Permissions> {
    let mut found = Vec::new();
    // SAFETY: as the caller promises; a range table holds entries.
    unsafe {
        for (entry, number) in nodes((*query).rtable).zip(1..) {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                found.push(Permissions {
                    relation: (*entry).relid,
                    is_target: is_target(query, depth, number),
                    required: (*entry).requiredPerms,
                    check_as: (*entry).checkAsUser,
                    selected: (*entry).selectedCols,
                    inserted: (*entry).insertedCols,
                    updated: (*entry).updatedCols,
                });
            }
        }
    }
    found
}

/// The permissions that one level of a query needs on relations.
///
/// # Safety
/// `query` is a query.
#[cfg(not(feature = "pg15"))]
unsafe fn relations(query: *mut pg_sys::Query, depth: u32) -> Vec<Permissions> {
    let mut found = Vec::new();
    // SAFETY: as the caller promises; the lists hold what their names say.
    unsafe {
        for (info, place) in nodes((*query).rteperminfos).zip(1..) {
            let info = info.cast::<pg_sys::RTEPermissionInfo>();
            let entry = |entry: *mut pg_sys::Node| (*entry.cast::<pg_sys::RangeTblEntry>()).perminfoindex == place;
            let number = nodes((*query).rtable).position(entry).map_or(0, |at| at as i32 + 1);
            found.push(Permissions {
                relation: (*info).relid,
                is_target: is_target(query, depth, number),
                required: (*info).requiredPerms,
                check_as: (*info).checkAsUser,
                selected: (*info).selectedCols,
                inserted: (*info).insertedCols,
                updated: (*info).updatedCols,
            });
        }
    }
    found
}

/// The columns that a query changes.
///
/// # Safety
/// `query` is a query, and the entry is of its range table.
unsafe fn changed_columns(_query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> Vec<String> {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg15")]
        let columns = (*entry).updatedCols;
        #[cfg(not(feature = "pg15"))]
        let columns = match nodes((*_query).rteperminfos).nth((*entry).perminfoindex.wrapping_sub(1) as usize) {
            Some(info) => (*info.cast::<pg_sys::RTEPermissionInfo>()).updatedCols,
            None => std::ptr::null_mut(),
        };
        names((*entry).relid, columns)
    }
}

/// Whether the result of the statement comes from this entry of the range table: it is the relation
/// that the statement itself reads or changes.
///
/// # Safety
/// `query` is a query.
unsafe fn is_target(query: *mut pg_sys::Query, depth: u32, number: i32) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let (counts, changed) = ((*query).canSetTag, (*query).resultRelation);
        // A row of constant values is inserted in any case.
        let inserts = (*query).commandType == pg_sys::CmdType::CMD_INSERT
            && !(*query).jointree.is_null()
            && (*(*query).jointree).fromlist.is_null()
            && (*(*query).jointree).quals.is_null();
        depth == 0 && (counts || inserts) && (changed == 0 || changed == number)
    }
}

/// The permissions that a query needs on one relation, as the server lists them.
struct Permissions {
    relation: pg_sys::Oid,
    is_target: bool,
    required: pg_sys::AclMode,
    check_as: pg_sys::Oid,
    selected: *mut pg_sys::Bitmapset,
    inserted: *mut pg_sys::Bitmapset,
    updated: *mut pg_sys::Bitmapset,
}

impl Permissions {
    /// `None` where there are none.
    ///
    /// # Safety
    /// The columns are sets of the relation's columns, as the server makes them.
    unsafe fn need(&self) -> Option<Need> {
        if self.required == 0 {
            return None;
        }
        // SAFETY: as the caller promises.
        let columns = |set| unsafe { names(self.relation, set) };
        // 32 bits of them before 16.
        #[allow(clippy::unnecessary_cast)]
        let privileges = Privileges(self.required as u32);
        Some(Need {
            relation: self.relation.to_u32(),
            check_as: Some(self.check_as.to_u32()).filter(|oid| *oid != 0),
            privileges,
            selected: columns(self.selected),
            inserted: columns(self.inserted),
            updated: columns(self.updated),
            is_target: self.is_target,
            is_partial: true,
            ..Need::default()
        })
    }
}

/// The names of the columns in a set, in which they are numbered from the first system column. The
/// whole row is all of them.
///
/// # Safety
/// A set of the relation's columns, or null.
unsafe fn names(relation: pg_sys::Oid, set: *mut pg_sys::Bitmapset) -> Vec<String> {
    let mut names = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: as the caller promises; a negative number is the end.
        member = unsafe { pg_sys::bms_next_member(set, member) };
        if member < 0 {
            return names;
        }
        let number = member + pg_sys::FirstLowInvalidHeapAttributeNumber;
        if number == 0 {
            return all_columns(relation.to_u32());
        }
        names.extend(column_name(relation, number as pg_sys::AttrNumber));
    }
}

/// `None` where there is no such column.
fn column_name(relation: pg_sys::Oid, number: pg_sys::AttrNumber) -> Option<String> {
    // SAFETY: a look-up in the system cache; null or a C string.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        (!name.is_null()).then(|| from_server(CStr::from_ptr(name).to_bytes()))
    }
}

/// The columns of a relation, in their order.
pub fn all_columns(relation: Oid) -> Vec<String> {
    scan::columns(&State::now(), relation)
}
