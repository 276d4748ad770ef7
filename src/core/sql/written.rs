//! The tables that statements in a text write.
//!
//! The text is read without a parser: a statement that is built of parts is not found.

use super::body::{Token, tokens};
use std::collections::BTreeSet;

/// What a statement does with rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Write {
    Insert,
    Update,
    /// DELETE, or TRUNCATE.
    Delete,
}

/// Returns the names, without schemas, of the tables that statements in a text write, and what they
/// do.
#[must_use]
pub fn written(text: &str) -> BTreeSet<(String, Write)> {
    let tokens = tokens(text, false);
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        let follows = |word: &str| at > 0 && is_word(&tokens, at - 1, word);
        let (writes, to): (&[Write], usize) = match (word(&tokens, at), word(&tokens, at + 1)) {
            (Some("insert"), Some("into")) if updates_on_conflict(&tokens[at..]) => {
                (&[Write::Insert, Write::Update], at + 2)
            }
            (Some("insert"), Some("into")) => (&[Write::Insert], at + 2),
            (Some("merge"), Some("into")) => {
                (&[Write::Insert, Write::Update, Write::Delete], at + 2)
            }
            (Some("delete"), Some("from")) | (Some("truncate"), Some("table")) => {
                (&[Write::Delete], at + 2)
            }
            // ON CONFLICT DO UPDATE names no table, and FOR UPDATE writes none.
            (Some("update"), _) if !follows("do") && !follows("for") => (&[Write::Update], at + 1),
            (Some("truncate"), _) => (&[Write::Delete], at + 1),
            _ => continue,
        };
        let to = if is_word(&tokens, to, "only") { to + 1 } else { to };
        if let Some(table) = name_at(&tokens, to) {
            found.extend(writes.iter().map(|write| (table.to_owned(), *write)));
        }
    }
    found
}

/// Whether the statement with which tokens start updates the row that is there.
fn updates_on_conflict(tokens: &[Token]) -> bool {
    let end = tokens.iter().position(|of| *of == Token::Punctuation(';')).unwrap_or(tokens.len());
    (1..end).any(|at| is_word(tokens, at - 1, "do") && is_word(tokens, at, "update"))
}

/// Returns the last part of a name.
fn name_at(tokens: &[Token], at: usize) -> Option<&str> {
    let Token::Word { name, .. } = tokens.get(at)? else { return None };
    let is_qualified = tokens.get(at + 1) == Some(&Token::Punctuation('.'));
    if is_qualified { name_at(tokens, at + 2) } else { Some(name) }
}

/// Returns the word at a place that is not quoted.
fn word(tokens: &[Token], at: usize) -> Option<&str> {
    tokens.get(at)?.word()
}

fn is_word(tokens: &[Token], at: usize, expected: &str) -> bool {
    word(tokens, at) == Some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_written_are_found() {
        for (text, expected) in [
            ("begin insert into public.t values (1); end", "t Insert"),
            ("INSERT INTO T (a) VALUES (1) ON CONFLICT DO NOTHING", "t Insert"),
            (
                "insert into t values (1) on conflict (a) do update set a = 2; select 1",
                "t Insert, t Update",
            ),
            ("insert into t values (1); insert into u values (1) on conflict do update set a=1", {
                "t Insert, u Insert, u Update"
            }),
            ("update only app.\"T t\" set a = 1", "T t Update"),
            ("delete from only t where a = 1; truncate table u", "t Delete, u Delete"),
            ("truncate u", "u Delete"),
            ("merge into t using u on true when matched then delete", {
                "t Insert, t Update, t Delete"
            }),
            ("select * from t for update", ""),
            ("-- update t set a = 1\nselect 'delete from t'", ""),
            ("execute format('insert into %I', a); insert into", ""),
        ] {
            let found = written(text);
            let found: Vec<String> =
                found.iter().map(|(table, write)| format!("{table} {write:?}")).collect();
            assert_eq!(found.join(", "), expected, "{text}");
        }
    }
}
