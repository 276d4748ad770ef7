//! Checks whether JSON text is a contract: the entry points of this module.

use super::check::Incomplete;
use super::not_json::Diagnosis;
use super::problem::{Found, Path, Problem, Problems, Step};
use super::types::{Contract, Severity};
use super::{not_json, place, read, shape};
use crate::sql::printable;
use serde_json::Value;

/// The maximum length of a document, in bytes. A contract with a hundred thousand objects is
/// shorter.
const MAX_LENGTH: usize = 16 << 20;

/// The maximum number of JSON objects in a document, that is of declared tables, routines, roles
/// and others. Each takes up to 3 kB while an audit under the contract runs.
const MAX_OBJECTS: usize = 150_000;

/// The first error in a document that is not a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ContractError(pub Box<Problem>);

/// The result of checking a document.
#[derive(Debug)]
pub struct Examined {
    /// The contract, if the document has no errors.
    pub contract: Option<Contract>,
    /// The errors, then the warnings about contradictions, each in the order of the document's
    /// parts.
    pub problems: Vec<Problem>,
}

impl Examined {
    /// Returns the contract.
    ///
    /// # Errors
    /// The first error in the document.
    pub fn contract(self) -> Result<Contract, ContractError> {
        let first = self.problems.into_iter().find(|p| p.severity == Severity::Error);
        match (self.contract, first) {
            (Some(contract), None) => Ok(contract),
            (_, Some(first)) => Err(ContractError(Box::new(first))),
            (None, None) => unreachable!("a document without an error is a contract"),
        }
    }
}

/// Checks JSON text and returns every problem in it.
#[must_use]
pub fn examine(text: &str) -> Examined {
    examine_interruptibly(text, &|| {})
}

/// Does the same and calls `interrupts` repeatedly, which may unwind.
#[must_use]
pub fn examine_interruptibly(text: &str, interrupts: &dyn Fn()) -> Examined {
    examine_document(text, false, interrupts)
}

/// Does the same for text that a person has written: each problem also has its line.
#[must_use]
pub fn examine_lines(text: &str, interrupts: &dyn Fn()) -> Examined {
    examine_document(text, true, interrupts)
}

fn examine_document(text: &str, with_lines: bool, interrupts: &dyn Fn()) -> Examined {
    // Some editors write a byte order mark at the beginning of a file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut problems = Problems::new(interrupts);
    let read = is_within_limits(text, &mut problems).then(|| read::read(text, &mut problems));
    let contract = match &read {
        Some(Ok(document)) => contract_in(document, &mut problems),
        Some(Err(error)) => {
            not_json(text, error, &mut problems);
            None
        }
        None => None,
    };
    let mut found = problems.into_vec();
    match read {
        Some(Ok(document)) => {
            for Found { problem, steps } in &mut found {
                problem.object = place::object(&document, steps);
                name_as_written(&document, problem, steps);
            }
            if with_lines && !found.is_empty() {
                add_lines(&mut found, text, interrupts);
            }
        }
        Some(Err(error)) if with_lines => {
            for found in found.iter_mut().filter(|found| found.steps.is_empty()) {
                found.problem.line = Some(error.line().max(1));
            }
        }
        _ => {}
    }
    let problems: Vec<Problem> = found.into_iter().map(|found| found.problem).collect();
    let is_valid = problems.iter().all(|p| p.severity != Severity::Error);
    Examined { contract: contract.filter(|_| is_valid), problems }
}

/// Names the field all_rows in a path as the document does.
fn name_as_written(document: &Value, problem: &mut Problem, steps: &mut [Step]) {
    let [Step::Field(list), Step::Item(i), Step::Field(field), ..] = &mut *steps else { return };
    let element = &document[list.as_str()][*i];
    if list == "tables" && field == "all_rows" && element.get("all_rows").is_none() {
        "shared".clone_into(field);
        problem.path = problem.path.replacen(".all_rows", ".shared", 1);
    }
}

