//! Direct reads of catalogs and tables, as the server reads them itself.
//!
//! Without SQL, the result does not depend on search_path, privileges or objects named like a
//! catalog. The snapshot is taken at the time of the call, so that the result does not depend on
//! the isolation level of the transaction either.

use super::text::{borrowed_from_server, from_server};
use super::{caches, memory, progress};
use dragonfly_core::catalog::{Acl, AclItem, Oid, Privileges};
use dragonfly_reader::{ByOid, Column};
use pgrx::pg_sys;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Processes interrupts, so that the user can cancel, raises an error where memory runs out, and
/// reports the progress of a long call, during which it bounds the caches of the server.
/// Called in every loop over user objects.
pub fn interrupts() {
    pgrx::check_for_interrupts!();
    memory::check();
    caches::check();
    progress::check();
}

/// A state of the catalogs.
#[derive(Debug)]
pub struct State(pg_sys::Snapshot);

impl State {
    /// Returns the committed state with the changes of this transaction.
    pub fn now() -> Self {
        // SAFETY: called in a transaction; the snapshot is registered, so that it does not depend
        // on the active snapshot.
        Self(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) })
    }

    /// Returns the state that queries of the transaction see: under REPEATABLE READ the one that
    /// was committed when it started.
    pub fn of_transaction() -> Self {
        // SAFETY: as above.
        Self(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()) })
    }

    /// Returns the committed state without the changes that this transaction has made from a
    /// command on (0: the first one): rows that those commands inserted are not visible, and rows
    /// that they updated or deleted are visible as they were (`HeapTupleSatisfiesMVCC`).
    pub fn before(command: pg_sys::CommandId) -> Self {
        Self::now().without_commands_from(command)
    }

    /// Returns this state without the changes that this transaction has made from a command on: the
    /// same transactions are committed in both.
    pub fn without_commands_from(&self, command: pg_sys::CommandId) -> Self {
        // SAFETY: the snapshot is valid while it is registered. Registering copies one that does
        // not say that it is a copy, with what it points to.
        unsafe {
            let mut snapshot = *self.0;
            snapshot.curcid = command;
            snapshot.copied = false;
            Self(pg_sys::RegisterSnapshot(&raw mut snapshot))
        }
    }

    /// Whether the state shows all changes of this transaction, as the system caches do.
    pub fn is_current(&self) -> bool {
        // SAFETY: the snapshot is valid while it is registered; reads the state of the transaction.
        unsafe { (*self.0).curcid >= pg_sys::GetCurrentCommandId(false) }
    }

    /// Returns which transactions are committed in the state. Two states that agree in this differ
    /// in changes of this transaction only.
    pub fn committed(&self) -> Committed {
        // SAFETY: the snapshot is valid while it is registered; `xip` has `xcnt` elements.
        unsafe {
            let running = match (*self.0).xcnt as usize {
                0 => vec![],
                count => std::slice::from_raw_parts((*self.0).xip, count).to_vec(),
            };
            Committed { from: (*self.0).xmin, to: (*self.0).xmax, running }
        }
    }
}

/// The transactions that are committed in a state, see [`State::committed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    from: pg_sys::TransactionId,
    to: pg_sys::TransactionId,
    running: Vec<pg_sys::TransactionId>,
}

impl Drop for State {
    fn drop(&mut self) {
        // After an error the resource owner releases it.
        if !std::thread::panicking() {
            // SAFETY: registered when the state was created.
            unsafe { pg_sys::UnregisterSnapshot(self.0) };
        }
    }
}

/// A catalog or table, open for reading.
#[derive(Debug)]
pub struct Table(pg_sys::Relation);

/// A name with the column that has it.
type Named = (String, Option<Column>);

impl Table {
    /// Opens a relation by OID with ACCESS SHARE.
    pub fn open(relation: Oid) -> Self {
        // SAFETY: raises an error where the relation does not exist.
        Self(unsafe {
            pg_sys::table_open(relation.into(), pg_sys::AccessShareLock as pg_sys::LOCKMODE)
        })
    }

    /// Returns the column of this name. Attribute numbers differ between releases, names do not.
    /// Raises an error where the column does not exist.
    pub fn column(&self, name: &str) -> Column {
        self.find(name).unwrap_or_else(|| pgrx::error!("catalog column \"{name}\" does not exist"))
    }

