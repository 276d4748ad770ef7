//! The expression that a PL/pgSQL function returns, where it does nothing else.

/// Returns the expression of a body that is one RETURN statement; `None` for others. (A body with
/// a semicolon elsewhere, such as in a literal, is another one.)
#[must_use]
pub fn returned_expression(text: &str) -> Option<&str> {
    let text = after_word(text.trim(), "begin")?;
    let text = after_word(text.trim_start(), "return")?;
    let text = text.strip_suffix(';').unwrap_or(text).trim_end();
    let end = text.len().checked_sub("end".len())?;
    let (text, word) = text.split_at_checked(end)?;
    let text = text.trim_end().strip_suffix(';')?.trim();
    let is_one = word.eq_ignore_ascii_case("end") && !text.is_empty() && !text.contains(';');
    is_one.then_some(text)
}

/// Returns what follows a word at the start of a text.
fn after_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let is_word = start.eq_ignore_ascii_case(word)
        && rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '(');
    is_word.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statement_is_found() {
        for (body, expression) in [
            ("begin return a = 1; end", Some("a = 1")),
            ("\n BEGIN\n  RETURN(a);\n END;\n", Some("(a)")),
            ("begin return exists (select 1 from t where t.a = $1); end;", {
                Some("exists (select 1 from t where t.a = $1)")
            }),
            ("begin return; end", None),
            ("begin return a; return b; end", None),
            ("declare x int; begin return x; end", None),
            ("begin returning; end", None),
            ("begin return ';'; end", None),
            ("begin return a; end if", None),
            ("begin return a -- b\n; end", Some("a -- b")),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(returned_expression(body), expression, "{body}");
        }
    }
}
