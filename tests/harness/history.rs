//! A database in which the extension has been in use for a while.

use super::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// All findings, in an order that does not depend on OIDs.
pub const FINDINGS: &str =
    "SELECT fingerprint || ' ' || rule || ' ' || object FROM ops.audit_security() ORDER BY 1";

/// Creates the document's database with a contract of its own, exemptions, and a routine that was
/// unsafe before the extension was created: database `app`.
///
/// # Panics
/// If a statement fails.
#[must_use]
pub fn database_with_history(cluster: &Cluster) -> Client {
    database_with_history_since(cluster, "CREATE EXTENSION dragonfly_guard")
}

/// As [`database_with_history`], where `created` are the statements that create the extension.
///
/// # Panics
/// If a statement fails.
#[must_use]
pub fn database_with_history_since(cluster: &Cluster, created: &str) -> Client {
    cluster
        .connect("postgres", SUPERUSER)
        .batch_execute("CREATE DATABASE app")
        .expect("a database with history");
    cluster.psql_file("app", "fixtures/document.sql");
    let mut client = cluster.connect("app", SUPERUSER);
    client
        .batch_execute(
            "SET ROLE postgres; CREATE FUNCTION api.legacy() RETURNS int LANGUAGE sql SECURITY \
             DEFINER AS 'SELECT 1'; RESET ROLE",
        )
        .expect("a database with history");
    client.batch_execute(created).expect("the extension");
    client
        .batch_execute(
            "SELECT ops.load_contract(jsonb_set(ops.contract(), '{version}', '\"1.1.0\"'), 'Ours');
             SET ROLE postgres; CREATE VIEW public.v_extra AS SELECT id FROM public.plaintiffs;
             GRANT ALL ON public.v_extra TO service_role; GRANT SELECT ON public.v_extra TO anon;
             CREATE TABLE public.words (word varchar(9), amount numeric); ALTER TABLE public.words \
             ENABLE ROW LEVEL SECURITY;
             GRANT ALL ON public.words TO service_role; GRANT SELECT ON public.words TO anon;
             CREATE POLICY few ON public.words FOR SELECT TO anon USING (word IN ('a', 'b') OR \
             amount IN (1, 2));
             CREATE VIEW public.v_words AS SELECT word FROM public.words WHERE word IN ('a', 'b') \
             AND amount NOT IN (1, 2);
             GRANT ALL ON public.v_words TO service_role; GRANT SELECT ON public.v_words TO anon; \
             RESET ROLE;
             SELECT ops.exempt(fingerprint, 'Words') FROM ops.audit_security() WHERE object LIKE \
             '%words%' AND severity = 'error';
             SELECT ops.exempt(fingerprint, 'Until it is rewritten', now() + interval '1 day') \
             FROM ops.audit_security()
              WHERE rule = 'security_definer_search_path' AND object = 'api.legacy()';
             SELECT ops.exempt(reason => 'Ids only', rule => 'undeclared_view_readable', object => \
             'public.v_ex*');
             SELECT ops.freeze_schema('before')",
        )
        .expect("a database with history");
    client
}

/// Asserts that a database with this history has kept it, and that the guard works in it.
///
/// # Panics
/// If it does not.
pub fn assert_restored_and_guarded(cluster: &Cluster, database: &str, findings: &[String]) {
    let mut client = cluster.connect(database, SUPERUSER);
    assert_eq!(column(&mut client, FINDINGS), findings);
    assert_eq!(column(&mut client, "SELECT ops.contract()->>'version'"), ["1.1.0"]);
    let history = "SELECT version || ' ' || note || coalesce(' ' || changes::text, '') FROM \
                   ops.contract_history";
    assert_eq!(
        column(&mut client, history),
        ["1.0.0 Initial security contract", "1.1.0 Ours ~ version: 1.0.0 -> 1.1.0"]
    );
    // Exemptions are still active, because the objects are unchanged.
    let exemptions = "SELECT object || ' ' || status || ' ' || finding_count || ' ' || exempted_by \
                      FROM ops.v_exemptions ORDER BY id";
    assert_eq!(
        column(&mut client, exemptions),
        [
            "public.words active 1 root_su",
            "public.v_words active 1 root_su",
            "few on public.words active 1 root_su",
            "api.legacy() active 1 root_su",
            "public.v_ex* active 1 root_su"
        ]
    );
    let drift = "SELECT concat_ws(' ', change, object, property)
                   FROM ops.check_schema_consistency() WHERE source = 'frozen before'";
    assert_eq!(column(&mut client, drift), [""; 0]);
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.audit_guard()"), ["0"]);
    let rejected = attempt(
        &mut client,
        "CREATE FUNCTION api.new() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    )
    .expect_err("the guard rejects it");
    assert_eq!(rejected.code, "42P13");
}
