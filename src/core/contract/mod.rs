//! The contract: the declared state, as typed structs read from one JSON document.
//!
//! [`types`] says what a contract is made of, [`schema`] makes the JSON Schema of it, [`shape`] and
//! [`check`] find everything that is wrong with a document, [`contradictions`] where a contract
//! contradicts itself, and [`changes`] how one differs from another.

mod changes;
mod check;
mod contradictions;
mod index;
mod lookup;
mod problem;
mod read;
mod schema;
mod shape;
mod shipped;
mod types;

pub use changes::changes;
pub use problem::{Path, Problem};
pub use schema::schema;
pub use shipped::DEFAULT;
pub use types::*;

use problem::Problems;

/// The longest text that is looked at, in bytes: a contract that names a hundred thousand objects
/// is shorter.
pub const LONGEST: usize = 16 << 20;

/// Why a document is not a contract: the first thing that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ContractError(pub Problem);

/// What there is to say about a document.
#[derive(Debug)]
pub struct Examined {
    /// The contract, where it is one.
    pub contract: Option<Contract>,
    /// Errors, which make it none, then warnings about contradictions; each in the order of the
    /// document's parts.
    pub problems: Vec<Problem>,
}

impl Examined {
    /// The contract.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn contract(self) -> Result<Contract, ContractError> {
        let first = self.problems.into_iter().find(|p| p.severity == Severity::Error);
        match (self.contract, first) {
            (Some(contract), None) => Ok(contract),
            (_, Some(first)) => Err(ContractError(first)),
            (None, None) => unreachable!("a document without an error is a contract"),
        }
    }
}

/// Looks at JSON text and finds everything that is wrong with it.
#[must_use]
pub fn examine(text: &str) -> Examined {
    examine_interruptibly(text, &|| {})
}

/// The same; `interrupts` is called again and again meanwhile, and may unwind.
#[must_use]
pub fn examine_interruptibly(text: &str, interrupts: &dyn Fn()) -> Examined {
    let mut problems = Problems::new(interrupts);
    let contract = contract_in(text, &mut problems);
    let problems = problems.into_vec();
    let is_one = problems.iter().all(|p| p.severity != Severity::Error);
    Examined { contract: contract.filter(|_| is_one), problems }
}

/// What can be read of a contract in the text.
fn contract_in(text: &str, problems: &mut Problems<'_>) -> Option<Contract> {
    if text.len() > LONGEST {
        problems.error(
            &Path::Root,
            format!("the document is {} MB long", text.len() >> 20),
            format!("{} MB", LONGEST >> 20),
        );
        return None;
    }
    let document = match read::read(text, problems) {
        Ok(document) => document,
        Err(e) => {
            problems.error(
                &Path::Root,
                format!(
                    "this is no JSON that can be read: {}",
                    crate::sql::printable(&e.to_string())
                ),
                None,
            );
            return None;
        }
    };
    let mut of_shape = problems.apart();
    let read = |rest: shape::Rest| {
        Some((serde_json::from_value::<Contract>(rest.document).ok()?, rest.is_all_there))
    };
    let Some((contract, is_all_there)) = shape::examine(&document, &mut of_shape).and_then(read)
    else {
        problems.append(of_shape);
        return None;
    };
    let mut others = problems.apart();
    let doubt = check::Doubt {
        roles: of_shape.lacks_names("$.roles"),
        schemas: of_shape.lacks_names("$.schemas"),
    };
    contract.check(doubt, &mut others);
    // What contradicts what cannot be said where a part is not there.
    if is_all_there {
        contract.contradictions(&mut others);
    }
    others.forget_places_of(&of_shape);
    problems.append(of_shape);
    problems.append(others);
    Some(contract)
}

/// Whether a name of the platform's is this one; a `*` at the end stands for any ending.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
}

impl Contract {
    /// Reads a contract from JSON text.
    ///
    /// # Errors
    /// The place and the reason of the first thing that is wrong.
    pub fn from_json(text: &str) -> Result<Self, ContractError> {
        examine(text).contract()
    }

    /// The same of a document that has been examined before, and stored since: what is no contract
    /// is told all the same, but contradictions are not looked for.
    ///
    /// # Errors
    /// The place and the reason of the first thing that is wrong.
    pub fn from_stored(text: &str) -> Result<Self, ContractError> {
        if let Ok(contract) = serde_json::from_str::<Self>(text) {
            let mut problems = Problems::new(&|| {});
            contract.check(check::Doubt::default(), &mut problems);
            if !problems.has_errors() {
                return Ok(contract);
            }
        }
        Self::from_json(text)
    }

    /// The names of the roles of one kind, in declared order.
    pub fn roles_of(&self, kind: RoleKind) -> impl Iterator<Item = &str> {
        self.roles.iter().filter(move |r| r.kind == kind).map(|r| r.name.as_str())
    }

