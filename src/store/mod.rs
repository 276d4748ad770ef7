//! The extension's own tables, and the locks for changing them.

pub mod contract;
mod error;
pub mod exemptions;
pub mod frozen;
mod installation;
pub mod lock;
pub mod log;

pub use installation::Installation;
