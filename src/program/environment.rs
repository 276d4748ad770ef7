//! The environment variables and the home folder of the process.

use std::collections::HashMap;
use std::path::PathBuf;

/// Environment variables and the home folder.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: HashMap<String, String>,
    home: Option<PathBuf>,
}

impl Environment {
    /// Returns those of the process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables, home: std::env::home_dir() }
    }

    /// Returns some variables and a home folder.
    #[cfg(test)]
    pub fn of<const N: usize>(variables: [(&str, &str); N], home: Option<PathBuf>) -> Self {
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: variables.into(), home }
    }

    /// Returns the value of a variable; `None` where it is empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the path of a file in the home folder.
    pub fn in_home(&self, file: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(file))
    }
}
