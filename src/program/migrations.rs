//! The statements in a folder of SQL files that create the objects of a database.

use crate::failure::Failure;
use crate::output::{not_read, shown};
use alphanumeric_sort::compare_os_str;
use dragonfly_core::sql::identifiers::truncate;
use dragonfly_core::sql::{argument_types, canonical_type, find_unquoted, quote_ident};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::collections::HashMap;
use std::path::Path;
use walkdir::WalkDir;

/// Where the last statement that creates or replaces an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The path of the file, with slashes.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
    /// The words of each argument of a routine.
    arguments: Vec<Vec<String>>,
}

/// The statements that create objects, in the order in which migrations are applied.
#[derive(Debug, Default)]
pub struct Migrations {
    objects: HashMap<(Class, String), Vec<Created>>,
}

/// A namespace of objects: two objects of a class have different names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    Relation,
    Routine,
    Type,
    Schema,
    Role,
    Policy,
    Trigger,
    EventTrigger,
    Extension,
    Publication,
    Server,
}

impl Class {
    /// Returns the class of an object type, as `pg_identify_object` returns it.
    fn of(object_type: &str) -> Option<Self> {
        Some(match object_type {
            "table" | "foreign table" | "view" | "materialized view" | "sequence" => Self::Relation,
            _ if object_type.ends_with(" column") => Self::Relation,
            "function" | "procedure" | "aggregate" => Self::Routine,
            "type" | "domain" => Self::Type,
            "schema" => Self::Schema,
            "role" => Self::Role,
            "policy" => Self::Policy,
            "trigger" => Self::Trigger,
            "event trigger" => Self::EventTrigger,
            "extension" => Self::Extension,
            "publication" => Self::Publication,
            "server" => Self::Server,
            _ => return None,
        })
    }

    /// Whether its objects are in a schema.
    fn is_in_schema(self) -> bool {
        matches!(self, Self::Relation | Self::Routine | Self::Type)
    }

    /// Whether its objects are named within a relation.
    fn is_on_relation(self) -> bool {
        matches!(self, Self::Policy | Self::Trigger)
    }
}

impl Migrations {
    /// Reads the files `*.sql` in a folder and the folders in it, in the order of their names;
    /// numbers are ordered by value. Files and sections that revert a migration are left out.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut files = 0;
        let by_name = WalkDir::new(folder)
            .sort_by(|one, other| compare_os_str(one.file_name(), other.file_name()));
        for entry in by_name {
            let entry = entry.map_err(|error| not_read(folder, &error))?;
            let name = entry.file_name().to_string_lossy();
            if !entry.file_type().is_file() || !is_migration(&name) {
                continue;
            }
            let bytes =
                std::fs::read(entry.path()).map_err(|error| not_read(entry.path(), &error))?;
            files += 1;
            found.add_file(&slashed(entry.path()), &String::from_utf8_lossy(&bytes));
        }
        if files == 0 {
            return Err(Failure::new(format!("no file \"*.sql\" in {}", shown(folder)))
                .hint("--sources names the folder of the migrations."));
        }
        Ok(found)
    }

    /// Returns the statement that creates an object, by its type and identity as
    /// `pg_identify_object` returns them: for a policy or a trigger that is not in the files, its
    /// table; for a column, its relation.
    pub fn of_object(&self, object_type: &str, identity: &str) -> Option<&Created> {
        let class = Class::of(object_type)?;
        let named = |class, name: &str| self.objects.get(&(class, name.to_owned()))?.last();
        match class {
            Class::Routine => {
                let (name, arguments) = identity.split_at(find_unquoted(identity, "(")?);
                let actual = argument_types(arguments.strip_prefix('(')?.strip_suffix(')')?);
                let all = self.objects.get(&(class, name.to_owned()))?;
                all.iter().rev().find(|one| has_types(&one.arguments, &actual))
            }
            Class::Policy | Class::Trigger => named(class, identity).or_else(|| {
                let (_, relation) = identity.rsplit_once(" on ")?;
                named(Class::Relation, relation)
            }),
            Class::Relation if object_type.ends_with(" column") => {
                named(class, identity.rsplit_once('.')?.0)
            }
            _ => named(class, identity),
        }
    }

    fn add_file(&mut self, path: &str, text: &str) {
        let mut file = File { path, found: self, schema: "public".to_owned() };
        file.add_text(&sql_lines(text), 0, false);
    }
}

