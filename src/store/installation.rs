//! The extension as it is installed in this database.

use super::contract;
use crate::catalog::{self, Own};
use crate::pg::heap::State;
use dragonfly_core::contract::Contract;
use std::rc::Rc;

/// The extension and the contract in force, in one state of the catalogs.
pub struct Installation {
    /// The state of the catalogs.
    pub state: State,
    /// The extension's own objects in it.
    pub own: Own,
    /// The contract in force in it.
    pub contract: Rc<Contract>,
}

impl Installation {
    /// Reads the current state. Raises an error where the extension is not installed in this
    /// database, or no contract is in force.
    pub fn now() -> Self {
        let state = State::now();
        let own = catalog::find_own(&state);
        let contract = contract::in_force(&state, &own);
        Self { state, own, contract }
    }
}
