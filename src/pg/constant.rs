//! The values of constants in stored expressions.

use super::text::from_server;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Returns the bytes of a stored constant as the output function of its type writes them.
pub fn written(data_type: u32, bytes: &[u8]) -> String {
    let (mut length, mut is_by_value) = (0, false);
    // SAFETY: the bytes are those of a constant of the type in a stored expression, which the
    // server has written from such a value; they are copied so that they are aligned, and the text
    // is copied before anything is freed.
    unsafe {
        pg_sys::get_typlenbyval(data_type.into(), &mut length, &mut is_by_value);
        let (mut output, mut is_variable) = (pg_sys::InvalidOid, false);
        pg_sys::getTypeOutputInfo(data_type.into(), &mut output, &mut is_variable);
        let mut aligned = vec![0_u64; bytes.len().div_ceil(8).max(1)];
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), aligned.as_mut_ptr().cast(), bytes.len());
        let datum = if is_by_value {
            pg_sys::Datum::from(aligned[0])
        } else {
            pg_sys::Datum::from(aligned.as_ptr())
        };
        from_server(CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, datum)).to_bytes())
    }
}

/// Whether [`written`] may be called for a type whatever the state of the catalog is: it is a base
/// type of the server, an enum, or an array of these, and still there.
pub fn is_plain(data_type: u32) -> bool {
    // SAFETY: look-ups in the system cache, which return nothing for what is not there.
    unsafe {
        let element = pg_sys::get_element_type(data_type.into());
        let of = if element == pg_sys::InvalidOid { data_type.into() } else { element };
        let kind = pg_sys::get_typtype(of) as u8;
        kind == pg_sys::TYPTYPE_ENUM
            || kind == pg_sys::TYPTYPE_BASE && of.to_u32() < pg_sys::FirstNormalObjectId
    }
}
