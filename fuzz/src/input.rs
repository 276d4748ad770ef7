//! What a property makes of the bytes of an input.

/// Returns the bytes as text.
pub fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// Returns the bytes as text that a catalog can store.
pub fn stored_text(input: &[u8]) -> String {
    text(input).replace('\0', "")
}

/// Returns the first line of a text, and the rest.
pub fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// Reads an input byte by byte, as a list of decisions.
pub struct Bytes<'i>(pub &'i [u8]);

impl Bytes<'_> {
    /// Returns the next byte; 0 at the end.
    pub fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: u8) -> u8 {
        self.next() % limit
    }

    /// Whether bytes are left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
