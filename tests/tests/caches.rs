//! What a session knows of roles, schemas, settings and the contents of pg_catalog from an earlier
//! statement is what another session would read now: after changes of its own, also within one
//! transaction and after the rollback of a subtransaction, and after those of other sessions.

use dragonfly_tests::mutate::Random;
use dragonfly_tests::{Cluster, SUPERUSER, attempt};
use postgres::Client;

/// A routine that is safe while no untrusted role can create objects in `shared`, or owns some
/// there.
const ROUTINE: &str = "CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql
    SECURITY DEFINER SET search_path = shared, pg_temp AS 'SELECT 1'";

/// Starts a server with a guarded database, and a session that has already checked a routine.
fn session() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    client
        .batch_execute(
            "SET client_min_messages = error;
             CREATE ROLE owner; CREATE ROLE other; CREATE ROLE team;
             CREATE SCHEMA app AUTHORIZATION owner; CREATE SCHEMA shared AUTHORIZATION owner;",
        )
        .unwrap();
    client.batch_execute("SET ROLE owner").unwrap();
    assert!(is_accepted(&mut client));
    (cluster, client)
}

/// Whether the guard accepts a new routine, which is dropped again.
fn is_accepted(client: &mut Client) -> bool {
    let accepted = attempt(client, ROUTINE).is_ok();
    if accepted {
        client.batch_execute("DROP FUNCTION app.f()").unwrap();
    }
    accepted
}

/// Makes `team` able to create objects in `shared`, before the guard is installed: it is trusted as
/// long as it is a member of `owner`.
const TEAM: &str = "SET dragonfly_guard.mode = off;
    GRANT owner TO team; GRANT CREATE ON SCHEMA shared TO team;
    RESET dragonfly_guard.mode;";

#[test]
fn membership_of_another_session_is_known_at_once() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    admin.batch_execute(TEAM).unwrap();
    assert!(is_accepted(&mut client), "a member of the owner is trusted");
    admin.batch_execute("REVOKE owner FROM team").unwrap();
    assert!(!is_accepted(&mut client), "no member any longer");
    admin.batch_execute("GRANT owner TO team").unwrap();
    assert!(is_accepted(&mut client));
    admin.batch_execute("REVOKE owner FROM team; ALTER ROLE team SUPERUSER").unwrap();
    assert!(is_accepted(&mut client), "superusers are trusted");
    admin.batch_execute("ALTER ROLE team NOSUPERUSER").unwrap();
    assert!(!is_accepted(&mut client));
}

#[test]
fn membership_of_the_same_transaction_is_known_and_forgotten_with_its_rollback() {
    let (_cluster, mut client) = session();
    client.batch_execute("RESET ROLE").unwrap();
    client.batch_execute(TEAM).unwrap();
    client.batch_execute("ALTER SCHEMA app OWNER TO owner").unwrap();
    let create = "SET ROLE owner; SAVEPOINT s;";
    let accepts = |client: &mut Client| {
        client.batch_execute(create).unwrap();
        let accepted = attempt(client, ROUTINE).is_ok();
        client.batch_execute("ROLLBACK TO s; RESET ROLE").unwrap();
        accepted
    };
    client.batch_execute("BEGIN").unwrap();
    assert!(accepts(&mut client));
    client.batch_execute("SAVEPOINT revoked; REVOKE owner FROM team").unwrap();
    assert!(!accepts(&mut client), "the transaction has revoked the membership");
    client.batch_execute("ROLLBACK TO revoked").unwrap();
    assert!(accepts(&mut client), "the revocation has been rolled back");
    client.batch_execute("REVOKE owner FROM team").unwrap();
    assert!(!accepts(&mut client));
    client.batch_execute("ROLLBACK").unwrap();
    client.batch_execute("SET ROLE owner").unwrap();
    assert!(is_accepted(&mut client), "the transaction has been rolled back");
}

/// Creates the routine as its owner.
fn as_owner() -> String {
    format!("SET ROLE owner; {ROUTINE}; RESET ROLE")
}

