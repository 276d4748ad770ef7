//! Fixes of search paths: routines do the same before and after, and where they would not, the fix
//! is a proposal.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// Two schemas in which only the owner can create objects, and one in which a client can.
const SCHEMAS: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;
    CREATE ROLE postgres; CREATE ROLE deployer;
    CREATE SCHEMA rb; CREATE SCHEMA extensions; CREATE SCHEMA shared;
    GRANT CREATE ON SCHEMA shared TO anon;
    CREATE TABLE rb.log (n int); CREATE TABLE rb.\"Log\" (n int); CREATE TABLE rb.members (n int);
    CREATE FUNCTION rb.next_no() RETURNS int LANGUAGE sql AS 'SELECT 42';
    CREATE TYPE rb.mood AS ENUM ('good'); CREATE SEQUENCE rb.numbers;
    CREATE FUNCTION extensions.similar_to(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE OPERATOR extensions.% (FUNCTION = extensions.similar_to, LEFTARG = text,
      RIGHTARG = text);
    CREATE FUNCTION extensions.crypt(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE TABLE shared.notes (n int); CREATE FUNCTION shared.note() RETURNS int LANGUAGE sql
      AS 'SELECT 7';
    CREATE FUNCTION rb.helper() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN crypt('a'); END $$;
    CREATE FUNCTION rb.on_member() RETURNS trigger LANGUAGE plpgsql
      AS $$ BEGIN PERFORM crypt('a'); RETURN NEW; END $$;
    CREATE TRIGGER t AFTER INSERT ON rb.members FOR EACH ROW EXECUTE FUNCTION rb.on_member();";

/// A routine: its name, its path (`None` for none), language and body, and the expected path of the
/// fix, or what the proposal says.
struct Case {
    name: &'static str,
    path: Option<&'static str>,
    language: &'static str,
    body: &'static str,
    fix: Result<&'static str, &'static str>,
}

const fn case(
    name: &'static str,
    path: &'static str,
    body: &'static str,
    fix: Result<&'static str, &'static str>,
) -> Case {
    Case { name, path: Some(path), language: "plpgsql", body, fix }
}

const CASES: &[Case] = &[
    case(
        "relation",
        "rb",
        "BEGIN INSERT INTO log VALUES (next_no()); RETURN 1; END",
        Ok("rb, pg_temp"),
    ),
    case(
        "operator",
        "public, extensions",
        "BEGIN RETURN 'a' % 'b'; END",
        Ok("public, extensions, pg_temp"),
    ),
    case("type", "rb", "BEGIN RETURN 'good'::mood; END", Ok("rb, pg_temp")),
    case(
        "row_type",
        "rb",
        "DECLARE r log%ROWTYPE; BEGIN r.n := 1; RETURN r.n; END",
        Ok("rb, pg_temp"),
    ),
    case("empty", "", "BEGIN RETURN length('a'); END", Ok("pg_catalog, pg_temp")),
    case(
        "order_is_kept",
        "extensions, rb, pg_temp, public",
        "BEGIN RETURN next_no(); END",
        Ok("extensions, rb, public, pg_temp"),
    ),
    case("missing_schema", "no_such_schema, rb", "BEGIN RETURN next_no(); END", Ok("rb, pg_temp")),
    // Schema shared is not safe. These bodies find nothing there.
    case(
        "comment",
        "rb, shared",
        "BEGIN /* notes /* note() */ */ RETURN 1; -- note()\n END",
        Ok("rb, pg_temp"),
    ),
    case(
        "qualified",
        "shared, rb",
        "BEGIN RETURN shared . note() + next_no(); END",
        Ok("rb, pg_temp"),
    ),
    Case {
        name: "parsed",
        path: Some("shared, rb"),
        language: "atomic",
        body: "BEGIN ATOMIC SELECT (note() + next_no())::text; END",
        fix: Ok("rb, pg_temp"),
    },
    // These do.
    case(
        "unsafe_schema",
        "rb, shared",
        "BEGIN RETURN note(); END",
        Err("function note() of schema shared"),
    ),
    case(
        "dynamic",
        "rb, shared",
        "DECLARE x int; BEGIN EXECUTE 'SELECT note()' INTO x; RETURN x; \
        END",
        Err("function note() of schema shared"),
    ),
    case(
        "dollar_quotes",
        "rb, shared",
        "DECLARE x int; BEGIN EXECUTE $q$SELECT count(*) FROM \
        \"notes\"$q$ INTO x; RETURN x; END",
        Err("relation notes of schema shared"),
    ),
    case(
        "unknown_name",
        "rb, shared",
        "DECLARE x int; BEGIN EXECUTE format('SELECT count(*) FROM \
        %I', 'no' || 'tes') INTO x; RETURN x; END",
        Err("names of schema shared in SQL text"),
    ),
    case(
        "called",
        "extensions, shared, rb",
        "BEGIN RETURN helper(); END",
        Ok("extensions, rb, pg_temp"),
    ),
    case(
        "temporary",
        "rb",
        "BEGIN CREATE TEMP TABLE IF NOT EXISTS log AS SELECT 5 AS n; RETURN \
        (SELECT max(n) FROM log); END",
        Err("temporary relation log, hidden by that of schema rb"),
    ),
    // Without a path: that of the database is public, extensions.
    Case {
        name: "no_path",
        path: None,
        language: "plpgsql",
        body: "BEGIN RETURN length('a'); END",
        fix: Ok("public, pg_temp"),
    },
    Case {
        name: "no_path_extension",
        path: None,
        language: "plpgsql",
        body: "BEGIN RETURN crypt('a'); END",
        fix: Ok("public, extensions, pg_temp"),
    },
    Case {
        name: "no_path_called",
        path: None,
        language: "sql",
        body: "SELECT rb.helper()",
        fix: Ok("public, extensions, pg_temp"),
    },
    Case {
        name: "no_path_trigger",
        path: None,
        language: "sql",
        body: "INSERT INTO rb.members VALUES (1) RETURNING n::text",
        fix: Ok("public, extensions, pg_temp"),
    },
    Case {
        name: "no_path_parsed",
        path: None,
        language: "atomic",
        body: "BEGIN ATOMIC SELECT rb.helper(); END",
        fix: Ok("public, extensions, pg_temp"),
    },
];

impl Case {
    fn create(&self) -> String {
        let path = match self.path {
            None => String::new(),
            Some("") => "SET search_path = ''".to_owned(),
            Some(path) => format!("SET search_path = {path}"),
        };
        let (language, body) = match self.language {
            "atomic" => ("sql", self.body.to_owned()),
            language => (language, format!("AS $body$ {} $body$", self.body)),
        };
        // The server parses a body at once only with the path of the session.
        let before =
            if self.language == "atomic" { self.path.unwrap_or("public") } else { "public" };
        format!(
            "SET search_path = {before}, extensions; CREATE FUNCTION rb.case_{}() RETURNS text \
             LANGUAGE {language} SECURITY DEFINER {path} {body}; RESET search_path",
            self.name
        )
    }

    fn call(&self, client: &mut Client) -> Result<Vec<String>, String> {
        let sql = format!("SELECT rb.case_{}()::text", self.name);
        let mut transaction = client.transaction().unwrap();
        let rows = transaction.query(&sql, &[]).map_err(|error| format!("{error:?}"))?;
        Ok(rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect())
    }
}

/// Returns a session of a superuser in a new database with the cases.
fn with_cases(cluster: &Cluster) -> Client {
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE fixes").unwrap();
    let mut admin = cluster.connect("fixes", SUPERUSER);
    admin.batch_execute(SCHEMAS).unwrap();
    for case in CASES {
        admin.batch_execute(&case.create()).unwrap_or_else(|e| panic!("{}: {e:?}", case.name));
    }
    admin
        .batch_execute(
            "CREATE EXTENSION dragonfly_guard;
             ALTER DATABASE fixes SET search_path = \"$user\", public, extensions",
        )
        .unwrap();
    cluster.connect("fixes", SUPERUSER)
}

#[test]
fn fixed_routines_do_the_same_and_others_get_a_proposal() {
    let cluster = Cluster::start();
    let mut client = with_cases(&cluster);
    let before: Vec<_> = CASES.iter().map(|case| case.call(&mut client)).collect();
    for (case, result) in CASES.iter().zip(&before) {
        assert!(result.is_ok(), "{}: {result:?}", case.name);
    }
    for case in CASES {
        let name = case.name;
        let row = client
            .query_one(
                &format!(
                    "SELECT fix, (SELECT string_agg(statement, '') FROM ops.golden_sql(rules =>
                       '{{security_definer_search_path}}') WHERE object = f.object),
                       (SELECT safe_path FROM
                         ops.judge_search_path('rb.case_{name}()'::regprocedure))
                     FROM ops.audit_security(rules => '{{security_definer_search_path}}') AS f
                     WHERE object = 'rb.case_{name}()'"
                ),
                &[],
            )
            .unwrap();
        let (fix, step, safe_path): (Option<String>, String, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        match case.fix {
            Ok(path) => {
                let statement = format!("ALTER ROUTINE rb.case_{name}() SET search_path = {path};");
                assert_eq!((fix.as_ref(), &step), (Some(&statement), &statement), "{name}");
                assert_eq!(safe_path.as_deref(), Some(path), "{name}");
            }
            Err(lost) => {
                assert_eq!((fix, safe_path), (None, None), "{name}: {step}");
                assert!(step.starts_with("-- ") && step.contains(lost), "{name}: {step}");
                assert!(step.contains("SET search_path = "), "{name}: {step}");
            }
        }
    }
    client
        .batch_execute(
            "SELECT * FROM ops.apply_golden_sql(false, rules => '{security_definer_search_path}')",
        )
        .unwrap();
    // A session without cached plans.
    let mut client = cluster.connect("fixes", SUPERUSER);
    for (case, result) in CASES.iter().zip(&before) {
        assert_eq!(&case.call(&mut client), result, "{}", case.name);
        let verdict = format!(
            "SELECT verdict FROM ops.judge_search_path('rb.case_{}()'::regprocedure)",
            case.name
        );
        let is_safe = column(&mut client, &verdict) == ["safe"];
        assert_eq!(is_safe, case.fix.is_ok(), "{}", case.name);
    }
    let left = column(
        &mut client,
        "SELECT object FROM ops.audit_security(rules => '{security_definer_search_path}')
         WHERE fix IS NOT NULL",
    );
    assert_eq!(left, [""; 0]);
}

#[test]
fn hint_of_a_rejection_is_accepted_and_the_routine_works() {
    let cluster = Cluster::start();
    let mut client = with_cases(&cluster);
    client
        .batch_execute(
            "CREATE SCHEMA mine AUTHORIZATION deployer;
             GRANT USAGE ON SCHEMA rb, extensions, public TO deployer;
             SET ROLE deployer",
        )
        .unwrap();
    let create = |path: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION mine.f() RETURNS text LANGUAGE plpgsql SECURITY DEFINER \
             {path} AS $$ BEGIN RETURN {body}; END $$"
        )
    };
    for (path, body, clause) in [
        ("SET search_path = public, extensions", "'a' % 'b'", "public, extensions, pg_temp"),
        ("SET search_path = rb", "next_no()", "rb, pg_temp"),
        ("", "crypt('a')", "public, extensions, pg_temp"),
        ("", "length('a')", "public, pg_temp"),
        ("SET search_path = ''", "rb.next_no()", "pg_catalog, pg_temp"),
        ("SET search_path = shared, rb", "next_no()", "rb, pg_temp"),
    ] {
        let rejected = attempt(&mut client, &create(path, body)).unwrap_err();
        let hint = format!("Create the function with SECURITY DEFINER SET search_path = {clause}.");
        assert_eq!(rejected.hint, hint, "{path} {body}");
        let followed = create(&format!("SET search_path = {clause}"), body);
        attempt(&mut client, &followed).unwrap_or_else(|e| panic!("{followed}: {e:?}"));
        client.batch_execute("SELECT mine.f()").unwrap_or_else(|e| panic!("{followed}: {e:?}"));
        client.batch_execute("DROP FUNCTION mine.f()").unwrap();
    }
    let rejected = attempt(&mut client, &create("SET search_path = shared, rb", "note()"));
    assert_eq!(
        rejected.unwrap_err().hint,
        "Create the function with SECURITY DEFINER SET search_path = rb, pg_temp. Along it, the \
         body or what it calls would not find function note() of schema shared: write these names \
         with their schemas."
    );
}

#[test]
fn judge_search_path_returns_the_safe_path() {
    let cluster = Cluster::start();
    let mut client = with_cases(&cluster);
    let mut safe_path = |path: &str| {
        client
            .query_one("SELECT safe_path FROM ops.judge_search_path($1, 'deployer')", &[&path])
            .unwrap()
            .get::<_, Option<String>>(0)
    };
    assert_eq!(safe_path("extensions, rb").as_deref(), Some("extensions, rb, pg_temp"));
    assert_eq!(safe_path("").as_deref(), Some("pg_catalog, pg_temp"));
    assert_eq!(safe_path("rb, shared, nowhere").as_deref(), Some("rb, pg_temp"));
    assert_eq!(safe_path("rb, pg_temp"), None);
}
