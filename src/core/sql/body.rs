//! The names in the text of a routine, read without a parser: the text may be SQL, PL/pgSQL, or SQL
//! in the string literals of any language.
//!
//! The result may contain words that are no names, such as those of messages. It is used to find
//! out what a body could look up, where a word too many is better than one too few.

use super::identifiers::{quoted_end, truncate, unquote};
use super::keywords::is_reserved;
use std::collections::{HashMap, HashSet};

/// What the text of a routine is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// SQL.
    Sql,
    /// PL/pgSQL, which also executes SQL text that it builds.
    PlPgSql,
    /// Any other language with a text: each word may belong to SQL text.
    Other,
}

/// What the text of a routine mentions, without a schema except for `qualified`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    /// The words as names, folded as the server does; true if the word may be a call of a routine.
    pub words: HashMap<String, bool>,
    /// As `words`, the words after a dot, such as names with a schema.
    pub qualified: HashMap<String, bool>,
    /// The operators.
    pub operators: HashSet<String>,
    /// The names of the temporary tables, views and sequences that the body creates.
    pub temporary: HashSet<String>,
    /// Whether the body may create objects in the first schema of the search_path, or read which
    /// one that is.
    pub creates: bool,
    /// Whether the body may look up names that are not in its text.
    pub runs_text: bool,
}

impl Mentions {
    /// Returns what `text` mentions.
    #[must_use]
    pub fn of(text: &str, language: Language) -> Self {
        let mut mentions = Self { runs_text: language == Language::Other, ..Self::default() };
        mentions.read(text, language, language == Language::Other, 0);
        mentions
    }

    fn read(&mut self, text: &str, language: Language, is_literal: bool, depth: usize) {
        let is_other = language == Language::Other;
        let tokens = Lexer { rest: text, is_literal, has_names: !is_other || depth > 0 }.tokens();
        for at in 0..tokens.len() {
            let context = Around { tokens: &tokens, at };
            match &tokens[at] {
                Token::Word { name, quoted } => {
                    if !quoted && !context.is_qualified() {
                        self.keyword(name, context, language, is_literal);
                    }
                    let is_name = *quoted || !is_reserved(name);
                    if is_name {
                        let is_call = is_literal || context.is(1, '(');
                        let words = if context.is_qualified() {
                            &mut self.qualified
                        } else {
                            &mut self.words
                        };
                        *words.entry(name.clone()).or_default() |= is_call;
                    }
                }
                Token::Operator(operator) if context.is_operator(operator, is_literal) => {
                    self.operators.insert(operator.clone());
                    if is_literal && operator.contains("%%") {
                        // In the format of format(), %% stands for %.
                        self.operators.insert(operator.replace("%%", "%"));
                    }
                }
                Token::Literal(content) if !context.is_message() => {
                    if is_other {
                        self.words.insert(content.clone(), true);
                    }
                    if depth < DEEPEST {
                        self.read(content, language, true, depth + 1);
                    }
                }
                // An escaped name is not decoded.
                Token::Escaped => self.runs_text = true,
                _ => {}
            }
        }
    }

    /// Records what an unquoted word means for the search_path.
    fn keyword(&mut self, word: &str, at: Around<'_>, language: Language, is_literal: bool) {
        match word {
            "create" => match at.temporary() {
                Some(temporary) => self.temporary.extend(at.name_after(temporary)),
                None => self.creates = true,
            },
            "into" => self.temporary.extend(at.temporary().and_then(|t| at.name_after(t))),
            "search_path" | "current_schema" | "current_schemas" => self.creates = true,
            "execute" if language == Language::PlPgSql && !is_literal => self.runs_text = true,
            _ if is_literal => {}
            _ if TO_REG.contains(&word) => {
                self.runs_text |= !matches!(at.token(2), Some(Token::Literal(_)));
            }
            _ if REG.contains(&word) => {
                let is_constant = matches!(at.token(-1), Some(Token::Cast))
                    && matches!(at.token(-2), Some(Token::Literal(_)));
                self.runs_text |= !is_constant;
            }
            _ => {}
        }
    }
}

/// The types whose input is a name.
const REG: [&str; 9] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regtype",
];

/// The functions whose argument is a name.
const TO_REG: [&str; 7] = [
    "to_regclass",
    "to_regcollation",
    "to_regoper",
    "to_regoperator",
    "to_regproc",
    "to_regprocedure",
    "to_regtype",
];

