//! Reading catalogs directly, as the server reads them itself: no SQL, so neither search_path, nor
//! privileges, nor what somebody named like a catalog can come between; and with a snapshot taken
//! now, so that a REPEATABLE READ transaction cannot judge by what was true when it began.

use super::text::from_server;
use dragonfly_core::catalog::{Acl, AclItem, Oid, Privileges};
use pgrx::pg_sys;
use std::ffi::CStr;

/// Lets the user cancel: every loop over what users made calls this.
pub fn interrupts() {
    pgrx::check_for_interrupts!();
}

/// A state of the catalogs.
#[derive(Debug)]
pub struct State(pg_sys::Snapshot);

impl State {
    /// What is committed now, and what this transaction has done itself.
    pub fn now() -> Self {
        // SAFETY: inside a transaction; registered, so that it outlives what others do with the
        // active snapshot.
        Self(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) })
    }

    /// What the transaction sees: under REPEATABLE READ what was committed when it began.
    pub fn of_transaction() -> Self {
        // SAFETY: as above.
        Self(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()) })
    }

    /// What is committed now, without what this transaction has done from a command on (0: the
    /// first): rows that those commands made are not there yet, and rows that they changed or
    /// deleted are as they were (`HeapTupleSatisfiesMVCC`).
    pub fn before(command: pg_sys::CommandId) -> Self {
        let state = Self::now();
        // SAFETY: registering has made a copy, which is ours.
        unsafe { (*state.0).curcid = command };
        state
    }

    /// Which transactions count as committed: two states that agree in this differ by nothing but
    /// what this transaction has done.
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

/// See [`State::committed`].
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
            // SAFETY: registered in `take`.
            unsafe { pg_sys::UnregisterSnapshot(self.0) };
        }
    }
}

/// A catalog or table, open for reading.
#[derive(Debug)]
pub struct Table(pg_sys::Relation);

/// A column of a [`Table`]: its attribute number, its type, and whether it can be null.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    number: i16,
    not_null: bool,
    /// `pg_attribute.atttypid`.
    pub type_oid: pg_sys::Oid,
}

impl Table {
    /// Opens a relation by OID with ACCESS SHARE.
    pub fn open(relation: Oid) -> Self {
        // SAFETY: raises an error where there is no such relation.
        Self(unsafe {
            pg_sys::table_open(relation.into(), pg_sys::AccessShareLock as pg_sys::LOCKMODE)
        })
    }

    /// The column of this name: attribute numbers differ between releases, names do not.
    pub fn column(&self, name: &str) -> Column {
        self.find(name).unwrap_or_else(|| pgrx::error!("a catalog has no column \"{name}\""))
    }

    /// The column of this name, which older releases may not have.
    pub fn find(&self, name: &str) -> Option<Column> {
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
            let column =
                Column { number: (*attribute).attnum, not_null, type_oid: (*attribute).atttypid };
            pg_sys::ReleaseSysCache(tuple);
            Some(column)
        }
    }

    /// Only of a catalog is it certain that what is declared NOT NULL never was anything else.
    fn is_catalog(&self) -> bool {
        // SAFETY: the relation is open.
        unsafe { (*self.0).rd_id.to_u32() < pg_sys::FirstNormalObjectId }
    }

    /// Calls `each` with every row that `snapshot` shows.
    pub fn scan(&self, snapshot: &State, each: impl FnMut(Row<'_>)) {
        self.run(snapshot, 0, &mut [], always(each));
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

    /// As [`Table::lookup`], for as long as `each` says so.
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

    fn run(
        &self,
        snapshot: &State,
        index: Oid,
        keys: &mut [pg_sys::ScanKeyData],
        mut each: impl FnMut(Row<'_>) -> bool,
    ) {
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
            loop {
                interrupts();
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() || !each(Row { tuple, table: self }) {
                    break;
                }
            }
            pg_sys::systable_endscan(scan);
        }
    }
}

/// The key of a scan for rows whose `column` equals `value`, by the operator function of the
/// column's type.
fn equals(column: Column, operator: u32, value: pg_sys::Datum) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    let strategy = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
    // SAFETY: writes the key it is given.
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
            // SAFETY: opened in `open`; the lock stays until the end of the transaction, as is
            // usual for user tables.
            unsafe { pg_sys::table_close(self.0, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
        }
    }
}

