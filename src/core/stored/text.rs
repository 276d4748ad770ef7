//! The text of a `pg_node_tree`: nodes, lists and tokens, without their meaning.
//!
//! The server writes it with `nodeToString` (outfuncs.c) and divides it into tokens as `pg_strtok`
//! (read.c) does: blanks separate tokens, parentheses and braces are tokens of their own, and a
//! backslash takes the meaning from the character that follows it.

use std::borrow::Cow;

/// How deeply nodes and lists are read. A deeper tree is not read at all.
const DEEPEST: usize = 300;

/// A node: its type, and its fields in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<'a> {
    /// The type of the node in capitals, such as `OPEXPR`.
    pub tag: &'a str,
    fields: Vec<(&'a str, Value<'a>)>,
}

/// The value of a field, or an element of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A null pointer, `<>`.
    Absent,
    /// A number, a word, or a string.
    Token(Cow<'a, str>),
    /// A list. Of a list of integers or OIDs, the letter that tells its kind is left out.
    List(Vec<Self>),
    /// The bytes of a constant, `4 [ 1 0 0 0 ]`.
    Datum(Vec<u8>),
    /// A node.
    Node(Node<'a>),
}

/// The text is not one that the server writes, or is nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The text ends or continues where it must not.
    #[error("the stored expression is not complete")]
    Malformed,
    /// Nodes are in more nodes than are read.
    #[error("the stored expression is nested too deeply")]
    TooDeep,
}

/// Reads a whole text.
pub fn parse(text: &str) -> Result<Value<'_>, Unreadable> {
    parse_to(text, DEEPEST)
}

/// As [`parse`], but of nodes within more than so many nodes and lists, only the type is read.
/// These may be nested as deeply as the server can write them.
pub fn parse_to(text: &str, most: usize) -> Result<Value<'_>, Unreadable> {
    let mut parser = Parser { text, position: 0, depth: 0, most };
    let value = parser.value()?;
    if parser.token().is_some() { Err(Unreadable::Malformed) } else { Ok(value) }
}

impl<'a> Node<'a> {
    /// Returns the value of a field; [`Value::Absent`] where the node has none of that name.
    pub fn field(&self, name: &str) -> &Value<'a> {
        let field = self.fields.iter().find(|(known, _)| *known == name);
        field.map_or(&Value::Absent, |(_, value)| value)
    }

    /// Returns the values of all fields.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.fields.iter().map(|(_, value)| value)
    }

    /// Returns the fields with their names.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &Value<'a>)> {
        self.fields.iter().map(|(name, value)| (*name, value))
    }

    /// Returns the node in a field.
    pub fn node(&self, name: &str) -> Option<&Node<'a>> {
        self.field(name).as_node()
    }

    /// Returns the elements of the list in a field; none where it is a null pointer.
    pub fn list(&self, name: &str) -> &[Value<'a>] {
        match self.field(name) {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// Returns the text of the token in a field.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name).as_text()
    }

    /// Returns the number in a field.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// Whether a field is true.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
}

impl<'a> Value<'a> {
    /// Returns the value as a node.
    pub fn as_node(&self) -> Option<&Node<'a>> {
        match self {
            Self::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Returns the value as the text of a token. A string in a list is in quotes, which are
    /// removed.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Token(token) => {
                let inner = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                Some(inner.unwrap_or(token))
            }
            _ => None,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
    /// The depth below which nodes are not read.
    most: usize,
}