fn add_lines(found: &mut [Found], text: &str, interrupts: &dyn Fn()) {
    let paths: Vec<&[Step]> = found.iter().map(|found| found.steps.as_slice()).collect();
    let lines = place::lines(text, &paths, interrupts);
    for (found, line) in found.iter_mut().zip(lines) {
        found.problem.line = Some(line);
    }
}

/// Whether a text is short enough to be read. Reports an error otherwise.
fn is_within_limits(text: &str, problems: &mut Problems<'_>) -> bool {
    if text.len() > MAX_LENGTH {
        problems.error(
            &Path::Root,
            format!("document is {} MB long", text.len() >> 20),
            format!("at most {} MB", MAX_LENGTH >> 20),
        );
        return false;
    }
    let objects = text.bytes().filter(|byte| *byte == b'{').count();
    if objects > MAX_OBJECTS {
        problems.error(
            &Path::Root,
            format!("document has {objects} JSON objects"),
            format!("at most {MAX_OBJECTS}"),
        );
        return false;
    }
    true
}

/// Reports that a text is not JSON.
fn not_json(text: &str, error: &serde_json::Error, problems: &mut Problems<'_>) {
    let (problem, hint) = match not_json::diagnose(text) {
        Some(Diagnosis { problem, hint }) => (problem, Some(hint)),
        None => (
            format!("not valid JSON: {}", printable(&error.to_string())),
            not_json::at_error(text, error.line(), error.column()).map(str::to_owned),
        ),
    };
    problems.error_with_hint(&Path::Root, problem, None, hint);
}

/// Returns the parts of a contract that can be read from a document.
fn contract_in(document: &Value, problems: &mut Problems<'_>) -> Option<Contract> {
    // A text in JSON, such as the name of a file.
    if let Some(Diagnosis { problem, hint }) = document.as_str().and_then(not_json::diagnose) {
        problems.error_with_hint(&Path::Root, problem, None, hint);
        return None;
    }
    let mut shape_problems = problems.new_list();
    let read = |shaped: shape::Shaped| {
        Some((serde_json::from_value::<Contract>(shaped.document).ok()?, shaped.is_complete))
    };
    let shaped = shape::examine(document, &mut shape_problems);
    let Some((contract, is_complete)) = shaped.and_then(read) else {
        problems.append(shape_problems);
        return None;
    };
    let mut other_problems = problems.new_list();
    let incomplete = Incomplete {
        roles: shape_problems.is_incomplete("$.roles"),
        schemas: shape_problems.is_incomplete("$.schemas"),
    };
    contract.check(incomplete, &mut other_problems);
    // Contradictions can be found only in a complete document.
    if is_complete {
        contract.contradictions(&mut other_problems);
    }
    contract.mistakes(&mut other_problems);
    other_problems.remove_within(&shape_problems);
    problems.append(shape_problems);
    problems.append(other_problems);
    Some(contract)
}

impl Contract {
    /// Reads a contract from JSON text.
    ///
    /// # Errors
    /// The first error in the document.
    pub fn from_json(text: &str) -> Result<Self, ContractError> {
        examine(text).contract()
    }