/// How many bytes may belong to an operator. The server rejects one with more than 63; after it, a
/// comment may begin.
const OPERATOR_WINDOW: usize = 66;

/// How many literals inside of literals are read.
const DEEPEST: usize = 8;

/// A token of SQL or PL/pgSQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Token {
    Word {
        name: String,
        quoted: bool,
    },
    Operator(String),
    /// The content of a string literal, in any kind of quotes.
    Literal(String),
    Punctuation(char),
    /// `::`
    Cast,
    /// A parameter: `$1`.
    Parameter(usize),
    /// A number.
    Number(String),
    /// A placeholder of format().
    Operand,
    /// A name with Unicode escapes.
    Escaped,
    /// `:=`
    Assign,
    /// `..` and `=>`.
    Other,
}

/// Words before a statement of PL/pgSQL.
pub(super) const BEFORE_STATEMENT: [&str; 6] =
    ["begin", "declare", "else", "exception", "loop", "then"];

impl Token {
    /// Returns the word; `None` where it is quoted, or no word.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word { name, quoted: false } => Some(name),
            _ => None,
        }
    }
}

/// Returns the tokens of a text that is SQL or PL/pgSQL, or of a string literal with such text.
pub(super) fn tokens(text: &str, is_literal: bool) -> Vec<Token> {
    Lexer { rest: text, is_literal, has_names: true }.tokens()
}

/// Returns the statements of a text in SQL or PL/pgSQL, without comments before them.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let mut lexer = Lexer { rest: text, is_literal: false, has_names: true };
    let (mut found, mut start) = (Vec::new(), None);
    while let Some(first) = lexer.rest.chars().next() {
        let at = text.len() - lexer.rest.len();
        match lexer.next(first) {
            Some(Token::Punctuation(';')) => found.extend(start.take().map(|from| &text[from..at])),
            Some(_) => {
                start.get_or_insert(at);
            }
            None => {}
        }
    }
    found.extend(start.map(|from| &text[from..]));
    found
}

/// A token with its neighbours.
#[derive(Clone, Copy)]
struct Around<'t> {
    tokens: &'t [Token],
    at: usize,
}

impl<'t> Around<'t> {
    fn token(self, offset: isize) -> Option<&'t Token> {
        self.tokens.get(self.at.checked_add_signed(offset)?)
    }

    fn is(self, offset: isize, punctuation: char) -> bool {
        self.token(offset) == Some(&Token::Punctuation(punctuation))
    }

    /// Returns the unquoted word at an offset.
    fn word(self, offset: isize) -> Option<&'t str> {
        self.token(offset)?.word()
    }

    fn is_qualified(self) -> bool {
        self.is(-1, '.')
    }

    /// Whether the token is an operator and not part of `%TYPE` or of `SELECT *`, and, in a
    /// literal, not part of a pattern or a message.
    fn is_operator(self, operator: &str, is_literal: bool) -> bool {
        let follows_operand = match self.token(-1) {
            Some(Token::Word { name, quoted }) => *quoted || !is_reserved(name),
            Some(Token::Number(_) | Token::Operand | Token::Parameter(_) | Token::Literal(_)) => {
                true
            }
            Some(Token::Punctuation(c)) => matches!(c, ')' | ']'),
            _ => false,
        };
        let precedes_operand = match self.token(1) {
            Some(
                Token::Word { .. }
                | Token::Number(_)
                | Token::Operand
                | Token::Parameter(_)
                | Token::Literal(_)
                | Token::Escaped,
            ) => true,
            Some(Token::Punctuation(c)) => *c == '(',
            _ => false,
        };
        let is_type = operator == "%" && matches!(self.word(1), Some("type" | "rowtype"));
        !is_type
            && !self.is_qualified()
            && (operator != "*" || follows_operand)
            && (!is_literal || (follows_operand && precedes_operand))
    }

    /// Whether the literal is the message of RAISE.
    fn is_message(self) -> bool {
        const LEVELS: [&str; 6] = ["debug", "log", "info", "notice", "warning", "exception"];
        match self.word(-1) {
            Some("raise") => true,
            Some(level) if LEVELS.contains(&level) => self.word(-2) == Some("raise"),
            _ => false,
        }
    }

    /// Returns the offset of TEMPORARY after CREATE or INTO; `None` if the object is not temporary.
    fn temporary(self) -> Option<isize> {
        let is_before = |word: &str| matches!(word, "or" | "replace" | "local" | "global");
        let at = (1..6).find(|i| !self.word(*i).is_some_and(is_before))?;
        matches!(self.word(at), Some("temp" | "temporary")).then_some(at)
    }

    /// Returns the name of the object after TEMPORARY at an offset.
    fn name_after(self, temporary: isize) -> Option<String> {
        let tokens = (temporary + 1..).map_while(|i| self.token(i).map(|token| (i, token)));
        let mut names = tokens.filter_map(|(i, token)| match token {
            Token::Word { name, quoted } => {
                let is_keyword = !quoted && BEFORE_NAME.contains(&name.as_str());
                (!is_keyword && !self.is(i + 1, '.')).then(|| name.clone())
            }
            _ => None,
        });
        names.next()
    }
}

