//! The password file, `~/.pgpass`.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::shown;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a password is for.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Login<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// Returns the password for a login in the password file. A file that others can read is ignored,
/// with a warning.
pub fn password(
    login: Login<'_>,
    named: Option<&str>,
    environment: &Environment,
) -> Option<String> {
    let file = named.map(PathBuf::from).or_else(|| environment.in_home(".pgpass"))?;
    let metadata = std::fs::metadata(&file).ok()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        ignored(&file, metadata.is_file()).warn();
        return None;
    }
    in_text(&std::fs::read_to_string(&file).ok()?, login)
}

fn ignored(file: &Path, is_file: bool) -> Failure {
    let failure = Failure::new(format!("password file {} is ignored", shown(file)));
    if !is_file {
        return failure.detail("it is not a plain file");
    }
    failure
        .detail("other users have access to it")
        .hint(format!("chmod 0600 {} restricts it to its owner.", shown(file)))
}

/// Returns the password of the first line that matches.
fn in_text(text: &str, login: Login<'_>) -> Option<String> {
    // libpq looks sockets up as localhost, those in a folder that was named by its path.
    let port = login.port.to_string();
    let wanted = [login.host, &port, login.database, login.user];
    let matching = |line: &str| {
        if line.starts_with('#') {
            return None;
        }
        let [fields @ .., password] = <[String; 5]>::try_from(fields(line)).ok()?;
        let is_match =
            |(field, wanted): (&String, &str)| field == "*" || unescaped(field) == wanted;
        fields.iter().zip(wanted).all(is_match).then(|| unescaped(&password))
    };
    text.lines().find_map(matching)
}

/// Returns the fields of a line, with their backslashes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            // The password is what follows the fourth colon, up to another one.
            ':' if fields.len() == 5 => break,
            ':' => fields.push(String::new()),
            '\\' => {
                fields[last].push('\\');
                fields[last].extend(chars.next());
            }
            c => fields[last].push(c),
        }
    }
    fields
}

fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LOGIN: Login<'_> = Login { host: "h", port: 5432, database: "d", user: "u" };

    fn found(text: &str) -> Option<String> {
        in_text(text, LOGIN)
    }

    #[test]
    fn first_line_that_matches_counts() {
        let text = "# h:5432:d:u:no\nother:*:*:*:a\nh:5432:d:u:b\n*:*:*:*:c\n";
        assert_eq!(found(text).as_deref(), Some("b"));
        assert_eq!(found("h:5433:*:*:a"), None);
        assert_eq!(found("h:5432:d:u"), None);
    }

    #[test]
    fn colons_and_backslashes_are_escaped() {
        assert_eq!(found(r"h:*:*:u:a\:b\\c").as_deref(), Some(r"a:b\c"));
        assert_eq!(found(r"h:*:*:u:a:b").as_deref(), Some("a"));
        let text = r"\:\:1:*:a\:b:u\\v:p";
        let login = Login { host: "::1", database: "a:b", user: r"u\v", ..LOGIN };
        assert_eq!(in_text(text, login).as_deref(), Some("p"));
        let star = Login { user: "*", ..LOGIN };
        assert_eq!(in_text(r"h:*:d:\*:p", star).as_deref(), Some("p"));
        assert_eq!(found(r"h:*:d:\*:p"), None, "an escaped asterisk is a name");
    }

    #[test]
    fn file_that_others_can_read_is_ignored() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"*:*:*:*:secret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let environment = Environment::default();
        assert_eq!(password(LOGIN, Some(path), &environment).as_deref(), Some("secret"));
        file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(password(LOGIN, Some(path), &environment), None);
    }
}
