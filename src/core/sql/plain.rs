//! The statements of a PL/pgSQL routine that does nothing but execute them one after the other.

use super::body::statements;

/// Returns the statements of a body in SQL; `None` where there are others, such as a condition, and
/// where there are variables.
#[must_use]
pub fn plain_statements(text: &str) -> Option<Vec<String>> {
    let all = statements(text);
    let [first, rest @ .., last] = &all[..] else { return None };
    // Comments may follow the word.
    let first = statements(after_word(first, "begin")?);
    if !last.trim().eq_ignore_ascii_case("end") {
        return None;
    }
    let mut found = Vec::new();
    for statement in first.into_iter().chain(rest.iter().copied()) {
        let statement = statement.trim();
        let query = |expression: &str| Some(format!("SELECT {expression}"));
        let is_ignored = ["return", "null"].iter().any(|word| statement.eq_ignore_ascii_case(word));
        if is_ignored {
            continue;
        }
        found.push(if let Some(returned) = after_word(statement, "return") {
            match after_word(returned, "query") {
                Some(rows) if after_word(rows, "execute").is_some() => None,
                Some(rows) => Some(rows.to_owned()),
                None if after_word(returned, "next").is_some() => None,
                None => query(returned),
            }
        } else if let Some(performed) = after_word(statement, "perform") {
            query(performed)
        } else {
            let words = ["insert", "update", "delete", "with"];
            let is_sql = words.iter().any(|word| after_word(statement, word).is_some());
            is_sql.then(|| statement.to_owned())
        }?);
    }
    Some(found)
}

/// Returns what follows a word at the start of a text.
fn after_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (start, rest) = text.trim_start().split_at_checked(word.len())?;
    let is_word = start.eq_ignore_ascii_case(word)
        && rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '(');
    is_word.then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_without_conditions_are_found() {
        for (body, found) in [
            ("begin return query select ';' from t; end", Some(vec!["select ';' from t"])),
            ("\n-- a;\nBEGIN /* b */ update t set a = 1; RETURN; END;\n", {
                Some(vec!["update t set a = 1"])
            }),
            ("begin perform f(a); delete from t; return (a); end", {
                Some(vec!["SELECT f(a)", "delete from t", "SELECT (a)"])
            }),
            ("begin if a then delete from t; end if; end", None),
            ("declare x int; begin delete from t; end", None),
            ("begin return query execute 'a'; end", None),
            ("begin raise exception 'a'; end", None),
            ("begin begin delete from t; end; end", None),
            ("begin return next a; end", None),
            ("select 1", None),
            ("", None),
        ] {
            let found = found.map(|of| of.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(plain_statements(body), found, "{body}");
        }
    }
}