/// Whether a file is a migration that does not revert another. Golang-migrate, db-migrate and
/// Flyway have separate files for that.
fn is_migration(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some(stem) = name.strip_suffix(".sql") else { return false };
    let is_down = stem.rsplit(['.', '-']).next() == Some("down");
    let is_undo = stem
        .strip_prefix('u')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains("__"));
    !is_down && !is_undo
}

fn slashed(path: &Path) -> String {
    let path = path.to_string_lossy().replace('\\', "/");
    path.strip_prefix("./").unwrap_or(&path).to_owned()
}

/// Returns the lines with SQL, and empty ones in place of commands of psql, without the section
/// that reverts a migration of dbmate or goose.
fn sql_lines(text: &str) -> String {
    let mut lines = String::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let folded = line.trim().to_ascii_lowercase();
        if folded.starts_with("-- migrate:down") || folded.starts_with("-- +goose down") {
            break;
        }
        // The end of the data of COPY is no command.
        if !line.starts_with('\\') || line == "\\." {
            lines.push_str(line);
        }
        lines.push('\n');
    }
    lines
}

/// Whether arguments such as `a integer` or `text`, as a file has them, have these types.
fn has_types(arguments: &[Vec<String>], actual: &[String]) -> bool {
    arguments.len() == actual.len()
        && arguments.iter().zip(actual).all(|(argument, actual)| {
            let actual = canonical_type(actual);
            // The first word may be the name of the argument.
            [&argument[..], &argument[1..]].iter().any(|declared| {
                let declared = canonical_type(&declared.join(" "));
                // The file may rely on the search path.
                let rest = actual.strip_suffix(&declared);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        })
}

/// A file that is read.
struct File<'a> {
    path: &'a str,
    found: &'a mut Migrations,
    /// The schema of names without one.
    schema: String,
}

impl File<'_> {
    /// Adds what a text creates. `above` is the number of lines above it. In a block of PL/pgSQL,
    /// statements also begin after keywords.
    fn add_text(&mut self, text: &str, above: u32, is_block: bool) {
        let mut tokens = Vec::new();
        // Where the text is not SQL, what is above it counts.
        let _ = Tokenizer::new(&PostgreSqlDialect {}, text)
            .tokenize_with_location_into_buf(&mut tokens);
        tokens.retain(|one| !matches!(one.token, Token::Whitespace(_)));
        let mut begins = true;
        for at in 0..tokens.len() {
            if std::mem::take(&mut begins) {
                self.add_statement(&Words { tokens: &tokens[at..], at: 0 }, above);
            }
            begins = tokens[at].token == Token::SemiColon
                || is_block
                    && ["begin", "then", "else", "loop"]
                        .iter()
                        .any(|word| is_word(&tokens[at].token, word));
        }
    }

    fn add_statement(&mut self, statement: &Words<'_>, above: u32) {
        let mut words = statement.clone();
        if words.skip("create") {
            self.add_creation(words, above);
        } else if words.skip("drop") {
            self.drop(words);
        } else if words.skip("set") {
            self.set_search_path(words);
        } else if words.skip("do") {
            let block = words.tokens.iter().take_while(|one| one.token != Token::SemiColon);
            for one in block {
                if let Token::DollarQuotedString(block) = &one.token {
                    let above = above + line_of(one) - 1;
                    self.add_text(&block.value, above, true);
                }
            }
        }
    }

    fn add_creation(&mut self, mut words: Words<'_>, above: u32) {
        let line = above + words.tokens.first().map_or(1, line_of);
        if words.skip_any(&["temp", "temporary", "local", "global"]) {
            return;
        }
        words.skip_any(&["or", "replace", "unlogged", "recursive", "constraint"]);
        let Some(class) = words.class() else { return };
        let may_exist = words.skip_any(&["if", "not", "exists"]);
        if class == Class::Schema {
            words.skip("authorization");
        }
        let Some(name) = self.name(&mut words, class) else { return };
        let arguments = if class == Class::Routine { words.arguments() } else { vec![] };
        let created = Created { path: self.path.to_owned(), line, arguments };
        let all = self.found.objects.entry((class, name)).or_default();
        if !may_exist || all.is_empty() {
            all.push(created);
        }
    }

    /// Forgets objects that are dropped: `CREATE ... IF NOT EXISTS` can create them again.
    fn drop(&mut self, mut words: Words<'_>) {
        let Some(class) = words.class().filter(|class| *class != Class::Routine) else { return };
        words.skip_any(&["if", "exists"]);
        loop {
            let Some(name) = self.name(&mut words, class) else { return };
            self.found.objects.remove(&(class, name));
            if !words.skip_token(&Token::Comma) {
                return;
            }
        }
    }

    fn set_search_path(&mut self, mut words: Words<'_>) {
        words.skip_any(&["local", "session"]);
        if !words.skip("search_path") || !(words.skip("to") || words.skip_token(&Token::Eq)) {
            return;
        }
        let names = words.tokens[words.at.min(words.tokens.len())..]
            .iter()
            .take_while(|one| one.token != Token::SemiColon)
            .filter_map(|one| name_in(&one.token))
            .find(|name| !matches!(name.as_str(), "$user" | "pg_catalog" | "pg_temp" | ""));
        self.schema = names.unwrap_or_else(|| "public".to_owned());
    }

    /// Returns the name that follows, as `pg_identify_object` writes it.
    fn name(&self, words: &mut Words<'_>, class: Class) -> Option<String> {
        if class.is_on_relation() {
            let name = words.name()?;
            while !words.skip("on") {
                words.next()?;
            }
            words.skip("only");
            let relation = self.name(words, Class::Relation)?;
            return Some(format!("{} on {relation}", quote_ident(&name)));
        }
        let mut names = vec![words.name()?];
        while words.skip_token(&Token::Period) {
            names.push(words.name()?);
        }
        let name = names.pop()?;
        if !class.is_in_schema() {
            return Some(quote_ident(&name).into_owned());
        }
        let schema = names.pop().unwrap_or_else(|| self.schema.clone());
        Some(format!("{}.{}", quote_ident(&schema), quote_ident(&name)))
    }
}

