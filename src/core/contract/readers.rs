//! The roles to which a contract gives the extension's own functions and views, in schema `ops`.

use super::shipped::shipped_readers;
use super::types::Contract;
use std::collections::BTreeMap;

/// What a role may do with the extension's functions and views, from the least to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpsAccess {
    /// Nothing.
    #[default]
    None,
    /// It may read the audits: every view, and every function that is not for authors of contracts.
    Read,
    /// It may also execute the functions for authors of contracts. Those that change the contract
    /// or the exemptions require more.
    Deploy,
}

/// The roles that a contract names, each with what it may do.
pub type OpsRoles<'c> = BTreeMap<&'c str, OpsAccess>;

impl Contract {
    /// Returns the roles that may read the audits or deploy. Where the contract does not say, these
    /// are the roles of the shipped contract.
    #[must_use]
    pub fn ops_roles(&self) -> OpsRoles<'_> {
        let shipped = shipped_readers();
        let mut roles = OpsRoles::new();
        for reader in self.readers.as_ref().unwrap_or(&shipped.readers) {
            roles.insert(reader, OpsAccess::Read);
        }
        for deployer in self.deployers.as_ref().unwrap_or(&shipped.deployers) {
            roles.insert(deployer, OpsAccess::Deploy);
        }
        roles
    }

    /// Returns the names of the deployers: where the contract does not say, those of the shipped
    /// contract.
    #[must_use]
    pub fn deployers(&self) -> Vec<&str> {
        let roles = self.ops_roles().into_iter();
        roles.filter(|(_, access)| *access == OpsAccess::Deploy).map(|(name, _)| name).collect()
    }

    /// Whether the contract itself names a role as a reader or deployer.
    #[must_use]
    pub fn names_in_ops(&self, role: &str) -> bool {
        let named = self.readers.iter().chain(&self.deployers);
        named.flatten().any(|name| name == role)
    }

    /// Leaves out the lists that equal those of the shipped contract, which may be about roles of
    /// another database.
    pub fn omit_shipped_readers(&mut self) {
        let shipped = shipped_readers();
        self.readers.take_if(|readers| *readers == shipped.readers);
        self.deployers.take_if(|deployers| *deployers == shipped.deployers);
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::*;

    fn contract() -> Contract {
        Contract::from_json(DEFAULT).unwrap()
    }

    #[test]
    fn contract_that_names_no_roles_means_those_of_the_shipped_contract() {
        let shipped = contract();
        let mut other = contract();
        other.omit_shipped_readers();
        assert_eq!((&other.readers, &other.deployers), (&None, &None));
        assert_eq!(other.ops_roles(), shipped.ops_roles());
        assert!(shipped.names_in_ops("pg_monitor") && !other.names_in_ops("pg_monitor"));
        assert_eq!(
            shipped.ops_roles().into_iter().collect::<Vec<_>>(),
            [
                ("pg_monitor", OpsAccess::Read),
                ("postgres", OpsAccess::Deploy),
                ("service_role", OpsAccess::Read),
            ]
        );
    }

    #[test]
    fn empty_list_names_no_role_and_a_deployer_may_read() {
        let mut contract = contract();
        contract.readers = Some(vec!["release".into(), "grafana".into()]);
        contract.deployers = Some(vec!["release".into()]);
        let roles = contract.ops_roles();
        assert_eq!(roles["release"], OpsAccess::Deploy);
        assert_eq!(roles["grafana"], OpsAccess::Read);
        (contract.readers, contract.deployers) = (Some(vec![]), Some(vec![]));
        assert!(contract.ops_roles().is_empty());
    }
}