/// Whether the guard lets the session open `shared` to another role, which is rolled back.
fn may_open(client: &mut Client) -> bool {
    client.batch_execute("SAVEPOINT open").unwrap();
    let result = attempt(client, "GRANT CREATE ON SCHEMA shared TO other");
    client.batch_execute("ROLLBACK TO open").unwrap();
    result.inspect_err(|error| assert_eq!(error.code, "42P13", "{error:?}")).is_ok()
}

#[test]
fn routine_that_searches_a_schema_is_known_at_once() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    admin.batch_execute("SET client_min_messages = error").unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    let mut answers = |sql: &str| {
        admin.batch_execute(sql).unwrap();
        client.batch_execute("BEGIN").unwrap();
        let answer = may_open(&mut client);
        client.batch_execute("ROLLBACK").unwrap();
        answer
    };
    assert!(answers("SELECT 1"), "no routine searches the schema");
    assert!(!answers(&as_owner()));
    assert!(answers("ALTER FUNCTION app.f() SET search_path = pg_catalog, pg_temp"));
    assert!(!answers("ALTER FUNCTION app.f() SET search_path = app, shared, pg_temp"));
    assert!(answers("ALTER FUNCTION app.f() SECURITY INVOKER"));
    assert!(!answers("ALTER FUNCTION app.f() SECURITY DEFINER"));
    assert!(answers("DROP FUNCTION app.f()"));
    // More than a session looks at one by one.
    let many = "DO $$ BEGIN FOR i IN 1..10100 LOOP EXECUTE format('CREATE FUNCTION app.m%s() \
                RETURNS int LANGUAGE sql AS ''SELECT 1''', i); END LOOP; END $$";
    assert!(answers(&format!("SET dragonfly_guard.mode = off; {many}")));
    assert!(!answers(&format!("RESET dragonfly_guard.mode; {}", as_owner())));
}

#[test]
fn routine_that_searches_the_schema_of_its_owner_is_known_at_once() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    admin.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    let mut found = |sql: &str| {
        admin.batch_execute(sql).unwrap();
        client.batch_execute("BEGIN").unwrap();
        let result = attempt(&mut client, "ALTER SCHEMA shared OWNER TO other");
        client.batch_execute("ROLLBACK").unwrap();
        result.is_err_and(|error| error.code == "42P13")
    };
    let by_user = ROUTINE.replace("shared", "\"$user\", pg_catalog");
    assert!(!found(&by_user), "the owner has another name");
    assert!(found("CREATE ROLE shared; ALTER FUNCTION app.f() OWNER TO shared"));
    assert!(!found("ALTER ROLE shared RENAME TO elsewhere"));
    assert!(found("ALTER ROLE elsewhere RENAME TO shared"));
    assert!(!found("DROP FUNCTION app.f()"));
}

#[test]
fn routine_of_the_same_transaction_that_searches_a_schema_is_known_and_forgotten() {
    let (_cluster, mut client) = session();
    client.batch_execute("RESET ROLE; BEGIN").unwrap();
    assert!(may_open(&mut client));
    client.batch_execute("SAVEPOINT s").unwrap();
    client.batch_execute(&as_owner()).unwrap();
    assert!(!may_open(&mut client));
    client.batch_execute("ROLLBACK TO s").unwrap();
    assert!(may_open(&mut client), "the routine has been rolled back");
    client.batch_execute(&as_owner()).unwrap();
    assert!(!may_open(&mut client));
    client.batch_execute("SAVEPOINT dropped; DROP FUNCTION app.f()").unwrap();
    assert!(may_open(&mut client));
    client.batch_execute("ROLLBACK TO dropped").unwrap();
    assert!(!may_open(&mut client), "so has its drop");
    client.batch_execute("ROLLBACK; BEGIN").unwrap();
    assert!(may_open(&mut client));
}

