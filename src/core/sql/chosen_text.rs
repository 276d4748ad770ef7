//! What the text of a routine does with what its caller chooses: SQL text that it makes of
//! arguments and executes, and parameters that it sets to them.
//!
//! The text is read without a parser, and each statement for itself: whether a test of an argument
//! suffices is not known.

use super::body::{BEFORE_STATEMENT, Language, Token, tokens};
use std::collections::HashMap;

/// An argument of a routine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name; empty where it has none.
    pub name: String,
    /// Whether its values can contain any text.
    pub is_text: bool,
}

/// What the caller chooses a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The argument that it is made of.
    pub argument: String,
    /// Whether the body tests the argument.
    pub is_tested: bool,
}

/// A parameter that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name; `None` where that is computed.
    pub name: Option<String>,
    /// What its value is made of, or its name.
    pub chosen: Chosen,
}

/// What a text does with what its caller chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// SQL text that is made of an argument without quotes, and executed.
    pub executed: Option<Chosen>,
    /// The parameters that are set.
    pub settings: Vec<Setting>,
}

/// Returns what the text of a routine with arguments does with them.
#[must_use]
pub fn uses(text: &str, language: Language, routine: &str, arguments: &[Argument]) -> Uses {
    if language == Language::Other {
        return Uses::default();
    }
    let tokens = tokens(text, false);
    let mut body = Text::of(&tokens, language, routine, arguments);
    body.find_variables();
    let mut uses = Uses::default();
    for at in 0..tokens.len() {
        if body.executes(at) {
            let end = body.end_of_executed(at);
            if let Some(argument) = body.carried(at + 1, end, Carries::Text) {
                let is_tested = body.is_tested(&argument, at);
                uses.executed.get_or_insert(Chosen { argument, is_tested });
            }
            uses.settings.extend(body.set_by_text(at, end));
        } else if let Some(end) = body.end_of_executing_call(at)
            && let Some(argument) = body.carried(at + 2, end, Carries::Text)
        {
            let is_tested = body.is_tested(&argument, at);
            uses.executed.get_or_insert(Chosen { argument, is_tested });
        }
        uses.settings.extend(body.set_config(at));
    }
    uses
}

/// What is looked for in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    /// A text of the caller's that can be anything, without quotes around it.
    Text,
    /// Anything that the caller chooses.
    Value,
}

/// Functions of the server and its extensions that execute a text as SQL.
const EXECUTING: [&str; 9] = [
    "connectby",
    "crosstab",
    "dblink",
    "dblink_exec",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// Functions that quote a text.
const QUOTING: [&str; 3] = ["quote_ident", "quote_literal", "quote_nullable"];

/// Functions whose result contains no text of their argument.
const MEASURING: [&str; 9] = [
    "array_length",
    "cardinality",
    "char_length",
    "count",
    "hashtext",
    "length",
    "md5",
    "to_regclass",
    "to_regtype",
];

/// Types of which no value is any text.
const PLAIN_TYPES: [&str; 19] = [
    "bigint",
    "bool",
    "boolean",
    "date",
    "double",
    "float8",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "numeric",
    "real",
    "regclass",
    "regtype",
    "smallint",
    "timestamp",
    "timestamptz",
    "uuid",
];

/// The tokens of a text, with the variables that contain what the caller chooses.
struct Text<'t> {
    tokens: &'t [Token],
    language: Language,
    routine: &'t str,
    arguments: &'t [Argument],
    /// The opening parenthesis around each token.
    openings: Vec<Option<usize>>,
    /// Variables by name: the argument that their value is made of.
    texts: HashMap<String, String>,
    values: HashMap<String, String>,
}

