//! Values of types of the server as it prints them.

use crate::types;
use dragonfly_core::catalog::Oid;

/// Returns the bytes of a constant in a stored expression as the output function of its type writes
/// them, of the types that most conditions compare; `None` for values of other types.
#[must_use]
pub fn constant(data_type: Oid, bytes: &[u8]) -> Option<String> {
    let number = |length: usize| {
        let mut padded = [0; 8];
        padded[..length].copy_from_slice(bytes.get(..length)?);
        Some(u64::from_le_bytes(padded))
    };
    match data_type {
        16 => Some(if number(1)? == 0 { "f" } else { "t" }.to_owned()),
        20 => Some((number(8)? as i64).to_string()),
        21 => Some((number(2)? as i16).to_string()),
        23 => Some((number(4)? as i32).to_string()),
        26 => Some((number(4)? as u32).to_string()),
        types::NAME => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8(bytes[..end].to_vec()).ok()
        }
        types::TEXT | types::VARCHAR | types::BPCHAR | types::JSON | types::XML => {
            String::from_utf8(varlena(bytes)?.to_vec()).ok()
        }
        2950 => {
            let digits: String =
                bytes.get(..16)?.iter().map(|byte| format!("{byte:02x}")).collect();
            let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20]];
            Some(format!("{}-{}", groups.join("-"), &digits[20..]))
        }
        _ => None,
    }
}

/// Returns the contents of a value of variable length that is neither compressed nor stored
/// elsewhere.
fn varlena(bytes: &[u8]) -> Option<&[u8]> {
    // A header of one byte, or of four.
    if bytes.first()? & 1 == 1 { bytes.get(1..) } else { bytes.get(4..) }
}
