//! Calls of SQL functions: reading arguments, returning values and rows.

use super::heap::{int_elements, text_elements, text_of};
use super::jsonb::{self, Member};
use super::report::Report;
use super::text::{borrowed_to_server, from_server, to_server};
use super::write::text_datum;
use dragonfly_core::catalog::{Oid, Shared};
use pgrx::{PgMemoryContexts, PgSqlErrorCode, pg_sys};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::ffi::CString;

/// A value of a result.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Value {
    Null,
    Text(String),
    Name(String),
    Bool(bool),
    Int4(i32),
    Int(i64),
    /// Microseconds since 2000.
    Timestamp(i64),
    Json(Shared<Json>),
    Texts(Vec<String>),
    Names(Vec<String>),
}

impl Value {
    /// Returns a value of type text, NULL for `None`.
    pub fn text(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, |t| Self::Text(t.into()))
    }

    /// Returns a value of type name, NULL for `None`.
    pub fn name(name: Option<impl Into<String>>) -> Self {
        name.map_or(Self::Null, |n| Self::Name(n.into()))
    }

    /// Returns the value as a datum, `None` for NULL. The memory that it points to is in `buffer`
    /// or in the current memory context.
    fn datum(&self, buffer: &mut Buffer) -> Option<pg_sys::Datum> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) => buffer.text(text),
            Self::Name(name) => buffer.name(name),
            Self::Bool(bool) => pg_sys::Datum::from(*bool),
            Self::Int4(number) => pg_sys::Datum::from(*number),
            Self::Int(number) | Self::Timestamp(number) => pg_sys::Datum::from(*number),
            Self::Json(json) => buffer.json(json),
            Self::Texts(texts) => texts_datum(texts, buffer),
            Self::Names(names) => names_datum(names, buffer),
        })
    }
}

/// Memory that datums point into, 8-byte aligned as the server requires. Freed with the buffer.
#[derive(Debug, Default)]
struct Buffer {
    /// Blocks that do not move. The last one has space for more.
    blocks: Vec<Vec<u64>>,
    /// How many elements of the last block are in use.
    used: usize,
    /// The jsonb values that other rows may have as well, by address.
    shared: HashMap<*const Json, SharedJson>,
}

/// A jsonb value for several rows.
#[derive(Debug)]
struct SharedJson {
    /// Keeps the address from being used for another value.
    _json: Shared<Json>,
    /// The varlena.
    block: Vec<u64>,
}

impl Buffer {
    /// The number of elements of a block that holds several values.
    const SHARED: usize = 1024;

    /// Allocates `length` bytes, whose contents are arbitrary.
    fn block(&mut self, length: usize) -> *mut u8 {
        let count = length.div_ceil(8);
        if self.blocks.last().is_none_or(|last| last.len() - self.used < count) {
            self.blocks.push(vec![0; count.max(Self::SHARED)]);
            self.used = 0;
        }
        let start = self.used;
        self.used += count;
        // Moving the vector does not move its contents.
        self.blocks.last_mut().expect("one was added")[start..].as_mut_ptr().cast()
    }

    /// Frees what has been allocated, and keeps one block for what is allocated next and the jsonb
    /// values that other rows may have.
    fn clear(&mut self) {
        self.blocks.truncate(1);
        self.used = 0;
    }

    /// Allocates a varlena with a text.
    fn text(&mut self, text: &str) -> pg_sys::Datum {
        self.varlena(&borrowed_to_server(text))
    }

    /// Allocates a jsonb value. Where the server has to convert it, it is in the current memory
    /// context.
    fn json(&mut self, json: &Shared<Json>) -> pg_sys::Datum {
        let address: *const Json = &raw const **json;
        if let Some(known) = self.shared.get(&address) {
            return pg_sys::Datum::from(known.block.as_ptr());
        }
        let Some(contents) = jsonb::contents(json) else { return converted(json) };
        if !json.has_clones() {
            return self.varlena(&contents);
        }
        let mut block = vec![0; (contents.len() + size_of::<i32>()).div_ceil(8)];
        // SAFETY: the block is as long as header and contents together.
        let datum = unsafe { write_varlena(block.as_mut_ptr().cast(), &contents) };
        self.shared.insert(address, SharedJson { _json: json.clone(), block });
        datum
    }

    /// Allocates a varlena with a four-byte header.
    fn varlena(&mut self, bytes: &[u8]) -> pg_sys::Datum {
        let start = self.block(bytes.len() + size_of::<i32>());
        // SAFETY: the block is as long as header and text together.
        unsafe { write_varlena(start, bytes) }
    }