    /// Returns the column of this name; `None` where it does not exist, as in an older release. The
    /// columns of catalogs are looked up once: they are the same as long as the server runs.
    pub fn find(&self, name: &str) -> Option<Column> {
        thread_local! {
            static KNOWN: RefCell<HashMap<Oid, Vec<Named>>> = RefCell::default();
        }
        if !self.is_catalog() {
            return self.look_up(name).map(|(column, _)| column);
        }
        let catalog = self.oid();
        let known = KNOWN.with_borrow(|known| {
            let mut columns = known.get(&catalog)?.iter();
            columns.find(|(known, _)| known == name).map(|(_, column)| *column)
        });
        known.unwrap_or_else(|| {
            let column = self.look_up(name).map(|(column, _)| column);
            KNOWN.with_borrow_mut(|known| {
                known.entry(catalog).or_default().push((name.to_owned(), column));
            });
            column
        })
    }

    /// Returns the column of this name if it has this type; `None` for others.
    pub fn find_of_type(&self, name: &str, type_oid: pg_sys::Oid) -> Option<Column> {
        self.look_up(name).filter(|(_, found)| *found == type_oid).map(|(column, _)| column)
    }

    fn oid(&self) -> Oid {
        // SAFETY: the relation is open.
        unsafe { (*self.0).rd_id }.to_u32()
    }

    fn look_up(&self, name: &str) -> Option<(Column, pg_sys::Oid)> {
        let name = std::ffi::CString::new(name).ok()?;
        // SAFETY: the relation is open; null where it has no such column. The row is read before it
        // is released.
        unsafe {
            let tuple = pg_sys::SearchSysCacheAttName((*self.0).rd_id, name.as_ptr());
            if tuple.is_null() {
                return None;
            }
            let attribute = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
            let not_null = (*attribute).attnotnull && self.is_catalog();
            let found = (Column { number: (*attribute).attnum, not_null }, (*attribute).atttypid);
            pg_sys::ReleaseSysCache(tuple);
            Some(found)
        }
    }

    /// Whether the relation is a catalog. In other tables, a column that is declared NOT NULL now
    /// may have had nulls in this state.
    fn is_catalog(&self) -> bool {
        self.oid() < pg_sys::FirstNormalObjectId
    }

    /// Returns the number of the file in which the rows are: another one after they have been
    /// written again, to other places.
    pub fn storage(&self) -> Oid {
        // SAFETY: the relation is open.
        unsafe {
            #[cfg(feature = "pg15")]
            let number = (*self.0).rd_node.relNode;
            #[cfg(not(feature = "pg15"))]
            let number = (*self.0).rd_locator.relNumber;
            number.to_u32()
        }
    }