/// The words between TEMPORARY and a name.
const BEFORE_NAME: [&str; 9] =
    ["unlogged", "recursive", "table", "view", "sequence", "if", "not", "exists", "pg_temp"];

/// Splits a text into tokens, as the server's scanner does (scan.l).
struct Lexer<'t> {
    rest: &'t str,
    /// In a literal, `--` does not begin a comment, and `%I` is a placeholder.
    is_literal: bool,
    /// Whether text in double quotes is a name. In languages other than SQL it is a string.
    has_names: bool,
}

impl Lexer<'_> {
    fn tokens(mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while let Some(first) = self.rest.chars().next() {
            if let Some(token) = self.next(first) {
                tokens.push(token);
            }
        }
        tokens
    }

    /// Consumes a token, a comment or white space.
    fn next(&mut self, first: char) -> Option<Token> {
        let text = self.rest;
        if !self.is_literal && text.starts_with("--") {
            self.skip(text.find(['\n', '\r']).unwrap_or(text.len()));
            return None;
        }
        if !self.is_literal && text.starts_with("/*") {
            self.skip(comment_end(text));
            return None;
        }
        match first {
            '\'' => Some(Token::Literal(self.literal('\'', false))),
            '"' if !self.has_names => Some(Token::Literal(self.literal('"', true))),
            '"' => Some(self.quoted_name()),
            '$' => Some(self.dollar()),
            '%' if self.is_literal && placeholder_end(text).is_some() => {
                self.skip(placeholder_end(text).unwrap_or(1));
                Some(Token::Operand)
            }
            '0'..='9' => {
                let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
                self.skip(end);
                Some(Token::Number(text[..end].to_owned()))
            }
            c if is_name_start(c) => Some(self.word()),
            c if is_operator_char(c) => Some(self.operator()),
            c if c.is_whitespace() => {
                self.skip(c.len_utf8());
                None
            }
            _ => Some(self.punctuation(first)),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Consumes a literal; to the end of the text if it is not closed.
    fn literal(&mut self, quote: char, escapes: bool) -> String {
        let mut content = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote && chars.peek().is_some_and(|(_, next)| *next == quote) => {
                    chars.next();
                    content.push(quote);
                }
                c if c == quote => {
                    end = at + 1;
                    break;
                }
                // Escapes such as \n separate words.
                '\\' if escapes => content.push(match chars.next() {
                    Some((_, quote @ ('\'' | '"' | '\\'))) => quote,
                    _ => ' ',
                }),
                c => content.push(c),
            }
        }
        self.skip(end);
        content
    }

    fn quoted_name(&mut self) -> Token {
        match unquote(self.rest) {
            Some((mut name, rest)) => {
                self.rest = rest;
                truncate(&mut name);
                Token::Word { name, quoted: true }
            }
            // A part of SQL text may end inside of a name.
            None => self.punctuation('"'),
        }
    }

    /// Consumes a parameter or a literal in dollar quotes.
    fn dollar(&mut self) -> Token {
        let text = self.rest;
        let tag = text[1..].find(|c: char| !is_name_part(c) || c == '$').map_or(0, |end| end + 1);
        let is_quote = text[tag..].starts_with('$')
            && tag > 0
            && !text[1..].starts_with(|c: char| c.is_ascii_digit());
        if is_quote {
            let quote = &text[..=tag];
            let content = &text[quote.len()..];
            let end = content.find(quote);
            let literal = content[..end.unwrap_or(content.len())].to_owned();
            self.skip(end.map_or(text.len(), |end| end + 2 * quote.len()));
            return Token::Literal(literal);
        }
        let digits = text[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - 1);
        self.skip(1 + digits);
        text[1..=digits].parse().map_or(Token::Operand, Token::Parameter)
    }

    fn word(&mut self) -> Token {
        let text = self.rest;
        let end = text.find(|c| !is_name_part(c)).unwrap_or(text.len());
        let after = &text[end..];
        let word = &text[..end];
        match (word, after.chars().next()) {
            ("e" | "E", Some('\'')) => {
                self.skip(end);
                return Token::Literal(self.literal('\'', true));
            }
            ("u" | "U", Some('&')) if after.starts_with("&\"") => {
                self.skip(end + 1);
                self.skip(quoted_end(self.rest, '"').unwrap_or(self.rest.len()));
                return Token::Escaped;
            }
            _ => {}
        }
        self.skip(end);
        let mut name = word.to_ascii_lowercase();
        truncate(&mut name);
        Token::Word { name, quoted: false }
    }

    fn operator(&mut self) -> Token {
        let text = self.rest;
        let window = text.bytes().take(OPERATOR_WINDOW);
        let mut end = window.take_while(|byte| is_operator_char(char::from(*byte))).count();
        if !self.is_literal {
            let comment = [text[..end].find("--"), text[..end].find("/*")].into_iter().flatten();
            end = comment.min().unwrap_or(end).max(1);
        }
        // + and - at the end belong to the operand, unless the operator has one of these.
        if !text[..end].bytes().any(|byte| b"~!@#%^&|`?".contains(&byte)) {
            end = text[..end].trim_end_matches(['+', '-']).len().max(1);
        }
        let operator = match &text[..end] {
            "!=" => "<>",
            operator => operator,
        };
        let operator = operator.to_owned();
        self.skip(end);
        if operator == "=>" { Token::Other } else { Token::Operator(operator) }
    }

    fn punctuation(&mut self, first: char) -> Token {
        for (text, token) in [("::", Token::Cast), (":=", Token::Assign), ("..", Token::Other)] {
            if self.rest.starts_with(text) {
                self.skip(text.len());
                return token;
            }
        }
        self.skip(first.len_utf8());
        Token::Punctuation(first)
    }
}

