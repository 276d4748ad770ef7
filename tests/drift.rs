//! Drift.

#[test]
fn nothing() {}
