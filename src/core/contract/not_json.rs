//! Says what a text is that was given as a contract and is not JSON.

use crate::sql::printable;

/// What is wrong with a text, and what to do instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What the text is.
    pub problem: String,
    /// What to write or do instead.
    pub hint: String,
}

/// Returns what a text is that is no JSON object; `None` if it may have been meant as JSON.
pub fn diagnose(text: &str) -> Option<Diagnosis> {
    let text = text.trim();
    let diagnosis = |problem: &str, hint: String| Some(Diagnosis { problem: problem.into(), hint });
    if text.is_empty() {
        let hint = format!(
            "{} sets an empty text if it cannot read the file: see the message of cat, and check \
             the name of the file and the folder in which psql was started",
            reading("contract.json")
        );
        return diagnosis("the text is empty", hint);
    }
    if let Some(name) = variable(text) {
        let hint =
            format!("write :'{name}' without quotes around it, in psql or a file that it reads");
        return diagnosis("the text is the name of a psql variable, not its value", hint);
    }
    if let Some(file) = file_name(text) {
        let hint = format!("read the file: in psql, {}, then use :'contract'", reading(file));
        return diagnosis("the text is the name of a file, not its contents", hint);
    }
    if is_table_of_psql(text) {
        let hint = "write the file with psql -XAt -c \"SELECT ops.contract_json()\"";
        return diagnosis("the text is a table as psql prints it, not JSON", hint.into());
    }
    if is_sql(text) {
        let hint = "amend the contract by SQL statements with SELECT * FROM \
                    ops.declare('...', note => '...')";
        return diagnosis("the text is SQL, not JSON", hint.into());
    }
    if is_yaml(text) {
        let hint = "convert the file: yq -o=json contract.yaml > contract.json";
        return diagnosis("the text is YAML, not JSON", hint.into());
    }
    None
}

/// Returns the hint for invalid JSON by what is found where reading it failed.
pub fn at_error(text: &str, line: usize, column: usize) -> Option<&'static str> {
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let rest = line.get(column.checked_sub(1)?..)?;
    if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
        Some("JSON has no comments: use the fields description and purpose")
    } else if rest.starts_with('\'') {
        Some("JSON has \"double quotes\" around names and texts")
    } else {
        None
    }
}

/// Returns how psql reads a file into a variable.
fn reading(file: &str) -> String {
    format!("\\set contract `cat {file}`")
}

/// Returns the name of the psql variable in `:contract`, `:'contract'` or `:"contract"`.
fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix(':')?.trim_matches(['\'', '"']);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// Returns the name of the file in `contract.json`, `@/srv/contract.json`, `cat contract.json` or
/// `$(cat contract.json)`.
fn file_name(text: &str) -> Option<&str> {
    let plain = text.trim_start_matches(['$', '(', '`', '@', '<', '"', '\'', ' ']);
    let plain = plain.trim_end_matches([')', '`', '"', '\'', ' ']);
    let plain = plain.strip_prefix("cat ").unwrap_or(plain);
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '~');
    let extension = plain.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_known =
        ["json", "jsonc", "yaml", "yml"].iter().any(|e| extension.eq_ignore_ascii_case(e));
    (is_known && plain.len() <= 300 && plain.chars().all(is_plain) && printable(plain) == plain)
        .then_some(plain)
}

/// Whether the text has the header that psql prints without `-At`.
fn is_table_of_psql(text: &str) -> bool {
    let is_rule = |line: &str| {
        let line = line.trim_end_matches('+').trim();
        line.len() > 3 && line.bytes().all(|byte| matches!(byte, b'-' | b'+'))
    };
    let mut lines = text.lines();
    lines
        .next()
        .is_some_and(|header| !header.trim_start().starts_with(['{', '[']) && !header.contains(':'))
        && lines.next().is_some_and(is_rule)
}

/// Whether the text, without the comments at its beginning, begins like an SQL statement that
/// `ops.declare()` reads, or like another frequent one.
fn is_sql(text: &str) -> bool {
    const FIRST_WORDS: [&str; 15] = [
        "grant", "revoke", "create", "alter", "drop", "comment", "set", "reset", "select", "with",
        "begin", "do", "insert", "update", "delete",
    ];
    let mut rest = text.trim_start();
    let mut has_comment = false;
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n')
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/")
        } else {
            break;
        };
        let Some((_, after)) = after else { return false };
        rest = after.trim_start();
        has_comment = true;
    }
    // Neither JSON nor YAML has such comments.
    if has_comment && rest.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_yaml(rest) {
        return true;
    }
    let Some((word, _)) = rest.split_once(|c: char| c.is_whitespace() || c == ';') else {
        return false;
    };
    FIRST_WORDS.iter().any(|first| first.eq_ignore_ascii_case(word))
}