impl<'a> Parser<'a> {
    /// Returns the next token as it is written, and moves behind it; `None` at the end.
    fn token(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.position..];
        let rest = rest.trim_start_matches([' ', '\n', '\t']);
        let start = self.text.len() - rest.len();
        let length = match rest.bytes().next()? {
            b'(' | b')' | b'{' | b'}' => 1,
            _ => word_length(rest),
        };
        self.position = start + length;
        Some(&self.text[start..self.position])
    }

    /// Returns the next token without moving behind it.
    fn peek(&mut self) -> Option<&'a str> {
        let before = self.position;
        let token = self.token();
        self.position = before;
        token
    }

    fn value(&mut self) -> Result<Value<'a>, Unreadable> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Unreadable::TooDeep);
        }
        let value = match self.token().ok_or(Unreadable::Malformed)? {
            "{" => self.node(),
            "(" => self.list(),
            ")" | "}" => Err(Unreadable::Malformed),
            "<>" => Ok(Value::Absent),
            token if self.peek() == Some("[") && is_number(token) => self.datum(),
            token => Ok(Value::Token(unescaped(token))),
        };
        self.depth -= 1;
        value
    }

    /// Reads a node behind its brace.
    fn node(&mut self) -> Result<Value<'a>, Unreadable> {
        let tag = self.token().ok_or(Unreadable::Malformed)?;
        let mut fields = Vec::new();
        if self.depth > self.most {
            self.skip()?;
            return Ok(Value::Node(Node { tag, fields }));
        }
        loop {
            match self.token().ok_or(Unreadable::Malformed)? {
                "}" => return Ok(Value::Node(Node { tag, fields })),
                token => {
                    let name = token.strip_prefix(':').ok_or(Unreadable::Malformed)?;
                    fields.push((name, self.value()?));
                }
            }
        }
    }

    /// Moves behind the end of a node.
    fn skip(&mut self) -> Result<(), Unreadable> {
        let mut open = 1;
        while open > 0 {
            match self.token().ok_or(Unreadable::Malformed)? {
                "{" | "(" => open += 1,
                "}" | ")" => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a list behind its parenthesis.
    fn list(&mut self) -> Result<Value<'a>, Unreadable> {
        // Integers, OIDs, transaction numbers, the members of a set.
        if matches!(self.peek(), Some("i" | "o" | "x" | "b")) {
            self.token();
        }
        let mut elements = Vec::new();
        loop {
            match self.peek().ok_or(Unreadable::Malformed)? {
                ")" => {
                    self.token();
                    return Ok(Value::List(elements));
                }
                _ => elements.push(self.value()?),
            }
        }
    }

    /// Reads the bytes of a constant, in front of their bracket.
    fn datum(&mut self) -> Result<Value<'a>, Unreadable> {
        self.token();
        let mut bytes = Vec::new();
        loop {
            match self.token().ok_or(Unreadable::Malformed)? {
                "]" => return Ok(Value::Datum(bytes)),
                // Where `char` has a sign, the server writes bytes with one.
                byte => match byte.parse::<i16>() {
                    Ok(byte @ -128..=255) => bytes.push(byte as u8),
                    _ => return Err(Unreadable::Malformed),
                },
            }
        }
    }
}

/// Returns the length of the word at the start of a text that is not empty.
fn word_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (position, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ' ' | '\n' | '\t' | '(' | ')' | '{' | '}' => return position,
            _ => {}
        }
    }
    text.len()
}

fn is_number(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns a token without the backslashes that take the meaning from a character.
fn unescaped(token: &str) -> Cow<'_, str> {
    if !token.contains('\\') {
        return Cow::Borrowed(token);
    }
    let mut text = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn node_has_the_fields_of_its_text() {
        let text = r#"{RANGETBLENTRY :alias <> :eref {ALIAS :aliasname a\ \(b :colnames ("x" "y")}
            :relid 16454 :inh true :selectedCols (b 8 9)}"#;
        let Ok(Value::Node(node)) = parse(text) else { panic!() };
        assert_eq!(node.tag, "RANGETBLENTRY");
        assert_eq!(node.number::<u32>("relid"), Some(16454));
        assert!(node.flag("inh"));
        let name = node.node("eref").unwrap();
        assert_eq!(name.text("aliasname"), Some("a (b"));
        assert_eq!(name.list("colnames")[1].as_text(), Some("y"));
        assert_eq!(node.list("selectedCols").len(), 2);
        assert_eq!(node.field("alias"), &Value::Absent);
        assert_eq!(node.field("missing"), &Value::Absent);
    }

    #[test]
    fn datum_is_bytes_with_or_without_sign() {
        let text = "{CONST :constisnull false :constvalue 3 [ 20 -1 255 ]}";
        let Ok(Value::Node(node)) = parse(text) else { panic!() };
        assert_eq!(node.field("constvalue"), &Value::Datum(vec![20, 255, 255]));
    }

    #[test]
    fn text_that_ends_early_or_late_is_malformed() {
        for text in ["", "{", "{A :b", "(", "(1 2", ")", "{A b 1}", "1 2", "4 [ 1", "4 [ x ]"] {
            assert_eq!(parse(text), Err(Unreadable::Malformed), "{text}");
        }
    }

    #[test]
    fn node_below_the_depth_that_is_read_has_no_fields() {
        let inner = "{C :c {D :d ({E} 4 [ 1 ])}}";
        let text = format!("{{A :a ({{B :b {inner}}}) :z 1}}");
        let Ok(Value::Node(node)) = parse_to(&text, 3) else { panic!() };
        let Some(b) = node.list("a")[0].as_node() else { panic!() };
        assert_eq!(b.field("b"), &Value::Node(Node { tag: "C", fields: vec![] }));
        assert_eq!(node.number("z"), Some(1));
        let deep = format!("{{A :a {}1{} :z 1}}", "{B :b ".repeat(10_000), "}".repeat(10_000));
        assert_eq!(parse(&deep), Err(Unreadable::TooDeep));
        assert!(parse_to(&deep, 3).is_ok());
        assert_eq!(parse_to("{A :a {B :b {C :c {D :d 1}}}", 2), Err(Unreadable::Malformed));
    }

    #[test]
    fn text_nested_too_deeply_is_not_read() {
        assert_eq!(parse(&"(".repeat(1_000_000)), Err(Unreadable::TooDeep));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_rejected(text in r#"[\PC{}()\\ :<>"\[\]0-9]{0,60}"#) {
            let _ = (parse(&text), parse_to(&text, 1));
        }
    }
}
