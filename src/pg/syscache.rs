//! The hashes by which invalidations of the system caches name the changed rows.

use dragonfly_core::catalog::Oid;

/// Returns the OID for which the server computes a hash, in a cache whose only key is an OID.
///
/// The server hashes it by `murmurhash32` (catcache.c, `int4hashfast`), which has an inverse:
/// multiplications by odd numbers and shifts that are combined with the value. Hash 0, which stands
/// for all rows, is that of OID 0, which no row has. A test compares the function with the server.
pub fn oid_of_hash(hash: u32) -> Oid {
    // The inverses of 0xc2b2ae35 and 0x85ebca6b modulo 2^32.
    let mut h = hash ^ (hash >> 16);
    h = h.wrapping_mul(0x7ed1_b41d);
    h ^= (h >> 13) ^ (h >> 26);
    h = h.wrapping_mul(0xa5cb_9243);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `murmurhash32` of the server (common/hashfn.h).
    fn hash(oid: Oid) -> u32 {
        let mut h = oid ^ (oid >> 16);
        h = h.wrapping_mul(0x85eb_ca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }

    #[test]
    fn inverse_returns_the_oid() {
        let some = (0..32).map(|bit| 1 << bit).chain(16_384..20_000).chain([0, u32::MAX]);
        for oid in some {
            assert_eq!(oid_of_hash(hash(oid)), oid);
        }
    }
}
