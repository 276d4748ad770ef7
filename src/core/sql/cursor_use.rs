//! How the text of a PL/pgSQL routine uses a cursor whose name its caller passes: FETCH and MOVE
//! continue the query of the cursor, and execute its functions with the privileges of the routine.

use super::body::{Language, Token, tokens};
use super::quote_ident;
use std::collections::{HashMap, HashSet};

/// Whether a body continues the query of a cursor that its caller names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continues {
    /// No: it does not fetch, or only from cursors that it has opened itself.
    No,
    /// Not known.
    Unknown,
    /// This statement does.
    Yes(String),
}

/// Returns how a body uses an argument of type `refcursor`, which has a name and a position.
#[must_use]
pub fn continues(text: &str, language: Language, (name, position): (&str, usize)) -> Continues {
    match language {
        // FETCH in a function in SQL names its cursor in the text.
        Language::Sql => return Continues::No,
        Language::Other => return Continues::Unknown,
        Language::PlPgSql => {}
    }
    let tokens = tokens(text, false);
    let body = Body { tokens: &tokens, name, position };
    body.continues(&Cursors::of(&body))
}

/// The tokens of a body with an argument.
struct Body<'t> {
    tokens: &'t [Token],
    name: &'t str,
    position: usize,
}

/// What a body says about its cursors, read once: a body may have many statements.
struct Cursors<'t> {
    /// Where the part of a statement that can name a cursor ends: at `;` and INTO.
    ends: Vec<usize>,
    /// Where OPEN names each cursor first.
    opened: HashMap<&'t Token, usize>,
    /// The cursors that are declared with their query.
    bound: HashSet<&'t Token>,
    /// The first word that makes what follows conditional.
    conditional: Option<usize>,
    /// Whether the value of the argument may be assigned to a variable.
    can_be_assigned: bool,
}

impl<'t> Cursors<'t> {
    fn of(body: &Body<'t>) -> Self {
        let mut cursors = Self {
            ends: vec![],
            opened: HashMap::new(),
            bound: HashSet::new(),
            conditional: None,
            can_be_assigned: false,
        };
        for (at, token) in body.tokens.iter().enumerate() {
            let word = body.word(at);
            if *token == Token::Punctuation(';') || word == Some("into") {
                cursors.ends.push(at);
            }
            match word {
                Some("cursor") => cursors.bound.extend(&body.tokens[at.saturating_sub(3)..at]),
                Some("if" | "case" | "loop" | "exception" | "close") => {
                    cursors.conditional.get_or_insert(at);
                }
                _ => {}
            }
            let Some(before) = at.checked_sub(1) else { continue };
            if body.word(before) == Some("open") {
                cursors.opened.entry(token).or_insert(at);
            }
            cursors.can_be_assigned |= body.is_argument(at) && body.is_assignment(before);
        }
        cursors
    }

    /// Whether nothing before a token makes it conditional.
    fn is_unconditional(&self, at: usize) -> bool {
        self.conditional.is_none_or(|conditional| conditional >= at)
    }
}

