//! The value of a routine whose body is a constant condition: `SELECT true`, `RETURN 1 = 1`.
//! Nothing is executed, and no name is looked up: a body with any name in it has no known value.

use super::body::{Language, Token, tokens};

/// A value of SQL's logic with three values; `None` is null.
pub type Truth = Option<bool>;

/// Returns the value of a body that returns a boolean; `None` where it is not known.
#[must_use]
pub fn value(text: &str, language: Language) -> Option<Truth> {
    let tokens = tokens(text, false);
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    let value = match language {
        Language::Sql => parser.query()?,
        Language::PlPgSql => {
            parser.word("begin")?;
            parser.word("return")?;
            let value = parser.expression()?;
            parser.punctuation(';')?;
            parser.word("end")?;
            value
        }
        Language::Other => return None,
    };
    let _ = parser.punctuation(';');
    (parser.at == tokens.len()).then(|| value.truth()).flatten()
}

/// The value of an expression.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Truth(Truth),
    Number(i64),
    /// A literal, of which the type is not known.
    Text(String),
}

impl Value {
    /// Returns the value as a boolean.
    fn truth(self) -> Option<Truth> {
        match self {
            Self::Truth(truth) => Some(truth),
            Self::Number(_) => None,
            Self::Text(text) => truth_of(&text),
        }
    }
}

/// Returns the boolean that a literal stands for (bool.c, `parse_bool_with_len`).
#[must_use]
pub fn truth_of(text: &str) -> Option<Truth> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(Some(true)),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(Some(false)),
        _ => None,
    }
}

/// How deeply expressions are read.
const DEEPEST: usize = 50;