impl<'t> Text<'t> {
    fn of(
        tokens: &'t [Token],
        language: Language,
        routine: &'t str,
        arguments: &'t [Argument],
    ) -> Self {
        let mut open = Vec::new();
        let around = tokens.iter().enumerate().map(|(at, token)| {
            let around = open.last().copied();
            match token {
                Token::Punctuation('(') => open.push(at),
                Token::Punctuation(')') => {
                    open.pop();
                }
                Token::Punctuation(';') => open.clear(),
                _ => {}
            }
            around
        });
        let openings = around.collect();
        let (texts, values) = Default::default();
        Self { tokens, language, routine, arguments, openings, texts, values }
    }

    fn word(&self, at: usize) -> Option<&'t str> {
        self.tokens.get(at)?.word()
    }

    fn is(&self, at: usize, punctuation: char) -> bool {
        self.tokens.get(at) == Some(&Token::Punctuation(punctuation))
    }

    fn is_before(&self, at: usize, words: &[&str]) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.word(before));
        before.is_some_and(|word| words.contains(&word))
    }

    /// Whether a statement begins with a token.
    fn begins(&self, at: usize) -> bool {
        at == 0 || self.is(at - 1, ';') || self.is_before(at, &BEFORE_STATEMENT)
    }

    /// Returns the first of some words, or the end of the statement, outside of parentheses.
    fn until(&self, from: usize, words: &[&str]) -> usize {
        let depth = self.openings.get(from).copied().flatten();
        let is_end = |at: &usize| {
            self.is(*at, ';')
                || (self.openings[*at] == depth
                    && self.word(*at).is_some_and(|word| words.contains(&word)))
        };
        (from..self.tokens.len()).find(is_end).unwrap_or(self.tokens.len())
    }

    /// Whether the token is EXECUTE of a text.
    fn executes(&self, at: usize) -> bool {
        self.language == Language::PlPgSql
            && self.word(at) == Some("execute")
            && (self.begins(at) || self.is_before(at, &["query", "in", "for"]))
    }

    /// Returns the end of the arguments of a function that executes a text.
    fn end_of_executing_call(&self, at: usize) -> Option<usize> {
        let is_call = self.word(at).is_some_and(|word| EXECUTING.contains(&word));
        let is_end = |end: &usize| self.is(*end, ')') && self.openings[*end] == Some(at + 1);
        (is_call && self.is(at + 1, '(')).then(|| (at + 2..self.tokens.len()).find(is_end))?
    }

    /// Returns the name of a setting that a request sets, where a token begins a call for it. The
    /// claims of a token are signed; what else the client sends is not.
    fn setting_of_request(&self, at: usize) -> Option<String> {
        let is_call = self.word(at) == Some("current_setting") && self.is(at + 1, '(');
        match self.tokens.get(at + 2).filter(|_| is_call)? {
            Token::Literal(name) => {
                let name = name.to_ascii_lowercase();
                let is_sent = name.starts_with("request.") && !name.starts_with("request.jwt.");
                is_sent.then_some(name)
            }
            _ => None,
        }
    }

    fn end_of_executed(&self, at: usize) -> usize {
        self.until(at + 1, &["into", "using", "loop"])
    }

    /// Finds the variables that contain what the caller chooses: until no more are found.
    fn find_variables(&mut self) {
        if self.language != Language::PlPgSql {
            return;
        }
        for _ in 0..8 {
            let known = (self.texts.len(), self.values.len());
            for at in 0..self.tokens.len() {
                for (name, from, to) in self.assigned(at) {
                    for carries in [Carries::Text, Carries::Value] {
                        let Some(argument) = self.carried(from, to, carries) else { continue };
                        let known = match carries {
                            Carries::Text => &mut self.texts,
                            Carries::Value => &mut self.values,
                        };
                        known.entry(name.clone()).or_insert(argument);
                    }
                }
            }
            if known == (self.texts.len(), self.values.len()) {
                break;
            }
        }
    }

    /// Returns the variables that a statement assigns to, with where the expression begins and
    /// ends.
    fn assigned(&self, at: usize) -> Vec<(String, usize, usize)> {
        let name = |at: usize| match self.tokens.get(at) {
            Some(Token::Word { name, .. }) => Some(name.clone()),
            _ => None,
        };
        if !self.begins(at) {
            return Vec::new();
        }
        let end = self.until(at, &[]);
        match self.word(at) {
            Some("for" | "foreach") => {
                let (within, end) = (self.until(at, &["in"]) + 1, self.until(at, &["loop"]));
                let is_query = self.word(within) == Some("select");
                let last = if is_query { self.until(within, &["from"]).min(end) } else { end };
                name(at + 1).map(|name| (name, within, last)).into_iter().collect()
            }
            Some("select" | "with") => {
                let into = self.until(at, &["into"]);
                let list_end = self.until(at, &["from", "into"]);
                let names = (into + 1..end).take_while(|at| !self.ends_list(*at));
                names.filter_map(name).map(|name| (name, at + 1, list_end)).collect()
            }
            _ => {
                let assigns = |at: &usize| match &self.tokens[*at] {
                    Token::Assign => true,
                    Token::Word { name, quoted: false } => name == "default",
                    Token::Operator(operator) => operator == "=",
                    _ => false,
                };
                // `v = expression`, `v := expression`, `v type := expression`.
                let first = (at + 1..end).take(12).find(assigns);
                let is_statement = |word| matches!(word, "if" | "elsif" | "while" | "update");
                if self.word(at).is_some_and(is_statement) {
                    return Vec::new();
                }
                first
                    .zip(name(at))
                    .map(|(first, name)| (name, first + 1, end))
                    .into_iter()
                    .collect()
            }
        }
    }

    /// Whether a list of names after INTO has ended.
    fn ends_list(&self, at: usize) -> bool {
        match &self.tokens[at] {
            Token::Punctuation(',' | '.') => false,
            Token::Word { .. } => matches!(self.word(at), Some("from" | "using")),
            _ => true,
        }
    }

    /// Returns the argument that an expression contains a text, or a value, of.
    fn carried(&self, from: usize, to: usize, carries: Carries) -> Option<String> {
        (from..to.min(self.tokens.len())).find_map(|at| {
            let argument = self.named(at, carries)?;
            let is_kept = !self.is_condition(from, at)
                && (carries == Carries::Value || !self.is_quoted(from, at));
            is_kept.then_some(argument)
        })
    }

    /// Returns the argument that a token names, or whose value a variable contains.
    fn named(&self, at: usize, carries: Carries) -> Option<String> {
        let is_wanted = |argument: &&Argument| carries == Carries::Value || argument.is_text;
        if let Some(setting) = self.setting_of_request(at) {
            return Some(setting);
        }
        match &self.tokens[at] {
            Token::Parameter(number) => {
                let argument = self.arguments.get(number.checked_sub(1)?).filter(is_wanted)?;
                Some(if argument.name.is_empty() {
                    format!("${number}")
                } else {
                    argument.name.clone()
                })
            }
            Token::Word { name, .. } if !name.is_empty() && !self.is(at + 1, '(') => {
                if let Some(dot) = at.checked_sub(1).filter(|dot| self.is(*dot, '.')) {
                    let of = dot.checked_sub(1).map(|of| &self.tokens[of]);
                    let is_own = matches!(of,
                        Some(Token::Word { name, .. }) if name == self.routine);
                    if !is_own {
                        return None;
                    }
                }
                let of_variable = match carries {
                    Carries::Text => self.texts.get(name),
                    Carries::Value => self.values.get(name),
                };
                let argument = self.arguments.iter().filter(is_wanted).find(|a| a.name == *name);
                argument.map(|argument| argument.name.clone()).or_else(|| of_variable.cloned())
            }
            _ => None,
        }
    }

    /// Whether a token is in the condition of a CASE.
    fn is_condition(&self, from: usize, at: usize) -> bool {
        let mut before = (from..at).rev().filter_map(|before| self.word(before));
        before.find(|word| matches!(*word, "when" | "then" | "case" | "else" | "end"))
            == Some("when")
    }

    /// Whether a text is quoted, or only asked about, where it is used.
    fn is_quoted(&self, from: usize, at: usize) -> bool {
        if matches!(self.tokens.get(at + 1), Some(Token::Cast))
            && self.word(at + 2).is_some_and(|word| PLAIN_TYPES.contains(&word))
        {
            return true;
        }
        let mut around = self.openings[at];
        while let Some(open) = around.filter(|open| *open >= from) {
            let function = open.checked_sub(1).and_then(|before| self.word(before));
            let is_safe = match function {
                Some(name) if QUOTING.contains(&name) || MEASURING.contains(&name) => true,
                Some("format") => self.is_quoted_by_format(open, at),
                _ => false,
            };
            if is_safe {
                return true;
            }
            around = self.openings[open];
        }
        false
    }

    /// Whether format() quotes the argument in which a token is.
    fn is_quoted_by_format(&self, open: usize, at: usize) -> bool {
        let Some(Token::Literal(format)) = self.tokens.get(open + 1) else { return false };
        if !self.is(open + 2, ',') {
            return false;
        }
        let is_comma = |at: &usize| self.is(*at, ',') && self.openings[*at] == Some(open);
        let position = (open + 1..at).filter(is_comma).count();
        let is_variadic = (open + 1..at).any(|at| self.word(at) == Some("variadic"));
        let kinds = placeholders(format);
        let mut of_argument = kinds.iter().filter(|(number, _)| is_variadic || *number == position);
        position > 0 && of_argument.all(|(_, kind)| *kind != 's')
    }

    /// Returns the parameter that a call of set_config() sets.
    fn set_config(&self, at: usize) -> Option<Setting> {
        if self.word(at) != Some("set_config") || !self.is(at + 1, '(') {
            return None;
        }
        let open = at + 1;
        let inside = (open + 1..self.tokens.len()).take_while(|at| !self.is(*at, ';'));
        let is_end = |at: &usize| {
            (self.is(*at, ',') && self.openings[*at] == Some(open))
                || (self.is(*at, ')') && self.openings[*at] == Some(open))
        };
        let mut ends = inside.filter(is_end);
        let (first, second) = (ends.next()?, ends.next()?);
        let name = match &self.tokens[open + 1..first] {
            [Token::Literal(name)] => Some(name.to_lowercase()),
            _ => None,
        };
        let of_name = || self.carried(open + 1, first, Carries::Value);
        let argument = self.carried(first + 1, second, Carries::Value).or_else(of_name)?;
        let is_tested = self.is_tested(&argument, at) || self.is_tested_after(&argument, second);
        Some(Setting { name, chosen: Chosen { argument, is_tested } })
    }

    /// Returns the parameters that SET in an executed text sets to what the caller chooses.
    fn set_by_text(&self, at: usize, end: usize) -> Vec<Setting> {
        let Some(argument) = self.carried(at + 1, end, Carries::Value) else { return Vec::new() };
        let texts = self.tokens[at + 1..end].iter().filter_map(|token| match token {
            Token::Literal(text) => set_parameter(text),
            _ => None,
        });
        let is_tested = self.is_tested(&argument, at);
        let chosen = Chosen { argument, is_tested };
        texts.map(|name| Setting { name: Some(name), chosen: chosen.clone() }).collect()
    }

    /// Whether the body tests an argument before a token: in a condition, or in a statement after
    /// which it may end.
    fn is_tested(&self, argument: &str, before: usize) -> bool {
        let mut is_mentioned = false;
        let mut in_condition = false;
        for at in 0..before {
            match self.word(at) {
                Some("if" | "elsif" | "when" | "while" | "assert") => in_condition = true,
                Some("then" | "loop") => in_condition = false,
                Some("raise") if is_mentioned && !self.only_tells(at + 1) => return true,
                Some("return") if is_mentioned && !self.returns_rows(at + 1) => return true,
                _ if self.is(at, ';') => in_condition = false,
                _ => {}
            }
            let is_it = self.named(at, Carries::Value).is_some_and(|of| of == argument);
            if is_it && self.word(at + 1) != Some("is") {
                if in_condition {
                    return true;
                }
                is_mentioned = true;
            }
        }
        false
    }

    /// Whether the rest of a statement in SQL asks for an argument.
    fn is_tested_after(&self, argument: &str, after: usize) -> bool {
        let end = (after..self.tokens.len()).find(|at| self.is(*at, ';'));
        let rest = after..end.unwrap_or(self.tokens.len());
        let is_it = |at: usize| self.named(at, Carries::Value).is_some_and(|of| of == argument);
        rest.clone().any(|at| self.word(at) == Some("where")) && rest.into_iter().any(is_it)
    }

    fn only_tells(&self, at: usize) -> bool {
        const LEVELS: [&str; 5] = ["debug", "log", "info", "notice", "warning"];
        self.word(at).is_some_and(|word| LEVELS.contains(&word))
    }

    fn returns_rows(&self, at: usize) -> bool {
        matches!(self.word(at), Some("query" | "next"))
    }
}