impl Body<'_> {
    fn continues(&self, cursors: &Cursors<'_>) -> Continues {
        let mut answer = Continues::No;
        // The end of a statement with EXECUTE: another one within it reads a part of the same text.
        let mut executed = 0;
        for at in 0..self.tokens.len() {
            let found = match self.word(at) {
                Some(verb @ ("fetch" | "move")) if self.starts_statement(at) => {
                    self.fetch(at, &verb.to_uppercase(), cursors)
                }
                Some("execute") if at >= executed => {
                    executed = self.statement_end(at);
                    self.executed(at, executed)
                }
                _ => Continues::No,
            };
            match found {
                Continues::No => {}
                Continues::Unknown => answer = Continues::Unknown,
                yes @ Continues::Yes(_) => return yes,
            }
        }
        answer
    }

    /// Returns what a FETCH or MOVE statement does: the last name before INTO is the cursor.
    fn fetch(&self, at: usize, verb: &str, cursors: &Cursors<'_>) -> Continues {
        let next = cursors.ends.partition_point(|end| *end <= at);
        let Some(&end) = cursors.ends.get(next) else { return Continues::No };
        let cursor = &self.tokens[end - 1];
        let label = match cursor {
            Token::Word { name, .. } => quote_ident(name).into_owned(),
            Token::Parameter(number) => format!("${number}"),
            _ => return Continues::Unknown,
        };
        let is_argument = self.is_argument(end - 1);
        if !is_argument && !cursors.can_be_assigned || cursors.bound.contains(cursor) {
            return Continues::No;
        }
        match cursors.opened.get(cursor) {
            // A cursor of this name must not exist when it is opened.
            Some(&opened) if opened < at && cursors.is_unconditional(opened) => Continues::No,
            Some(_) => Continues::Unknown,
            None => Continues::Yes(format!("{verb} {label}")),
        }
    }

    /// Returns what EXECUTE with a text does that contains FETCH or MOVE.
    fn executed(&self, at: usize, end: usize) -> Continues {
        let (mut verb, mut mentions) = (None, false);
        for at in at + 1..end {
            if let Token::Literal(text) = &self.tokens[at] {
                let text = text.trim_start().to_ascii_lowercase();
                verb = ["fetch", "move"].into_iter().find(|v| text.starts_with(v)).or(verb);
            }
            mentions |= self.is_argument(at);
        }
        match verb {
            Some(verb) if mentions => {
                Continues::Yes(format!("EXECUTE '{} ...'", verb.to_uppercase()))
            }
            Some(_) => Continues::Unknown,
            None => Continues::No,
        }
    }

    /// Returns where the statement with a token ends.
    fn statement_end(&self, at: usize) -> usize {
        let mut rest = (at..self.tokens.len()).skip_while(|at| !self.is_end(*at));
        rest.next().unwrap_or(self.tokens.len())
    }

    fn is_end(&self, at: usize) -> bool {
        self.tokens[at] == Token::Punctuation(';')
    }

    /// Whether the value after a token is assigned to a variable.
    fn is_assignment(&self, at: usize) -> bool {
        self.tokens[at] == Token::Assign
            || matches!(&self.tokens[at], Token::Operator(operator) if operator == "=")
            || matches!(self.word(at), Some("default" | "select"))
    }

    fn starts_statement(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return true };
        matches!(self.tokens[before], Token::Punctuation(';'))
            || matches!(&self.tokens[before], Token::Operator(operator) if operator == ">>")
            || matches!(self.word(before), Some("begin" | "then" | "else" | "loop"))
    }

    fn is_argument(&self, at: usize) -> bool {
        match &self.tokens[at] {
            Token::Word { name, .. } => !name.is_empty() && name == self.name,
            Token::Parameter(number) => *number == self.position,
            _ => false,
        }
    }

    /// Returns the unquoted word at a position.
    fn word(&self, at: usize) -> Option<&str> {
        self.tokens.get(at)?.word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Continues {
        continues(text, Language::PlPgSql, ("p", 1))
    }

    fn yes(statement: &str) -> Continues {
        Continues::Yes(statement.to_owned())
    }

    #[test]
    fn fetch_and_move_continue_the_query_of_the_caller() {
        assert_eq!(found("declare r record; begin fetch p into r; end"), yes("FETCH p"));
        assert_eq!(
            found("begin if a then FETCH NEXT FROM $1 INTO r; end if; end"),
            yes("FETCH $1")
        );
        assert_eq!(found("begin move forward 2 in p; end"), yes("MOVE p"));
        assert_eq!(found("declare c refcursor := p; begin fetch c into r; end"), yes("FETCH c"));
        assert_eq!(found("begin c = $1; fetch c into r; end"), yes("FETCH c"));
        assert_eq!(
            found("begin execute 'fetch all from ' || quote_ident(p::text); end"),
            yes("EXECUTE 'FETCH ...'")
        );
    }

    #[test]
    fn cursor_that_the_body_opens_is_its_own() {
        assert_eq!(found("begin open p for select 1; return p; end"), Continues::No);
        assert_eq!(found("begin open p for select 1; fetch p into r; end"), Continues::No);
        assert_eq!(
            found("begin if p is null then open p for select 1; end if; fetch p into r; end"),
            Continues::Unknown
        );
        let bound = "declare c cursor for select 1; begin q := p; open c; fetch c into r; end";
        assert_eq!(found(bound), Continues::No);
    }

    #[test]
    fn body_with_many_statements_is_read_once() {
        let text = "begin open p for select 1; fetch p into r; ".repeat(10_000);
        assert_eq!(found(&text), Continues::No);
        assert_eq!(found(&"execute execute 'fetch' ".repeat(10_000)), Continues::Unknown);
    }

    #[test]
    fn other_uses_of_the_words_continue_nothing() {
        assert_eq!(found("begin return query select 1 fetch first 1 row only; end"), Continues::No);
        assert_eq!(found("begin fetch other into r; end"), Continues::No, "not an argument");
        assert_eq!(continues("fetch p", Language::Sql, ("p", 1)), Continues::No);
        assert_eq!(continues("fetch(p)", Language::Other, ("p", 1)), Continues::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "(fetch|move|open|execute|p|c|:=|;|into|'|\\$1| ){0,30}") {
            let _ = found(&text);
        }
    }
}