/// Reads expressions from the lowest precedence to the highest. Each function returns `None` for
/// what it does not know.
struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn query(&mut self) -> Option<Value> {
        self.word("select")?;
        let value = self.expression()?;
        if self.word("as").is_some() && !matches!(self.next(), Some(Token::Word { .. })) {
            return None;
        }
        Some(value)
    }

    fn expression(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = self.joined("or", true, |parser| parser.joined("and", false, Self::negation));
        self.depth -= 1;
        value
    }

    /// Reads operands with AND or OR between them; `decides` is the value that decides.
    fn joined(
        &mut self,
        word: &str,
        decides: bool,
        operand: impl Fn(&mut Self) -> Option<Value>,
    ) -> Option<Value> {
        let mut all = operand(self)?;
        while self.word(word).is_some() {
            let both = [all.truth()?, operand(self)?.truth()?];
            all = Value::Truth(if both.contains(&Some(decides)) {
                Some(decides)
            } else if both.contains(&None) {
                None
            } else {
                Some(!decides)
            });
        }
        Some(all)
    }

    fn negation(&mut self) -> Option<Value> {
        let mut is_negated = false;
        let mut any = false;
        while self.word("not").is_some() {
            (is_negated, any) = (!is_negated, true);
        }
        let value = self.test()?;
        if !any {
            return Some(value);
        }
        Some(Value::Truth(value.truth()?.map(|truth| truth != is_negated)))
    }

    /// Reads a comparison, with IS after it.
    fn test(&mut self) -> Option<Value> {
        let mut value = self.comparison()?;
        while self.word("is").is_some() {
            let is_positive = self.word("not").is_none();
            let wanted = self.truth_word()?;
            let is_null = value == Value::Truth(None);
            let holds = match (wanted, &value) {
                (None, _) => is_null,
                (Some(wanted), _) => value.truth()? == Some(wanted),
            };
            value = Value::Truth(Some(holds == is_positive));
        }
        Some(value)
    }

    fn comparison(&mut self) -> Option<Value> {
        let left = self.operand()?;
        let Some(Token::Operator(operator)) = self.tokens.get(self.at) else { return Some(left) };
        let operator = operator.clone();
        self.at += 1;
        let right = self.operand()?;
        let order = match (&left, &right) {
            (Value::Truth(None), _) | (_, Value::Truth(None)) => return Some(Value::Truth(None)),
            (Value::Number(a), Value::Number(b)) => a.cmp(b),
            (Value::Truth(Some(a)), Value::Truth(Some(b))) => a.cmp(b),
            // The collation matters to the order only.
            (Value::Text(a), Value::Text(b)) if a == b => a.cmp(b),
            _ => return None,
        };
        let holds = match operator.as_str() {
            "=" => order.is_eq(),
            "<>" | "!=" => order.is_ne(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            _ => return None,
        };
        Some(Value::Truth(Some(holds)))
    }

    /// Reads a value with its casts.
    fn operand(&mut self) -> Option<Value> {
        let mut value = self.atom()?;
        while self.tokens.get(self.at) == Some(&Token::Cast) {
            self.at += 1;
            value = match (self.next()?, value) {
                (Token::Word { name, .. }, value) if ["bool", "boolean"].contains(&&**name) => {
                    match value {
                        Value::Number(number) => Value::Truth(Some(number != 0)),
                        value => Value::Truth(value.truth()?),
                    }
                }
                (Token::Word { name, .. }, text @ Value::Text(_)) if name == "text" => text,
                (Token::Word { .. }, Value::Truth(None)) => Value::Truth(None),
                _ => return None,
            };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<Value> {
        if let Some(truth) = self.truth_word() {
            return Some(Value::Truth(truth));
        }
        if self.word("coalesce").is_some() {
            return self.coalesce();
        }
        match self.next()? {
            Token::Number(number) => number.parse().ok().map(Value::Number),
            Token::Literal(text) => Some(Value::Text(text.clone())),
            Token::Punctuation('(') => {
                let is_query = matches!(self.tokens.get(self.at),
                    Some(Token::Word { name, quoted: false }) if name == "select");
                let value = if is_query { self.query()? } else { self.expression()? };
                self.punctuation(')')?;
                Some(value)
            }
            _ => None,
        }
    }

    /// Reads the arguments of COALESCE, all of which have to be known.
    fn coalesce(&mut self) -> Option<Value> {
        self.punctuation('(')?;
        let mut first = Value::Truth(None);
        loop {
            let value = self.expression()?;
            if first == Value::Truth(None) {
                first = value;
            }
            if self.punctuation(',').is_none() {
                break;
            }
        }
        self.punctuation(')')?;
        Some(first)
    }

    /// Consumes TRUE, FALSE, NULL or UNKNOWN.
    fn truth_word(&mut self) -> Option<Truth> {
        let Some(Token::Word { name, quoted: false }) = self.tokens.get(self.at) else {
            return None;
        };
        let truth = match name.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            "null" | "unknown" => None,
            _ => return None,
        };
        self.at += 1;
        Some(truth)
    }

    fn next(&mut self) -> Option<&Token> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    /// Consumes a keyword.
    fn word(&mut self, wanted: &str) -> Option<()> {
        let is_it = matches!(self.tokens.get(self.at),
            Some(Token::Word { name, quoted: false }) if name == wanted);
        self.at += usize::from(is_it);
        is_it.then_some(())
    }

    fn punctuation(&mut self, wanted: char) -> Option<()> {
        let is_it = self.tokens.get(self.at) == Some(&Token::Punctuation(wanted));
        self.at += usize::from(is_it);
        is_it.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Option<Truth> {
        value(text, Language::Sql)
    }

    #[test]
    fn constant_bodies_have_a_value() {
        for text in [
            "select true",
            " SELECT /* yes */ TRUE; -- always",
            "select (select not false)",
            "select 1 = 1 and not null is not null",
            "select 't'::boolean",
            "select 1::bool as allowed",
            "select coalesce(null, true, false)",
            "select false or 'a' = 'a'",
            "select null::text is null",
            "select (null) is unknown",
        ] {
            assert_eq!(sql(text), Some(Some(true)), "{text}");
        }
        assert_eq!(sql("select 2 < 1"), Some(Some(false)));
        assert_eq!(sql("select not null"), Some(None));
        let plpgsql = "begin return not (1 > 2); end;";
        assert_eq!(value(plpgsql, Language::PlPgSql), Some(Some(true)));
    }

    #[test]
    fn other_bodies_have_none() {
        for text in [
            "select x",
            "select $1",
            "select true from t",
            "select true, false",
            "select true where false",
            "select allowed()",
            "select 'a' < 'b'",
            "select true; select false",
            "select \"true\"",
            "insert into t values (true)",
            "",
        ] {
            assert_eq!(sql(text), None, "{text}");
        }
        assert_eq!(value("begin if a then return true; end if; end", Language::PlPgSql), None);
        assert_eq!(value("select true", Language::Other), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "(select|or|true|null|is|\\(|\\)|1|=|'t'|::|not|;| ){0,40}") {
            let _ = sql(&text);
        }
    }
}
