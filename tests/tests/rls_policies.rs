//! `ops.rls_policies()` tells of each policy which columns tie a row to its caller, in which other
//! ways a row passes, what is looked up and what could not be read.

use dragonfly_tests::{Cluster, SUPERUSER, column};
use std::time::{Duration, Instant};

const APPLICATION: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE app_owner;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
            ->> 'sub')::uuid $$;
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated;
    CREATE TABLE app.members (user_id uuid NOT NULL, team int NOT NULL,
        PRIMARY KEY (user_id, team));
    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL, team int NOT NULL,
        public boolean NOT NULL);
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION app.decides(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'DECLARE yes bool; BEGIN yes := of = auth.uid(); RETURN yes; END';
    GRANT SELECT ON app.members TO authenticated;
    GRANT SELECT, INSERT, UPDATE ON app.docs TO authenticated;
    GRANT SELECT ON app.docs TO anon;
    CREATE POLICY \"by function\" ON app.docs FOR SELECT TO authenticated
        USING (app.decides(owner));
    CREATE POLICY \"by team\" ON app.docs FOR SELECT TO authenticated
        USING (team IN (SELECT team FROM app.members WHERE user_id = auth.uid()));
    CREATE POLICY floor ON app.docs AS RESTRICTIVE USING (id > 0);
    CREATE POLICY own ON app.docs TO authenticated
        USING (owner = auth.uid()) WITH CHECK (true);
    CREATE POLICY published ON app.docs FOR SELECT USING (public OR owner = auth.uid());
    CREATE TABLE app.idle (id int); CREATE POLICY idle ON app.idle USING (true);
    CREATE EXTENSION dragonfly_guard;
    SELECT count(*) FROM ops.adopt(ARRAY['app']::name[], dry_run => false);
    SET client_min_messages = error; SET dragonfly_guard.mode = 'off'";

#[test]
fn what_each_policy_lets_through_is_told() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    let told = "SELECT concat_ws(' | ', policy_name, permissive, roles, command,
               coalesce('ties ' || ties::text, 'NULL'), 'open ' || open_when::text,
               'lookups ' || lookups::text, 'unknown ' || unknown_because::text)
          FROM ops.rls_policies()";
    assert_eq!(
        column(&mut client, told),
        [
            "by function | PERMISSIVE | {authenticated} | SELECT | ties {} | open {\"opaque: R.id \
             > 0 AND decides(R.owner) IS TRUE\"} | lookups {} | unknown {\"function decides\"}",
            "by team | PERMISSIVE | {authenticated} | SELECT | ties {team} | open {} | lookups \
             {app.members} | unknown {}",
            "floor | RESTRICTIVE | {public} | ALL | NULL",
            "own | PERMISSIVE | {authenticated} | ALL | ties {\"owner (authenticated: SELECT, \
             UPDATE)\"} | open {\"row_open: R.id > 0 (authenticated: INSERT, new rows of \
             UPDATE)\"} | lookups {} | unknown {}",
            "published | PERMISSIVE | {public} | SELECT | ties {\"owner (authenticated)\"} | open \
             {\"row_open: R.id > 0 AND R.public IS TRUE\"} | lookups {} | unknown {}",
            "idle | PERMISSIVE | {public} | ALL | NULL",
        ]
    );
    let conditions = "SELECT concat_ws(' | ', using_expression, check_expression)
          FROM ops.rls_policies() WHERE policy_name = 'own'";
    assert_eq!(column(&mut client, conditions), ["(owner = auth.uid()) | true"]);
    // The columns that pg_policies has are the same.
    let differing = "SELECT r.policy_name::text FROM ops.rls_policies() r
          FULL JOIN (SELECT * FROM pg_policies WHERE schemaname = 'app') p
            ON (r.schema_name, r.table_name, r.policy_name, r.permissive, r.roles, r.command)
             = (p.schemaname, p.tablename, p.policyname, p.permissive, p.roles, p.cmd)
           AND r.using_expression IS NOT DISTINCT FROM p.qual
           AND r.check_expression IS NOT DISTINCT FROM p.with_check
         WHERE r.policy_name IS NULL OR p.policyname IS NULL";
    assert_eq!(column(&mut client, differing), [""; 0]);
}

#[test]
fn thousand_policies_are_told_in_seconds() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "DO $$ BEGIN FOR n IN 1..250 LOOP
                 EXECUTE format('CREATE TABLE app.t%s (id int PRIMARY KEY, owner uuid, team int);
                     ALTER TABLE app.t%1$s ENABLE ROW LEVEL SECURITY;
                     GRANT ALL ON app.t%1$s TO authenticated;
                     CREATE POLICY a ON app.t%1$s FOR SELECT TO authenticated
                         USING (owner = auth.uid());
                     CREATE POLICY b ON app.t%1$s FOR UPDATE TO authenticated
                         USING (owner = auth.uid());
                     CREATE POLICY c ON app.t%1$s FOR INSERT TO authenticated
                         WITH CHECK (owner = auth.uid());
                     CREATE POLICY d ON app.t%1$s FOR DELETE TO authenticated
                         USING (team IN (SELECT team FROM app.members
                             WHERE user_id = auth.uid()))', n);
             END LOOP; END $$",
        )
        .unwrap();
    let start = Instant::now();
    let ties = "SELECT count(*)::text FROM ops.rls_policies() WHERE ties IN ('{owner}', '{team}')";
    assert_eq!(column(&mut client, ties), ["1001"]);
    let elapsed = start.elapsed();
    // A build without optimisation, beside other tests.
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
    println!("1,000 policies: {elapsed:?}");
}