    /// Reads a contract from JSON text that was checked when it was stored. Errors are reported all
    /// the same, but contradictions are not searched for.
    ///
    /// # Errors
    /// The first error in the document.
    pub fn from_stored(text: &str) -> Result<Self, ContractError> {
        if let Ok(contract) = serde_json::from_str::<Self>(text) {
            let mut problems = Problems::new(&|| {});
            contract.check(Incomplete::default(), &mut problems);
            if !problems.has_errors() {
                return Ok(contract);
            }
        }
        Self::from_json(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::super::types::RoleKind;
    use super::*;

    fn problems(edit: impl Fn(&mut serde_json::Value)) -> Vec<String> {
        let mut json: serde_json::Value = serde_json::from_str(DEFAULT).unwrap();
        edit(&mut json);
        let problems = examine(&json.to_string()).problems;
        problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect()
    }

    #[test]
    fn shipped_contract_is_valid() {
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
    fn schema_of_the_server_or_the_extension_is_an_error() {
        for (name, owner) in [
            ("pg_catalog", "the server"),
            ("information_schema", "the server"),
            ("dragonfly_guard", "extension dragonfly_guard"),
        ] {
            let found = problems(|j| j["schemas"][0]["name"] = name.into());
            let expected = format!(
                "$.schemas[0].name ({name}): schema \"{name}\" belongs to {owner}; allowed: a \
                 schema of the application"
            );
            assert!(found.contains(&expected), "{found:?}");
        }
    }

    #[test]
    fn every_error_names_its_path_and_allowed_values() {
        let found = problems(|j| {
            j["version"] = "one".into();
            j["schemas"][0]["usage"] = serde_json::json!(["missing"]);
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
                "$.tables[0].colour (public.judgments): unknown field; allowed: all_rows, \
                 append_only_by, column_grants, force_row_security, grants, keys, name, open_rows, \
                 policies, privileged, purpose, row_security, schema, shared",
                "$.version: not a semantic version; allowed: a version such as 1.0.0",
                &format!(
                    "$.schemas[0].usage[0] (public): role \"missing\" is not declared in $.roles; \
                     {roles}"
                ),
                &format!(
                    "$.tables[0].policies.ghost (public.judgments): role \"ghost\" is not \
                     declared in $.roles; {roles}"
                ),
                "$.tables[1].schema (nowhere.plaintiffs): schema \"nowhere\" is not declared in \
                 $.schemas; allowed: api, enforcement, intake, ops, public",
                "$.tables[2].name (public.judgments): relation \"judgments\" is declared more than \
                 once; allowed: one declaration",
                "$.functions[1].name (api.get_dashboard_stats()): function \"get_dashboard_stats\" \
                 is declared more than once; allowed: one declaration",
                "$.security_definer.search_path[1]: not a valid name; allowed: a name of 1 to 63 \
                 characters",
                "$.security_definer.search_path: last schema is not pg_temp; allowed: a path that \
                 ends with pg_temp",
                "$.security_definer.search_path[0]: \"$user\" names a different schema for each \
                 role; allowed: names of schemas",
            ]
        );
        let rule = problems(|j| j["rules"]["no_such_rule"] = serde_json::json!({}));
        assert!(
            rule[0].starts_with(
                "$.rules.no_such_rule: rule does not exist; allowed: column_privileges, "
            ),
            "{rule:?}"
        );
    }

    #[test]
    fn shared_is_another_name_of_all_rows() {
        let mut json: serde_json::Value = serde_json::from_str(DEFAULT).unwrap();
        json["tables"][0]["shared"] = serde_json::json!({"authenticated": ["SELECT"]});
        for contract in [Contract::from_json, Contract::from_stored] {
            let contract = contract(&json.to_string()).unwrap();
            assert!(contract.tables[0].all_rows.as_ref().unwrap().contains_key("authenticated"));
            let written = super::super::write(&contract);
            assert!(written.contains("\"all_rows\"") && !written.contains("\"shared\""));
        }
        json["tables"][0]["shared"]["ghost"] = serde_json::json!(["ALL"]);
        let found = examine(&json.to_string()).problems;
        assert_eq!(found[0].path, "$.tables[0].shared.ghost");
        json["tables"][0]["all_rows"] = serde_json::json!({});
        let text = json.to_string();
        let both = "$.tables[0].shared (public.judgments): another name of a field that is there \
                    as well; allowed: one of all_rows, shared";
        assert_eq!(Contract::from_json(&text).unwrap_err().to_string(), both);
        assert_eq!(Contract::from_stored(&text).unwrap_err().to_string(), both);
    }

    #[test]
    fn materialized_view_with_security_invoker_is_an_error() {
        let found = problems(|j| {
            j["views"][0]["security_invoker"] = true.into();
            j["views"][1]["security_invoker"] = true.into();
            j["views"][1]["materialized"] = true.into();
        });
        assert_eq!(
            found,
            ["$.views[1].security_invoker (public.v_judgment_pipeline): a materialized view has \
                 no security_invoker; allowed: false for a materialized view, which no caller \
                 executes"]
        );
    }

    #[test]
    fn errors_of_column_grants_name_their_path() {
        let found = problems(|j| {
            j["tables"][0]["column_grants"] = serde_json::json!({
                "ghost": {"SELECT": ["id"]},
                "anon": {"UPDATE": ["name", "name", ""], "INSERT": []},
                "authenticated": {"DELETE": ["id"]},
                "service_role": {}
            });
            j["views"][0]["column_grants"] = serde_json::json!({"anon": ["SELECT"]});
        });
        assert_eq!(
            found,
            [
                "$.tables[0].column_grants.anon.INSERT (public.judgments): list is empty; allowed: \
                 one or more elements",
                "$.tables[0].column_grants.authenticated.DELETE (public.judgments): unknown field; \
                 allowed: INSERT, REFERENCES, SELECT, UPDATE",
                "$.tables[0].column_grants.service_role (public.judgments): object is empty; \
                 allowed: INSERT, REFERENCES, SELECT, UPDATE",
                "$.views[0].column_grants.anon (public.v_plaintiffs_overview): list is not \
                 allowed; allowed: an object with the fields INSERT, REFERENCES, SELECT, UPDATE",
                "$.tables[0].column_grants.anon.UPDATE[1] (public.judgments): column \"name\" is \
                 declared more than once; allowed: one declaration",
                "$.tables[0].column_grants.anon.UPDATE[2] (public.judgments): not a valid name; \
                 allowed: a name of 1 to 63 characters",
                "$.tables[0].column_grants.ghost (public.judgments): role \"ghost\" is not \
                 declared in $.roles; allowed: anon, authenticated, postgres, service_role",
            ]
        );
    }

    #[test]
    fn errors_about_the_rows_of_a_caller_name_their_path() {
        let found = problems(|j| {
            j["tables"][0]["keys"] = serde_json::json!(["owner", "owner", ""]);
            j["tables"][0]["open_rows"] = serde_json::json!({"annon": ["a", "a"]});
            j["tables"][0]["append_only_by"] = serde_json::json!(["ghost"]);
            j["identity"] = serde_json::json!({
                "functions": {"uid()": "user", "app.f(int)": "user", "app.user()": "user",
                              "app.\"user\"()": "role"},
                "settings": {"": "user", "App.Tenant": "tenant", "app.tenant": "user"},
                "claims": {"a": "claims"},
                "columns": {"users.data": "email", "a.b.c": "king"},
                "request": [""],
                "sessions": {"anonn": "without"}
            });
        });
        let roles = "allowed: anon, authenticated, postgres, service_role";
        let function =
            "allowed: a function without arguments, with its schema: app.current_user_id()";
        assert_eq!(
            found,
            [
                "$.identity.columns.\"a.b.c\": \"king\" is not allowed; allowed: user, role, \
                 claims, trusted, tenant, email, user_editable, request, settable, token",
                "$.tables[0].keys[1] (public.judgments): column \"owner\" is declared more than \
                 once; allowed: one declaration",
                "$.tables[0].keys[2] (public.judgments): not a valid name; allowed: a name of 1 to \
                 63 characters",
                "$.tables[0].open_rows.annon (public.judgments): role \"annon\" is not declared in \
                 $.roles; did you mean \"anon\"?",
                "$.tables[0].open_rows.annon[1] (public.judgments): column \"a\" is declared more \
                 than once; allowed: one declaration",
                &format!(
                    "$.tables[0].append_only_by[0] (public.judgments): role \"ghost\" is not \
                     declared in $.roles; {roles}"
                ),
                &format!(
                    "$.identity.functions.\"app.f(int)\": not a valid name of a function; \
                     {function}"
                ),
                "$.identity.functions.\"app.user()\": function \"app.user()\" is declared more \
                 than once; allowed: one declaration",
                &format!(
                    "$.identity.functions.\"uid()\": not a valid name of a function; {function}"
                ),
                "$.identity.settings.\"\": not a valid name of a parameter; allowed: the name of a \
                 parameter: app.tenant",
                "$.identity.settings.\"app.tenant\": parameter \"app.tenant\" is declared more \
                 than once; allowed: one declaration",
                "$.identity.columns.\"users.data\": not a valid name of a column; allowed: a \
                 column with its table and schema: app.users.preferences",
                "$.identity.claims.a: only a whole token is all claims; allowed: claims for a \
                 function or a parameter only",
                "$.identity.request[0]: not a valid name; allowed: the name of a parameter: \
                 app.tenant",
                "$.identity.sessions.anonn: role \"anonn\" is not declared in $.roles; did you \
                 mean \"anon\"?",
            ]
        );
    }

    #[test]
    fn error_is_reported_at_one_path_only() {
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
        // An invalid element does not change the indexes of the elements after it.
        let found = problems(|j| {
            j["tables"][0] = "oops".into();
            j["tables"][1]["policies"]["ghost"] = serde_json::json!(["SELECT"]);
        });
        assert!(
            found[1].starts_with("$.tables[1].policies.ghost (public.plaintiffs): role \"ghost\""),
            "{found:?}"
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn problem_of_a_text_has_its_line_and_what_was_meant() {
        let text = DEFAULT
            .replace("\"kind\": \"worker\"", "\"kind\": \"workr\"")
            .replace("\"rules\": {", "\"rules\": {\n\n\"rls_disable\": {},");
        let line = |wanted: &str| 1 + text.lines().position(|line| line.contains(wanted)).unwrap();
        let examined = examine_lines(&format!("\u{feff}{text}"), &|| {});
        let found: Vec<(String, Option<usize>)> =
            examined.problems.iter().take(2).map(|p| (p.to_string(), p.line)).collect();
        let (kind, rule) = (line("workr"), line("rls_disable"));
        assert_eq!(
            found,
            [
                (
                    format!(
                        "$.roles[2].kind (service_role), line {kind}: \"workr\" is not allowed; \
                         did you mean \"worker\"?"
                    ),
                    Some(kind)
                ),
                (
                    format!(
                        "$.rules.rls_disable, line {rule}: rule does not exist; did you mean \
                         \"rls_disabled\"?"
                    ),
                    Some(rule)
                ),
            ]
        );
        assert!(examine(&text).problems.iter().all(|p| p.line.is_none()));
        let invalid = examine_lines("{\n\"a\": 'b'}", &|| {}).problems;
        assert_eq!(invalid[0].line, Some(2));
        assert_eq!(
            invalid[0].to_string(),
            "$: not valid JSON: expected value at line 2 column 6; JSON has \"double quotes\" \
             around names and texts"
        );
    }

    #[test]
    fn invalid_document_is_an_error() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            "{\"name\": 1}",
            "{}",
            &"[".repeat(100_000),
            &" ".repeat(MAX_LENGTH + 1),
        ] {
            assert!(Contract::from_json(text).is_err());
        }
        let many = format!("{{\"tables\": [{}1]}}", "1,".repeat(1_000_000));
        let problems = examine(&many).problems;
        assert_eq!(problems.len(), 1001, "the list is limited");
        assert_eq!(problems[1000].problem, "there may be more problems, which are not listed");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_contract_or_an_error(text in "(?s).{0,200}") {
            let _ = Contract::from_json(&text);
            let _ = Contract::from_stored(&text);
        }
    }
}