#[test]
fn routine_whose_callers_choose_types_is_known_at_once() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    // Only superusers can create types.
    let closed = "SET client_min_messages = error; SET dragonfly_guard.mode = off;
        REVOKE TEMPORARY ON DATABASE app FROM PUBLIC; CREATE SCHEMA free;
        ALTER SCHEMA app OWNER TO CURRENT_USER; ALTER SCHEMA shared OWNER TO CURRENT_USER;
        GRANT USAGE ON SCHEMA app TO other";
    admin.batch_execute(closed).unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    let mut answers = |sql: &str| {
        admin.batch_execute(sql).unwrap();
        client.batch_execute("BEGIN").unwrap();
        let result = attempt(&mut client, "GRANT CREATE ON SCHEMA free TO other");
        client.batch_execute("ROLLBACK").unwrap();
        result.inspect_err(|error| assert_eq!(error.code, "42P13", "{error:?}")).is_ok()
    };
    assert!(answers("SELECT 1"));
    let text = "CREATE FUNCTION app.text(x anyelement) RETURNS text LANGUAGE sql SECURITY DEFINER
                SET search_path = pg_catalog, pg_temp AS 'SELECT x::text'";
    assert!(!answers(text));
    assert!(answers("DROP FUNCTION app.text(anyelement)"));
}

#[test]
fn schema_of_another_session_is_known_at_once() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    admin.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    admin.batch_execute("GRANT CREATE ON SCHEMA shared TO other").unwrap();
    assert!(!is_accepted(&mut client));
    admin.batch_execute("REVOKE CREATE ON SCHEMA shared FROM other").unwrap();
    assert!(is_accepted(&mut client));
}

#[test]
fn object_of_another_role_in_pg_catalog_is_known_at_once() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    admin
        .batch_execute("SET dragonfly_guard.mode = off; SET allow_system_table_mods = on")
        .unwrap();
    let kinds = [
        ("FUNCTION", "pg_catalog.planted()", "RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        ("TYPE", "pg_catalog.planted", "AS ENUM ('one')"),
        ("OPERATOR", "pg_catalog.<<<>>> (int4, int4)", ""),
        ("TABLE", "pg_catalog.planted", "(id int)"),
    ];
    for (kind, name, definition) in kinds {
        let create = match kind {
            "OPERATOR" => "CREATE OPERATOR pg_catalog.<<<>>> \
                           (FUNCTION = int4eq, LEFTARG = int4, RIGHTARG = int4)"
                .to_owned(),
            _ => format!("CREATE {kind} {name} {definition}"),
        };
        admin.batch_execute(&create).unwrap();
        assert!(is_accepted(&mut client), "{kind} of a superuser");
        admin.batch_execute(&format!("ALTER {kind} {name} OWNER TO other")).unwrap();
        let is_counted = !is_accepted(&mut client);
        admin.batch_execute(&format!("ALTER {kind} {name} OWNER TO {SUPERUSER}")).unwrap();
        let is_forgotten = is_accepted(&mut client);
        // What a session answers that has just read it.
        admin.batch_execute(&format!("ALTER {kind} {name} OWNER TO other")).unwrap();
        let mut fresh = cluster.connect("app", SUPERUSER);
        fresh.batch_execute("SET ROLE owner").unwrap();
        assert_eq!(is_counted, !is_accepted(&mut fresh), "{kind} of another role");
        admin.batch_execute(&format!("DROP {kind} {name}")).unwrap();
        assert!(is_forgotten && is_accepted(&mut client), "{kind} given back, dropped");
    }
}

#[test]
fn contract_is_read_again_where_its_row_is_another_one() {
    let (cluster, mut client) = session();
    let mut admin = cluster.connect("app", SUPERUSER);
    admin.batch_execute("SET client_min_messages = error").unwrap();
    admin
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT CREATE ON SCHEMA shared TO other;
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    assert!(!is_accepted(&mut client));
    let load = |admin: &mut Client, trusted: &str, version: &str| {
        let sql = format!(
            "SELECT ops.load_contract(jsonb_set(jsonb_set(dragonfly_guard.default_contract(), \
             '{{trusted_roles}}', '{trusted}'), '{{version}}', '\"{version}\"'))"
        );
        admin.batch_execute(&sql).unwrap();
    };
    load(&mut admin, "[\"other\"]", "1.0.1");
    assert!(is_accepted(&mut client), "the new contract trusts the role");
    // The rows are written to other places of another file.
    admin.batch_execute("VACUUM FULL dragonfly_guard.contract").unwrap();
    assert!(is_accepted(&mut client));
    load(&mut admin, "[]", "1.0.2");
    assert!(!is_accepted(&mut client));
}

