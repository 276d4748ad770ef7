//! How the text of a routine uses arguments whose types its caller chooses: whether it executes
//! code that the server finds by the type of a value, and not along the search_path.
//!
//! Such code are casts, which the owner of a type may create, and constraints of domains. Output
//! functions and the operators of indexes and sorting are not: only superusers create these for
//! types.

use super::body::{Language, Token, tokens};
use super::quote_ident;

/// An argument whose type the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its position among the input arguments, from 1.
    pub position: usize,
    /// Whether its type is `record`. The value then has no casts of its own, only its fields do.
    pub is_record: bool,
}

/// A routine with such arguments.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The text of the body.
    pub text: &'a str,
    /// What it is written in.
    pub language: Language,
    /// The name of the routine, which may qualify those of its arguments.
    pub routine: &'a str,
    /// The arguments.
    pub arguments: &'a [Argument],
    /// Whether the result has a type that the caller does not choose, so that a value is converted
    /// to it.
    pub has_fixed_result: bool,
}

impl Source<'_> {
    /// Returns the first expression that executes code found by the type of an argument; `None`
    /// where none is recognized.
    #[must_use]
    pub fn executes(&self) -> Option<String> {
        if self.language == Language::Other {
            return None;
        }
        let tokens = tokens(self.text, false);
        Body::new(&tokens, self, false).executes()
    }
}

/// Functions whose result contains the JSON form of a value, for which the server looks for a cast
/// to `json`; and those that read values of a type from JSON.
const JSON: [&str; 17] = [
    "array_to_json",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_populate_record",
    "json_populate_recordset",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "row_to_json",
    "to_json",
    "to_jsonb",
    "json_array",
];

/// Functions of the server that convert a value: it is implicitly cast to the type of their
/// parameter.
const CONVERTING: [&str; 23] = [
    "abs",
    "btrim",
    "ceil",
    "char_length",
    "date_trunc",
    "decode",
    "floor",
    "initcap",
    "length",
    "lower",
    "ltrim",
    "md5",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_replace",
    "replace",
    "round",
    "rtrim",
    "split_part",
    "substr",
    "to_char",
    "upper",
];

/// Constructs that return their arguments, so that what uses their result uses these.
const PASSING: [&str; 6] = ["array", "array_agg", "coalesce", "greatest", "least", "row"];

/// How many tokens before or after another one are looked at: the time for a text is linear.
const REACH: usize = 500;

/// How many fields and subscripts of one value are read.
const MOST_FIELDS: usize = 64;

/// Words after a value that compare it.
const COMPARING: [&str; 5] = ["between", "ilike", "in", "like", "similar"];

/// The tokens of a body, or of SQL text in it.
struct Body<'t> {
    tokens: &'t [Token],
    source: &'t Source<'t>,
    /// Whether each parameter stands for a value of a type that the caller chooses: in SQL text
    /// that is executed with such a value.
    are_all_parameters: bool,
    /// The opening parenthesis or bracket around each token, in the same statement.
    openings: Vec<Option<usize>>,
    /// The function around each token that turns something with the token in it into JSON.
    json: Vec<Option<usize>>,
}

/// A reference to an argument, or to a field or an element of it.
#[derive(Clone, Copy)]
struct Reference {
    /// The first token, with the name of the routine.
    first: usize,
    /// The token that names the argument.
    name: usize,
    /// The last token.
    last: usize,
    /// Whether it is a whole record.
    is_record: bool,
}

impl<'t> Body<'t> {
    fn new(tokens: &'t [Token], source: &'t Source<'t>, are_all_parameters: bool) -> Self {
        let openings = openings(tokens);
        let mut body = Self { tokens, source, are_all_parameters, openings, json: vec![] };
        // The function around an opening parenthesis is known before those within it.
        for at in 0..tokens.len() {
            let json = body.openings[at].and_then(|open| body.json_of(open));
            body.json.push(json);
        }
        body
    }

    /// Returns the word before an opening parenthesis if it turns its arguments into JSON, or such
    /// a word further out.
    fn json_of(&self, open: usize) -> Option<usize> {
        let before = open.checked_sub(1);
        match before.and_then(|at| self.word(at)) {
            Some(function) if JSON.contains(&function) => before,
            Some(function) if PASSING.contains(&function) => self.json[open],
            // Parentheses around an expression, and brackets of an array.
            None => self.json[open],
            Some(_) => None,
        }
    }
}

