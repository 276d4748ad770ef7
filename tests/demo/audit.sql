SELECT severity, rule, object, role_name, detail FROM ops.audit_security(min_severity => 'warning');

-- Each with the SQL that mends it.
SELECT fix FROM ops.audit_security() WHERE fix IS NOT NULL LIMIT 5;

-- The gate for CI.
SELECT ops.assert_security();
