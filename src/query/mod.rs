//! What the server would ask for before it runs a statement: read from the statement as the server itself rewrites it, with its views replaced by
//! their queries and the policies added. Nothing is planned and nothing runs.

mod constant;
mod unused;
mod written;

use crate::catalog::{self as scan, oids};
use crate::pg::heap::{State, Table, interrupts, of_row};
use crate::pg::inert::{Trust, inert};
use crate::pg::list::nodes;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use dragonfly_core::catalog::{BOOTSTRAP_SUPERUSER, Oid, Privileges};
use dragonfly_core::explain::{Moment, Need, parse};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_void};
use written::{Command, Written};

/// What a statement needs.
#[derive(Debug, Default)]
pub struct Needs {
    /// On relations, the one that the statement names first.
    pub needs: Vec<Need>,
    /// The functions that it would call, in the order in which they stand there.
    pub calls: Vec<Call>,
    /// The sequences that it names by a text without a schema.
    pub unresolved: Vec<String>,
}

/// A function that would be called: as whom, where not as whoever runs the statement, and when that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub routine: Oid,
    pub check_as: Option<Oid>,
    pub moment: Moment,
}

/// Why a statement cannot be read.
pub enum Unreadable {
    /// Nobody can run it: the server's message.
    Never(String),
    /// Not just now: somebody has locked what it names, or it takes more of the server than there is.
    Now(Box<CaughtError>),
}

/// What a statement that `role` runs needs. Names in it are looked up as by a superuser: whether the role may use them is not asked here. Reading it runs
/// nothing; `trust` says whose functions in C the server may call on the way, the input functions of types.
///
/// # Errors
/// Where the server cannot read it.
pub fn of(sql: &str, role: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        // SAFETY: a list of queries, which are ours to change.
        unsafe { nodes(rewritten(sql, role)).for_each(|query| reader.expression(query)) };
        for written in std::mem::take(&mut reader.written) {
            reader.written(written);
        }
    })
}

/// Has the server put the queries behind a view of `owner`'s in its place, and plan the result, as `owner` and under the settings in force. False where the
/// name is another view's by now, or the view somebody else's. `depends` is told whether a function in it may say something else another time. An error
/// where the server cannot: there must be a subtransaction.
pub fn view_is_read(view: Oid, name: &str, owner: Oid, depends: &Cell<bool>) -> bool {
    let query = analyzed(&format!("SELECT * FROM {name}"));
    // SAFETY: the query names one relation, which it has locked.
    let found = unsafe { nodes((*query).rtable).next().map(|entry| (*entry.cast::<pg_sys::RangeTblEntry>()).relid.to_u32()) };
    if found != Some(view) || scan::relation_owner(&State::now(), view) != Some(owner) {
        return false;
    }
    // SAFETY: a query as the analysis gave it, and what the server has made of it; the snapshot is taken away again, by an error too.
    restricted::as_role(owner, || unsafe {
        let queries = pg_sys::QueryRewrite(query);
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        for query in nodes(queries) {
            depends.set(depends.get() || pg_sys::contain_mutable_functions(query));
            pg_sys::pg_plan_query(query.cast(), c"".as_ptr(), 0, std::ptr::null_mut());
        }
        pg_sys::PopActiveSnapshot();
    });
    true
}

/// A statement as the server rewrites it for `role`.
fn rewritten(sql: &str, role: Oid) -> *mut pg_sys::List {
    let query = analyzed(sql);
    // SAFETY: a query as the analysis gave it. It is rewritten for the role, whose policies are the ones that count.
    restricted::as_role(role, || unsafe { pg_sys::QueryRewrite(query) })
}

/// A statement as the parser understands it.
fn analyzed(sql: &str) -> *mut pg_sys::Query {
    let text = CString::new(to_server(sql)).expect("names hold no zero byte");
    // SAFETY: a C string with one statement; the parser raises an error or gives a list of one. Reading a statement runs no code of anybody's but the
    // input functions of types, and there is nothing but names in it.
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
        reader.needs.needs.push(Need { relation: table, privileges: Privileges::TRUNCATE, ..Need::default() });
        reader.written(Written { table, command: Command::Truncate, changed: vec![] });
    })
}

