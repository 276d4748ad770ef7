//! The snapshot that a command is about: read from a server by the script `sql/snapshot.sql`, or
//! from a file.

use crate::connection::{ConnectionArgs, cause};
use crate::failure::Failure;
use crate::output::{self, shown};
use crate::pipe::pipe;
use crate::progress::Progress;
use clap::Args;
use dragonfly_core::sql::printable;
use dragonfly_reader::data::{Data, Invalid};
use dragonfly_reader::script::snapshot_sql;
use fallible_iterator::FallibleIterator;
use postgres::error::SqlState;
use postgres::types::{FromSql, Type};
use postgres::{Client, Row};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread;

/// Where the catalogs are read.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Snapshot to read instead of connecting; - for standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["connection", "host", "port", "username", "dbname"],
        help_heading = "Connection"
    )]
    snapshot: Option<PathBuf>,
}

impl SourceArgs {
    /// Reads the snapshot.
    pub fn read(&self) -> Result<Data, Failure> {
        match &self.snapshot {
            Some(file) => of_file(file),
            None => of_server(&self.connection),
        }
    }
}

/// Reads the snapshot that an argument names: a file, or a connection string.
pub fn of_argument(argument: &str) -> Result<Data, Failure> {
    let is_connection = argument.contains("://") || argument.contains('=');
    if is_connection && !Path::new(argument).exists() {
        of_server(&ConnectionArgs::of_text(argument))
    } else {
        of_file(Path::new(argument))
    }
}

fn of_file(file: &Path) -> Result<Data, Failure> {
    let text = output::read(file)?;
    Progress::step("reading the snapshot");
    checked(Data::parse(&text, || {}), &shown(file))
}

/// Reads the snapshot while the server writes it.
fn of_server(connection: &ConnectionArgs) -> Result<Data, Failure> {
    let mut client = connection.connect()?;
    let (mut to, from) = pipe();
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let done = run(&mut client, &mut |line| {
                to.write(line);
                to.write("\n");
                Ok(())
            });
            to.close();
            done
        });
        let data = Data::read(from, || {});
        // What went wrong on the server comes first: the text then ends early.
        reading.join().unwrap_or_else(|_| Err(Failure::new("the connection was lost")))?;
        checked(data, "the snapshot of the server")
    })
}

fn checked(data: Result<Data, Invalid>, name: &str) -> Result<Data, Failure> {
    let data = data.map_err(|error| {
        Failure::new(format!("{name} is not a valid snapshot"))
            .detail(printable(&error.to_string()))
            .hint("dragonfly-guard snapshot, sql/snapshot.sql and ops.snapshot() write snapshots.")
    })?;
    match data.version() {
        13..=18 => Ok(data),
        other => Err(Failure::new(format!("PostgreSQL {other} is not supported"))
            .detail("the catalogs of PostgreSQL 13 to 18 are known")),
    }
}

/// A statement of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Statement {
    /// Returns nothing.
    Command(String),
    /// Returns lines.
    Query(String),
    /// Returns statements, each of which returns lines: psql's `\gexec`.
    Generator(String),
}

/// Returns the statements of a script for psql, without its settings and comments.
fn statements(script: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut text = String::new();
    for line in script.lines() {
        let start = line.trim_start();
        if start.is_empty() || start.starts_with("--") {
            continue;
        }
        if start.starts_with("\\gexec") {
            found.push(Statement::Generator(std::mem::take(&mut text)));
            continue;
        }
        if start.starts_with('\\') {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        if line.ends_with(';') {
            let text = std::mem::take(&mut text);
            let is_query = text.starts_with("SELECT") || text.starts_with("WITH");
            found.push(if is_query { Statement::Query(text) } else { Statement::Command(text) });
        }
    }
    found
}

/// Runs the script, and hands on the lines of the snapshot.
pub fn run(
    client: &mut Client,
    write: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for statement in statements(&snapshot_sql()) {
        match statement {
            Statement::Command(sql) => client.batch_execute(&sql).map_err(|e| not_run(&sql, &e))?,
            Statement::Query(sql) => each_cell(client, &sql, write)?,
            Statement::Generator(sql) => {
                let mut generated = Vec::new();
                each_cell(client, &sql, &mut |cell| {
                    generated.push(cell.to_owned());
                    Ok(())
                })?;
                let count = generated.len();
                for (sql, number) in generated.iter().zip(1..) {
                    Progress::step(&format!("reading the catalogs: {}%", number * 100 / count));
                    each_cell(client, sql, write)?;
                }
            }
        }
    }
    Progress::erase();
    Ok(())
}

/// Runs a query, and hands on its values row by row, as the server sends them.
fn each_cell(
    client: &mut Client,
    sql: &str,
    work: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Without a named statement, which a pooler may not keep.
    let mut rows =
        client.query_typed_raw::<&str, _>(sql, []).map_err(|error| not_run(sql, &error))?;
    while let Some(row) = rows.next().map_err(|error| not_run(sql, &error))? {
        for place in 0..row.len() {
            let cell: Option<Cell<'_>> = of_row(&row, place, sql)?;
            if let Some(Cell(bytes)) = cell.filter(|Cell(bytes)| !bytes.is_empty()) {
                work(std::str::from_utf8(bytes).map_err(|_| not_utf8())?)?;
            }
        }
    }
    Ok(())
}

fn of_row<'r>(row: &'r Row, place: usize, sql: &str) -> Result<Option<Cell<'r>>, Failure> {
    row.try_get(place).map_err(|error| not_run(sql, &error))
}

/// The bytes of a text, which need not be valid in a database with encoding SQL_ASCII.
struct Cell<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN)
    }
}

fn not_run(sql: &str, error: &postgres::Error) -> Failure {
    if error.code() == Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) {
        return not_utf8();
    }
    let first: String = sql.lines().next().unwrap_or_default().chars().take(80).collect();
    let failure = Failure::new("could not read the catalogs").detail(cause(error));
    if error.as_db_error().is_some() {
        failure.hint(format!("The statement begins with: {first}"))
    } else {
        failure
    }
}

fn not_utf8() -> Failure {
    Failure::new("the catalogs contain text that is not valid UTF-8")
        .detail("the encoding of the database is SQL_ASCII, which accepts any bytes")
        .hint("Rename what has such a name. The extension audits such a database from inside.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_has_one_statement_that_generates_others() {
        let all = statements(&snapshot_sql());
        let kinds: Vec<&str> = all
            .iter()
            .map(|statement| match statement {
                Statement::Command(sql) => sql.split_whitespace().next().unwrap(),
                Statement::Query(_) => "query",
                Statement::Generator(_) => "generator",
            })
            .collect();
        assert_eq!(
            kinds,
            ["BEGIN", "SET", "SET", "SET", "SET", "query", "generator", "query", "COMMIT;"]
        );
        let all = format!("{all:?}");
        assert!(!all.contains("\\\\gexec") && !all.contains("\\\\pset"), "{all}");
    }
}
