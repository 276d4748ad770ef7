//! The columns of a new row that a trigger function in PL/pgSQL assigns.
//!
//! The text is read without a parser: a procedure that is called with a column of the new row is
//! not followed.

use super::body::{BEFORE_STATEMENT, Token, tokens};
use std::collections::BTreeSet;

/// Returns the names of the columns of NEW that the text of a trigger function assigns; `None`
/// where it may be each, because the whole row is another one.
#[must_use]
pub fn assigned(text: &str) -> Option<BTreeSet<String>> {
    let tokens = tokens(text, false);
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        match word(&tokens, at) {
            Some("new") if is_target(&tokens, at) => match column(&tokens, at) {
                Some(column) => found.insert(column.to_owned()),
                None => return None,
            },
            Some("return") if !returns_new(&tokens[at + 1..]) => return None,
            _ => continue,
        };
    }
    Some(found)
}

/// Whether the name at a place is assigned: at the start of a statement, or in a list after INTO,
/// or by a loop.
fn is_target(tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    match &tokens[before] {
        Token::Punctuation(';') => true,
        // After a label.
        Token::Operator(operator) => operator == ">>",
        Token::Punctuation(',') => names_before(tokens, before).is_some_and(|at| {
            let into =
                if word(tokens, at) == Some("strict") { at.checked_sub(1) } else { Some(at) };
            into.is_some_and(|at| is_into(tokens, at))
        }),
        _ => match word(tokens, before) {
            Some("strict") => before > 0 && is_into(tokens, before - 1),
            Some("for" | "foreach" | "diagnostics") => true,
            Some(of) => BEFORE_STATEMENT.contains(&of) || is_into(tokens, before),
            None => false,
        },
    }
}

/// Whether INTO is at a place, which is not that of INSERT or MERGE.
fn is_into(tokens: &[Token], at: usize) -> bool {
    let writes = |before| matches!(word(tokens, before), Some("insert" | "merge"));
    word(tokens, at) == Some("into") && !at.checked_sub(1).is_some_and(writes)
}

/// Returns the place before a list of names that ends before a comma.
fn names_before(tokens: &[Token], comma: usize) -> Option<usize> {
    let mut at = comma;
    loop {
        at = at.checked_sub(1)?;
        match &tokens[at] {
            Token::Word { quoted: false, name } if matches!(&name[..], "into" | "strict") => {
                return Some(at);
            }
            Token::Punctuation(',' | '.') | Token::Word { .. } => {}
            _ => return None,
        }
    }
}

/// Returns the column of the row at a place.
fn column(tokens: &[Token], at: usize) -> Option<&str> {
    match (tokens.get(at + 1)?, tokens.get(at + 2)?) {
        (Token::Punctuation('.'), Token::Word { name, .. }) => Some(name),
        _ => None,
    }
}

/// Whether the expression with which tokens start, after RETURN, is NEW, OLD, null or the first of
/// them that is not null.
fn returns_new(tokens: &[Token]) -> bool {
    let end = tokens.iter().position(|of| *of == Token::Punctuation(';'));
    let is_plain = |of: &Token| match of {
        Token::Punctuation('(' | ')' | ',') => true,
        Token::Word { name, quoted: false } => {
            matches!(&name[..], "new" | "old" | "null" | "coalesce")
        }
        _ => false,
    };
    tokens[..end.unwrap_or(tokens.len())].iter().all(is_plain)
}

/// Returns the word at a place that is not quoted.
fn word(tokens: &[Token], at: usize) -> Option<&str> {
    tokens.get(at)?.word()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_columns_of_the_new_row_are_found() {
        for (text, expected) in [
            ("BEGIN NEW.role := 'admin'; RETURN NEW; END", "role"),
            ("begin new.\"Role\" = 'a'; if new.b = 1 then new.c := 2; end if; return new; end", {
                "Role, c"
            }),
            ("BEGIN IF NEW.role = 'admin' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END", ""),
            ("BEGIN SELECT a, b INTO x, NEW.tenant FROM t; RETURN NEW; END", "tenant"),
            ("BEGIN SELECT a INTO STRICT NEW.a, NEW.b FROM t; RETURN NEW; END", "a, b"),
            ("BEGIN INSERT INTO log SELECT a, new.b; RETURN NEW; END", ""),
            ("BEGIN INSERT INTO log VALUES (a, new.b, NEW); RETURN COALESCE(NEW, OLD); END", ""),
            ("BEGIN PERFORM f(NEW); RETURN NULL; END", ""),
            ("BEGIN FOR NEW.a IN 1..3 LOOP NEW.tags[1] := 2; END LOOP; RETURN NEW; END", {
                "a, tags"
            }),
            ("BEGIN -- NEW.x := 1;\nRETURN NEW; END", ""),
        ] {
            let found: Vec<String> = assigned(text).unwrap().into_iter().collect();
            assert_eq!(found.join(", "), expected, "{text}");
        }
    }

    #[test]
    fn another_row_may_have_any_value() {
        for text in [
            "BEGIN NEW := jsonb_populate_record(NEW, '{}'); RETURN NEW; END",
            "BEGIN SELECT * INTO NEW FROM app.defaults; RETURN NEW; END",
            "DECLARE r app.m; BEGIN r := NEW; r.role := 'admin'; RETURN r; END",
            "BEGIN RETURN ROW(1, 2); END",
        ] {
            assert_eq!(assigned(text), None, "{text}");
        }
    }
}