/// What calling a routine needs beside EXECUTE on it: of an aggregate, what its owner needs; the checks of arguments that are domains.
///
/// # Errors
/// As [`of`].
pub fn of_call(routine: Oid, trust: &Trust) -> Result<Needs, Unreadable> {
    reading(trust, |reader| {
        reader.aggregate(routine.into());
        reader.needs.calls.retain(|call| call.routine != routine);
        scan::argument_type_oids(&State::now(), routine).into_iter().for_each(|of| reader.domain(of));
    })
}

fn reading(trust: &Trust, read: impl FnOnce(&mut Reader)) -> Result<Needs, Unreadable> {
    let settings = [setting::SAFE_PATH, (c"row_security", c"on")];
    let work = || {
        setting::under(&settings, || {
            let mut reader = Reader::new();
            read(&mut reader);
            reader.needs
        })
    };
    let (outcome, refused) = inert(trust, || subtransaction::rolled_back(work));
    outcome.map_err(|error| match subtransaction::report(&error).sql_error_code() {
        PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
        | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        | PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX => Unreadable::Now(error),
        // Not what the statement is refused for.
        _ if refused.is_some() => Unreadable::Now(error),
        _ => Unreadable::Never(subtransaction::report(&error).message().to_owned()),
    })
}

/// Reads expressions, and notes what they need.
struct Reader {
    state: State,
    needs: Needs,
    /// When what is being read is evaluated.
    moment: Moment,
    /// The domains whose constraints have been read, for which moment.
    domains: BTreeSet<(Moment, Oid)>,
    /// The relations that are written to.
    written: Vec<Written>,
    /// How many queries there are around what is being read.
    depth: u32,
    /// Whether one of those changes or locks rows.
    marks_rows: bool,
    /// Whether functions do not count.
    is_silent: bool,
    /// As whom functions are called, where not as whoever runs the statement.
    acting: Option<Oid>,
}

impl Reader {
    fn new() -> Self {
        let (needs, moment) = (Needs::default(), Moment::Start);
        Self {
            state: State::now(),
            needs,
            moment,
            domains: BTreeSet::new(),
            written: Vec::new(),
            depth: 0,
            marks_rows: false,
            is_silent: false,
            acting: None,
        }
    }

    /// # Safety
    /// A valid tree, or null.
    unsafe fn expression(&mut self, node: *mut pg_sys::Node) {
        // SAFETY: as the caller promises.
        unsafe { visit(node, std::ptr::from_mut(self).cast()) };
    }

    fn call(&mut self, routine: pg_sys::Oid, check_as: Option<Oid>) {
        if self.is_silent {
            return;
        }
        let check_as = check_as.or(self.acting);
        let call = Call { routine: routine.to_u32(), check_as, moment: self.moment };
        if !self.needs.calls.contains(&call) {
            self.needs.calls.push(call);
        }
    }

    fn operator(&mut self, operator: pg_sys::Oid) {
        // SAFETY: a look-up in the system cache; 0 where there is no such operator.
        self.call(unsafe { pg_sys::get_opcode(operator) }, None);
    }

    /// The functions that compare for GROUP BY, DISTINCT and UNION (execExpr.c, `ExecBuildGroupingEqual`).
    ///
    /// # Safety
    /// A list of `SortGroupClause`.
    unsafe fn grouping(&mut self, clauses: *mut pg_sys::List) {
        // SAFETY: as the caller promises.
        let operators: Vec<_> = unsafe { nodes(clauses).map(|c| (*c.cast::<pg_sys::SortGroupClause>()).eqop).collect() };
        operators.into_iter().for_each(|operator| self.operator(operator));
    }

    /// An aggregate, and the functions that it is made of, which its owner must be allowed to call (nodeAgg.c, `ExecInitAgg`).
    fn aggregate(&mut self, aggregate: pg_sys::Oid) {
        self.call(aggregate, None);
        let table = Table::open(oids::PG_AGGREGATE);
        let (oid, step, end) = (table.column("aggfnoid"), table.column("aggtransfn"), table.column("aggfinalfn"));
        let mut parts = Vec::new();
        let key = [(oid, aggregate.to_u32())];
        table.lookup(&self.state, oids::PG_AGGREGATE_FNOID_INDEX, &key, |row| parts.extend([row.oid(step), row.oid(end)]));
        let owner = scan::routine_owner(&self.state, aggregate.to_u32());
        parts.into_iter().filter(|part| *part != 0).for_each(|part| self.call(part.into(), owner));
    }