    /// The governed schema of this name.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&SchemaDecl> {
        self.schemas.iter().find(|s| s.name == name)
    }

    /// Whether the platform manages this schema. A governed schema is never managed. A pattern
    /// stands for what the platform itself has made, not for every name that somebody thinks of: it
    /// counts where `of_superuser`.
    #[must_use]
    pub fn manages_schema(&self, name: &str, of_superuser: bool) -> bool {
        let meant =
            |pattern: &String| matches(pattern, name) && (of_superuser || !pattern.ends_with('*'));
        self.schema(name).is_none() && self.managed.schemas.iter().any(meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(edit: impl Fn(&mut serde_json::Value)) -> Vec<String> {
        let mut json: serde_json::Value = serde_json::from_str(DEFAULT).unwrap();
        edit(&mut json);
        let problems = examine(&json.to_string()).problems;
        problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect()
    }

    #[test]
    fn the_shipped_contract_is_one() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        assert_eq!(contract.version, "1.0.0");
        assert_eq!(contract.security_definer.search_path, ["public", "pg_temp"]);
        assert_eq!(
            contract.roles_of(RoleKind::Client).collect::<Vec<_>>(),
            ["anon", "authenticated"]
        );
        assert_eq!(Contract::from_stored(DEFAULT).unwrap(), contract);
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed_all_of_them() {
        let found = problems(|j| {
            j["version"] = "one".into();
            j["schemas"][0]["usage"] = serde_json::json!(["nobody"]);
            j["tables"][0]["colour"] = "red".into();
            j["tables"][0]["policies"]["ghost"] = serde_json::json!(["SELECT"]);
            j["tables"][1]["schema"] = "nowhere".into();
            j["tables"][2]["name"] = "judgments".into();
            j["functions"][1]["name"] = "get_dashboard_stats".into();
            j["security_definer"]["search_path"] = serde_json::json!(["$user", ""]);
        });
        let roles = "allowed: anon, authenticated, postgres, service_role";
        assert_eq!(
            found,
            [
                "$.tables[0].colour: there is no such field; allowed: force_row_security, grants, name, policies, purpose, row_security, \
                 schema",
                "$.version: this is no semantic version; allowed: 1.0.0 and the like",
                &format!(
                    "$.schemas[0].usage[0]: role \"nobody\" is not declared in $.roles; {roles}"
                ),
                &format!(
                    "$.tables[0].policies.ghost: role \"ghost\" is not declared in $.roles; {roles}"
                ),
                "$.tables[1].schema: schema \"nowhere\" is not declared in $.schemas; allowed: api, enforcement, intake, ops, public",
                "$.tables[2].name: the name \"judgments\" is declared twice; allowed: each once",
                "$.functions[1].name: function \"get_dashboard_stats\" is declared twice; allowed: each once",
                "$.security_definer.search_path[1]: this is no name; allowed: a name of 1 to 63 characters",
                "$.security_definer.search_path: the last name is not pg_temp; allowed: a path with pg_temp at its end, or none that follows it \
                 is safe",
                "$.security_definer.search_path[0]: \"$user\" is safe for nobody; allowed: schemas by their names: who is called what changes \
                 without an event",
            ]
        );
        let rule = problems(|j| j["rules"]["no_such_rule"] = serde_json::json!({}));
        assert!(
            rule[0].starts_with(
                "$.rules.no_such_rule: there is no such rule; allowed: column_privileges, "
            ),
            "{rule:?}"
        );
    }

    #[test]
    fn what_is_wrong_in_one_place_is_not_said_in_others() {
        assert_eq!(
            problems(|j| {
                j.as_object_mut().unwrap().remove("roles");
            })
            .len(),
            1
        );
        assert_eq!(
            problems(|j| {
                j.as_object_mut().unwrap().remove("schemas");
            })
            .len(),
            1
        );
        assert_eq!(problems(|j| j["roles"][3]["kind"] = "onwer".into()).len(), 1);
        assert_eq!(
            problems(|j| {
                j["roles"][0].as_object_mut().unwrap().remove("name");
            })
            .len(),
            1
        );
        // Places keep their numbers, whatever stands before them.
        let found = problems(|j| {
            j["tables"][0] = "oops".into();
            j["tables"][1]["policies"]["ghost"] = serde_json::json!(["SELECT"]);
        });
        assert!(
            found[1].starts_with("$.tables[1].policies.ghost: role \"ghost\" is not declared"),
            "{found:?}"
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_no_contract_is_an_error_and_never_a_panic() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            "{\"name\": 1}",
            "{}",
            &"[".repeat(100_000),
            &" ".repeat(LONGEST + 1),
        ] {
            assert!(Contract::from_json(text).is_err());
        }
        let many = format!("{{\"tables\": [{}1]}}", "1,".repeat(1_000_000));
        let problems = examine(&many).problems;
        assert_eq!(problems.len(), 1001, "enough is enough");
        assert_eq!(problems[1000].problem, "and perhaps more, which are not listed");
    }

    #[test]
    fn managed_schemas_end_where_the_contract_begins() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        assert!(contract.manages_schema("auth", false));
        assert!(contract.manages_schema("graphql_public", true));
        assert!(!contract.manages_schema("graphql_mine", false));
        assert!(!contract.manages_schema("public", true));
        assert!(!contract.manages_schema("app", true));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_contract_or_an_error(text in "(?s).{0,200}") {
            let _ = Contract::from_json(&text);
            let _ = Contract::from_stored(&text);
        }
    }
}
