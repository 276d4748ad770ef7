//! Values that many others share: thousands of routines have a few settings and privileges, and the
//! guard compares two states with the same roles after every statement.

use serde::{Serialize, Serializer};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// A value that clones share until one of them is changed.
#[derive(Debug, Default)]
pub struct Shared<T>(Rc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    /// Whether there are clones that share it.
    #[must_use]
    pub fn has_clones(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Whether both are the same value in memory, and neither has been changed since they were
    /// cloned.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Rc::make_mut(&mut self.0)
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Rc::new(value))
    }
}

impl<E> FromIterator<E> for Shared<Vec<E>> {
    fn from_iter<I: IntoIterator<Item = E>>(elements: I) -> Self {
        Vec::from_iter(elements).into()
    }
}

impl<'a, E> IntoIterator for &'a Shared<Vec<E>> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The same value is equal to itself without a look at its elements.
impl<T: Eq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.0 == other.0
    }
}

impl<T: Eq> Eq for Shared<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_clone_leaves_the_original_as_it_was() {
        let original: Shared<Vec<u32>> = [1, 2].into_iter().collect();
        let mut clone = original.clone();
        assert!(clone.is_same(&original));
        clone.push(3);
        assert!(!clone.is_same(&original));
        assert_eq!((&*original, &*clone), (&vec![1, 2], &vec![1, 2, 3]));
        assert_ne!(original, clone);
        clone.pop();
        assert_eq!(original, clone, "equal, although not the same");
    }
}