/// The tokens of a statement and of those after it.
#[derive(Clone)]
struct Words<'t> {
    tokens: &'t [TokenWithSpan],
    at: usize,
}

impl Words<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|one| &one.token).filter(|one| **one != Token::SemiColon)
    }

    fn next(&mut self) -> Option<&Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).map(|one| &one.token).filter(|one| **one != Token::SemiColon)
    }

    fn skip(&mut self, word: &str) -> bool {
        let is_next = self.peek().is_some_and(|token| is_word(token, word));
        self.at += usize::from(is_next);
        is_next
    }

    fn skip_token(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        self.at += usize::from(is_next);
        is_next
    }

    /// Skips any of these words in any order. Returns whether there was one.
    fn skip_any(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        while words.iter().any(|word| self.skip(word)) {}
        self.at > start
    }

    /// Reads the type of an object.
    fn class(&mut self) -> Option<Class> {
        if self.skip("user") {
            return (!self.skip("mapping")).then_some(Class::Role);
        }
        if self.skip("event") {
            return self.skip("trigger").then_some(Class::EventTrigger);
        }
        // FOREIGN DATA WRAPPER has no line of its own.
        self.skip_any(&["materialized", "foreign"]);
        let word = match self.next()? {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
            _ => return None,
        };
        if word == "group" { Some(Class::Role) } else { Class::of(&word) }
    }

    fn name(&mut self) -> Option<String> {
        self.next().and_then(name_in)
    }

    /// Reads the input arguments of a routine: mode and default are left out.
    fn arguments(&mut self) -> Vec<Vec<String>> {
        let mut arguments = Vec::new();
        if !self.skip_token(&Token::LParen) {
            return arguments;
        }
        let (mut depth, mut current, mut is_default, mut is_output) = (0, vec![], false, false);
        while let Some(token) = self.next() {
            let ends = depth == 0 && matches!(token, Token::Comma | Token::RParen);
            let is_last = ends && *token == Token::RParen;
            if ends {
                let argument = std::mem::take(&mut current);
                if !argument.is_empty() && !is_output {
                    arguments.push(argument);
                }
                (is_default, is_output) = (false, false);
            } else {
                depth += i32::from(*token == Token::LParen) - i32::from(*token == Token::RParen);
                is_default |=
                    matches!(token, Token::Eq | Token::Assignment) || is_word(token, "default");
                let is_mode = current.is_empty()
                    && ["in", "out", "inout", "variadic"].iter().any(|mode| is_word(token, mode));
                is_output |= is_mode && is_word(token, "out");
                if !is_default && !is_mode {
                    current.push(token.to_string());
                }
            }
            if is_last {
                break;
            }
        }
        arguments
    }
}

