//! The bytes of stored constants, as far as conditions compare them.
//!
//! The server writes the bytes of its own memory: the least significant first, and in front of a
//! value of variable length a header of four bytes. (PostgreSQL runs on machines with the other
//! order too; there, constants are [`Constant::Other`].)

use super::term::Constant;
use crate::catalog::Oid;
use crate::sql::constant_body;

/// OIDs of built-in types (pg_type.dat).
#[allow(missing_docs, reason = "the constants are named like the types")]
pub mod types {
    use crate::catalog::Oid;
    pub const BOOL: Oid = 16;
    pub const CHAR: Oid = 18;
    pub const NAME: Oid = 19;
    pub const INT8: Oid = 20;
    pub const INT2: Oid = 21;
    pub const INT4: Oid = 23;
    pub const TEXT: Oid = 25;
    pub const OID: Oid = 26;
    pub const JSON: Oid = 114;
    pub const UNKNOWN: Oid = 705;
    pub const VARCHAR: Oid = 1043;
    pub const UUID: Oid = 2950;
    pub const JSONB: Oid = 3802;
    pub const NUMERIC: Oid = 1700;
    pub const RECORD: Oid = 2249;
    pub const RECORD_ARRAY: Oid = 2287;
    pub const TIMESTAMPTZ: Oid = 1184;
    /// Types that have no value whose text is empty.
    pub const WITHOUT_EMPTY: [Oid; 9] =
        [BOOL, INT2, INT4, INT8, UUID, JSON, JSONB, NUMERIC, TIMESTAMPTZ];
    /// Types of numbers.
    pub const NUMBERS: [Oid; 7] = [INT2, INT4, INT8, OID, 700, 701, NUMERIC];
    pub const NAME_ARRAY: Oid = 1003;
    pub const INT2_ARRAY: Oid = 1005;
    pub const INT4_ARRAY: Oid = 1007;
    pub const TEXT_ARRAY: Oid = 1009;
    pub const VARCHAR_ARRAY: Oid = 1015;
    pub const INT8_ARRAY: Oid = 1016;
    pub const UUID_ARRAY: Oid = 2951;
}

/// Returns the constant that the bytes of a value are.
#[must_use]
pub fn constant(data_type: Oid, bytes: &[u8]) -> Constant {
    let other = || Constant::Other(data_type, bytes.to_vec());
    // A text with a header of one byte, or a compressed one, is not stored in a tree.
    match data_type {
        _ if cfg!(target_endian = "big") => None,
        types::BOOL => bytes.first().map(|byte| Constant::Boolean(*byte != 0)),
        types::INT2 => first(bytes).map(|b| Constant::Integer(i16::from_le_bytes(b).into())),
        types::INT4 => first(bytes).map(|b| Constant::Integer(i32::from_le_bytes(b).into())),
        types::OID => first(bytes).map(|b| Constant::Integer(u32::from_le_bytes(b).into())),
        types::INT8 => first(bytes).map(|b| Constant::Integer(i64::from_le_bytes(b))),
        types::UUID => first(bytes).map(Constant::Uuid),
        types::NAME | types::UNKNOWN => text(before_zero(bytes)),
        types::TEXT | types::VARCHAR => sized(bytes).and_then(text),
        _ => None,
    }
    .unwrap_or_else(other)
}

/// Returns the text of a constant of a text type. Of a database in another encoding, characters
/// other than those of ASCII are replaced.
pub fn text_of(data_type: Oid, bytes: &[u8]) -> Option<String> {
    let text = match data_type {
        _ if cfg!(target_endian = "big") => None,
        types::NAME => Some(before_zero(bytes)),
        types::TEXT | types::VARCHAR => sized(bytes),
        _ => None,
    };
    text.map(|text| String::from_utf8_lossy(text).into_owned())
}

/// Returns the constant that a text is as a value of a type; `None` where the server may say
/// something else, such as an error.
pub fn parsed(data_type: Oid, text: &str) -> Option<Constant> {
    let text = text.trim_ascii();
    match data_type {
        types::BOOL => constant_body::truth_of(text).flatten().map(Constant::Boolean),
        types::INT2 | types::INT4 | types::INT8 => text.parse().ok().map(Constant::Integer),
        _ => None,
    }
}

