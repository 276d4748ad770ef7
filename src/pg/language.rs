//! The OIDs of the built-in languages (pg_language.dat).

use dragonfly_core::catalog::Oid;

/// Language internal: functions of the server.
pub const INTERNAL: Oid = 12;
/// Language C: functions of a library.
pub const C: Oid = 13;
/// Language SQL.
pub const SQL: Oid = 14;