/// Returns the line of a token in its text, from 1.
fn line_of(token: &TokenWithSpan) -> u32 {
    u32::try_from(token.span.start.line).unwrap_or(1)
}

/// Whether a token is this word, without quotes.
fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found)
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// Returns the identifier in a token, folded and truncated as the server does.
fn name_in(token: &Token) -> Option<String> {
    let mut name = match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) => text.clone(),
        _ => return None,
    };
    truncate(&mut name);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> Migrations {
        let mut found = Migrations::default();
        for (number, text) in files.iter().enumerate() {
            found.add_file(&format!("{}.sql", number + 1), text);
        }
        found
    }

    fn place(found: &Migrations, object_type: &str, identity: &str) -> Option<(String, u32)> {
        let created = found.of_object(object_type, identity)?;
        Some((created.path.clone(), created.line))
    }

    fn at(path: &str, line: u32) -> (String, u32) {
        (path.to_owned(), line)
    }

    #[test]
    fn objects_are_found_by_their_identity() {
        let found = of(&["-- CREATE TABLE app.no (a int);
CREATE SCHEMA IF NOT EXISTS app;
/* nested /* comment */ ; */ CREATE TABLE app.plans (
  id int); CREATE UNIQUE INDEX ON app.plans (id);
CREATE POLICY \"Users can read\" ON app.plans FOR SELECT USING (true);
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON \"app\".Plans EXECUTE FUNCTION app.f();
CREATE UNLOGGED TABLE \"Odd;\".\"say \"\"hi\"\"\" ();
CREATE OR REPLACE RECURSIVE VIEW app.v (a) AS SELECT 'CREATE ROLE no';
CREATE MATERIALIZED VIEW app.m AS SELECT 1;
create role worker login; create group g; create user u; create user mapping for no server s;
CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN CREATE TABLE app.no (); END $f$;
CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION app.f();
CREATE TEMPORARY TABLE no (a int);"]);
        for (object_type, identity, line) in [
            ("schema", "app", Some(2)),
            ("table", "app.plans", Some(3)),
            ("table column", "app.plans.id", Some(3)),
            ("policy", "\"Users can read\" on app.plans", Some(5)),
            ("policy", "by hand on app.plans", Some(3)),
            ("trigger", "t on app.plans", Some(6)),
            ("table", "\"Odd;\".\"say \"\"hi\"\"\"", Some(7)),
            ("view", "app.v", Some(8)),
            ("materialized view", "app.m", Some(9)),
            ("role", "worker", Some(10)),
            ("role", "g", Some(10)),
            ("role", "u", Some(10)),
            ("function", "app.f()", Some(11)),
            ("event trigger", "e", Some(13)),
            ("table", "app.no", None),
            ("table", "public.no", None),
            ("role", "no", None),
            ("database", "app", None),
        ] {
            let expected = line.map(|line| at("1.sql", line));
            assert_eq!(place(&found, object_type, identity), expected, "{object_type} {identity}");
        }
    }

    #[test]
    fn routines_are_told_apart_by_their_input_arguments() {
        let found =
            of(&["CREATE FUNCTION f(a int8 DEFAULT g(1, 2), OUT b text, VARIADIC c text[]) AS '';
CREATE FUNCTION f(varchar(5), app.\"T\" = NULL) AS '';
CREATE FUNCTION f(\"the moment\" timestamp (3) with time zone) RETURNS int AS '';
CREATE PROCEDURE f(inout double precision) AS '';
CREATE FUNCTION f(bigint, text[]) RETURNS text AS 'a newer one';
CREATE FUNCTION f(in plans) AS '';"]);
        for (identity, line) in [
            ("public.f(bigint,pg_catalog.text[])", Some(5)),
            ("public.f(character varying,app.\"T\")", Some(2)),
            ("public.f(timestamp with time zone)", Some(3)),
            ("public.f(double precision)", Some(4)),
            ("public.f(app.plans)", Some(6)),
            ("public.f(app.theplans)", None),
            ("public.f()", None),
            ("app.f(double precision)", None),
        ] {
            let expected = line.map(|line| at("1.sql", line));
            assert_eq!(place(&found, "function", identity), expected, "{identity}");
        }
    }

    #[test]
    fn last_creation_of_an_object_counts() {
        let found = of(&[
            "CREATE TABLE a (); CREATE TABLE b (); CREATE VIEW v AS SELECT 1;",
            "CREATE TABLE IF NOT EXISTS a ();\nDROP TABLE IF EXISTS c, b CASCADE;
             CREATE TABLE IF NOT EXISTS b ();\nCREATE OR REPLACE VIEW v AS SELECT 2;",
        ]);
        assert_eq!(place(&found, "table", "public.a"), Some(at("1.sql", 1)));
        assert_eq!(place(&found, "table", "public.b"), Some(at("2.sql", 3)));
        assert_eq!(place(&found, "view", "public.v"), Some(at("2.sql", 4)));
    }

    #[test]
    fn names_without_schema_are_in_that_of_the_search_path() {
        let found = of(&[
            "SET search_path TO \"$user\", app, public;\nCREATE TABLE a ();
             SET search_path = '';\nCREATE TABLE b ();",
            "CREATE TABLE c ();",
        ]);
        assert_eq!(place(&found, "table", "app.a"), Some(at("1.sql", 2)));
        assert_eq!(place(&found, "table", "public.b"), Some(at("1.sql", 4)));
        assert_eq!(place(&found, "table", "public.c"), Some(at("2.sql", 1)));
    }

    #[test]
    fn blocks_are_read_and_what_is_no_sql_is_not() {
        let found = of(&["\\set quote '
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'anon') THEN
    CREATE ROLE anon;
  END IF;
END $$;
COPY app.t (a) FROM stdin;
it's; CREATE ROLE no;
\\.
CREATE ROLE after;
-- migrate:down
CREATE ROLE undone;"]);
        assert_eq!(place(&found, "role", "anon"), Some(at("1.sql", 5)));
        assert_eq!(place(&found, "role", "after"), Some(at("1.sql", 11)));
        assert_eq!(place(&found, "role", "no"), None);
        assert_eq!(place(&found, "role", "undone"), None);
    }

    #[test]
    fn long_names_are_truncated() {
        let name = "Users can read the plans of all the teams that they are a member of today";
        let found = of(&[&format!("CREATE TABLE t ();\nCREATE POLICY \"{name}\" ON t;")]);
        let identity = format!("\"{}\" on public.t", &name[..63]);
        assert_eq!(place(&found, "policy", &identity), Some(at("1.sql", 2)));
    }

    #[test]
    fn text_that_is_no_sql_is_read_without_a_panic() {
        for text in [
            "",
            "CREATE",
            "CREATE TABLE",
            "CREATE FUNCTION f(",
            "DO $$",
            "'",
            "DROP TABLE a,",
            "SET search_path",
            "CREATE POLICY a ON",
            "CREATE TABLE a.;",
            "CREATE SCHEMA AUTHORIZATION",
        ] {
            assert!(of(&[text]).objects.is_empty() || text.contains("f("), "{text}");
        }
    }

    #[test]
    fn files_are_read_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("V10__b.sql", "CREATE VIEW v AS SELECT 10;"),
            ("V9__a.sql", "CREATE VIEW v AS SELECT 9;"),
            ("U11__c.sql", "CREATE VIEW v AS SELECT 11;"),
            ("12.down.sql", "CREATE VIEW v AS SELECT 12;"),
            ("13_countdown.sql", "CREATE VIEW w AS SELECT 1;"),
            ("notes.txt", "CREATE VIEW v AS SELECT 13;"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let found = Migrations::read(folder.path()).unwrap();
        let (path, _) = place(&found, "view", "public.v").unwrap();
        assert!(path.ends_with("/V10__b.sql"), "{path}");
        assert!(place(&found, "view", "public.w").is_some());

        let empty = tempfile::tempdir().unwrap();
        let failure = Migrations::read(empty.path()).unwrap_err();
        assert!(failure.message.starts_with("no file \"*.sql\" in "), "{failure:?}");
        assert!(Migrations::read(&empty.path().join("missing")).is_err());
    }
}