    /// The constraints of a domain and of those below it.
    fn domain(&mut self, domain: Oid) {
        let base = |state: &State, domain| {
            of_row(state, oids::TYPE_BY_OID, domain, "typbasetype", |row, base| row.oid(base)).filter(|base| *base != 0)
        };
        let mut next = (domain, base(&self.state, domain));
        // What is no domain has no type below it.
        while let (domain, Some(below)) = next {
            if !self.is_silent && self.domains.insert((self.moment, domain)) {
                let checks = written::checks(&self.state, "contypid", oids::PG_CONSTRAINT_TYPE_INDEX, domain);
                checks.iter().for_each(|check| self.stored(check));
            }
            next = (below, base(&self.state, below));
        }
    }

    /// An expression as a catalog holds it.
    fn stored(&mut self, text: &CStr) {
        // SAFETY: the server has written it with nodeToString.
        unsafe { self.expression(pg_sys::stringToNode(text.as_ptr()).cast()) };
    }
}

/// For the server to call, whose errors are not Rust's: nobody else does.
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the server hands its own nodes, and what it was given as the context.
    unsafe { visit(node, context) }
}

/// Visits a node and everything below it.
///
/// # Safety
/// A valid tree or null, and a [`Reader`].
unsafe fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    interrupts();
    // SAFETY: as the caller promises; a node is what its tag says. An error where the stack is too deep.
    unsafe {
        pg_sys::check_stack_depth();
        let reader = &mut *context.cast::<Reader>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                let query = node.cast::<pg_sys::Query>();
                if (*query).commandType == pg_sys::CmdType::CMD_UTILITY {
                    return false;
                }
                let marked = reader.marks_rows;
                reader.marks_rows |= (*query).commandType != pg_sys::CmdType::CMD_SELECT || !(*query).rowMarks.is_null();
                unused::leave_out(query, reader.marks_rows);
                relations(query, reader.depth, &mut reader.needs);
                reader.written.extend(Written::of(query));
                reader.grouping((*query).groupClause);
                reader.grouping((*query).distinctClause);
                for window in nodes((*query).windowClause).map(|window| window.cast::<pg_sys::WindowClause>()) {
                    reader.grouping((*window).partitionClause);
                    reader.grouping((*window).orderClause);
                }
                reader.depth += 1;
                let stop = pg_sys::query_tree_walker(query, Some(walk), context, 0);
                reader.depth -= 1;
                reader.marks_rows = marked;
                return stop;
            }
            pg_sys::NodeTag::T_SubLink => {
                let link = node.cast::<pg_sys::SubLink>();
                if (*link).subLinkType == pg_sys::SubLinkType::EXISTS_SUBLINK {
                    unused::leave_out_all((*link).subselect.cast());
                }
            }
            pg_sys::NodeTag::T_BoolExpr if constant::truth(node).is_some() => {
                // What is joined to the query before that is seen stays there (prepjointree.c, `pull_up_sublinks`): its tables, and not its functions.
                let is_or = (*node.cast::<pg_sys::BoolExpr>()).boolop == pg_sys::BoolExprType::OR_EXPR;
                if is_or {
                    return false;
                }
                let silent = std::mem::replace(&mut reader.is_silent, true);
                let stop = pg_sys::expression_tree_walker(node, Some(walk), context);
                reader.is_silent = silent;
                return stop;
            }
            pg_sys::NodeTag::T_CaseExpr | pg_sys::NodeTag::T_CoalesceExpr => {
                if let Some(parts) = constant::reached(node) {
                    return parts.into_iter().any(|part| visit(part, context));
                }
            }
            pg_sys::NodeTag::T_SetOperationStmt => {
                reader.grouping((*node.cast::<pg_sys::SetOperationStmt>()).groupClauses);
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let call = node.cast::<pg_sys::FuncExpr>();
                reader.call((*call).funcid, None);
                sequence(reader, (*call).funcid.to_u32(), (*call).args);
            }
            pg_sys::NodeTag::T_Aggref => {
                let call = node.cast::<pg_sys::Aggref>();
                reader.aggregate((*call).aggfnoid);
                // One argument is compared without asking (nodeAgg.c, `build_pertrans_for_aggref`).
                if nodes((*call).aggdistinct).count() > 1 {
                    reader.grouping((*call).aggdistinct);
                }
            }
            pg_sys::NodeTag::T_WindowFunc => reader.aggregate((*node.cast::<pg_sys::WindowFunc>()).winfnoid),
            // The three are one struct.
            pg_sys::NodeTag::T_OpExpr | pg_sys::NodeTag::T_DistinctExpr | pg_sys::NodeTag::T_NullIfExpr => {
                reader.operator((*node.cast::<pg_sys::OpExpr>()).opno);
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => reader.operator((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno),
            // The input function of an array reads its elements.
            pg_sys::NodeTag::T_CoerceViaIO => {
                reader.domain(pg_sys::get_base_element_type((*node.cast::<pg_sys::CoerceViaIO>()).resulttype).to_u32());
            }
            pg_sys::NodeTag::T_CoerceToDomain => reader.domain((*node.cast::<pg_sys::CoerceToDomain>()).resulttype.to_u32()),
            _ => {}
        }
        pg_sys::expression_tree_walker(node, Some(walk), context)
    }
}

