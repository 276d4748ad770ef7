//! A server with translated messages: `ops.doctor()` and `ops.try_migration()` decide by data, and
//! return the same rows as in English. Where a row shows a message of the server, it is the
//! translated one.

use dragonfly_tests::{Cluster, GERMAN, SUPERUSER, attempt, column, major_version, pg_config};
use postgres::Client;

/// A server with German messages by default; `None` where this PostgreSQL has no translations. It
/// preloads the library, so that the guard also checks statements that fire no event trigger.
fn german() -> Option<Cluster> {
    let catalog = format!("de/LC_MESSAGES/postgres-{}.mo", major_version());
    if !pg_config("--localedir").join(catalog).exists() {
        eprintln!("skipped: this PostgreSQL has no German messages");
        return None;
    }
    Some(Cluster::start_with(&[
        &format!("lc_messages={GERMAN}"),
        "shared_preload_libraries=dragonfly_guard",
    ]))
}

/// A message of the server, in both languages.
struct Message {
    english: String,
    german: String,
}

impl Message {
    /// The message of the error that the statements raise; they may begin a transaction.
    fn of(client: &mut Client, sql: &str) -> Self {
        let mut message = |language: &str| {
            client.batch_execute(&format!("SET lc_messages = '{language}'")).unwrap();
            let error = attempt(client, sql).expect_err(sql);
            client.batch_execute("ROLLBACK").unwrap();
            error.message
        };
        let both = Self { english: message("C"), german: message(GERMAN) };
        assert_ne!(both.english, both.german, "the server has no German messages");
        both
    }
}

/// The rows of a query in German, after they have been compared with those in English. Each message
/// must be shown.
fn compared(client: &mut Client, sql: &str, messages: &[Message]) -> Vec<String> {
    client.batch_execute("SET lc_messages = 'C'").unwrap();
    let english = column(client, sql);
    client.batch_execute(&format!("SET lc_messages = '{GERMAN}'")).unwrap();
    let german = column(client, sql);
    for message in messages {
        assert!(
            german.iter().any(|row| row.contains(&message.german)),
            "{} is not shown: {german:#?}",
            message.german
        );
    }
    let translated = |row: &String| {
        messages.iter().fold(row.clone(), |row, m| row.replace(&m.german, &m.english))
    };
    assert_eq!(german.iter().map(translated).collect::<Vec<_>>(), english);
    german
}

#[test]
fn doctor_returns_the_same_rows() {
    let Some(cluster) = german() else { return };
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE postgres;
             CREATE TABLE public.sums (id int);
             CREATE OR REPLACE FUNCTION api.get_ceo_metrics() RETURNS jsonb LANGUAGE sql STABLE \
             SECURITY DEFINER
               SET search_path = public, pg_temp AS $$ SELECT jsonb_build_object('amount', \
             sum(id)) FROM sums $$;
             DROP TABLE public.sums;
             CREATE FUNCTION public.as_anon(int) RETURNS int IMMUTABLE LANGUAGE plpgsql SET role = \
             'anon' AS 'BEGIN RETURN 1; END';
             CREATE FUNCTION public.as_definer() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
             search_path = public, pg_temp
               AS 'SELECT public.as_anon(1)';
             CREATE VIEW public.v_broken AS SELECT 100 / 0 AS share;
             CREATE VIEW public.v_setting AS SELECT * FROM public.judgments WHERE id = \
             public.as_anon(1);
             CREATE VIEW public.v_request AS SELECT * FROM public.judgments WHERE stage = \
             current_setting('app.stage');
             ALTER VIEW ops.v_reaper_status RENAME TO v_old;
             CREATE VIEW ops.v_reaper_status AS SELECT o.* FROM ops.v_old o WHERE \
             public.as_anon(1) = 1;
             ALTER VIEW public.v_judgment_pipeline RENAME TO v_old;
             CREATE VIEW public.v_judgment_pipeline AS
               SELECT o.* FROM public.v_old o, public.judgments j WHERE j.stage = \
             current_setting('app.stage');
             GRANT SELECT ON public.v_judgment_pipeline TO anon, authenticated;
             GRANT ALL ON public.v_judgment_pipeline, ops.v_reaper_status TO service_role;
             RESET ROLE",
        )
        .unwrap_or_else(|e| panic!("{e:?}"));
    let mut other = cluster.connect("app", SUPERUSER);
    other.batch_execute("BEGIN; LOCK TABLE public.plaintiffs").unwrap();
    client.batch_execute("SET lock_timeout = '50ms'").unwrap();
    let messages = [
        Message::of(&mut client, "SELECT 1 / 0"),
        Message::of(&mut client, "SELECT * FROM sums"),
        Message::of(&mut client, "SELECT current_setting('app.stage')"),
        Message::of(&mut client, "SELECT * FROM public.plaintiffs"),
        Message::of(&mut client, "SELECT public.as_definer()"),
    ];
    let rows = "SELECT concat_ws(' | ', area, object, ok, detail, fix) FROM ops.doctor()";
    let found = compared(&mut client, rows, &messages);
    let shows = |object: &str, ok: &str, why: &Message| {
        let mut rows = found.iter().filter(|row| row.contains(&format!(" | {object} | {ok} | ")));
        assert!(rows.any(|row| row.contains(&why.german)), "{object}: {found:#?}");
    };
    let [division, relation, request, lock, setting] = &messages;
    shows("public.v_broken", "f", division);
    shows("api.get_ceo_metrics()", "f", relation);
    shows("public.v_judgment_pipeline", "t", request);
    shows("public.v_plaintiffs_overview", "t", lock);
    shows("ops.v_reaper_status", "t", setting);
    for object in ["public.v_setting", "public.v_request"] {
        assert!(!found.iter().any(|row| row.contains(object)), "{object} is broken: {found:#?}");
    }
}

