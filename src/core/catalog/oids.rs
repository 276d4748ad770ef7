//! Maps and sets of OIDs with a hash function that takes a multiplication. Rules and readers look
//! up OIDs millions of times; the standard hash function also resists chosen keys, but users do not
//! choose OIDs.

use super::Oid;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map from OIDs, or from pairs with an OID.
pub type OidMap<V, K = Oid> = HashMap<K, V, BuildHasherDefault<OidHasher>>;

/// A set of OIDs.
pub type OidSet = HashSet<Oid, BuildHasherDefault<OidHasher>>;

/// Hashes OIDs and other small numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct OidHasher(u64);

impl OidHasher {
    /// An odd number without a pattern, the golden ratio times 2^64: a product differs from that of
    /// the next number in its highest and its lowest bits, and the table uses both.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn add(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for OidHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.add(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_isize(&mut self, number: isize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn hashes_of_consecutive_oids_differ_in_low_and_high_bits() {
        let hash = |oid: Oid| BuildHasherDefault::<OidHasher>::default().hash_one(oid);
        let low: HashSet<u64> = (16_384..16_384 + 1024).map(|oid| hash(oid) & 1023).collect();
        assert_eq!(low.len(), 1024);
        let high: HashSet<u64> = (16_384..16_384 + 1024).map(|oid| hash(oid) >> 57).collect();
        assert_eq!(high.len(), 128);
    }

    #[test]
    fn pairs_in_another_order_have_another_hash() {
        let hash = |pair: (Oid, Oid)| BuildHasherDefault::<OidHasher>::default().hash_one(pair);
        assert_ne!(hash((1, 2)), hash((2, 1)));
    }
}
