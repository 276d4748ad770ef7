//! The objects that `CREATE EXTENSION dragonfly_guard` creates.

/// The version of the library, and of the objects that it works with.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The private schema.
pub const SCHEMA: &str = "dragonfly_guard";

/// The schema of the functions and views, which can belong to the application.
pub const API_SCHEMA: &str = "ops";

/// The event triggers of the extension: name and event. Each calls the function in [`SCHEMA`] with
/// the name of its event.
pub const TRIGGERS: [(&str, &str); 2] = [
    ("zz_dragonfly_guard_start", "ddl_command_start"),
    ("zz_dragonfly_guard_end", "ddl_command_end"),
];

/// The functions of the extension: schema, name, argument types, symbol in the library, and whether
/// it is STRICT.
pub const FUNCTIONS: [(&str, &str, &str, &str, bool); 72] = [
    (SCHEMA, "announce", "", "guard_announce", false),
    (SCHEMA, "ddl_command_end", "", "guard_ddl_command_end", false),
    (SCHEMA, "ddl_command_start", "", "guard_ddl_command_start", false),
    (SCHEMA, "default_contract", "", "guard_default_contract", true),
    (SCHEMA, "exemptions", "", "guard_exemptions", false),
    (SCHEMA, "is_contract", "pg_catalog.jsonb", "guard_is_contract", true),
    ("ops", "accept", "pg_catalog.text,pg_catalog.text", "ops_accept", false),
    (
        "ops",
        "adopt",
        "pg_catalog.name[],pg_catalog.text,pg_catalog.text,pg_catalog.text,interval,boolean,\
         boolean",
        "ops_adopt",
        false,
    ),
    (
        "ops",
        "adopt",
        "pg_catalog.text,pg_catalog.text,pg_catalog.text,pg_catalog.text,interval,boolean,\
         boolean",
        "ops_adopt_text",
        false,
    ),
    (
        "ops",
        "apply_golden_sql",
        "boolean,pg_catalog.name[],pg_catalog.text[],integer[],pg_catalog.text",
        "ops_apply_golden_sql",
        false,
    ),
    ("ops", "assert_consistency", "", "ops_assert_consistency", false),
    ("ops", "assert_security", "pg_catalog.text", "ops_assert_security", false),
    ("ops", "audit_contract", "pg_catalog.jsonb", "ops_audit_contract", false),
    ("ops", "audit_functions", "", "ops_audit_functions", false),
    ("ops", "audit_grants", "", "ops_audit_grants", false),
    ("ops", "audit_guard", "", "ops_audit_guard", false),
    ("ops", "audit_objects", "", "ops_audit_objects", false),
    ("ops", "audit_policies", "", "ops_audit_policies", false),
    ("ops", "audit_rls", "", "ops_audit_rls", false),
    ("ops", "audit_roles", "", "ops_audit_roles", false),
    (
        "ops",
        "audit_security",
        "pg_catalog.text[],pg_catalog.name[],pg_catalog.text,boolean",
        "ops_audit_security",
        false,
    ),
    (
        "ops",
        "audit_snapshot",
        "pg_catalog.json,pg_catalog.jsonb,pg_catalog.text[],pg_catalog.name[],pg_catalog.text",
        "ops_audit_snapshot",
        false,
    ),
    ("ops", "audit_views", "", "ops_audit_views", false),
    (
        "ops",
        "check_schema_consistency",
        "pg_catalog.text,pg_catalog.name[]",
        "ops_check_schema_consistency",
        false,
    ),
    ("ops", "compare_schema", "pg_catalog.jsonb", "ops_compare_schema", false),
    ("ops", "contract", "", "ops_contract", false),
    ("ops", "contract", "pg_catalog.text", "ops_contract_of_version", false),
    ("ops", "contract_changes", "pg_catalog.jsonb,pg_catalog.jsonb", "ops_contract_changes", false),
    ("ops", "contract_json", "pg_catalog.jsonb", "ops_contract_json", false),
    ("ops", "contract_preset", "pg_catalog.text", "ops_contract_preset", false),
    ("ops", "contract_schema", "", "ops_contract_schema", true),
    ("ops", "contract_sql", "", "ops_contract_sql", false),
    ("ops", "declare", "pg_catalog.text,pg_catalog.text,boolean", "ops_declare", false),
    ("ops", "doctor", "pg_catalog.name", "ops_doctor", false),
    (
        "ops",
        "exempt",
        "pg_catalog.text,pg_catalog.text,timestamp with time zone,pg_catalog.text,pg_catalog.text,\
         pg_catalog.name",
        "ops_exempt",
        false,
    ),
    (
        "ops",
        "explain_access",
        "pg_catalog.name,pg_catalog.text,pg_catalog.text,pg_catalog.name",
        "ops_explain_access",
        false,
    ),
    (
        "ops",
        "explain_policy",
        "pg_catalog.regclass,pg_catalog.name,pg_catalog.name",
        "ops_explain_policy",
        false,
    ),
    ("ops", "findings", "pg_catalog.text", "ops_findings", false),
    ("ops", "fix_schema_cache", "pg_catalog.name", "ops_fix_schema_cache", false),
    (
        "ops",
        "freeze_schema",
        "pg_catalog.text,pg_catalog.name[],boolean",
        "ops_freeze_schema",
        false,
    ),
    (
        "ops",
        "freeze_schema",
        "pg_catalog.text,pg_catalog.text,boolean",
        "ops_freeze_schema_text",
        false,
    ),
    ("ops", "golden_sql", "pg_catalog.name[],pg_catalog.text[]", "ops_golden_sql", false),
    ("ops", "golden_sql", "pg_catalog.text,pg_catalog.text[]", "ops_golden_sql_text", false),
    ("ops", "guard_status", "", "ops_guard_status", false),
    ("ops", "infer_contract", "pg_catalog.name[],pg_catalog.text", "ops_infer_contract", false),
    ("ops", "infer_contract", "pg_catalog.text,pg_catalog.text", "ops_infer_contract_text", false),
    ("ops", "infer_exemptions", "pg_catalog.jsonb,interval", "ops_infer_exemptions", false),
    ("ops", "judge_search_path", "pg_catalog.regprocedure", "ops_judge_search_path", false),
    (
        "ops",
        "judge_search_path",
        "pg_catalog.text,pg_catalog.regrole",
        "ops_judge_search_path_of_owner",
        false,
    ),
    ("ops", "load_contract", "pg_catalog.jsonb,pg_catalog.text", "ops_load_contract", false),
    ("ops", "load_contract", "pg_catalog.text,pg_catalog.text", "ops_load_contract_text", false),
    (
        "ops",
        "prove_isolation",
        "pg_catalog.regclass,pg_catalog.jsonb,pg_catalog.jsonb,pg_catalog.name,pg_catalog.text[],\
         boolean",
        "ops_prove_isolation",
        false,
    ),
    (
        "ops",
        "prove_policy",
        "pg_catalog.regclass,pg_catalog.name,pg_catalog.name,boolean",
        "ops_prove_policy",
        false,
    ),
    (
        "ops",
        "report",
        "pg_catalog.text,pg_catalog.text[],pg_catalog.name[],pg_catalog.text,boolean,\
         pg_catalog.text",
        "ops_report",
        false,
    ),
    ("ops", "report_html", "", "ops_report_html", false),
    ("ops", "rls_coverage", "", "ops_rls_coverage", false),
    ("ops", "rls_policies", "", "ops_rls_policies", false),
    ("ops", "role_matrix", "", "ops_role_matrix", false),
    ("ops", "rollback_contract", "pg_catalog.text,pg_catalog.text", "ops_rollback_contract", false),
    ("ops", "schema_fingerprint", "pg_catalog.name[]", "ops_schema_fingerprint", false),
    ("ops", "schema_fingerprint", "pg_catalog.text", "ops_schema_fingerprint_text", false),
    ("ops", "schema_snapshot", "pg_catalog.name[]", "ops_schema_snapshot", false),
    ("ops", "schema_snapshot", "pg_catalog.text", "ops_schema_snapshot_text", false),
    ("ops", "security_definer_functions", "", "ops_security_definer_functions", false),
    ("ops", "security_rules", "", "ops_security_rules", false),
    ("ops", "security_summary", "", "ops_security_summary", false),
    ("ops", "snapshot", "", "ops_snapshot", false),
    ("ops", "try_migration", "pg_catalog.text", "ops_try_migration", false),
    ("ops", "unexempt", "pg_catalog.text,integer", "ops_unexempt", false),
    ("ops", "unfreeze_schema", "pg_catalog.text", "ops_unfreeze_schema", false),
    ("ops", "validate_contract", "pg_catalog.jsonb", "ops_validate_contract", false),
    ("ops", "validate_contract", "pg_catalog.text", "ops_validate_contract_text", false),
];

/// Whether the extension has a function of this name in schema `ops`.
#[must_use]
pub fn is_called_in_ops(name: &str) -> bool {
    FUNCTIONS.iter().any(|(schema, function, ..)| *schema == "ops" && *function == name)
}