/// What the server's functions that take a sequence ask for on it: all of the first, or one of the second (sequence.c; the numbers from pg_proc.dat).
fn wanted_of_sequence(function: Oid) -> Option<(Privileges, Privileges)> {
    match function {
        // nextval
        1574 => Some((Privileges::USAGE, Privileges::UPDATE)),
        // currval
        1575 => Some((Privileges::USAGE, Privileges::SELECT)),
        // setval, with two arguments and with three
        1576 | 1765 => Some((Privileges::UPDATE, Privileges::NONE)),
        _ => None,
    }
}

/// Notes the sequence that a column's default, or whatever else, takes a number from.
///
/// # Safety
/// The arguments of a call of that function.
unsafe fn sequence(reader: &mut Reader, function: Oid, arguments: *mut pg_sys::List) {
    let Some((privileges, or)) = wanted_of_sequence(function).filter(|_| !reader.is_silent) else { return };
    // SAFETY: as the caller promises.
    let argument = unsafe { nodes(arguments).next().map(|argument| named_relation(argument)) };
    let mut note = |relation: Oid, by_name: bool| {
        let need = Need { relation, privileges, or, by_name, moment: reader.moment.max(Moment::Row), ..Need::default() };
        if !reader.needs.needs.contains(&need) {
            reader.needs.needs.push(need);
        }
    };
    match argument {
        Some(NamedRelation::Known(oid)) => note(oid, false),
        Some(NamedRelation::ByText(text)) => match parse(&text).map(|named| named.parts).as_deref() {
            // Before them the database may be named.
            Some([.., schema, name]) => {
                let schema = CString::new(to_server(schema)).ok().and_then(|schema| scan::schema_named(&schema));
                if let Some(oid) = schema.and_then(|schema| scan::relation_named(schema, name)) {
                    note(oid, true);
                }
            }
            _ if reader.needs.unresolved.contains(&text) => {}
            _ => reader.needs.unresolved.push(text),
        },
        Some(NamedRelation::Unknown) | None => {}
    }
}

/// What an argument of type regclass says.
enum NamedRelation {
    Known(Oid),
    /// It is looked up when the call is made.
    ByText(String),
    Unknown,
}