/// Returns a statement about the objects and roles of [`session`].
fn statement(random: &mut Random) -> String {
    let role = random.pick(&["owner", "other", "team", "anon", "authenticated", "PUBLIC"]);
    let member = random.pick(&["owner", "other", "team"]);
    let schema = random.pick(&["app", "shared", "public"]);
    let verb = random.pick(&["GRANT %p TO", "REVOKE %p FROM"]);
    let grant = |privilege: &str| format!("{} {role}", verb.replace("%p", privilege));
    match random.below(16) {
        0 => grant(&format!("CREATE ON SCHEMA {schema}")),
        1 => grant(&format!("USAGE ON SCHEMA {schema}")),
        2 => grant(&format!("ALL ON {schema}.t")),
        3 => grant(&format!("EXECUTE ON FUNCTION {schema}.g()")),
        4 => format!("ALTER SCHEMA {schema} OWNER TO {member}"),
        5 => format!("ALTER TABLE {schema}.t OWNER TO {member}"),
        6 => format!("CREATE TABLE {schema}.t (id int)"),
        7 => format!("DROP TABLE {schema}.t"),
        8 => format!("ALTER FUNCTION {schema}.g() OWNER TO {member}"),
        9 => format!("ALTER SCHEMA {schema} RENAME TO moved"),
        10 => format!("ALTER SCHEMA moved RENAME TO {schema}"),
        _ => format!(
            "CREATE OR REPLACE FUNCTION {schema}.g() RETURNS int LANGUAGE sql {} AS 'SELECT 1'",
            random.pick(&[
                "",
                "SECURITY DEFINER",
                "SECURITY DEFINER SET search_path = shared, pg_temp",
                "SECURITY DEFINER SET search_path = public, pg_temp",
                "SECURITY DEFINER SET search_path = app, shared, pg_temp",
            ])
        ),
    }
}

/// Returns a change of roles, which nothing checks where the guard is not hardened.
fn change_of_roles(random: &mut Random) -> String {
    let role = random.pick(&["owner", "other", "team", "anon"]);
    match random.below(4) {
        0 => format!("ALTER ROLE {role} {}", random.pick(&["SUPERUSER", "NOSUPERUSER"])),
        1 => format!("GRANT {role} TO {}", random.pick(&["owner", "other", "team", "anon"])),
        _ => format!("REVOKE {role} FROM {}", random.pick(&["owner", "other", "team", "anon"])),
    }
}

#[test]
fn long_session_answers_as_a_new_one() {
    let seed = std::env::var("DRAGONFLY_SEED").map_or(19, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    let (cluster, mut long) = session();
    long.batch_execute(
        "RESET ROLE; SET dragonfly_guard.mode = off;
         CREATE ROLE anon; CREATE ROLE authenticated; RESET dragonfly_guard.mode",
    )
    .unwrap();
    let mut admin = cluster.connect("app", SUPERUSER);
    let mut rejected = 0;
    for step in 0..400 {
        if random.below(4) == 0 {
            let change = change_of_roles(&mut random);
            // Half of the changes are those of the session itself.
            let by = if random.below(2) == 0 { &mut long } else { &mut admin };
            let _ = attempt(by, &change);
        }
        let statement = statement(&mut random);
        let mut new = cluster.connect("app", SUPERUSER);
        new.batch_execute("SET client_min_messages = error; BEGIN").unwrap();
        let expected = attempt(&mut new, &statement);
        new.batch_execute("ROLLBACK").unwrap();
        long.batch_execute("BEGIN").unwrap();
        let answer = attempt(&mut long, &statement);
        assert_eq!(answer, expected, "seed {seed}, step {step}: {statement}");
        // The SQLSTATEs of the rules about privileges and about routines.
        let is_guards = |code: &str| ["0LP01", "42P13"].contains(&code);
        rejected += usize::from(answer.as_ref().is_err_and(|error| is_guards(&error.code)));
        // Where only the commit rejects it, nothing has changed.
        let _ = attempt(&mut long, "COMMIT");
    }
    assert!(rejected > 10, "only {rejected} statements were rejected");
}