/// Returns the parameter that a text sets.
fn set_parameter(text: &str) -> Option<String> {
    let tokens = tokens(text, true);
    let words: Vec<Option<&str>> = tokens
        .iter()
        .map(|token| match token {
            Token::Word { name, .. } => Some(name.as_str()),
            Token::Punctuation('.') => Some("."),
            _ => None,
        })
        .collect();
    let set = words.iter().position(|word| *word == Some("set"))?;
    let rest = words[set + 1..].iter().map_while(|word| *word);
    let mut rest = rest.skip_while(|word| matches!(*word, "local" | "session")).peekable();
    let mut name = rest.next()?.to_owned();
    while rest.next_if(|word| *word == ".").is_some() {
        name = format!("{name}.{}", rest.next()?);
    }
    name.contains('.').then_some(name)
}

/// Returns the placeholders of format(): the number of the argument, from 1, and the kind.
fn placeholders(format: &str) -> Vec<(usize, char)> {
    let (mut found, mut next) = (Vec::new(), 1);
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let mut number = None;
        if rest[digits..].starts_with('$') {
            number = rest[..digits].parse().ok();
            rest = &rest[digits + 1..];
        }
        let kind = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '*' | '$')));
        let Some(kind) = kind.and_then(|kind| rest[kind..].chars().next()) else { break };
        let number = number.unwrap_or(next);
        next = number + 1;
        found.push((number, kind));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Uses {
        let argument = |name: &str, is_text| Argument { name: name.to_owned(), is_text };
        let arguments = [argument("q", true), argument("n", false)];
        uses(text, Language::PlPgSql, "f", &arguments)
    }

    #[test]
    fn text_of_an_argument_is_executed() {
        for (body, is_executed) in [
            ("begin execute 'select ' || q; end", true),
            ("begin execute q; end", true),
            ("begin return query execute 'select 1 where a = ''' || q || ''''; end", true),
            ("begin execute format('select %s', q); end", true),
            ("begin execute format('select %2$I %1$s', q, n); end", true),
            ("begin execute concat('select ', f.q); end", true),
            ("begin for r in execute 'select ' || lower($1) loop end loop; end", true),
            ("declare s text := 'select ' || q; begin execute s; end", true),
            ("declare s text; begin s := 'a'; s := s || q; execute s into x; end", true),
            ("declare s text; begin select 'a' || q into s; execute s; end", true),
            ("begin foreach c in array q loop execute 'select ' || c; end loop; end", true),
            ("begin perform query_to_xml('select ' || q, true, false, ''); end", true),
            ("begin return query select * from ts_stat(q); end", true),
            ("begin execute current_setting('request.headers')::json ->> 'q'; end", true),
            (
                "declare s text := pg_catalog.current_setting('request.cookies', true);
                 begin execute 'select ' || s; end",
                true,
            ),
            // Quoted, or no text.
            ("begin execute 'select ' || quote_literal(q); end", false),
            ("begin execute 'select ' || quote_ident(lower(q)); end", false),
            ("begin execute format('select %L from %I', q, q); end", false),
            ("begin execute format('select %2$L', n, q); end", false),
            ("begin execute format('select %s', quote_nullable(q)); end", false),
            ("begin execute format('select %s', q::int); end", false),
            ("begin execute 'select ' || n; end", false),
            ("begin execute 'select $1' using q; end", false),
            ("begin execute 'select 1' || case when q = 'a' then ' desc' else '' end; end", false),
            ("declare s text; begin select a into s from t where b = q; execute s; end", false),
            ("begin execute 'select q'; end", false),
            ("begin perform query_to_xml('select 1', true, false, q); end", true),
            (
                "begin perform query_to_xml('select ' || quote_literal(q), true, false, ''); end",
                false,
            ),
            ("begin execute current_setting('app.query'); end", false),
            ("begin execute format('set x.y to %L', current_setting('request.path')); end", false),
            ("begin grant execute on function f to q; end", false),
        ] {
            assert_eq!(of(body).executed.is_some(), is_executed, "{body}");
        }
        let sent = "select query_to_xml(current_setting('request.headers'), true, false, '')";
        assert!(uses(sent, Language::Sql, "f", &[]).executed.is_some());
        assert_eq!(
            uses("select q", Language::Sql, "f", &[]).executed,
            None,
            "a function in SQL executes no text"
        );
    }

    #[test]
    fn test_of_the_argument_is_noted() {
        for (body, is_tested) in [
            ("begin execute q; end", false),
            (
                "begin if q not in ('a', 'b') then raise exception 'no'; end if; execute q; end",
                true,
            ),
            ("begin if q = 'a' then execute q; end if; end", true),
            (
                "begin perform 1 from t where a = q; \
                 if not found then return; end if; execute q; end",
                { true },
            ),
            ("begin if q is null then raise exception 'no'; end if; execute q; end", false),
            ("begin raise notice '%', q; execute q; end", false),
        ] {
            let executed = of(body).executed.unwrap();
            assert_eq!(
                (executed.argument.as_str(), executed.is_tested),
                ("q", is_tested),
                "{body}"
            );
        }
    }

    #[test]
    fn parameters_that_are_set_to_arguments_are_found() {
        let names = |body: &str| -> Vec<Option<String>> {
            of(body).settings.into_iter().map(|setting| setting.name).collect()
        };
        let tenant = [Some("app.tenant".to_owned())];
        for body in [
            "begin perform set_config('app.tenant', n::text, true); end",
            "begin perform pg_catalog.set_config('App.Tenant', json_build_object('a', q)::text, \
             false); end",
            "declare v text := n; begin perform set_config('app.tenant', v, true); end",
            "begin execute format('set local app.tenant = %L', q); end",
        ] {
            assert_eq!(names(body), tenant, "{body}");
        }
        assert_eq!(names("begin perform set_config(q, 'a', true); end"), [None]);
        for body in [
            "begin perform set_config('app.tenant', '1', true); end",
            "declare v text; begin select id into v from users where mail = q; \
             perform set_config('app.tenant', v, true); end",
            "begin perform current_setting(q); end",
        ] {
            assert_eq!(names(body), [], "{body}");
        }
        let tested = of("begin if not exists (select 1 from m where m.tenant = n) then raise \
                         exception 'no'; end if; perform set_config('app.tenant', n::text, true); \
                         end");
        assert!(tested.settings[0].chosen.is_tested);
        let in_sql = uses(
            "select set_config('app.tenant', t, true) from m where m.tenant = t",
            Language::Sql,
            "f",
            &[Argument { name: "t".to_owned(), is_text: true }],
        );
        assert!(in_sql.settings[0].chosen.is_tested);
    }
}