    /// Returns the number of pages with rows.
    pub fn pages(&self) -> usize {
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, fork) as usize }
    }

    /// Calls `each` with every row that is visible in `snapshot`.
    pub fn scan(&self, snapshot: &State, each: impl FnMut(Row<'_>)) {
        self.run(snapshot, 0, &mut [], always(each));
    }

    /// As [`Table::scan`], until `each` returns false.
    pub fn scan_while(&self, snapshot: &State, each: impl FnMut(Row<'_>) -> bool) {
        self.run(snapshot, 0, &mut [], each);
    }

    /// Calls `each` with the rows whose leading index columns equal `keys`, all of type oid.
    pub fn lookup(
        &self,
        snapshot: &State,
        index: Oid,
        keys: &[(Column, Oid)],
        each: impl FnMut(Row<'_>),
    ) {
        self.lookup_while(snapshot, index, keys, always(each));
    }

    /// Calls `each` with the rows whose leading index column, of type oid, is less than `end`.
    pub fn lookup_below(
        &self,
        snapshot: &State,
        index: Oid,
        (column, end): (Column, Oid),
        each: impl FnMut(Row<'_>),
    ) {
        let strategy = pg_sys::BTLessStrategyNumber;
        let key = compares(column, strategy, pg_sys::F_OIDLT, pg_sys::Datum::from(end));
        self.run(snapshot, index, &mut [key], always(each));
    }

    /// Calls `each` with the rows whose leading index column, of type name, equals `value`.
    pub fn lookup_name(
        &self,
        snapshot: &State,
        index: Oid,
        column: Column,
        value: &str,
        each: impl FnMut(Row<'_>),
    ) {
        let mut name = [0u8; pg_sys::NAMEDATALEN as usize];
        let bytes = super::text::to_server(value);
        let length = bytes.len().min(name.len() - 1);
        name[..length].copy_from_slice(&bytes[..length]);
        // `name` stays where it is for as long as the scan.
        let key = equals(column, pg_sys::F_NAMEEQ, pg_sys::Datum::from(name.as_ptr()));
        self.run(snapshot, index, &mut [key], always(each));
    }

    /// As [`Table::lookup`], until `each` returns false.
    pub fn lookup_while(
        &self,
        snapshot: &State,
        index: Oid,
        keys: &[(Column, Oid)],
        each: impl FnMut(Row<'_>) -> bool,
    ) {
        let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys
            .iter()
            .map(|(column, value)| equals(*column, pg_sys::F_OIDEQ, pg_sys::Datum::from(*value)))
            .collect();
        self.run(snapshot, index, &mut scan_keys, each);
    }

    /// Whether this transaction has inserted, updated or deleted a row whose leading index columns
    /// equal `keys`, all of type oid, and a version of which `counts`; subtransactions that were
    /// rolled back excepted.
    pub fn any_own_version(
        &self,
        index: Oid,
        keys: &[(Column, Oid)],
        counts: impl Fn(&Row<'_>) -> bool,
    ) -> bool {
        let mut scan_keys: Vec<pg_sys::ScanKeyData> = keys
            .iter()
            .map(|(column, value)| equals(*column, pg_sys::F_OIDEQ, pg_sys::Datum::from(*value)))
            .collect();
        // Not registered, and therefore not dropped. It is of a type that shows all versions.
        let any = ManuallyDrop::new(State(&raw mut pg_sys::SnapshotAnyData));
        let mut found = false;
        self.run(&any, index, &mut scan_keys, |row| {
            found = (row.is_own() || row.is_deleted_by_own()) && counts(&row);
            !found
        });
        found
    }

    fn run(
        &self,
        snapshot: &State,
        index: Oid,
        keys: &mut [pg_sys::ScanKeyData],
        mut each: impl FnMut(Row<'_>) -> bool,
    ) {
        interrupts();
        // SAFETY: relation and snapshot are open for as long as the scan; each tuple is used before
        // the next is fetched.
        unsafe {
            let count = keys.len() as i32;
            let scan = pg_sys::systable_beginscan(
                self.0,
                index.into(),
                index != 0,
                snapshot.0,
                count,
                keys.as_mut_ptr(),
            );
            let table = self;
            let visit = |tuple| {
                interrupts();
                each(Row::from_tuple(tuple, table))
            };
            if let Err(panic) = for_each_tuple(scan, visit) {
                std::panic::resume_unwind(panic);
            }
            pg_sys::systable_endscan(scan);
        }
    }
}

unsafe extern "C-unwind" {
    /// The function of the server itself: that of `pg_sys` catches the errors of each call.
    #[link_name = "systable_getnext"]
    fn next_tuple(scan: pg_sys::SysScanDesc) -> pg_sys::HeapTuple;

    /// The same for a function that raises no error.
    #[link_name = "nocachegetattr"]
    fn value_in(
        tuple: pg_sys::HeapTuple,
        number: std::ffi::c_int,
        descriptor: pg_sys::TupleDesc,
    ) -> pg_sys::Datum;
}

/// Calls `visit` with the tuples of a scan until it returns false. Errors of the server are caught
/// once for the whole scan, because that takes as long as fetching a tuple; a panic of `visit` is
/// returned.
///
/// # Safety
/// The scan has begun and has not ended.
unsafe fn for_each_tuple(
    scan: pg_sys::SysScanDesc,
    mut visit: impl FnMut(pg_sys::HeapTuple) -> bool,
) -> std::thread::Result<()> {
    // The server may leave `next_tuple` with an error: at that time the closure owns nothing.
    let mut scan_all = || loop {
        // SAFETY: the scan is valid.
        let tuple = unsafe { next_tuple(scan) };
        if tuple.is_null() {
            return Ok(());
        }
        // A panic must not pass through the frames of the boundary. It is raised again after them,
        // so that nothing that it has left incomplete is used.
        match catch_unwind(AssertUnwindSafe(|| visit(tuple))) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(panic) => return Err(panic),
        }
    };
    // SAFETY: the closure does not panic, see above.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(&mut scan_all) }
}

/// Returns the scan key for rows whose `column` equals `value`, by the operator function of the
/// column's type.
fn equals(column: Column, operator: u32, value: pg_sys::Datum) -> pg_sys::ScanKeyData {
    compares(column, pg_sys::BTEqualStrategyNumber, operator, value)
}

/// Returns the scan key for rows whose `column` compares to `value` as a strategy of B-trees says,
/// by the operator function of that strategy and the column's type.
fn compares(
    column: Column,
    strategy: u32,
    operator: u32,
    value: pg_sys::Datum,
) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    let strategy = strategy as pg_sys::StrategyNumber;
    // SAFETY: writes the given key.
    unsafe { pg_sys::ScanKeyInit(&mut key, column.number, strategy, operator.into(), value) };
    key
}

fn always(mut each: impl FnMut(Row<'_>)) -> impl FnMut(Row<'_>) -> bool {
    move |row| {
        each(row);
        true
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // After an error the resource owner closes it.
        if !std::thread::panicking() {
            // SAFETY: opened in `open`.
            unsafe { pg_sys::table_close(self.0, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
        }
    }
}

/// Reads one column of the catalog row with an OID; `None` where there is no such row.
pub fn of_row<T>(
    state: &State,
    ByOid { catalog, index }: ByOid,
    oid: Oid,
    column: &str,
    read: impl FnOnce(Row<'_>, Column) -> T,
) -> Option<T> {
    let table = Table::open(catalog);
    let (key, column) = (table.column("oid"), table.column(column));
    let (mut read, mut found) = (Some(read), None);
    table.lookup(state, index, &[(key, oid)], |row| {
        found = read.take().map(|read| read(row, column));
    });
    found
}

/// One row of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'t> {
    tuple: pg_sys::HeapTuple,
    table: &'t Table,
    /// How many columns the tuple stores before the first null.
    leading: i16,
}

impl<'t> Row<'t> {
    /// Wraps a tuple of `table` that was fetched otherwise, for example from the system cache.
    ///
    /// # Safety
    /// `tuple` belongs to that table and is valid as long as the row is used.
    pub unsafe fn from_tuple(tuple: pg_sys::HeapTuple, table: &'t Table) -> Self {
        // SAFETY: as the caller promises.
        Self { tuple, table, leading: unsafe { values_before_null(&*(*tuple).t_data) } }
    }

    /// Returns the tuple, for functions of the server. It is valid as long as the row.
    pub fn tuple(&self) -> pg_sys::HeapTuple {
        self.tuple
    }

    /// Whether the current transaction, or a subtransaction of it, has written the row.
    pub fn is_own(&self) -> bool {
        // SAFETY: the tuple is valid; reads its header and the state of the transaction.
        unsafe {
            let writer = pg_sys::htup::HeapTupleHeaderGetXmin((*self.tuple).t_data);
            pg_sys::TransactionIdIsCurrentTransactionId(writer)
        }
    }

    /// Whether the current transaction, or a subtransaction of it, has updated, deleted or locked
    /// the row.
    fn is_deleted_by_own(&self) -> bool {
        // SAFETY: the tuple is valid; reads its header and the state of the transaction.
        unsafe {
            let header = (*self.tuple).t_data;
            let infomask = u32::from((*header).t_infomask);
            if infomask & pg_sys::HEAP_XMAX_INVALID != 0 {
                return false;
            }
            let by = if infomask & pg_sys::HEAP_XMAX_IS_MULTI != 0 {
                if infomask & pg_sys::HEAP_XMAX_LOCK_ONLY != 0 {
                    return false;
                }
                pg_sys::HeapTupleGetUpdateXid(header)
            } else {
                (*header).t_choice.t_heap.t_xmax
            };
            pg_sys::TransactionIdIsCurrentTransactionId(by)
        }
    }

    /// Whether the column is null.
    pub fn is_null(&self, column: Column) -> bool {
        // SAFETY: the tuple is of the table, whose descriptor is valid.
        !column.not_null
            && self.stores_null(column.number).unwrap_or_else(|| unsafe {
                pg_sys::heap_attisnull(self.tuple, column.number.into(), (*self.table.0).rd_att)
            })
    }

    fn datum(&self, column: Column) -> Option<pg_sys::Datum> {
        self.datum_at_known_place(column).or_else(|| {
            // The server's function reads only what the tuple stores.
            let number = column.number.into();
            let is_stored = self.stores_null(column.number) == Some(false);
            // SAFETY: the tuple is of the table, whose descriptor is valid, and stores a value in
            // the column, or the server has one for it that is not null.
            unsafe {
                let descriptor = (*self.table.0).rd_att;
                if is_stored {
                    return Some(value_in(self.tuple, number, descriptor));
                }
                (!self.is_null(column))
                    .then(|| pg_sys::nocachegetattr(self.tuple, number, descriptor))
            }
        })
    }

    /// Whether the tuple stores a null in a column; `None` where it was stored before the column
    /// was added, and for system columns. A call of the server's function takes ten times as long,
    /// because an error that it might raise has to be caught.
    fn stores_null(&self, number: i16) -> Option<bool> {
        // SAFETY: the tuple is valid; its bitmap has a bit for each stored column.
        unsafe {
            let header = &*(*self.tuple).t_data;
            let stored = i32::from(header.t_infomask2) & pg_sys::HEAP_NATTS_MASK as i32;
            let at = usize::try_from(number - 1).ok().filter(|_| i32::from(number) <= stored)?;
            let has_nulls = u32::from(header.t_infomask) & pg_sys::HEAP_HASNULL != 0;
            Some(has_nulls && *header.t_bits.as_ptr().add(at / 8) & (1 << (at % 8)) == 0)
        }
    }

    /// Returns a column that the tuple stores without nulls before it, and that is at the same
    /// place in every such tuple, if the server has determined that place (`fastgetattr`); else
    /// `None`.
    fn datum_at_known_place(&self, column: Column) -> Option<pg_sys::Datum> {
        if column.number > self.leading {
            return None;
        }
        let at = usize::try_from(column.number - 1).ok()?;
        // SAFETY: the descriptor has an element for each column. A place that is not negative is
        // the offset of a value with the length of the column's type, aligned for that type.
        unsafe {
            let descriptor = (*self.table.0).rd_att;
            let count = (*descriptor).natts as usize;
            #[cfg(feature = "pg18")]
            let attribute = (*descriptor).compact_attrs.as_slice(count).get(at)?;
            #[cfg(not(feature = "pg18"))]
            let attribute = (*descriptor).attrs.as_slice(count).get(at)?;
            let header = (*self.tuple).t_data;
            let place =
                usize::try_from(attribute.attcacheoff).ok()? + usize::from((*header).t_hoff);
            let value = header.cast::<u8>().add(place);
            Some(pg_sys::Datum::from(match (attribute.attbyval, attribute.attlen) {
                (false, _) => value as usize,
                (true, 1) => value.cast::<i8>().read() as usize,
                (true, 2) => value.cast::<i16>().read() as usize,
                (true, 4) => value.cast::<i32>().read() as usize,
                (true, 8) => value.cast::<i64>().read() as usize,
                (true, _) => return None,
            }))
        }
    }

    /// Returns a column of type oid; 0 where null.
    pub fn oid(&self, column: Column) -> Oid {
        self.datum(column).map_or(0, |d| d.value() as u32)
    }

    /// Returns a column of type int4; 0 where null.
    pub fn int(&self, column: Column) -> i32 {
        self.datum(column).map_or(0, |d| d.value() as i32)
    }

    /// Returns a column of type int8; 0 where null.
    pub fn bigint(&self, column: Column) -> i64 {
        self.datum(column).map_or(0, |d| d.value() as i64)
    }

    /// Returns a column of type timestamptz: microseconds since 2000; `None` where null.
    pub fn timestamp(&self, column: Column) -> Option<i64> {
        self.datum(column).map(|d| d.value() as i64)
    }

    /// Returns a column of type bool; false where null.
    pub fn bool(&self, column: Column) -> bool {
        self.datum(column).is_some_and(|d| d.value() & 0xff != 0)
    }

    /// Returns a column of type "char"; 0 where null.
    pub fn char(&self, column: Column) -> u8 {
        self.datum(column).map_or(0, |d| d.value() as u8)
    }

    /// Returns a column of type name.
    pub fn name(&self, column: Column) -> String {
        self.borrowed_name(column).into_owned()
    }

    /// Returns a column of type name, without a copy where none is needed.
    pub fn borrowed_name(&self, column: Column) -> Cow<'_, str> {
        self.datum(column).map_or(Cow::Borrowed(""), |d| {
            // SAFETY: a name is 64 bytes with a zero among them, in the tuple, which is valid as
            // long as the row is used.
            borrowed_from_server(unsafe { CStr::from_ptr(d.cast_mut_ptr()) }.to_bytes())
        })
    }

    /// Returns a column of type text or with the same representation; `None` where null.
    pub fn text(&self, column: Column) -> Option<String> {
        self.datum(column).map(text_of)
    }

    /// Returns what identifies the contents of a variable-length column without reading them:
    /// how the row stores the value, which may be compressed or elsewhere, and which row it is.
    /// `None` where null.
    pub fn stored(&self, column: Column) -> Option<Stored> {
        let datum = self.datum(column)?;
        // SAFETY: the datum is a varlena in the tuple, which is valid.
        unsafe {
            let value = datum.cast_mut_ptr::<pg_sys::varlena>();
            let size = pgrx::varsize_any(value);
            Some(Stored {
                bytes: std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec(),
                writer: pg_sys::htup::HeapTupleHeaderGetXmin((*self.tuple).t_data),
                place: pgrx::itemptr::item_pointer_to_u64((*self.tuple).t_self),
            })
        }
    }

    /// Returns the raw bytes of a variable-length column; `None` where null.
    pub fn bytes(&self, column: Column) -> Option<Vec<u8>> {
        self.datum(column).map(|d| detoasted(d, <[u8]>::to_vec))
    }

    /// Calls `use_it` with the raw bytes of a variable-length column; none where null.
    pub fn with_bytes<T>(&self, column: Column, use_it: impl FnOnce(&[u8]) -> T) -> T {
        match self.datum(column) {
            Some(datum) => detoasted(datum, use_it),
            None => use_it(&[]),
        }
    }

    /// Returns the datum of a column, for functions of the server; `None` where null.
    pub fn raw(&self, column: Column) -> Option<pg_sys::Datum> {
        self.datum(column)
    }

    /// Returns a column of type aclitem[]; `None` where null.
    pub fn acl(&self, column: Column) -> Option<Acl> {
        (!self.is_null(column)).then(|| self.acl_items(column).into())
    }

    /// Returns the elements of a column of type aclitem[]; none where null.
    pub fn acl_items(&self, column: Column) -> Vec<AclItem> {
        self.datum(column).map_or_else(Vec::new, |d| elements::<pg_sys::AclItem, _>(d, acl_item))
    }

    /// Returns a column of type oid[] or oidvector.
    pub fn oids(&self, column: Column) -> Vec<Oid> {
        self.datum(column)
            .map_or_else(Vec::new, |d| elements::<pg_sys::Oid, _>(d, pgrx::pg_sys::Oid::to_u32))
    }

    /// Returns a column of type int2vector.
    pub fn numbers(&self, column: Column) -> Vec<i16> {
        self.datum(column).map_or_else(Vec::new, |d| elements::<i16, _>(d, |number| number))
    }

    /// Returns a column of type "char"[].
    pub fn chars(&self, column: Column) -> Vec<u8> {
        self.datum(column).map_or_else(Vec::new, |d| elements::<u8, _>(d, |character| character))
    }

    /// Returns a column of type text[].
    pub fn texts(&self, column: Column) -> Vec<String> {
        self.datum(column).map_or_else(Vec::new, |d| {
            detoasted(d, plain_texts).unwrap_or_else(|| text_elements(d, pg_sys::TEXTOID, -1, b'i'))
        })
    }
}

/// What identifies the contents of a column, see [`Row::stored`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    bytes: Vec<u8>,
    writer: pg_sys::TransactionId,
    place: u64,
}

/// Returns how many columns a tuple stores before the first null.
///
/// # Safety
/// The header is that of a whole tuple.
unsafe fn values_before_null(header: &pg_sys::HeapTupleHeaderData) -> i16 {
    let stored = u32::from(header.t_infomask2) & pg_sys::HEAP_NATTS_MASK;
    if u32::from(header.t_infomask) & pg_sys::HEAP_HASNULL == 0 {
        return stored as i16;
    }
    // SAFETY: the bitmap has a bit for each stored column, which is 1 for a value.
    let bitmap = unsafe {
        std::slice::from_raw_parts(header.t_bits.as_ptr(), (stored as usize).div_ceil(8))
    };
    let full = bitmap.iter().take_while(|byte| **byte == u8::MAX).count();
    let rest = bitmap.get(full).map_or(0, |byte| byte.trailing_ones());
    (full as u32 * 8 + rest).min(stored) as i16
}

/// Returns a value of type text as a string.
pub fn text_of(datum: pg_sys::Datum) -> String {
    detoasted(datum, from_server)
}

/// Calls `use_it` with the contents of a varlena, without its header, and frees the detoasted copy
/// if there is one. Most values are neither compressed nor stored elsewhere and need no call of the
/// server.
fn detoasted<T>(datum: pg_sys::Datum, use_it: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: the datum is a varlena; both forms are read through pgrx's own accessors.
    unsafe {
        let given = datum.cast_mut_ptr::<pg_sys::varlena>();
        let is_plain = pgrx::varatt_is_4b_u(given)
            || pgrx::varatt_is_1b(given) && !pgrx::varatt_is_1b_e(given);
        if is_plain {
            return use_it(contents(given));
        }
        let plain = pg_sys::pg_detoast_datum_packed(given);
        let result = use_it(contents(plain));
        if plain != given {
            pg_sys::pfree(plain.cast());
        }
        result
    }
}

/// Returns the contents of a varlena that is neither compressed nor stored elsewhere.
///
/// # Safety
/// `plain` is such a varlena, valid as long as the result is used.
unsafe fn contents<'v>(plain: *const pg_sys::varlena) -> &'v [u8] {
    // SAFETY: the length in the header counts the bytes after it.
    unsafe {
        let start = pgrx::vardata_any(plain).cast::<u8>();
        std::slice::from_raw_parts(start, pgrx::varsize_any_exhdr(plain))
    }
}

/// Returns the number of elements and their bytes, from the contents of an array with one dimension
/// and without nulls (`ArrayType`); `None` for another array.
fn plain_array(contents: &[u8]) -> Option<(usize, &[u8])> {
    // After the header of the varlena: the number of dimensions, the offset of the elements where
    // there are nulls, the type of the elements, and the length and the lower bound of each
    // dimension.
    let field = |at: usize| Some(i32::from_ne_bytes(contents.get(at..at + 4)?.try_into().ok()?));
    let is_plain = field(0)? == 1 && field(4)? == 0;
    let count = usize::try_from(field(12)?).ok()?;
    is_plain.then_some((count, contents.get(20..)?))
}

/// Returns the elements of an array of fixed-size elements without nulls.
fn elements<T: Copy, U>(datum: pg_sys::Datum, map: impl Fn(T) -> U) -> Vec<U> {
    detoasted(datum, |contents| {
        let Some((count, bytes)) = plain_array(contents) else { return vec![] };
        let element = |bytes: &[u8]| {
            // SAFETY: the bytes of one element, of a type for which any bytes are valid; unaligned
            // reads do not depend on their place.
            map(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
        };
        bytes.chunks_exact(size_of::<T>()).take(count).map(element).collect()
    })
}

/// Returns the elements of a text[] value, from the contents of an array with one dimension and
/// without nulls; `None` where the server has to read it.
fn plain_texts(contents: &[u8]) -> Option<Vec<String>> {
    let (count, bytes) = plain_array(contents)?;
    let (mut texts, mut at) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        // The elements of a stored array have headers of four bytes, aligned to four, whose lower
        // bits are 0 for values that are not compressed (varatt.h).
        at = usize::next_multiple_of(at, 4);
        let header = u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        let (is_uncompressed, length) = if cfg!(target_endian = "little") {
            (header.trailing_zeros() >= 2, header >> 2)
        } else {
            (header >> 30 == 0, header & 0x3fff_ffff)
        };
        let end = at + length as usize;
        texts.push(from_server(bytes.get(at + 4..end).filter(|_| is_uncompressed)?));
        at = end;
    }
    Some(texts)
}

/// Returns the elements of a text[] or name[] value; nulls are omitted.
pub fn text_elements(
    datum: pg_sys::Datum,
    element: pg_sys::Oid,
    length: i32,
    align: u8,
) -> Vec<String> {
    // SAFETY: the datum is an array of that element type; `deconstruct_array` returns `count`
    // elements.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            element,
            length,
            false,
            align as _,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize)
            .filter(|i| !*nulls.add(*i))
            .map(|i| match element {
                pg_sys::NAMEOID => {
                    from_server(CStr::from_ptr((*values.add(i)).cast_mut_ptr()).to_bytes())
                }
                _ => text_of(*values.add(i)),
            })
            .collect()
    }
}

/// Returns the elements of an integer[] value without nulls.
pub fn int_elements(datum: pg_sys::Datum) -> Vec<i32> {
    // SAFETY: the datum is an array of that element type; `deconstruct_array` returns `count`
    // elements.
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            pg_sys::INT4OID,
            size_of::<i32>() as i32,
            true,
            b'i' as _,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize).map(|i| (*values.add(i)).value() as i32).collect()
    }
}

/// Converts an ACL item. The low half of the mode holds the privileges, the high half the grant
/// options (acl.h); the mode has 32 bits in PostgreSQL 15 and 64 bits from 16 on.
#[allow(clippy::unnecessary_cast, reason = "the type has 32 bits in PostgreSQL 15")]
fn acl_item(item: pg_sys::AclItem) -> AclItem {
    const HALF: u32 = size_of::<pg_sys::AclMode>() as u32 * 4;
    let mode = u64::from(item.ai_privs);
    let low = (1u64 << HALF) - 1;
    AclItem {
        grantee: item.ai_grantee.to_u32(),
        grantor: item.ai_grantor.to_u32(),
        privileges: Privileges((mode & low) as u32),
        grantable: Privileges((mode >> HALF) as u32),
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It was inserted.
    Written,
    /// Another session has locked the table.
    Locked,
    /// The table does not exist, or its columns have other types (it has been altered, which the
    /// audit reports).
    Impossible,
}

/// Inserts a row into a table of the extension, which must have no index, without executing
/// triggers, rules or row security, and without waiting for a lock.
pub fn append(table: Oid, columns: &[(pg_sys::Oid, pg_sys::Datum)]) -> Appended {
    // SAFETY: raises an error where the table does not exist; the tuple is formed with the table's
    // descriptor, whose columns have been compared.
    unsafe {
        if !pg_sys::ConditionalLockRelationOid(
            table.into(),
            pg_sys::RowExclusiveLock as pg_sys::LOCKMODE,
        ) {
            return Appended::Locked;
        }
        let relation = pg_sys::table_open(table.into(), pg_sys::NoLock as pg_sys::LOCKMODE);
        let descriptor = (*relation).rd_att;
        let same = (*descriptor).natts as usize == columns.len()
            && columns.iter().zip(1..).all(|((type_oid, _), number)| {
                pg_sys::SPI_gettypeid(descriptor, number) == *type_oid
            });
        if same {
            let mut values: Vec<pg_sys::Datum> = columns.iter().map(|(_, value)| *value).collect();
            let mut nulls = vec![false; columns.len()];
            let tuple =
                pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::simple_heap_insert(relation, tuple);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        if same { Appended::Written } else { Appended::Impossible }
    }
}

/// The place of a row in its table.
#[derive(Clone, Copy)]
pub struct Place(pg_sys::ItemPointerData);

/// Returns the number of rows of a table of the extension.
pub fn count(table: Oid, state: &State) -> usize {
    let mut count = 0;
    Table::open(table).scan(state, |_| count += 1);
    count
}

/// Returns what `read` returns for each row of a table of the extension, with its place.
pub fn rows<T>(table: Oid, state: &State, read: impl Fn(&Row<'_>, &Table) -> T) -> Vec<(T, Place)> {
    let table = Table::open(table);
    let mut rows = Vec::new();
    table.scan(state, |row| {
        // SAFETY: the row is valid during the call; its address is copied.
        let place = Place(unsafe { (*row.tuple).t_self });
        rows.push((read(&row, &table), place));
    });
    rows
}

/// Deletes rows of a table of the extension, which no other session deletes.
pub fn delete(table: Oid, rows: impl Iterator<Item = Place>) {
    // SAFETY: raises an error where the table does not exist; the rows are of that table and
    // visible in the current state.
    unsafe {
        let relation =
            pg_sys::table_open(table.into(), pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        for Place(mut row) in rows {
            pg_sys::simple_heap_delete(relation, &mut row);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}
