//! Connection service files, `pg_service.conf`: connection parameters under a name.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::shown;
use crate::parameters::{self, Parameters};
use dragonfly_core::sql::printable;
use std::path::{Path, PathBuf};

/// Returns the parameters of a service. The user's file comes before that of the system.
pub fn parameters(name: &str, environment: &Environment) -> Result<Parameters, Failure> {
    let files = files(environment);
    for file in &files {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        if let Some(found) = in_text(&text, name, file)? {
            parameters::check(&found)?;
            return Ok(found);
        }
    }
    let looked: Vec<String> = files.iter().map(|file| shown(file)).collect();
    Err(Failure::new(format!("definition of service \"{}\" not found", printable(name)))
        .detail(format!("searched in {}", looked.join(", ")))
        .hint("PGSERVICEFILE names another file."))
}

fn files(environment: &Environment) -> Vec<PathBuf> {
    let own = environment.variable("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| environment.in_home(".pg_service.conf"));
    let folder = environment.variable("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    own.into_iter().chain([Path::new(folder).join("pg_service.conf")]).collect()
}

/// Returns the parameters in the section of a service; `None` where there is no such section.
fn in_text(text: &str, name: &str, file: &Path) -> Result<Option<Parameters>, Failure> {
    let mut found: Option<Parameters> = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if section.strip_suffix(']') == Some(name) {
                found = Some(Parameters::new());
            }
            continue;
        }
        let Some(parameters) = &mut found else { continue };
        let place = || format!("line {number} of {}", shown(file));
        match line.split_once('=') {
            Some(("service", _)) => {
                return Err(Failure::new("nested service specifications are not supported")
                    .detail(format!("see {}", place())));
            }
            // As in libpq, the first value counts.
            Some((keyword, value)) => {
                let value = value.trim_start().to_owned();
                parameters.entry(keyword.trim_end().to_owned()).or_insert(value);
            }
            None => {
                return Err(Failure::new("syntax error in service file")
                    .detail(format!("\"=\" is missing in {}", place())));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n[a]\nhost=one\nport=5433\nhost=later\n\n[b]\ndbname = x y\n";

    fn read(text: &str, name: &str) -> Result<Option<Parameters>, Failure> {
        in_text(text, name, Path::new("f"))
    }

    #[test]
    fn section_of_the_service_is_read_and_no_other() {
        let a = read(FILE, "a").unwrap().unwrap();
        assert_eq!(
            a.into_iter().collect::<Vec<_>>(),
            [("host".to_owned(), "one".to_owned()), ("port".to_owned(), "5433".to_owned()),]
        );
        assert_eq!(read(FILE, "b").unwrap().unwrap()["dbname"], "x y");
        assert_eq!(read(FILE, "c").unwrap(), None);
    }

    #[test]
    fn invalid_lines_are_named() {
        let failure = read("[a]\nhost\n", "a").unwrap_err();
        assert_eq!(failure.detail.as_deref(), Some("\"=\" is missing in line 2 of f."));
        assert!(read("[a]\nservice=b\n", "a").is_err());
        assert!(read("[b]\nhost\n[a]\nhost=x", "a").unwrap().is_some(), "another section");
    }

    #[test]
    fn missing_service_names_the_files() {
        let environment = Environment::of([("PGSERVICEFILE", "/none/such")], None);
        let failure = parameters("a", &environment).unwrap_err();
        assert_eq!(failure.message, "definition of service \"a\" not found");
        assert!(failure.detail.unwrap().contains("/none/such"));
    }
}