/// Returns the elements of a stored array of one dimension; a null element is `None`. Returns
/// `None` for other arrays, and for elements that cannot be read.
#[must_use]
pub fn elements(data_type: Oid, bytes: &[u8]) -> Option<Vec<Option<Constant>>> {
    let (element, length, alignment) = match data_type {
        types::NAME_ARRAY => (types::NAME, Some(64), 1),
        types::INT2_ARRAY => (types::INT2, Some(2), 2),
        types::INT4_ARRAY => (types::INT4, Some(4), 4),
        types::INT8_ARRAY => (types::INT8, Some(8), 8),
        types::UUID_ARRAY => (types::UUID, Some(16), 1),
        types::TEXT_ARRAY => (types::TEXT, None, 4),
        types::VARCHAR_ARRAY => (types::VARCHAR, None, 4),
        _ => return None,
    };
    let number = |at: usize| bytes.get(at..at + 4).and_then(first).map(i32::from_le_bytes);
    // ArrayType (array.h): header, dimensions, offset of the data if there are nulls, element type,
    // then for each dimension its size and lower bound.
    if cfg!(target_endian = "big") || number(12)? != element as i32 {
        return None;
    }
    match number(4)? {
        0 => return Some(Vec::new()),
        1 => {}
        _ => return None,
    }
    let (data, count) = (number(8)?, usize::try_from(number(16)?).ok()?);
    // A header of 16 bytes, two numbers for the dimension, and with nulls a bit for each element.
    let nulls = (data != 0).then_some(24);
    let mut at = if data == 0 { 24 } else { usize::try_from(data).ok()? };
    let mut found = Vec::new();
    for index in 0..count {
        if let Some(start) = nulls
            && bytes.get(start + index / 8)? & (1 << (index % 8)) == 0
        {
            found.push(None);
            continue;
        }
        at = at.next_multiple_of(alignment);
        let size = match length {
            Some(length) => length,
            None => (u32::from_le_bytes(first(bytes.get(at..)?)?) >> 2) as usize,
        };
        let value = bytes.get(at..at.checked_add(size)?)?;
        match constant(element, value) {
            Constant::Other(..) => return None,
            constant => found.push(Some(constant)),
        }
        at += size;
    }
    Some(found)
}

fn before_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// Returns the bytes behind the header of a value of variable length.
fn sized(bytes: &[u8]) -> Option<&[u8]> {
    let header = u32::from_le_bytes(first(bytes)?);
    bytes.get(4..(header >> 2) as usize).filter(|_| header.is_multiple_of(4))
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

fn text(bytes: &[u8]) -> Option<Constant> {
    std::str::from_utf8(bytes).ok().map(|text| Constant::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constants_have_their_values() {
        assert_eq!(constant(types::INT4, &[254, 255, 255, 255, 0, 0, 0, 0]), Constant::Integer(-2));
        assert_eq!(constant(types::BOOL, &[1, 0, 0, 0, 0, 0, 0, 0]), Constant::Boolean(true));
        assert_eq!(constant(types::TEXT, &[20, 0, 0, 0, b'k']), Constant::Text("k".to_owned()));
        // A text in another encoding, and another type, are compared by nothing.
        for (data_type, bytes) in [(types::TEXT, vec![20, 0, 0, 0, 0xff]), (1700, vec![1])] {
            assert_eq!(constant(data_type, &bytes), Constant::Other(data_type, bytes));
        }
    }

    #[test]
    fn text_is_parsed_as_the_server_does() {
        for (text, value) in
            [(" YES ", true), ("t", true), ("1", true), ("off", false), ("N", false)]
        {
            assert_eq!(parsed(types::BOOL, text), Some(Constant::Boolean(value)), "{text}");
        }
        for text in ["", "o", "2", "truely", "yes please"] {
            assert_eq!(parsed(types::BOOL, text), None, "{text}");
        }
        assert_eq!(parsed(types::INT4, " -7 "), Some(Constant::Integer(-7)));
        assert_eq!(parsed(types::INT4, "1_000"), None);
    }

    #[test]
    fn array_has_its_elements_and_nulls() {
        let mut bytes = [0, 1, 0, 23, 2, 1].map(i32::to_le_bytes).concat();
        bytes.extend([7, 8].map(i32::to_le_bytes).concat());
        let integers = |values: &[i64]| {
            Some(values.iter().map(|value| Some(Constant::Integer(*value))).collect())
        };
        assert_eq!(elements(types::INT4_ARRAY, &bytes), integers(&[7, 8]));
        let mut bytes = [0, 1, 32, 23, 2, 1, 2, 0].map(i32::to_le_bytes).concat();
        bytes.extend(8_i32.to_le_bytes());
        let expected = vec![None, Some(Constant::Integer(8))];
        assert_eq!(elements(types::INT4_ARRAY, &bytes), Some(expected));
        assert_eq!(elements(types::INT8_ARRAY, &bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_rejected(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            data_type in prop::sample::select(vec![
                types::INT4, types::INT8, types::TEXT, types::NAME, types::UUID,
                types::INT4_ARRAY, types::TEXT_ARRAY, types::UUID_ARRAY, types::NAME_ARRAY,
            ]),
        ) {
            let _ = constant(data_type, &bytes);
            let _ = elements(data_type, &bytes);
            let mut header = [0, 1, 0, 25, 3, 1].map(i32::to_le_bytes).concat();
            header.extend(&bytes);
            let _ = elements(types::TEXT_ARRAY, &header);
        }
    }
}