/// What one row of a catalog says, found by its OID by way of an index: one of its columns, by
/// name. `None` where there is no such row.
pub fn of_row<T>(
    state: &State,
    (catalog, index): (Oid, Oid),
    oid: Oid,
    column: &str,
    read: impl FnOnce(Row<'_>, Column) -> T,
) -> Option<T> {
    let table = Table::open(catalog);
    let (key, column) = (table.column("oid"), table.column(column));
    let (mut read, mut found) = (Some(read), None);
    table.lookup(state, index, &[(key, oid)], |row| {
        found = read.take().map(|read| read(row, column))
    });
    found
}

/// One row of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'t> {
    tuple: pg_sys::HeapTuple,
    table: &'t Table,
}

impl<'t> Row<'t> {
    /// A tuple of `table` that somebody else fetched, the system cache for one.
    ///
    /// # Safety
    /// `tuple` belongs to that table and stays valid as long as the row is used.
    pub unsafe fn from_tuple(tuple: pg_sys::HeapTuple, table: &'t Table) -> Self {
        Self { tuple, table }
    }

    /// Whether the column is null.
    pub fn is_null(&self, column: Column) -> bool {
        // SAFETY: the tuple is of the table, whose descriptor is valid.
        !column.not_null
            && unsafe {
                pg_sys::heap_attisnull(self.tuple, column.number.into(), (*self.table.0).rd_att)
            }
    }

    fn datum(&self, column: Column) -> Option<pg_sys::Datum> {
        // SAFETY: as above, and the column is not null.
        (!self.is_null(column)).then(|| unsafe {
            pg_sys::nocachegetattr(self.tuple, column.number.into(), (*self.table.0).rd_att)
        })
    }

    /// A column of type oid; 0 where null.
    pub fn oid(&self, column: Column) -> Oid {
        self.datum(column).map_or(0, |d| d.value() as u32)
    }

    /// A column of type int4; 0 where null.
    pub fn int(&self, column: Column) -> i32 {
        self.datum(column).map_or(0, |d| d.value() as i32)
    }

    /// A column of type int8; 0 where null.
    pub fn bigint(&self, column: Column) -> i64 {
        self.datum(column).map_or(0, |d| d.value() as i64)
    }

    /// A column of type timestamptz: microseconds since 2000.
    pub fn timestamp(&self, column: Column) -> Option<i64> {
        self.datum(column).map(|d| d.value() as i64)
    }

    /// A column of type bool; false where null.
    pub fn bool(&self, column: Column) -> bool {
        self.datum(column).is_some_and(|d| d.value() & 0xff != 0)
    }

    /// A column of type "char"; 0 where null.
    pub fn char(&self, column: Column) -> u8 {
        self.datum(column).map_or(0, |d| d.value() as u8)
    }

    /// A column of type name.
    pub fn name(&self, column: Column) -> String {
        self.datum(column).map_or_else(String::new, |d| {
            // SAFETY: a name is 64 bytes with a zero among them.
            from_server(unsafe { CStr::from_ptr(d.cast_mut_ptr()) }.to_bytes())
        })
    }

    /// A column of type text or the like.
    pub fn text(&self, column: Column) -> Option<String> {
        self.datum(column).map(text_of)
    }

    /// The raw bytes of a variable-length column.
    pub fn bytes(&self, column: Column) -> Option<Vec<u8>> {
        self.datum(column).map(|d| detoasted(d, <[u8]>::to_vec))
    }

    /// The value as the server passes it around, for the server's own functions.
    pub fn raw(&self, column: Column) -> Option<pg_sys::Datum> {
        self.datum(column)
    }

    /// A column of type aclitem[]; `None` where null.
    pub fn acl(&self, column: Column) -> Option<Acl> {
        self.datum(column).map(|d| elements::<pg_sys::AclItem, _>(d, acl_item))
    }

    /// A column of type oid[] or oidvector.
    pub fn oids(&self, column: Column) -> Vec<Oid> {
        self.datum(column)
            .map_or_else(Vec::new, |d| elements::<pg_sys::Oid, _>(d, |oid| oid.to_u32()))
    }

    /// A column of type int2vector.
    pub fn numbers(&self, column: Column) -> Vec<i16> {
        self.datum(column).map_or_else(Vec::new, |d| elements::<i16, _>(d, |number| number))
    }

    /// A column of type text[].
    pub fn texts(&self, column: Column) -> Vec<String> {
        self.datum(column).map_or_else(Vec::new, |d| text_elements(d, pg_sys::TEXTOID, -1, b'i'))
    }
}

/// A value of type text.
pub fn text_of(datum: pg_sys::Datum) -> String {
    detoasted(datum, from_server)
}

