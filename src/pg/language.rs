//! The languages of the server's own (pg_language.dat).

use dragonfly_core::catalog::Oid;

/// Functions of the server itself.
pub const INTERNAL: Oid = 12;
/// Functions of a library.
pub const C: Oid = 13;
/// SQL.
pub const SQL: Oid = 14;