/// Returns the opening parenthesis or bracket around each token, in the same statement.
fn openings(tokens: &[Token]) -> Vec<Option<usize>> {
    let mut open = Vec::new();
    let around = tokens.iter().enumerate().map(|(at, token)| {
        let around = open.last().copied();
        match token {
            Token::Punctuation('(' | '[') => open.push(at),
            Token::Punctuation(')' | ']') => {
                open.pop();
            }
            Token::Punctuation(';') => open.clear(),
            _ => {}
        }
        around
    });
    around.collect()
}

impl Body<'_> {
    fn executes(&self) -> Option<String> {
        (0..self.tokens.len())
            .filter_map(|at| self.reference(at))
            .find_map(|reference| self.code_of(reference))
            .or_else(|| self.in_sql_text())
    }

    /// Returns the reference whose argument is named by a token.
    fn reference(&self, at: usize) -> Option<Reference> {
        let argument = match self.tokens.get(at)? {
            Token::Parameter(_) if self.are_all_parameters => None,
            Token::Parameter(number) => {
                Some(self.source.arguments.iter().find(|a| a.position == *number)?)
            }
            Token::Word { name, .. } if !self.are_all_parameters && !name.is_empty() => {
                Some(self.source.arguments.iter().find(|a| a.name == *name)?)
            }
            _ => return None,
        };
        if self.is(at + 1, '(') {
            return None;
        }
        let first = match at.checked_sub(1).filter(|before| self.is(*before, '.')) {
            Some(dot) => dot.checked_sub(1).filter(|of| {
                matches!(&self.tokens[*of],
                    Token::Word { name, .. } if *name == self.source.routine)
            })?,
            None => at,
        };
        let last = self.last_of(at);
        let is_record = argument.is_some_and(|a| a.is_record) && last == at;
        Some(Reference { first, name: at, last, is_record })
    }

    /// Returns the last token of a reference with its fields and subscripts.
    fn last_of(&self, mut last: usize) -> usize {
        for _ in 0..MOST_FIELDS {
            let is_field = self.is(last + 1, '.')
                && matches!(self.tokens.get(last + 2), Some(Token::Word { .. }));
            if is_field {
                last += 2;
            } else if self.is(last + 1, '[') {
                // A text without the end of the subscript is not executed.
                let end = (last + 2..self.tokens.len()).take(REACH).find(|at| self.is(*at, ']'));
                last = end.unwrap_or(self.tokens.len() - 1);
            } else {
                break;
            }
        }
        last
    }

    /// Returns the expression in which code of the type of a reference is executed.
    fn code_of(&self, reference: Reference) -> Option<String> {
        let label = self.label(reference);
        let json = self.json_call(reference).map(|function| format!("{function}({label})"));
        if json.is_some() || reference.is_record {
            return json;
        }
        self.cast(reference, &label)
            .or_else(|| self.operator(reference, &label))
            .or_else(|| self.converted(reference, &label))
    }

    /// Returns a cast of the value.
    fn cast(&self, reference: Reference, label: &str) -> Option<String> {
        let after = reference.last + 1;
        let explicit = matches!(self.tokens.get(after), Some(Token::Cast));
        let target = |at: usize| match self.tokens.get(at) {
            Some(Token::Word { name, .. }) => quote_ident(name).into_owned(),
            _ => "...".to_owned(),
        };
        if explicit {
            return Some(format!("{label}::{}", target(after + 1)));
        }
        let is_cast = self.called_by(reference) == Some("cast") && self.word(after) == Some("as");
        is_cast.then(|| format!("CAST({label} AS {})", target(after + 1)))
    }

    /// Returns an operator or a comparison between the value and one of another type.
    fn operator(&self, reference: Reference, label: &str) -> Option<String> {
        let after = reference.last + 1;
        let is_type = matches!(self.word(after + 1), Some("type" | "rowtype"));
        if let Some(Token::Operator(operator)) = self.tokens.get(after)
            && !is_type
            && !self.is_reference(after + 1)
        {
            return Some(format!("{label} {operator} ..."));
        }
        let before = reference.first.checked_sub(1);
        if let Some(Token::Operator(operator)) = before.and_then(|at| self.tokens.get(at))
            && !reference.first.checked_sub(2).is_some_and(|at| self.ends_reference(at))
        {
            return Some(format!("... {operator} {label}"));
        }
        let word = match self.word(after) {
            Some("not") => self.word(after + 1),
            word => word,
        }?;
        COMPARING.contains(&word).then(|| format!("{label} {} ...", word.to_uppercase()))
    }

    /// Returns where the value is converted to the type of a parameter, a variable, a column or a
    /// result.
    fn converted(&self, reference: Reference, label: &str) -> Option<String> {
        if let Some(function) = self.called_by(reference)
            && self.ends_argument(reference.last + 1)
        {
            if CONVERTING.contains(&function) {
                return Some(format!("{function}({label})"));
            }
            if function == "values" {
                return Some(format!("VALUES ({label})"));
            }
        }
        let before = reference.first.checked_sub(1);
        let is_end = |at: usize| at >= self.tokens.len() || self.is(at, ';');
        if before.is_some_and(|at| self.tokens[at] == Token::Assign) && is_end(reference.last + 1) {
            return Some(format!(":= {label}"));
        }
        let is_sql = self.source.language == Language::Sql;
        match before.and_then(|at| self.word(at))? {
            "return" if self.source.has_fixed_result && is_end(reference.last + 1) => {
                Some(format!("RETURN {label}"))
            }
            "select" if is_sql && (self.source.has_fixed_result || self.inserts(reference)) => {
                Some(format!("SELECT {label}"))
            }
            _ => None,
        }
    }

    /// Whether the statement of a reference is INSERT.
    fn inserts(&self, reference: Reference) -> bool {
        let mut before = (0..reference.first).rev().take(REACH).take_while(|at| !self.is(*at, ';'));
        before.any(|at| self.word(at) == Some("insert"))
    }

    /// Returns the function that turns the value, or something that contains it, into JSON.
    fn json_call(&self, reference: Reference) -> Option<&str> {
        self.json[reference.first].and_then(|function| self.word(function))
    }

    /// Returns the function in whose list of arguments a reference is, not deeper.
    fn called_by(&self, reference: Reference) -> Option<&str> {
        let open = self.openings[reference.first]?;
        let follows = reference.first.checked_sub(1)?;
        (follows == open || self.is(follows, ','))
            .then(|| open.checked_sub(1).and_then(|at| self.word(at)))
            .flatten()
    }

    fn ends_argument(&self, at: usize) -> bool {
        self.is(at, ')') || self.is(at, ',')
    }

    /// Returns what SQL text does that is executed with one of the arguments.
    fn in_sql_text(&self) -> Option<String> {
        if self.are_all_parameters || self.source.language != Language::PlPgSql {
            return None;
        }
        self.tokens.iter().enumerate().find_map(|(at, token)| {
            let Token::Literal(text) = token else { return None };
            if !self.is_executed_with_argument(at) {
                return None;
            }
            let tokens = tokens(text, true);
            Body::new(&tokens, self.source, true).executes()
        })
    }

    /// Whether a literal is followed by USING with an argument, in the same statement.
    fn is_executed_with_argument(&self, literal: usize) -> bool {
        let rest = (literal + 1..self.tokens.len()).take(REACH).take_while(|at| !self.is(*at, ';'));
        let mut after_using = rest.skip_while(|at| self.word(*at) != Some("using"));
        after_using.any(|at| self.is_reference(at))
    }

    fn is_reference(&self, at: usize) -> bool {
        self.reference(at).is_some()
    }

    /// Whether a token is the last one of a reference.
    fn ends_reference(&self, at: usize) -> bool {
        (0..=at)
            .rev()
            .take(6)
            .any(|start| self.reference(start).is_some_and(|reference| reference.last == at))
    }

    fn is(&self, at: usize, punctuation: char) -> bool {
        self.tokens.get(at) == Some(&Token::Punctuation(punctuation))
    }

    /// Returns the unquoted word at a position.
    fn word(&self, at: usize) -> Option<&str> {
        self.tokens.get(at)?.word()
    }

    /// Returns the argument with its fields, for a message.
    fn label(&self, reference: Reference) -> String {
        let tokens = &self.tokens[reference.name..=reference.last];
        let mut label = String::new();
        for token in tokens {
            match token {
                Token::Word { name, .. } => label += &quote_ident(name),
                Token::Parameter(number) => label += &format!("${number}"),
                Token::Punctuation('.') => label.push('.'),
                _ => {
                    label += "[...]";
                    break;
                }
            }
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(is_record: bool) -> Vec<Argument> {
        vec![Argument { name: "x".into(), position: 1, is_record }]
    }

    fn found(language: Language, text: &str, is_record: bool) -> String {
        let arguments = arguments(is_record);
        let source =
            Source { text, language, routine: "f", arguments: &arguments, has_fixed_result: true };
        source.executes().unwrap_or_default()
    }

    fn sql(text: &str) -> String {
        found(Language::Sql, text, false)
    }

    fn plpgsql(text: &str) -> String {
        found(Language::PlPgSql, text, false)
    }

    #[test]
    fn casts_and_conversions_execute_code_by_type() {
        assert_eq!(sql("select X::text"), "x::text");
        assert_eq!(sql("select cast($1 as text)"), "CAST($1 AS text)");
        assert_eq!(sql("select f.x::text"), "x::text");
        assert_eq!(sql("select lower(x)"), "lower(x)");
        assert_eq!(sql("select x"), "SELECT x");
        assert_eq!(sql("insert into log values (1, x)"), "VALUES (x)");
        assert_eq!(plpgsql("declare t text; begin t := x; end"), ":= x");
        assert_eq!(plpgsql("begin return x; end"), "RETURN x");
    }

    #[test]
    fn operators_with_other_types_execute_implicit_casts() {
        assert_eq!(sql("select 'a' || x"), "... || x");
        assert_eq!(plpgsql("begin if x = 'a' then null; end if; end"), "x = ...");
        assert_eq!(plpgsql("begin perform 1 where x not in (1, 2); end"), "x IN ...");
        assert_eq!(plpgsql("begin perform x < x; end"), "", "both have the same type");
        assert_eq!(plpgsql("declare v x%type; begin end"), "");
    }

    #[test]
    fn json_functions_execute_casts_of_the_value_and_its_parts() {
        assert_eq!(sql("select to_jsonb(x)"), "to_jsonb(x)");
        assert_eq!(
            sql("select jsonb_build_object('a', coalesce(x, null))"),
            "jsonb_build_object(x)"
        );
        assert_eq!(sql("select to_jsonb(array[x])"), "to_jsonb(x)");
        let (many, others) = ("(1, ".repeat(10_000), "), x".repeat(10_000));
        assert_eq!(sql(&format!("select to_jsonb(1), {many} x{others}")), "");
        assert_eq!(sql(&format!("select to_jsonb({many} x{others}")), "to_jsonb(x)");
        let record = |text| found(Language::PlPgSql, text, true);
        assert_eq!(record("begin return to_jsonb(x); end"), "to_jsonb(x)");
        assert_eq!(record("begin return x.c::text; end"), "x.c::text");
        assert_eq!(record("begin return x::text; end"), "", "a record has no casts");
    }

    #[test]
    fn sql_text_that_is_executed_with_an_argument_is_read() {
        assert_eq!(plpgsql("begin execute 'select $1::text' using x; end"), "$1::text");
        assert_eq!(plpgsql("begin execute 'select $1::text' using 1; end"), "");
    }

    #[test]
    fn output_functions_and_other_names_execute_nothing_by_type() {
        let begin = |text: &str| plpgsql(&format!("begin {text}; end"));
        assert_eq!(begin("raise info 'value %', x"), "");
        assert_eq!(begin("perform format('%s', x), concat('a', x), count(x), pg_typeof(x)"), "");
        assert_eq!(begin("perform t.x::text, x(1)::text, 'x::text', x is null"), "");
        assert_eq!(found(Language::Other, "x::text", false), "");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[a-z$1x.,;:=(\\[\\])' |]{0,60}") {
            for language in [Language::Sql, Language::PlPgSql] {
                let _ = (found(language, &text, false), found(language, &text, true));
            }
        }
    }
}
