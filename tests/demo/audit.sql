SELECT severity, rule, object, role_name, detail FROM ops.audit_security(min_severity => 'warning');

-- Findings with the SQL that fixes them.
SELECT fix FROM ops.audit_security() WHERE fix IS NOT NULL LIMIT 5;

-- For CI: an error if the database differs from its contract.
SELECT ops.assert_security();
