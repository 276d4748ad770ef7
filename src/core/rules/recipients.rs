//! The clients that grants reach.

use crate::catalog::OidMap;

/// The positions of clients, by what reaches them.
#[derive(Default)]
pub(super) struct Recipients {
    /// By grantee: the clients that have its privileges.
    pub by_grantee: OidMap<Vec<usize>>,
    pub superusers: Vec<usize>,
    /// The clients with privileges on every relation.
    pub everywhere: Vec<usize>,
}