/// Returns the end of the comment that `text` begins with; comments are nested.
pub(super) fn comment_end(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => {
                (depth, at) = (depth + 1, at + 2);
            }
            Some(b"*/") => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// Returns the end of the placeholder of format() that `text` begins with: `%I`, `%1$s`, `%-10L`.
fn placeholder_end(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('%')?;
    let end = 1 + rest.find(|c: char| !matches!(c, '0'..='9' | '$' | '-' | '*'))?;
    let mut chars = text[end..].chars();
    let is_kind = matches!(chars.next(), Some('s' | 'I' | 'L'));
    (is_kind && !chars.next().is_some_and(is_name_part)).then_some(end + 1)
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name_part(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit() || c == '$'
}

fn is_operator_char(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let mut words: Vec<String> =
            Mentions::of(text, Language::PlPgSql).words.into_keys().collect();
        words.sort();
        words
    }

    fn operators(text: &str) -> Vec<String> {
        let mut found: Vec<String> =
            Mentions::of(text, Language::PlPgSql).operators.into_iter().collect();
        found.sort();
        found
    }

    #[test]
    fn names_are_folded_unless_quoted() {
        assert_eq!(
            words("SELECT Next_No(), \"Log\".\"n\", \"a\"\"b\""),
            ["Log", "a\"b", "next_no"]
        );
        assert_eq!(words("SELECT * FROM \"order\" ORDER BY n"), ["by", "n", "order"]);
    }

    #[test]
    fn qualified_names_are_omitted() {
        assert_eq!(words("rb.next_no()"), ["rb"]);
        let qualified = Mentions::of("rb.next_no(t.n)", Language::Sql).qualified;
        assert_eq!(qualified, [("next_no".into(), true), ("n".into(), false)].into());
        assert_eq!(words("rb . \"Log\""), ["rb"]);
        assert_eq!(operators("a OPERATOR(extensions.%) b"), [""; 0]);
        assert_eq!(operators("a OPERATOR(%) b"), ["%"]);
        assert_eq!(words("1..n"), ["n"]);
    }

    #[test]
    fn comments_are_omitted_and_literals_are_read() {
        assert_eq!(words("a -- b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words("'x -- y' || $q$ z $q$ || E'it\\'s'"), ["it", "s", "x", "y", "z"]);
        assert_eq!(words("'SELECT \"Log\" WHERE a = ''b'''"), ["Log", "a", "b"]);
        assert_eq!(
            words("RAISE EXCEPTION 'no posts' USING errcode = 'x'"),
            ["errcode", "exception", "raise", "x"]
        );
        assert_eq!(words("'not closed"), ["closed"]);
        assert_eq!(words("$q$ not closed"), ["closed"]);
    }

    #[test]
    fn only_calls_and_literals_name_routines() {
        let mentions = Mentions::of("f(status) || 'g'", Language::Sql);
        assert_eq!(
            (mentions.words["f"], mentions.words["status"], mentions.words["g"]),
            (true, false, true)
        );
    }

    #[test]
    fn operators_are_split_as_by_the_server() {
        assert_eq!(operators("a<-b, a @-c, a!=b, count(*), a*b"), ["*", "-", "<", "<>", "@-"]);
        assert_eq!(operators("SELECT *, t.* FROM t"), [""; 0]);
        assert_eq!(operators("a +--b\n c"), ["+"]);
        assert_eq!(operators("x log%ROWTYPE; y log.n % TYPE"), [""; 0]);
        assert_eq!(operators("x => 1, y := 2, z::int"), [""; 0]);
        assert_eq!(operators(&format!("a ={} 1", "+-".repeat(10_000))), ["+", "-", "="]);
    }

    #[test]
    fn patterns_and_placeholders_are_no_operators() {
        assert_eq!(operators("title LIKE '%' || q || '%a%'"), ["||"]);
        assert_eq!(operators("format('SELECT %I WHERE x = %L', a)"), ["="]);
        assert_eq!(operators("EXECUTE 'SELECT title % $1'"), ["%"]);
        assert_eq!(operators("format('title %% %L', a)"), ["%", "%%"]);
        assert_eq!(operators("RAISE NOTICE 'a % b', c"), [""; 0]);
    }

    #[test]
    fn temporary_objects_and_creation_are_recognized() {
        let of = |text| Mentions::of(text, Language::PlPgSql);
        let temporary = |text| of(text).temporary.into_iter().collect::<Vec<_>>();
        assert_eq!(temporary("CREATE TEMP TABLE IF NOT EXISTS log (n int)"), ["log"]);
        assert_eq!(temporary("create local temporary table pg_temp.\"Log\" as"), ["Log"]);
        assert_eq!(temporary("SELECT 1 INTO TEMPORARY t FROM x"), ["t"]);
        assert_eq!(temporary("EXECUTE 'CREATE TEMP VIEW v AS'"), ["v"]);
        assert!(!of("CREATE TEMP TABLE t ()").creates);
        assert!(of("CREATE TABLE t ()").creates);
        assert!(of("SELECT current_schema()").creates);
        assert!(!of("SELECT n INTO x FROM created").creates);
    }

    #[test]
    fn names_that_are_not_in_the_text_are_recognized() {
        let of = |text| Mentions::of(text, Language::PlPgSql).runs_text;
        assert!(of("EXECUTE format('SELECT FROM %I', t)"));
        assert!(of("SELECT t::regclass") && of("x regclass;") && of("to_regclass(t)"));
        assert!(of("SELECT U&\"\\0441\""));
        assert!(!of("SELECT 'log'::regclass, to_regclass('log')"));
        assert!(!of("GRANT x; 'execute'"));
        assert!(!Mentions::of("EXECUTE p", Language::Sql).runs_text);
        assert!(Mentions::of("plpy.execute('x')", Language::Other).runs_text);
    }

    #[test]
    fn every_word_of_another_language_counts() {
        let text = "plpy.execute(\"select next_no() from \\\"Log\\\"\") # log, don't count";
        let mentions = Mentions::of(text, Language::Other);
        for word in ["next_no", "Log", "log", "count"] {
            assert_eq!(mentions.words.get(word), Some(&true), "{word}: {mentions:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).{0,60}", sql in "[a-z%$'\"./* \\\\-]{0,60}") {
            for language in [Language::Sql, Language::PlPgSql, Language::Other] {
                let _ = (Mentions::of(&text, language), Mentions::of(&sql, language));
            }
        }

        #[test]
        fn quoted_name_is_read_back(name in "[^\0]{1,15}") {
            let sql = format!("SELECT * FROM \"{}\";", name.replace('"', "\"\""));
            prop_assert!(Mentions::of(&sql, Language::Sql).words.contains_key(&name));
        }
    }
}