#[test]
fn try_migration_returns_the_same_rows() {
    let Some(cluster) = german() else { return };
    let mut client = cluster.guarded_document("app");
    client.batch_execute("SET client_min_messages = error").unwrap();
    let definer =
        "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS $f$ SELECT 1 $f$";
    for (sql, outcome, rule, sqlstate) in [
        (
            "CREATE FUNCTION public.helper() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "added",
            "routine_executable_by_public",
            "",
        ),
        (
            "CREATE TABLE public.notes (id int); GRANT SELECT ON public.notes TO authenticated",
            "rejected",
            "table_privileges",
            "0LP01",
        ),
        (definer, "rejected", "security_definer_search_path", "42P13"),
        // The guard's protection of itself.
        (
            "CREATE FUNCTION ops.golden_sql(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "rejected",
            "guard_tampered",
            "42939",
        ),
        ("ALTER DATABASE app SET dragonfly_guard.mode = off", "rejected", "", "42939"),
        ("BEGIN", "not tried", "", "0A000"),
        ("COPY public.judgments FROM STDIN", "not tried", "", "0A000"),
        ("DISCARD SEQUENCES", "not tried", "", "0A000"),
        ("DROP EXTENSION dragonfly_guard", "not tried", "", "0A000"),
        ("VACUUM public.judgments", "not tried", "", "25001"),
        ("DO $$ BEGIN COMMIT; END $$", "not tried", "", "2D000"),
        ("SELECT 1 / 0", "failed", "", "22012"),
        ("CREATE TABEL x ()", "failed", "", "42601"),
        ("SELECT * FROM nowhere", "failed", "", "42P01"),
    ] {
        let rows = format!(
            "SELECT concat_ws(' | ', outcome, coalesce(rule, ''), coalesce(evidence->>'sqlstate', \
             ''), object, role_name, detail)
               FROM ops.try_migration($sql${sql}$sql$) WHERE severity <> 'info'"
        );
        // Errors of the server itself have translated messages.
        let of_server = matches!(sqlstate, "25001" | "2D000" | "22012" | "42601" | "42P01");
        let messages = if of_server {
            vec![Message::of(&mut client, &format!("BEGIN; {sql}"))]
        } else {
            vec![]
        };
        let found = compared(&mut client, &rows, &messages);
        assert!(
            found[0].starts_with(&format!("{outcome} | {rule} | {sqlstate} | ")),
            "{sql}: {found:#?}"
        );
        assert_eq!(found.len(), 1, "{sql}: {found:#?}");
    }
}
