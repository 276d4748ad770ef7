-- Puts a contract into force that governs schema public and declares no objects in it.
SET client_min_messages = error;
SELECT version FROM ops.load_contract((ops.contract() - '{tables,views,functions}'::text[])
  || jsonb_build_object('name', 'bench', 'version', '2.0.0',
    'schemas', '[{"name": "public", "usage": ["anon", "authenticated", "service_role"]}]'::jsonb), 'bench');
