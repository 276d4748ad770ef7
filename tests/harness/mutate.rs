//! Random changes of the document's database; the same seed produces the same changes.

/// A random number generator, SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Returns a generator; the same seed produces the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// Returns one of `choices`.
    pub fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Roles of the document, and some that the contract does not declare.
pub const ROLES: [&str; 7] =
    ["anon", "authenticated", "service_role", "postgres", "mallory", "helpers", "PUBLIC"];

const TABLES: [&str; 12] = [
    "public.judgments",
    "public.plaintiffs",
    "public.plaintiff_contacts",
    "public.plaintiff_tasks",
    "public.job_queue",
    "intake.simplicity_batches",
    "intake.simplicity_raw",
    "ops.event_log",
    "ops.outbox",
    "enforcement.actions",
    "public.\"Odd $fix$ \"\" name\"",
    "public.inbox",
];
const VIEWS: [&str; 6] = [
    "public.v_plaintiffs_overview",
    "public.v_judgment_pipeline",
    "ops.v_batch_performance",
    "ops.v_reaper_status",
    "public.v_open",
    "public.m_open",
];
const SEQUENCES: [&str; 3] =
    ["public.job_queue_id_seq", "public.judgments_id_seq", "public.counter"];
const ROUTINES: [&str; 6] = [
    "api.get_dashboard_stats()",
    "api.get_call_queue()",
    "api.queue_job(text, jsonb)",
    "ops.complete_outbox_message(uuid)",
    "enforcement.open_actions(bigint)",
    "public.helper(text)",
];
const SCHEMAS: [&str; 5] = ["public", "api", "intake", "ops", "enforcement"];

/// Creates the roles and objects of [`mutation`] that the contract does not declare. Run by a
/// superuser with the guard off.
pub const PREPARATION: &str = r#"
    CREATE ROLE mallory LOGIN;
    CREATE ROLE helpers;
    CREATE TABLE public."Odd $fix$ "" name" (id int);
    CREATE TABLE public.inbox (id int, body text);
    CREATE VIEW public.v_open AS SELECT * FROM public.plaintiff_contacts;
    CREATE MATERIALIZED VIEW public.m_open AS SELECT * FROM public.plaintiff_contacts;
    CREATE SEQUENCE public.counter;
    CREATE FUNCTION public.helper(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)';
"#;

/// Returns a random statement; the server may reject it.
#[allow(clippy::too_many_lines, reason = "one list of statements")]
pub fn mutation(random: &mut Random) -> String {
    let role = random.pick(&ROLES);
    let other = random.pick(&ROLES[..6]);
    let table = random.pick(&TABLES);
    let relation = if random.below(3) == 0 { random.pick(&VIEWS) } else { table };
    let routine = random.pick(&ROUTINES);
    let schema = random.pick(&SCHEMAS);
    let option = if role != "PUBLIC" && random.below(4) == 0 { " WITH GRANT OPTION" } else { "" };
    let privilege = random.pick(&[
        "ALL",
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "SELECT, UPDATE",
        "REFERENCES",
    ]);
    match random.below(28) {
        0..=3 => format!("GRANT {privilege} ON {relation} TO {role}{option}"),
        4 => format!("REVOKE {privilege} ON {relation} FROM {role} CASCADE"),
        5 => format!(
            "GRANT {} ON SCHEMA {schema} TO {role}{option}",
            random.pick(&["USAGE", "CREATE", "ALL"])
        ),
        6 => format!("REVOKE ALL ON SCHEMA {schema} FROM {role} CASCADE"),
        7 => format!("GRANT EXECUTE ON FUNCTION {routine} TO {role}{option}"),
        8 => format!("REVOKE EXECUTE ON FUNCTION {routine} FROM {role} CASCADE"),
        9 => {
            let sequence = random.pick(&SEQUENCES);
            format!(
                "GRANT {} ON SEQUENCE {sequence} TO {role}{option}",
                random.pick(&["ALL", "USAGE", "UPDATE", "SELECT"])
            )
        }
        10 => format!("GRANT SELECT (id), UPDATE (id) ON public.judgments TO {role}"),
        11 => format!("GRANT {other} TO {role}"),
        12 => format!(
            "ALTER ROLE {other} {}",
            random.pick(&["BYPASSRLS", "CREATEROLE", "CREATEDB", "SUPERUSER", "NOBYPASSRLS"])
        ),
        13 => format!("ALTER TABLE {table} OWNER TO {other}"),
        14 => format!("ALTER FUNCTION {routine} OWNER TO {other}"),
        15 => format!(
            "ALTER TABLE {table} {} ROW LEVEL SECURITY",
            random.pick(&["DISABLE", "ENABLE", "FORCE"])
        ),
        16 => format!(
            "CREATE POLICY p{} ON {table} FOR {} TO {role} {}",
            random.below(1_000),
            random.pick(&["SELECT", "ALL", "DELETE"]),
            random.pick(&["USING (true)", "USING (false)", "USING (current_user = 'x')"])
        ),
        17 => format!(
            "ALTER FUNCTION {routine} {}",
            random.pick(&["SECURITY DEFINER", "SECURITY INVOKER", "RESET ALL"])
        ),
        18 => {
            let path = random.pick(&[
                "''",
                "public",
                "api, public, pg_temp",
                "\"$user\", public",
                "nowhere, pg_temp",
                "pg_catalog, pg_temp",
            ]);
            format!("ALTER FUNCTION {routine} SET search_path = {path}")
        }
        19 => {
            format!(
                "ALTER FUNCTION {routine} SET {}",
                random.pick(&["row_security = off", "session_replication_role = replica"])
            )
        }
        20 => format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA {schema} GRANT ALL ON TABLES TO \
             {role}{option}"
        ),
        21 => format!("ALTER SCHEMA {schema} OWNER TO {other}"),
        22 => format!(
            "DROP POLICY {} ON public.{}",
            random.pick(&["judgments_read", "plaintiffs_read"]),
            random.pick(&["judgments", "plaintiffs"])
        ),
        23 => format!("ALTER VIEW {} OWNER TO {other}", random.pick(&VIEWS[..5])),
        // A role with the grant option grants the privilege.
        24 => format!(
            "SET ROLE {other}; GRANT {privilege} ON {relation} TO {}; RESET ROLE",
            random.pick(&ROLES)
        ),
        // A chain of grants: to the owner, to the grantor, in a circle.
        25 | 26 => {
            let on =
                if random.below(3) == 0 { format!("SCHEMA {schema}") } else { relation.to_owned() };
            let privilege = if on.starts_with("SCHEMA") { "USAGE" } else { privilege };
            let next = random.pick(&ROLES);
            let with =
                if next != "PUBLIC" && random.below(2) == 0 { " WITH GRANT OPTION" } else { "" };
            format!(
                "GRANT {privilege} ON {on} TO {other} WITH GRANT OPTION; SET ROLE {other}; GRANT \
                 {privilege} ON {on} TO {next}{with}; RESET ROLE"
            )
        }
        _ => format!("ALTER ROLE {other} IN DATABASE app SET session_replication_role = replica"),
    }
}