/// # Safety
/// A valid expression of type regclass.
unsafe fn named_relation(argument: *mut pg_sys::Node) -> NamedRelation {
    // `regclass(text)` (pg_proc.dat).
    const REGCLASS: u32 = 1079;
    // SAFETY: a node is what its tag says; a constant of type regclass holds an OID, one of type text a text.
    unsafe {
        let bare = |mut node: *mut pg_sys::Node| {
            while (*node).type_ == pg_sys::NodeTag::T_RelabelType {
                node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
            }
            node
        };
        match (*argument).type_ {
            pg_sys::NodeTag::T_Const if !(*argument.cast::<pg_sys::Const>()).constisnull => {
                NamedRelation::Known((*argument.cast::<pg_sys::Const>()).constvalue.value() as u32)
            }
            pg_sys::NodeTag::T_FuncExpr if (*argument.cast::<pg_sys::FuncExpr>()).funcid.to_u32() == REGCLASS => {
                let text = nodes((*argument.cast::<pg_sys::FuncExpr>()).args).next().map(bare);
                let constant =
                    text.filter(|text| (**text).type_ == pg_sys::NodeTag::T_Const).map(|text| text.cast::<pg_sys::Const>());
                match constant.filter(|c| matches!((**c).consttype, pg_sys::TEXTOID | pg_sys::VARCHAROID) && !(**c).constisnull)
                {
                    Some(constant) => NamedRelation::ByText(crate::pg::heap::text_of((*constant).constvalue)),
                    None => NamedRelation::Unknown,
                }
            }
            _ => NamedRelation::Unknown,
        }
    }
}

/// Notes what one level of a query needs.
///
/// # Safety
/// `query` is a query.
#[cfg(feature = "pg15")]
unsafe fn relations(query: *mut pg_sys::Query, depth: u32, needs: &mut Needs) {
    // SAFETY: as the caller promises; a range table holds entries.
    unsafe {
        for (entry, number) in nodes((*query).rtable).zip(1..) {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                let columns = [(*entry).selectedCols, (*entry).insertedCols, (*entry).updatedCols];
                let is_target = is_target(query, depth, number);
                note(needs, ((*entry).relid, is_target), (*entry).requiredPerms, (*entry).checkAsUser, columns);
            }
        }
    }
}

/// Notes what one level of a query needs.
///
/// # Safety
/// `query` is a query.
#[cfg(not(feature = "pg15"))]
unsafe fn relations(query: *mut pg_sys::Query, depth: u32, needs: &mut Needs) {
    // SAFETY: as the caller promises; the lists hold what their names say.
    unsafe {
        for (info, place) in nodes((*query).rteperminfos).zip(1..) {
            let info = info.cast::<pg_sys::RTEPermissionInfo>();
            let columns = [(*info).selectedCols, (*info).insertedCols, (*info).updatedCols];
            let entry = |entry: *mut pg_sys::Node| (*entry.cast::<pg_sys::RangeTblEntry>()).perminfoindex == place;
            let number = nodes((*query).rtable).position(entry).map_or(0, |at| at as i32 + 1);
            note(needs, ((*info).relid, is_target(query, depth, number)), (*info).requiredPerms, (*info).checkAsUser, columns);
        }
    }
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

/// Whether an entry of the range table is what the statement is about, for its result: what it reads, or changes, itself.
///
/// # Safety
/// `query` is a query.
unsafe fn is_target(query: *mut pg_sys::Query, depth: u32, number: i32) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let (counts, changed) = ((*query).canSetTag, (*query).resultRelation);
        // A row that is made of values alone is there in any case.
        let inserts = (*query).commandType == pg_sys::CmdType::CMD_INSERT
            && !(*query).jointree.is_null()
            && (*(*query).jointree).fromlist.is_null()
            && (*(*query).jointree).quals.is_null();
        depth == 0 && (counts || inserts) && (changed == 0 || changed == number)
    }
}

/// # Safety
/// The columns are sets of the relation's columns, as the server makes them.
unsafe fn note(
    needs: &mut Needs,
    (relation, is_target): (pg_sys::Oid, bool),
    required: pg_sys::AclMode,
    check_as: pg_sys::Oid,
    columns: [*mut pg_sys::Bitmapset; 3],
) {
    if required == 0 {
        return;
    }
    // SAFETY: as the caller promises.
    let [selected, inserted, updated] = columns.map(|set| unsafe { names(relation, set) });
    // 32 bits of them before 16.
    #[allow(clippy::unnecessary_cast)]
    let privileges = Privileges(required as u32);
    let need = Need {
        relation: relation.to_u32(),
        check_as: Some(check_as.to_u32()).filter(|oid| *oid != 0),
        privileges,
        selected,
        inserted,
        updated,
        is_target,
        is_partial: true,
        ..Need::default()
    };
    if !needs.needs.contains(&need) {
        needs.needs.push(need);
    }
}

/// The columns of a set, in which they are counted from the first system column; the whole row is all of them.
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
