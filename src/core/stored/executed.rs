//! What an expression executes, for expressions that the server evaluates while it only reads a
//! value, such as the CHECK of a domain.

use super::text::{Node, Unreadable, Value, parse};
use crate::catalog::{FIRST_NORMAL, Oid};
use std::collections::BTreeSet;

/// What an expression executes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// The functions that it calls.
    pub functions: BTreeSet<Oid>,
    /// The operators that it calls.
    pub operators: BTreeSet<Oid>,
    /// Whether there is something in it that may execute more: a query, a conversion by the text of
    /// a value or to a domain, a value of the session, or what is not known.
    pub may_execute_more: bool,
}

/// Returns what a stored expression executes.
///
/// # Errors
/// As of [`super::expression`].
pub fn executed(text: &str) -> Result<Executed, Unreadable> {
    let mut found = Executed::default();
    found.add(&parse(text)?);
    Ok(found)
}

/// Nodes that execute nothing else than what is in them, as `contain_mutable_functions` (clauses.c)
/// sees it, with their names in older versions. The constructors and queries of JSON are not among
/// them: their results can depend on settings.
const PLAIN: [&str; 33] = [
    "VAR",
    "CONST",
    "PARAM",
    "COERCETODOMAINVALUE",
    "BOOLEXPR",
    "NULLTEST",
    "BOOLEANTEST",
    "CASEEXPR",
    "CASE",
    "CASEWHEN",
    "WHEN",
    "CASETESTEXPR",
    "COALESCEEXPR",
    "COALESCE",
    "MINMAXEXPR",
    "MINMAX",
    "ARRAYEXPR",
    "ARRAY",
    "ROWEXPR",
    "ROW",
    "RELABELTYPE",
    "ARRAYCOERCEEXPR",
    "CONVERTROWTYPEEXPR",
    "COLLATEEXPR",
    "COLLATE",
    "FIELDSELECT",
    "FIELDSTORE",
    "SUBSCRIPTINGREF",
    "NAMEDARGEXPR",
    "XMLEXPR",
    "JSONISPREDICATE",
    "JSONVALUEEXPR",
    "JSONFORMAT",
];

impl Executed {
    /// Whether it is nothing but immutable functions of the server. `function_of` returns the
    /// function of an operator, and `is_immutable` is asked for functions of the server only.
    pub fn is_pure(
        &self,
        function_of: impl Fn(Oid) -> Option<Oid>,
        is_immutable: impl Fn(Oid) -> bool,
    ) -> bool {
        let is_pure = |function: Oid| function < FIRST_NORMAL && is_immutable(function);
        !self.may_execute_more
            && self.functions.iter().all(|function| is_pure(*function))
            && self.operators.iter().all(|operator| function_of(*operator).is_some_and(is_pure))
    }

    fn add(&mut self, value: &Value<'_>) {
        match value {
            Value::List(elements) => elements.iter().for_each(|element| self.add(element)),
            Value::Node(node) => self.add_node(node),
            Value::Absent | Value::Token(_) | Value::Datum(_) => {}
        }
    }

    fn add_node(&mut self, node: &Node<'_>) {
        let one = |name| node.number::<Oid>(name);
        let is_known = match node.tag {
            "FUNCEXPR" => one("funcid").map(|function| self.functions.insert(function)).is_some(),
            "OPEXPR" | "DISTINCTEXPR" | "NULLIFEXPR" | "SCALARARRAYOPEXPR" => {
                one("opno").map(|operator| self.operators.insert(operator)).is_some()
            }
            "ROWCOMPAREEXPR" | "ROWCOMPARE" => {
                let operators = node.list("opnos").iter().map(|of| of.as_text()?.parse().ok());
                let operators: Option<Vec<Oid>> = operators.collect();
                operators.map(|operators| self.operators.extend(operators)).is_some()
            }
            tag => PLAIN.contains(&tag),
        };
        self.may_execute_more |= !is_known;
        node.values().for_each(|value| self.add(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CHECKs of domains as PostgreSQL 15 stores them, with whether they are pure. Domain
    /// `positive` is one over integer.
    const CHECKS: &str = include_str!("fixtures/checks.txt");

    /// Functions of the server that are not immutable: date(timestamptz), now(), random().
    const MUTABLE: [Oid; 3] = [1178, 1299, 1598];

    #[test]
    fn check_is_pure_if_it_calls_immutable_functions_of_the_server() {
        let is_immutable = |function: Oid| {
            assert!(function < FIRST_NORMAL, "{function} is not one of the server");
            !MUTABLE.contains(&function)
        };
        // The function of a user-defined operator is one too.
        let function_of = |operator: Oid| Some(if operator < FIRST_NORMAL { 65 } else { 20007 });
        let checks = CHECKS.split("\n\n").filter_map(|check| check.split_once('\n'));
        for (check, tree) in checks {
            let executed = executed(tree).unwrap();
            let is_pure = executed.is_pure(function_of, is_immutable);
            assert_eq!(is_pure, check.starts_with("pure: "), "{check}: {executed:?}");
            // What is missing in the catalog is not known.
            assert!(!executed.is_pure(function_of, |_| false), "{check}");
            assert!(executed.operators.is_empty() || !executed.is_pure(|_| None, |_| true));
        }
    }

    #[test]
    fn what_is_not_known_may_execute_more() {
        for tree in ["{NEXTVALUEEXPR :seqid 1}", "{JSONEXPR :op 0}", "{FUNCEXPR :funcid x}"] {
            let outer = format!("{{BOOLEXPR :boolop not :args ({tree})}}");
            assert!(executed(tree).unwrap().may_execute_more, "{tree}");
            assert!(executed(&outer).unwrap().may_execute_more, "{tree}");
        }
        let plain = "{BOOLEXPR :boolop not :args <>}";
        assert_eq!(executed(plain), Ok(Executed::default()));
        let deep = "{BOOLEXPR :boolop not :args (".repeat(1000) + &")}".repeat(1000);
        assert_eq!(executed(&deep), Err(Unreadable::TooDeep));
    }
}
