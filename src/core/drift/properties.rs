//! The properties of an object of a snapshot, in little memory: a snapshot has millions of them,
//! and most are the same texts.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// The properties of an object and their values as text, in order of name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(Rc<str>, Rc<str>)>);

impl Properties {
    /// Sets a property.
    pub fn insert(&mut self, property: &str, text: &str) {
        match self.place(property) {
            Ok(at) => self.0[at].1 = text.into(),
            Err(at) => self.0.insert(at, (property.into(), text.into())),
        }
    }

    /// Returns the value of a property.
    #[must_use]
    pub fn get(&self, property: &str) -> Option<&str> {
        self.place(property).ok().map(|at| &*self.0[at].1)
    }

    fn place(&self, property: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(property))
    }

    /// Returns the properties with their values.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(property, text)| (&**property, &**text))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the properties that are not `kept`.
    pub fn retain(&mut self, mut kept: impl FnMut(&str) -> bool) {
        self.0.retain(|(property, _)| kept(property));
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<String, String>::deserialize(deserializer).map(Into::into)
    }
}

impl From<BTreeMap<String, String>> for Properties {
    fn from(properties: BTreeMap<String, String>) -> Self {
        Self(properties.into_iter().map(|(name, text)| (name.into(), text.into())).collect())
    }
}

/// The texts that properties share.
#[derive(Debug, Default)]
pub struct SharedTexts(HashSet<Rc<str>>);

impl SharedTexts {
    /// The length of the longest texts that are shared: longer ones, such as hashes of bodies,
    /// mostly occur once.
    const LONGEST: usize = 40;

    /// Lets properties share their texts with earlier ones.
    pub fn share(&mut self, properties: &mut Properties) {
        for (property, text) in &mut properties.0 {
            self.one(property);
            self.one(text);
        }
        properties.0.shrink_to_fit();
    }

    fn one(&mut self, text: &mut Rc<str>) {
        if text.len() > Self::LONGEST {
            return;
        }
        match self.0.get(&**text) {
            Some(known) => *text = Rc::clone(known),
            None => drop(self.0.insert(Rc::clone(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_in_order_of_name_and_the_last_value_counts() {
        let mut properties = Properties::default();
        for (property, text) in [("owner", "a"), ("body", "b"), ("owner", "c")] {
            properties.insert(property, text);
        }
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("body", "b"), ("owner", "c")]);
        assert_eq!((properties.get("owner"), properties.get("x")), (Some("c"), None));
        let json = serde_json::to_string(&properties).unwrap();
        assert_eq!(json, r#"{"body":"b","owner":"c"}"#);
        assert_eq!(serde_json::from_str::<Properties>(&json).unwrap(), properties);
    }

    #[test]
    fn short_texts_are_shared() {
        let long = "x".repeat(SharedTexts::LONGEST + 1);
        let mut all: [Properties; 2] = Default::default();
        let mut shared = SharedTexts::default();
        for properties in &mut all {
            properties.insert("owner", "a");
            properties.insert("body", &long);
            shared.share(properties);
        }
        let [one, other] = &all;
        assert_eq!(one, other);
        let is_same = |at: usize| Rc::ptr_eq(&one.0[at].1, &other.0[at].1);
        assert_eq!((is_same(0), is_same(1)), (false, true));
    }
}