/// Whether the first line that is no comment is the beginning of a YAML document.
fn is_yaml(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    let Some(first) = lines.find(|line| !line.starts_with('#')) else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$' | '"' | '\'');
    first == "---"
        || first.starts_with("%YAML")
        || first.split_once(':').is_some_and(|(name, value)| {
            !name.is_empty()
                && name.chars().all(is_name)
                && (value.is_empty() || value.starts_with(' '))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        diagnose(text).map_or_else(String::new, |d| format!("{}; {}", d.problem, d.hint))
    }

    #[test]
    fn empty_text_is_a_file_that_was_not_read() {
        for text in ["", " \n\t"] {
            assert!(
                shown(text).starts_with(
                    "the text is empty; \\set contract `cat contract.json` sets an empty text if"
                ),
                "{}",
                shown(text)
            );
        }
    }

    #[test]
    fn name_of_a_variable_is_not_its_value() {
        for text in [":contract", ":'contract'", " :\"contract\" "] {
            assert_eq!(
                shown(text),
                "the text is the name of a psql variable, not its value; write :'contract' without \
                 quotes around it, in psql or a file that it reads"
            );
        }
    }

    #[test]
    fn statements_are_sql_and_words_that_look_like_them_are_not() {
        for text in [
            "GRANT SELECT ON app.plans TO web_user",
            "-- contract app 1.1.0\n\n/* roles */ CREATE ROLE anon NOLOGIN;",
            "  alter table t enable row level security",
            "BEGIN;",
            "SET contract.name = 'app'",
            "-- Contract app 1.1.0\nRESET ALL;\nSET contract.name TO app;\n",
            "/* Contract of the shop, in SQL */\nRESET ALL;",
            "-- Contract of the shop\n-- Roles\nLOCK TABLE a;",
        ] {
            assert_eq!(
                shown(text),
                "the text is SQL, not JSON; amend the contract by SQL statements with SELECT * \
                 FROM ops.declare('...', note => '...')",
                "{text}"
            );
        }
        for text in [
            "{\"grant\": 1}",
            "grant",
            "grants to: anon",
            "-- a comment",
            "set: 1",
            "-- x\n{\"a\": 1}",
        ] {
            assert!(!shown(text).starts_with("the text is SQL"), "{text}");
        }
    }

    #[test]
    fn name_of_a_file_is_not_its_contents() {
        for text in [
            "x/contract.json",
            "@x/contract.json",
            "`cat x/contract.json`",
            "$(cat x/contract.json)",
            "\"x/contract.json\"",
            "cat x/contract.json\n",
        ] {
            assert_eq!(
                shown(text),
                "the text is the name of a file, not its contents; read the file: in psql, \\set \
                 contract `cat x/contract.json`, then use :'contract'"
            );
        }
        assert_eq!(diagnose("contract"), None);
        assert_eq!(diagnose("a;b.json"), None);
    }

    #[test]
    fn yaml_and_tables_of_psql_are_recognized() {
        for text in [
            "name: shop\nversion: 1.0.0\n",
            "# ours\n\nroles:\n  - name: anon\n",
            "---\n{a: 1}",
            "%YAML 1.2\n---\n",
            "\"name\": shop",
        ] {
            assert_eq!(
                shown(text),
                "the text is YAML, not JSON; convert the file: yq -o=json contract.yaml > \
                 contract.json"
            );
        }
        let table = "       jsonb_pretty        \n---------------------------\n {             +\n";
        assert!(
            shown(table).starts_with("the text is a table as psql prints it"),
            "{}",
            shown(table)
        );
    }

    #[test]
    fn json_is_not_taken_for_anything_else() {
        for text in ["{\"name\": 1", "{name: 1}", "[", "{'a': 1}", "null", "17", "\"a\"", "a:b"] {
            assert_eq!(diagnose(text), None, "{text}");
        }
    }

    #[test]
    fn comments_and_quotes_are_recognized_where_reading_failed() {
        let hint = |text: &str| {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            at_error(text, error.line(), error.column())
        };
        let comments = Some("JSON has no comments: use the fields description and purpose");
        assert_eq!(hint("{\n  // ours\n  \"a\": 1}"), comments);
        assert_eq!(hint("{\"a\": 1, # x\n}"), comments);
        assert_eq!(hint("/* é */ {}"), comments);
        assert_eq!(hint("{'a': 1}"), Some("JSON has \"double quotes\" around names and texts"));
        assert_eq!(hint("{\"a\": 1,}"), None);
        assert_eq!(hint(""), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_diagnosed(
            text in "(?s)([:'\"`$(@-]|cat |json|\\.| |\n|é|.){0,30}",
            line in 0usize..4,
            column in 0usize..40,
        ) {
            if let Some(Diagnosis { problem, hint }) = diagnose(&text) {
                let mut shown = hint.chars().chain(problem.chars());
                proptest::prop_assert!(!shown.any(crate::sql::is_unprintable));
            }
            let _ = at_error(&text, line, column);
        }
    }
}
