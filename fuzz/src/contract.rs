//! Contracts: any text is a contract or has errors with their places, and a contract that is
//! written is read again.

use super::input::text;
use dragonfly_core::contract::{Contract, Severity, changes, examine, write};
use dragonfly_core::sql::is_unprintable;

/// The longest text of a problem, in bytes. A path has up to a dozen names of limited length, and
/// the list of what is allowed up to a hundred.
const LONGEST: usize = 16_000;

/// Checks the properties: the input is a document.
pub fn check(input: &[u8]) {
    let document = text(input);
    let examined = examine(&document);
    let errors = examined.problems.iter().filter(|p| p.severity == Severity::Error).count();
    for problem in &examined.problems {
        let shown = problem.to_string();
        assert!(problem.path.starts_with('$'), "{shown}");
        assert!(!shown.chars().any(is_unprintable), "{shown:?}");
        assert!(shown.len() <= LONGEST, "{} bytes: {shown:.300}", shown.len());
    }
    let stored = Contract::from_stored(&document);
    assert_eq!(examined.contract.is_some(), errors == 0, "{:?}", examined.problems);
    let Some(contract) = examined.contract else { return };
    // A document that was valid when it was stored is read without searching for contradictions.
    assert_eq!(stored.as_ref(), Ok(&contract));
    let written = serde_json::to_string(&contract).expect("a contract is JSON");
    assert_eq!(Contract::from_json(&written).as_ref(), Ok(&contract), "{written}");
    assert_eq!(changes(&contract, &contract), [] as [String; 0]);
    let written = write(&contract);
    let read = Contract::from_json(&written);
    assert_eq!(read.as_ref(), Ok(&contract.sorted()), "{written}");
    assert_eq!(read.map(|read| write(&read)).as_ref(), Ok(&written));
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let examined = examine(text);
    let _ = Contract::from_stored(text);
    if let Some(contract) = examined.contract {
        let _ = (changes(&contract, &contract), write(&contract));
    }
    // The text as names of everything that has a name.
    let name = serde_json::Value::from(text);
    let document = format!(
        r#"{{"version": {name}, "roles": [{{"name": {name}, "kind": {name}}},
            {{{name}: [1, 2, 3]}}],
            "schemas": [{{"name": {name}, "owner": {name}, "usage": [{name}, {name}]}}],
            "tables": [{{"schema": {name}, "name": {name}, "grants": {{{name}: [{name}, 1, 2]}}}}],
            "managed": {{"roles": [{name}, 1]}}, "rules": {{{name}: {{{name}: {name}}}}}}}"#
    );
    let _ = examine(&document);
}
