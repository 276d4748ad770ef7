//! Properties of the functions of the core that read text of users. Each module is one fuzz target.
//!
//! The targets in `fuzz_targets` execute a property with inputs of libFuzzer; the test
//! `src/core/tests/fuzzed.rs`, which contains these modules too, with the inputs in `corpus` and
//! random changes of them.

pub mod acls;
pub mod bodies;
pub mod constant_body;
pub mod contract;
pub mod cursor_use;
pub mod drift;
pub mod identifiers;
pub mod patterns;
pub mod search_path;
pub mod secrets;

mod input;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of the target and of the folder with its corpus.
    pub name: &'static str,
    /// Checks the properties for one input. Panics where one does not hold.
    pub check: fn(&[u8]),
    /// Executes the same functions of the core on a text of any size, without comparing their
    /// results.
    pub read: fn(&str),
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "acls", check: acls::check, read: acls::read },
    Target { name: "bodies", check: bodies::check, read: bodies::read },
    Target { name: "constant_body", check: constant_body::check, read: constant_body::read },
    Target { name: "contract", check: contract::check, read: contract::read },
    Target { name: "cursor_use", check: cursor_use::check, read: cursor_use::read },
    Target { name: "drift", check: drift::check, read: drift::read },
    Target { name: "identifiers", check: identifiers::check, read: identifiers::read },
    Target { name: "patterns", check: patterns::check, read: patterns::read },
    Target { name: "search_path", check: search_path::check, read: search_path::read },
    Target { name: "secrets", check: secrets::check, read: secrets::read },
];