    fn name(&mut self, name: &str) -> pg_sys::Datum {
        let bytes = borrowed_to_server(name);
        let length = pg_sys::NAMEDATALEN as usize;
        let start = self.block(length);
        // SAFETY: the block has 64 bytes; at most 63 of them are of the name, the rest is zero.
        unsafe {
            start.write_bytes(0, length);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len().min(length - 1));
        };
        pg_sys::Datum::from(start)
    }
}

/// Returns a value of type jsonb.
pub fn json_datum(json: &Json) -> pg_sys::Datum {
    match jsonb::contents(json) {
        Some(contents) => varlena(contents),
        None => converted(json),
    }
}

/// Returns an object as a value of type jsonb. Its lists are converted one element at a time.
/// Raises an error where it is too long.
pub fn object_datum(members: Vec<(&str, Member<'_>)>) -> pg_sys::Datum {
    jsonb::object(members).map_or_else(
        || {
            Report { message: "value is too long for type jsonb".into(), ..Report::default() }
                .error(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED)
        },
        varlena,
    )
}

/// Returns a varlena in the current memory context.
fn varlena(contents: Vec<u8>) -> pg_sys::Datum {
    // SAFETY: the new memory is as long as header and contents together.
    unsafe {
        let start = pg_sys::palloc(contents.len() + size_of::<i32>()).cast::<u8>();
        write_varlena(start, &contents)
    }
}

/// Writes a varlena with a four-byte header.
///
/// # Safety
/// `start` is as long as header and contents together, and aligned to 4 bytes.
unsafe fn write_varlena(start: *mut u8, contents: &[u8]) -> pg_sys::Datum {
    let length = contents.len() + size_of::<i32>();
    // SAFETY: as the caller promises.
    unsafe {
        pgrx::set_varsize_4b(start.cast(), length as i32);
        let after_header = start.add(size_of::<i32>());
        std::ptr::copy_nonoverlapping(contents.as_ptr(), after_header, contents.len());
    }
    pg_sys::Datum::from(start)
}

/// Returns a value of type jsonb, converted by the server's input function.
fn converted(json: &Json) -> pg_sys::Datum {
    let text = CString::new(to_server(&serde_json::to_string(json).expect("a JSON value")))
        .expect("JSON text holds no zero byte");
    // SAFETY: `jsonb_in` takes a C string.
    unsafe {
        pgrx::direct_function_call_as_datum(
            pg_sys::jsonb_in,
            &[Some(pg_sys::Datum::from(text.as_ptr()))],
        )
        .expect("jsonb_in never returns null")
    }
}

/// Returns a value of type text[], in memory of the server.
pub fn texts(texts: &[String]) -> pg_sys::Datum {
    texts_datum(texts, &mut Buffer::default())
}

fn texts_datum(texts: &[String], buffer: &mut Buffer) -> pg_sys::Datum {
    let mut items: Vec<pg_sys::Datum> = texts.iter().map(|t| buffer.text(t)).collect();
    // SAFETY: the elements are text datums; the server copies them.
    unsafe {
        let (count, align) = (items.len() as i32, b'i' as std::ffi::c_char);
        pg_sys::Datum::from(pg_sys::construct_array(
            items.as_mut_ptr(),
            count,
            pg_sys::TEXTOID,
            -1,
            false,
            align,
        ))
    }
}

fn names_datum(names: &[String], buffer: &mut Buffer) -> pg_sys::Datum {
    let mut items: Vec<pg_sys::Datum> = names.iter().map(|name| buffer.name(name)).collect();
    // SAFETY: the elements are name datums; the server copies them.
    unsafe {
        let (count, align) = (items.len() as i32, b'c' as std::ffi::c_char);
        pg_sys::Datum::from(pg_sys::construct_array(
            items.as_mut_ptr(),
            count,
            pg_sys::NAMEOID,
            pg_sys::NAMEDATALEN as i32,
            false,
            align,
        ))
    }
}

/// A call of a SQL function. Its argument types must be those that the install script declares.
#[derive(Debug, Clone, Copy)]
pub struct Call(pg_sys::FunctionCallInfo);

impl Call {
    /// Wraps a call by the server.
    ///
    /// # Safety
    /// `fcinfo` was passed by the server and lives as long as the result.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self(fcinfo)
    }

    fn argument(&self, i: usize) -> Option<pg_sys::Datum> {
        // SAFETY: `fcinfo` is valid, and the function has at least `i` + 1 arguments.
        unsafe { pgrx::pg_getarg_datum(self.0, i) }
    }

    /// Returns an argument of type text.
    pub fn text(&self, i: usize) -> Option<String> {
        self.argument(i).map(text_of)
    }

    /// Returns an argument of type name.
    pub fn name(&self, i: usize) -> Option<String> {
        // SAFETY: a name is 64 bytes with a zero among them.
        self.argument(i)
            .map(|d| from_server(unsafe { std::ffi::CStr::from_ptr(d.cast_mut_ptr()) }.to_bytes()))
    }

    /// Returns an argument of an oid type.
    pub fn oid(&self, i: usize) -> Option<Oid> {
        self.argument(i).map(|d| d.value() as u32)
    }

    /// Returns an argument of type integer.
    pub fn int(&self, i: usize) -> Option<i32> {
        self.argument(i).map(|d| d.value() as i32)
    }

    /// Returns an argument of type boolean.
    pub fn bool(&self, i: usize) -> Option<bool> {
        self.argument(i).map(|d| d.value() & 0xff != 0)
    }

    /// Returns an argument of type timestamptz: microseconds since 2000.
    pub fn timestamp(&self, i: usize) -> Option<i64> {
        self.argument(i).map(|d| d.value() as i64)
    }

    /// Returns an argument of type interval as text.
    pub fn interval_text(&self, i: usize) -> Option<String> {
        let interval = self.argument(i)?;
        // SAFETY: `interval_out` takes an interval and returns a C string.
        unsafe {
            let text =
                pgrx::direct_function_call_as_datum(pg_sys::interval_out, &[Some(interval)])?;
            Some(from_server(std::ffi::CStr::from_ptr(text.cast_mut_ptr()).to_bytes()))
        }
    }

    /// Returns the time that an argument of type interval is after `start`.
    pub fn interval_after(&self, i: usize, start: i64) -> Option<i64> {
        let interval = self.argument(i)?;
        // SAFETY: the function takes a timestamptz and an interval, and returns a timestamptz.
        let end = unsafe {
            pgrx::direct_function_call_as_datum(
                pg_sys::timestamptz_pl_interval,
                &[Some(pg_sys::Datum::from(start)), Some(interval)],
            )
        };
        end.map(|end| end.value() as i64)
    }

    /// Returns an argument of type text[]. Raises an error where an element is null: the list would
    /// be shorter than the caller intended.
    pub fn texts(&self, i: usize) -> Option<Vec<String>> {
        self.array(i).map(|d| text_elements(d, pg_sys::TEXTOID, -1, b'i'))
    }

    /// Returns an argument of type name[], as [`Self::texts`] does.
    pub fn names(&self, i: usize) -> Option<Vec<String>> {
        self.array(i).map(|d| text_elements(d, pg_sys::NAMEOID, pg_sys::NAMEDATALEN as i32, b'c'))
    }

    /// Returns the elements of an array that is written as text, such as `{a,"B c"}`; `None` for
    /// elements that are null. Raises the server's error where the text is no array.
    pub fn names_in(text: &str) -> Option<Vec<String>> {
        let text = CString::new(to_server(text)).ok()?;
        // SAFETY: the server's own input function of the type, with a C string.
        unsafe {
            let (mut function, mut element) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(pg_sys::NAMEARRAYOID, &mut function, &mut element);
            let array =
                pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), element, -1);
            let has_nulls = pg_sys::array_contains_nulls(array.cast_mut_ptr());
            let names = || text_elements(array, pg_sys::NAMEOID, pg_sys::NAMEDATALEN as i32, b'c');
            (!has_nulls).then(names)
        }
    }

    /// Returns an argument of type integer[], as [`Self::texts`] does.
    pub fn ints(&self, i: usize) -> Option<Vec<i32>> {
        self.array(i).map(int_elements)
    }

    /// Whether an argument of an array type has an element that is null.
    pub fn has_null_elements(&self, i: usize) -> bool {
        self.argument(i).is_some_and(|array| {
            // SAFETY: the argument is an array, as declared.
            unsafe {
                pg_sys::array_contains_nulls(pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast())
            }
        })
    }

    fn array(&self, i: usize) -> Option<pg_sys::Datum> {
        let array = self.argument(i)?;
        if self.has_null_elements(i) {
            let message = "array must not contain nulls".to_owned();
            Report { message, ..Report::default() }
                .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED);
        }
        Some(array)
    }

    /// Returns an argument of type jsonb as JSON text.
    pub fn json_text(&self, i: usize) -> Option<String> {
        self.argument(i).map(json_text)
    }

    /// Returns the command tag of an event trigger; `None` where the function is called otherwise.
    pub fn event_trigger_tag(&self) -> Option<String> {
        // SAFETY: `context` is null or a node; the cast follows its tag; the name of the command
        // tag is a C string.
        unsafe {
            let context = (*self.0).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
                return None;
            }
            let name = pg_sys::GetCommandTagName((*context.cast::<pg_sys::EventTriggerData>()).tag);
            Some(std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    /// Returns the event of an event trigger; `None` where the function is called otherwise.
    pub fn event(&self) -> Option<&std::ffi::CStr> {
        // SAFETY: `context` is null or a node; the cast follows its tag; the event is a C string.
        unsafe {
            let context = (*self.0).context;
            let is_event =
                !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_EventTriggerData;
            is_event.then(|| {
                std::ffi::CStr::from_ptr((*context.cast::<pg_sys::EventTriggerData>()).event)
            })
        }
    }

    /// Returns the parse tree of the command of an event trigger. The function must have been
    /// called as one.
    pub fn event_trigger_parse_tree(&self) -> Option<*mut pg_sys::Node> {
        // SAFETY: called for an event trigger, whose parse tree is null or a node.
        let node = unsafe { (*(*self.0).context.cast::<pg_sys::EventTriggerData>()).parsetree };
        (!node.is_null()).then_some(node)
    }

    /// Returns the OID of the called function.
    pub fn function(&self) -> Oid {
        // SAFETY: a call by the server has an FmgrInfo.
        unsafe { (*(*self.0).flinfo).fn_oid }.to_u32()
    }

    /// Returns NULL as the result of a scalar function.
    pub fn null(&self) -> pg_sys::Datum {
        // SAFETY: `fcinfo` is valid.
        unsafe { pgrx::pg_return_null(self.0) }
    }

    /// Returns rows as the result of a set-returning function. The rows are stored in a tuplestore;
    /// the memory of a row is freed before the next one.
    pub fn table(&self, rows: impl IntoIterator<Item = Vec<Value>>) -> pg_sys::Datum {
        // SAFETY: `InitMaterializedSRF` raises an error where `fcinfo` is not the call of a
        // set-returning function, and creates store and descriptor. The arrays have as many
        // elements as the descriptor has columns, which is checked.
        unsafe {
            pg_sys::InitMaterializedSRF(self.0, 0);
            let info = (*self.0).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let columns = (*(*info).setDesc).natts as usize;
            let mut row_memory = PgMemoryContexts::new("dragonfly_guard row");
            let mut buffer = Buffer::default();
            let (mut values, mut nulls) = (Vec::new(), Vec::new());
            for row in rows {
                super::heap::interrupts();
                assert_eq!(
                    row.len(),
                    columns,
                    "the install script and the function differ in their columns"
                );
                row_memory.switch_to(|_| {
                    buffer.clear();
                    values.clear();
                    nulls.clear();
                    for value in &row {
                        let datum = value.datum(&mut buffer);
                        nulls.push(datum.is_none());
                        values.push(datum.unwrap_or(pg_sys::Datum::null()));
                    }
                    pg_sys::tuplestore_putvalues(
                        (*info).setResult,
                        (*info).setDesc,
                        values.as_mut_ptr(),
                        nulls.as_mut_ptr(),
                    );
                });
                row_memory.reset();
            }
            pg_sys::Datum::null()
        }
    }
}

/// Returns a jsonb value as JSON text.
pub fn json_text(datum: pg_sys::Datum) -> String {
    // SAFETY: `jsonb_out` takes a jsonb value and returns a C string.
    unsafe {
        let text = pgrx::direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(datum)])
            .expect("jsonb_out never returns null");
        from_server(std::ffi::CStr::from_ptr(text.cast_mut_ptr()).to_bytes())
    }
}

/// Returns a field of a jsonb object as text; `None` where there is none, or it is null.
pub fn json_field(datum: pg_sys::Datum, name: &str) -> Option<String> {
    // SAFETY: `->>` takes a jsonb value and a text, and returns a text or null.
    unsafe {
        pgrx::direct_function_call_as_datum(
            pg_sys::jsonb_object_field_text,
            &[Some(datum), Some(text_datum(name))],
        )
        .map(text_of)
    }
}

/// Declares a function for `LANGUAGE c`: its symbol, its `pg_finfo_` record, and its body, a
/// function from [`Call`] to a datum.
macro_rules! sql_function {
    ($(#[$meta:meta])* $name:ident => $body:path) => {
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", stringify!($name)))]
            extern "C" fn finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
                const V1: pgrx::pg_sys::Pg_finfo_record =
                    pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &V1
            }
        };
        $(#[$meta])*
        #[pgrx::pg_guard]
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $name(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: called by the server, with the arguments of this call.
            let call = unsafe { $crate::pg::call::Call::new(fcinfo) };
            $crate::pg::memory::guarded(|| $body(call))
        }
    };
}
pub(crate) use sql_function;
