//! The contract that the extension ships, with the default severity and guard action of each rule.

use super::types::{Contract, RuleDecl};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The contract that `CREATE EXTENSION` installs, as JSON text.
pub const DEFAULT: &str = include_str!("default.json");

/// The part of the shipped contract that names every rule.
#[derive(Deserialize)]
struct Rules {
    rules: BTreeMap<String, RuleDecl>,
}

/// The part of the shipped contract that names the roles which may use the extension's functions.
#[derive(Deserialize)]
pub(super) struct Readers {
    pub readers: Vec<String>,
    pub deployers: Vec<String>,
}

/// Returns the roles that may read the audits and deploy where a contract does not say.
///
/// # Panics
/// Never: `default.json` is part of the library, and the tests read it.
pub(super) fn shipped_readers() -> &'static Readers {
    static READERS: OnceLock<Readers> = OnceLock::new();
    READERS.get_or_init(|| serde_json::from_str(DEFAULT).expect("default.json lists the readers"))
}

/// Returns the id of every rule with its default severity, guard action and section, as the shipped
/// contract declares them. A test in `rules` checks that they equal the metadata of the rules.
///
/// # Panics
/// Never: `default.json` is part of the library, and the tests read it.
pub(crate) fn shipped_rules() -> &'static BTreeMap<String, RuleDecl> {
    static RULES: OnceLock<BTreeMap<String, RuleDecl>> = OnceLock::new();
    RULES.get_or_init(|| {
        serde_json::from_str::<Rules>(DEFAULT).expect("default.json lists the rules").rules
    })
}

impl Contract {
    /// Whether it is the contract that the extension ships.
    #[must_use]
    pub fn is_shipped(&self) -> bool {
        static SHIPPED: OnceLock<Option<Contract>> = OnceLock::new();
        SHIPPED.get_or_init(|| Self::from_json(DEFAULT).ok()).as_ref() == Some(self)
    }
}
