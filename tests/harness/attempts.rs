//! What each role can really do: every statement on every relation and routine of some schemas,
//! executed as every role and rolled back.

use postgres::Client;
use std::collections::BTreeMap;

/// The role, the object and the privilege of an attempt, and a variant of the statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Attempt {
    pub role: String,
    pub object: String,
    pub privilege: String,
    pub variant: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded: the number of rows, and what they contain.
    Done(u64, String),
    /// Insufficient privilege, or a row that a policy rejects (SQLSTATE 42501), with the message.
    Denied(String),
    /// Another error, which is raised after the privileges have been checked.
    Failed(String),
}

impl Outcome {
    /// Whether this allows something that `before` did not.
    #[must_use]
    pub fn is_more_than(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Denied(_), Self::Done(..) | Self::Failed(_)) => true,
            (Self::Done(before, then), Self::Done(after, now)) => {
                after > before || (after == before && then != now)
            }
            (Self::Failed(_), Self::Done(rows, _)) => *rows > 0,
            _ => false,
        }
    }

    /// Whether this allows less than `before` did.
    #[must_use]
    pub fn is_less_than(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Done(..), Self::Denied(_) | Self::Failed(_)) => true,
            (Self::Done(before, _), Self::Done(after, _)) => after < before,
            _ => false,
        }
    }
}

/// Every attempt with its outcome.
pub type Attempts = BTreeMap<Attempt, Outcome>;

/// The privilege of the attempt to become another role, which is the object.
pub const MEMBERSHIP: &str = "SET ROLE";

/// Executes a statement and rolls it back; returns what came of it. The rows of a query are counted
/// in `n` and hashed in `text`.
const TRY: &str = "
    CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $body$
    DECLARE
      n bigint; contents text; code text; message text;
    BEGIN
      BEGIN
        IF statement ~ '^SELECT ' THEN
          EXECUTE statement INTO n, contents;
        ELSE
          EXECUTE statement;
          GET DIAGNOSTICS n = ROW_COUNT;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'LAW00', MESSAGE = format('%s %s', n, contents);
      EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
        RETURN code || ' ' || message;
      END;
    END $body$";

/// The statements: object, privilege, variant, SQL.
const STATEMENTS: &str = "
    WITH relation AS (
      SELECT c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) AS name,
        (SELECT quote_ident(attname) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
           AND attidentity <> 'a' AND pg_column_is_updatable(c.oid, attnum, false)
         ORDER BY attnum LIMIT 1) AS first
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY($1) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
    statement(object, privilege, variant, sql) AS (
      SELECT name, 'SELECT', 'rows', format('SELECT count(*), md5(string_agg(t::text, '','' '
        'ORDER BY t::text)) FROM %s t', name) FROM relation WHERE relkind <> 'S'
      UNION ALL SELECT name, 'SELECT', 'column ' || attname, format('SELECT count(*), '
        'md5(string_agg(%1$I::text, '','' ORDER BY %1$I::text)) FROM %2$s', attname, name)
        FROM relation JOIN pg_attribute ON attrelid = relation.oid
        WHERE relkind <> 'S' AND attnum > 0 AND NOT attisdropped
      UNION ALL SELECT name, 'INSERT', 'defaults', format('INSERT INTO %s DEFAULT VALUES', name)
        FROM relation WHERE relkind <> 'S'
      UNION ALL SELECT name, 'UPDATE', 'all rows', format('UPDATE %s SET %2$s = NULL', name, first)
        FROM relation WHERE relkind <> 'S' AND first IS NOT NULL
      UNION ALL SELECT name, 'UPDATE', 'column ' || attname,
        format('UPDATE %s SET %2$I = %2$I', name, attname)
        FROM relation JOIN pg_attribute ON attrelid = relation.oid
        WHERE relkind <> 'S' AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      UNION ALL SELECT name, 'DELETE', 'all rows', format('DELETE FROM %s', name)
        FROM relation WHERE relkind <> 'S'
      UNION ALL SELECT name, 'DELETE', 'where', format('DELETE FROM %s WHERE %s IS NOT NULL', name,
        first) FROM relation WHERE relkind <> 'S' AND first IS NOT NULL
      UNION ALL SELECT name, 'TRUNCATE', 'all rows', format('TRUNCATE %s', name)
        FROM relation WHERE relkind IN ('r', 'p')
      UNION ALL SELECT name, 'USAGE', 'next value', format('SELECT 1, nextval(%L) > 0', name)
        FROM relation WHERE relkind = 'S'
      UNION ALL SELECT format('%I.%I(%s)', n.nspname, p.proname,
          pg_get_function_identity_arguments(p.oid)), 'EXECUTE', 'call',
        format('SELECT 1, %I.%I(%s)::text', n.nspname, p.proname,
          (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ' ORDER BY i)
           FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a(t, i)))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = ANY($1) AND prokind = 'f' AND prorettype <> 'trigger'::regtype)
    SELECT role.name, object, privilege, variant, sql
    FROM unnest($2::text[]) AS role(name), statement
    UNION ALL SELECT role.name, format('roles.%s', other.name), 'SET ROLE', '',
      format('SELECT pg_has_role(%L, %L)::int, NULL', other.name, 'MEMBER')
    FROM unnest($2::text[]) AS role(name), unnest($2::text[]) AS other(name)
    ORDER BY 1";

/// Executes every statement on the objects of `schemas` as each of `roles`. The connection must be
/// a superuser's and not be in a transaction.
///
/// # Panics
/// If a statement cannot be tried.
#[must_use]
pub fn attempts(client: &mut Client, schemas: &[&str], roles: &[&str]) -> Attempts {
    client
        .batch_execute(&format!("SET dragonfly_guard.mode = off; SET request.uid = '1'; {TRY}"))
        .expect("the preparation");
    let statements = client.query(STATEMENTS, &[&schemas, &roles]).expect("the statements");
    let mut outcomes = Attempts::new();
    let mut current = String::new();
    for row in &statements {
        let attempt = Attempt {
            role: row.get(0),
            object: row.get(1),
            privilege: row.get(2),
            variant: row.get(3),
        };
        if attempt.role != current {
            client.batch_execute(&format!("SET ROLE {}", attempt.role)).expect("SET ROLE");
            current.clone_from(&attempt.role);
        }
        let sql: String = row.get(4);
        let text: String = client
            .query_one("SELECT pg_temp.try($1)", &[&sql])
            .unwrap_or_else(|error| panic!("{}: {sql}: {error}", attempt.role))
            .get(0);
        outcomes.insert(attempt, outcome(&text));
    }
    client.batch_execute("RESET ROLE; DROP FUNCTION pg_temp.try").expect("RESET ROLE");
    outcomes
}

fn outcome(text: &str) -> Outcome {
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    match code {
        "LAW00" => {
            let (rows, contents) = rest.split_once(' ').unwrap_or((rest, ""));
            Outcome::Done(rows.parse().unwrap_or_default(), contents.to_owned())
        }
        "42501" => Outcome::Denied(rest.to_owned()),
        _ => Outcome::Failed(text.to_owned()),
    }
}