/// Calls `use_it` with the contents of a varlena, and frees what had to be made for it.
fn detoasted<T>(datum: pg_sys::Datum, use_it: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: the datum is a varlena; the packed form is read through pgrx's own accessors.
    unsafe {
        let given = datum.cast_mut_ptr::<pg_sys::varlena>();
        let plain = pg_sys::pg_detoast_datum_packed(given);
        let bytes = std::slice::from_raw_parts(
            pgrx::vardata_any(plain).cast::<u8>(),
            pgrx::varsize_any_exhdr(plain),
        );
        let result = use_it(bytes);
        if plain != given {
            pg_sys::pfree(plain.cast());
        }
        result
    }
}

/// The elements of an array of fixed-size elements without nulls.
fn elements<T: Copy, U>(datum: pg_sys::Datum, map: impl Fn(T) -> U) -> Vec<U> {
    // SAFETY: catalog columns of these types have one dimension and no nulls; the elements follow
    // the header, unaligned reads ask nothing of their place.
    unsafe {
        let given = datum.cast_mut_ptr::<pg_sys::varlena>();
        let array = pg_sys::pg_detoast_datum(given).cast::<pg_sys::ArrayType>();
        let dimensions = (*array).ndim as usize;
        let mut result = Vec::new();
        if dimensions == 1 && (*array).dataoffset == 0 {
            let header = size_of::<pg_sys::ArrayType>();
            let count = array.byte_add(header).cast::<i32>().read_unaligned() as usize;
            let data =
                array.byte_add((header + 2 * size_of::<i32>()).next_multiple_of(8)).cast::<T>();
            result.extend((0..count).map(|i| map(data.add(i).read_unaligned())));
        }
        if array.cast() != given {
            pg_sys::pfree(array.cast());
        }
        result
    }
}

/// The elements of a text[] or name[] value, nulls left out.
pub fn text_elements(
    datum: pg_sys::Datum,
    element: pg_sys::Oid,
    length: i32,
    align: u8,
) -> Vec<String> {
    // SAFETY: the datum is an array of that element type; `deconstruct_array` gives `count`
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

/// The low half of the mode holds privileges, the high half those held with grant option (acl.h);
/// the mode has 32 bits in 15 and 64 from 16 on.
#[allow(clippy::unnecessary_cast)]
fn acl_item(item: pg_sys::AclItem) -> AclItem {
    const HALF: u32 = size_of::<pg_sys::AclMode>() as u32 * 4;
    let mode = item.ai_privs as u64;
    let low = (1u64 << HALF) - 1;
    AclItem {
        grantee: item.ai_grantee.to_u32(),
        grantor: item.ai_grantor.to_u32(),
        privileges: Privileges((mode & low) as u32),
        grantable: Privileges((mode >> HALF) as u32),
    }
}

/// Adds a row to a table of the extension's own, past everything that could be hung on it
/// (triggers, rules, row security); the table has no index. Nothing happens, and false is given,
/// where the columns are not of those types (somebody has changed the table, and the audit says
/// so), or somebody has locked it.
pub fn append(table: Oid, columns: &[(pg_sys::Oid, pg_sys::Datum)]) -> bool {
    // SAFETY: an error where there is no such table; the tuple is formed by the table's own
    // descriptor, whose columns have been compared.
    unsafe {
        if !pg_sys::ConditionalLockRelationOid(
            table.into(),
            pg_sys::RowExclusiveLock as pg_sys::LOCKMODE,
        ) {
            return false;
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
        same
    }
}

/// Deletes the rows of a table of the extension's own with the smallest `column`, of type
/// timestamptz, until `count` are left.
pub fn keep_newest(table: Oid, column: &str, count: usize, state: &State) {
    let mut rows: Vec<(i64, pg_sys::ItemPointerData)> = Vec::new();
    let opened = Table::open(table);
    let Some(at) = opened.find(column).filter(|c| c.type_oid == pg_sys::TIMESTAMPTZOID) else {
        return;
    };
    opened.scan(state, |row| {
        let time = row.datum(at).map_or(i64::MIN, |d| d.value() as i64);
        // SAFETY: each row is valid while it is looked at; its place is copied.
        rows.push((time, unsafe { (*row.tuple).t_self }));
    });
    let spare = rows.len().saturating_sub(count);
    rows.sort_by_key(|(time, _)| *time);
    // SAFETY: an error where there is no such table; the rows are of that table and have been seen
    // by this state.
    unsafe {
        let relation =
            pg_sys::table_open(table.into(), pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        for (_, row) in rows.iter_mut().take(spare) {
            pg_sys::simple_heap_delete(relation, row);
        }
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}
