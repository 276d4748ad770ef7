//! The report as one HTML page: what is wrong, what to fix first, who may do what, and why.
//!
//! The page needs no other file, no network and no scripts.

mod model;

pub use model::{GuardPart, Head, Limits, Page};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

/// The template. Each value in it is escaped.
const TEMPLATE: &str = include_str!("page.html");

impl Page {
    /// Writes the page as HTML.
    ///
    /// # Panics
    /// Never: the template is part of the library, and the tests write it.
    #[must_use]
    pub fn html(&self) -> String {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
            .render_str(TEMPLATE, context! { page => Value::from_serialize(self) })
            .expect("the template fits the page")
    }
}

#[cfg(test)]
mod tests;
