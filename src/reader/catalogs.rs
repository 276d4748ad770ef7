//! The catalogs and the columns of them that the reader looks at: what a snapshot file contains.

use crate::oids;
use dragonfly_core::catalog::Oid;

/// A catalog.
#[derive(Debug)]
pub struct Catalog {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: &'static str,
    /// The view or table that every role may read it by.
    pub from: &'static str,
    /// Its columns, those that identify a row first.
    pub columns: &'static [(&'static str, Kind)],
    /// Which rows are in a snapshot, as a condition in SQL; all where there is none.
    pub rows: Option<&'static str>,
}

/// How a column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of type oid: a number.
    Oid,
    /// Of type int2 or int4: a number.
    Int,
    /// Of type bool.
    Bool,
    /// Of type "char": a string of one character.
    Char,
    /// Of type name: a string.
    Name,
    /// Of type text or pg_node_tree: a string.
    Text,
    /// Of type bytea: a string of hexadecimal digits.
    Bytes,
    /// Of any type: `true`, or null.
    Present,
    /// Of type aclitem[]: a string as the server writes it, with OIDs in place of names.
    Acl,
    /// Of type oid[] or oidvector: an array of numbers.
    Oids,
    /// Of type int2[] or int2vector: an array of numbers.
    Numbers,
    /// Of type text[]: an array of strings.
    Texts,
    /// Of type "char"[]: a string of one character for each element.
    Chars,
    /// Of pg_type, no column of the server: the name of the type as the server prints it, qualified
    /// but for those of the SQL standard.
    TypeName,
    /// Of type timestamptz: the microseconds since 2000, the largest number for infinity.
    Time,
}

use Kind::{
    Acl, Bool, Bytes, Char, Chars, Int, Name, Numbers, Oid as Id, Oids, Present, Text, Texts, Time,
    TypeName,
};

/// The column with the name of a type as the server prints it.
pub const TYPE_NAME: &str = "type_name";

/// Every catalog that the reader opens.
pub const CATALOGS: &[Catalog] = &[
    Catalog {
        oid: oids::PG_AMOP,
        name: "pg_amop",
        from: "pg_amop",
        columns: &[
            ("amopopr", Id),
            ("amoppurpose", Char),
            ("amopfamily", Id),
            ("amopmethod", Id),
            ("amopstrategy", Int),
        ],
        // The access method btree.
        rows: Some("amopmethod = 403"),
    },
    Catalog {
        oid: oids::PG_ATTRDEF,
        name: "pg_attrdef",
        from: "pg_attrdef",
        columns: &[("adrelid", Id), ("adnum", Int), ("oid", Id), ("adbin", Text)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_ATTRIBUTE,
        name: "pg_attribute",
        from: "pg_attribute",
        columns: &[
            ("attrelid", Id),
            ("attnum", Int),
            ("attname", Name),
            ("atttypid", Id),
            ("atttypmod", Int),
            ("attcollation", Id),
            ("attnotnull", Bool),
            ("atthasdef", Bool),
            ("attisdropped", Bool),
            ("attidentity", Char),
            ("attgenerated", Char),
            ("attacl", Acl),
        ],
        // Not system columns and those of TOAST tables, which are always the same.
        rows: Some(
            "(attnum > 0 OR attacl IS NOT NULL)\n    \
             AND attrelid NOT IN (SELECT oid FROM pg_class WHERE relkind = 't')",
        ),
    },
    Catalog {
        oid: oids::PG_AUTHID,
        name: "pg_authid",
        from: "pg_roles",
        columns: &[
            ("oid", Id),
            ("rolname", Name),
            ("rolsuper", Bool),
            ("rolinherit", Bool),
            ("rolcreaterole", Bool),
            ("rolcreatedb", Bool),
            ("rolcanlogin", Bool),
            ("rolreplication", Bool),
            ("rolbypassrls", Bool),
            ("rolconnlimit", Int),
            ("rolvaliduntil", Time),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_AUTH_MEMBERS,
        name: "pg_auth_members",
        from: "pg_auth_members",
        columns: &[
            ("roleid", Id),
            ("member", Id),
            ("grantor", Id),
            ("admin_option", Bool),
            ("inherit_option", Bool),
            ("set_option", Bool),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_CAST,
        name: "pg_cast",
        from: "pg_cast",
        columns: &[
            ("oid", Id),
            ("castsource", Id),
            ("casttarget", Id),
            ("castfunc", Id),
            ("castcontext", Char),
            ("castmethod", Char),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_CLASS,
        name: "pg_class",
        from: "pg_class",
        columns: &[
            ("oid", Id),
            ("relname", Name),
            ("relnamespace", Id),
            ("reltype", Id),
            ("relowner", Id),
            ("relkind", Char),
            ("relpersistence", Char),
            ("relnatts", Int),
            ("relhasindex", Bool),
            ("relhasrules", Bool),
            ("relhassubclass", Bool),
            ("relrowsecurity", Bool),
            ("relforcerowsecurity", Bool),
            ("relispopulated", Bool),
            ("relispartition", Bool),
            ("reltoastrelid", Id),
            ("relacl", Acl),
            ("reloptions", Texts),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_COLLATION,
        name: "pg_collation",
        from: "pg_collation",
        columns: &[
            ("oid", Id),
            ("collname", Name),
            ("collnamespace", Id),
            ("collisdeterministic", Bool),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_CONSTRAINT,
        name: "pg_constraint",
        from: "pg_constraint",
        columns: &[
            ("oid", Id),
            ("conname", Name),
            ("conrelid", Id),
            ("contypid", Id),
            ("contype", Char),
            ("convalidated", Bool),
            ("conenforced", Bool),
            ("connoinherit", Bool),
            ("confrelid", Id),
            ("conkey", Numbers),
            ("confkey", Numbers),
            ("conbin", Text),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_DATABASE,
        name: "pg_database",
        from: "pg_database",
        columns: &[
            ("oid", Id),
            ("datname", Name),
            ("datdba", Id),
            ("datconnlimit", Int),
            ("datacl", Acl),
        ],
        rows: Some("datname = current_database()"),
    },
    Catalog {
        oid: oids::PG_DB_ROLE_SETTING,
        name: "pg_db_role_setting",
        from: "pg_db_role_setting",
        columns: &[("setdatabase", Id), ("setrole", Id), ("setconfig", Texts)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_DEFAULT_ACL,
        name: "pg_default_acl",
        from: "pg_default_acl",
        columns: &[
            ("defaclrole", Id),
            ("defaclnamespace", Id),
            ("defaclobjtype", Char),
            ("defaclacl", Acl),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_DEPEND,
        name: "pg_depend",
        from: "pg_depend",
        columns: &[
            ("classid", Id),
            ("objid", Id),
            ("objsubid", Int),
            ("refclassid", Id),
            ("refobjid", Id),
            ("refobjsubid", Int),
            ("deptype", Char),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_ENUM,
        name: "pg_enum",
        from: "pg_enum",
        columns: &[("oid", Id), ("enumtypid", Id), ("enumlabel", Name)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_EVENT_TRIGGER,
        name: "pg_event_trigger",
        from: "pg_event_trigger",
        columns: &[
            ("oid", Id),
            ("evtname", Name),
            ("evtevent", Name),
            ("evtowner", Id),
            ("evtfoid", Id),
            ("evtenabled", Char),
            ("evttags", Present),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_EXTENSION,
        name: "pg_extension",
        from: "pg_extension",
        columns: &[
            ("oid", Id),
            ("extname", Name),
            ("extowner", Id),
            ("extnamespace", Id),
            ("extversion", Text),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_FOREIGN_DATA_WRAPPER,
        name: "pg_foreign_data_wrapper",
        from: "pg_foreign_data_wrapper",
        columns: &[("oid", Id), ("fdwname", Name), ("fdwowner", Id), ("fdwacl", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_FOREIGN_SERVER,
        name: "pg_foreign_server",
        from: "pg_foreign_server",
        columns: &[("oid", Id), ("srvname", Name), ("srvowner", Id), ("srvacl", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_INDEX,
        name: "pg_index",
        from: "pg_index",
        columns: &[
            ("indexrelid", Id),
            ("indrelid", Id),
            ("indnkeyatts", Int),
            ("indisunique", Bool),
            ("indisprimary", Bool),
            ("indimmediate", Bool),
            ("indisvalid", Bool),
            ("indkey", Numbers),
            ("indexprs", Present),
            ("indpred", Present),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_INHERITS,
        name: "pg_inherits",
        from: "pg_inherits",
        columns: &[("inhrelid", Id), ("inhparent", Id), ("inhseqno", Int)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_INIT_PRIVS,
        name: "pg_init_privs",
        from: "pg_init_privs",
        columns: &[("objoid", Id), ("classoid", Id), ("objsubid", Int), ("initprivs", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_LANGUAGE,
        name: "pg_language",
        from: "pg_language",
        columns: &[
            ("oid", Id),
            ("lanname", Name),
            ("lanowner", Id),
            ("lanvalidator", Id),
            ("lanacl", Acl),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_LARGEOBJECT_METADATA,
        name: "pg_largeobject_metadata",
        from: "pg_largeobject_metadata",
        columns: &[("oid", Id), ("lomowner", Id), ("lomacl", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_NAMESPACE,
        name: "pg_namespace",
        from: "pg_namespace",
        columns: &[("oid", Id), ("nspname", Name), ("nspowner", Id), ("nspacl", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_OPERATOR,
        name: "pg_operator",
        from: "pg_operator",
        columns: &[
            ("oid", Id),
            ("oprname", Name),
            ("oprnamespace", Id),
            ("oprowner", Id),
            ("oprkind", Char),
            ("oprleft", Id),
            ("oprright", Id),
            ("oprnegate", Id),
            ("oprresult", Id),
            ("oprcode", Id),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_PARAMETER_ACL,
        name: "pg_parameter_acl",
        from: "pg_parameter_acl",
        columns: &[("oid", Id), ("parname", Text), ("paracl", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_PARTITIONED_TABLE,
        name: "pg_partitioned_table",
        from: "pg_partitioned_table",
        columns: &[("partrelid", Id), ("partexprs", Present)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_POLICY,
        name: "pg_policy",
        from: "pg_policy",
        columns: &[
            ("oid", Id),
            ("polname", Name),
            ("polrelid", Id),
            ("polcmd", Char),
            ("polpermissive", Bool),
            ("polroles", Oids),
            ("polqual", Text),
            ("polwithcheck", Text),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_PROC,
        name: "pg_proc",
        from: "pg_proc",
        columns: &[
            ("oid", Id),
            ("proname", Name),
            ("pronamespace", Id),
            ("proowner", Id),
            ("prolang", Id),
            ("prokind", Char),
            ("prosecdef", Bool),
            ("proleakproof", Bool),
            ("proisstrict", Bool),
            ("provolatile", Char),
            ("pronargs", Int),
            ("pronargdefaults", Int),
            ("prosupport", Id),
            ("prorettype", Id),
            ("proretset", Bool),
            ("proargtypes", Oids),
            ("proallargtypes", Oids),
            ("proargmodes", Chars),
            ("proargnames", Texts),
            ("proargdefaults", Text),
            ("prosrc", Text),
            ("probin", Text),
            ("prosqlbody", Text),
            ("proconfig", Texts),
            ("proacl", Acl),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_PUBLICATION,
        name: "pg_publication",
        from: "pg_publication",
        columns: &[("oid", Id), ("pubname", Name), ("pubowner", Id), ("puballtables", Bool)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_PUBLICATION_NAMESPACE,
        name: "pg_publication_namespace",
        from: "pg_publication_namespace",
        columns: &[("oid", Id), ("pnpubid", Id), ("pnnspid", Id)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_PUBLICATION_REL,
        name: "pg_publication_rel",
        from: "pg_publication_rel",
        columns: &[("oid", Id), ("prpubid", Id), ("prrelid", Id), ("prqual", Present)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_REWRITE,
        name: "pg_rewrite",
        from: "pg_rewrite",
        columns: &[
            ("oid", Id),
            ("rulename", Name),
            ("ev_class", Id),
            ("ev_type", Char),
            ("ev_enabled", Char),
            ("is_instead", Bool),
            ("ev_qual", Text),
            ("ev_action", Text),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_STATISTIC_EXT,
        name: "pg_statistic_ext",
        from: "pg_statistic_ext",
        columns: &[("oid", Id), ("stxrelid", Id), ("stxname", Name), ("stxexprs", Present)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_SUBSCRIPTION,
        name: "pg_subscription",
        from: "pg_subscription",
        columns: &[("oid", Id), ("subdbid", Id), ("subname", Name), ("subowner", Id)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_TABLESPACE,
        name: "pg_tablespace",
        from: "pg_tablespace",
        columns: &[("oid", Id), ("spcname", Name), ("spcowner", Id), ("spcacl", Acl)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_TRIGGER,
        name: "pg_trigger",
        from: "pg_trigger",
        columns: &[
            ("oid", Id),
            ("tgname", Name),
            ("tgrelid", Id),
            ("tgfoid", Id),
            ("tgtype", Int),
            ("tgenabled", Char),
            ("tgisinternal", Bool),
            ("tgargs", Bytes),
            ("tgqual", Present),
        ],
        rows: None,
    },
    Catalog {
        oid: oids::PG_TS_CONFIG,
        name: "pg_ts_config",
        from: "pg_ts_config",
        columns: &[("oid", Id), ("cfgname", Name), ("cfgnamespace", Id)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_TS_DICT,
        name: "pg_ts_dict",
        from: "pg_ts_dict",
        columns: &[("oid", Id), ("dictname", Name), ("dictnamespace", Id)],
        rows: None,
    },
    Catalog {
        oid: oids::PG_TYPE,
        name: "pg_type",
        from: "pg_type",
        columns: &[
            ("oid", Id),
            ("typname", Name),
            ("typnamespace", Id),
            ("typowner", Id),
            ("typlen", Int),
            ("typtype", Char),
            ("typcategory", Char),
            ("typrelid", Id),
            ("typelem", Id),
            ("typarray", Id),
            ("typbasetype", Id),
            ("typsubscript", Id),
            ("typcollation", Id),
            ("typdefaultbin", Text),
            (TYPE_NAME, TypeName),
        ],
        rows: None,
    },
];

/// Returns the catalog with an OID.
#[must_use]
pub fn catalog(oid: Oid) -> Option<&'static Catalog> {
    CATALOGS.iter().find(|catalog| catalog.oid == oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the names of the columns of some catalogs begin with.
    const PREFIXES: [&str; 12] =
        ["adn", "att", "conr", "coni", "conv", "ind", "oprc", "pro", "rel", "rol", "tg", "typ"];

    /// Other words of the reader that begin so.
    const WORDS: [&str; 2] = ["procedure", "role"];

    #[test]
    fn snapshot_has_every_column_that_the_reader_asks_for() {
        let all: Vec<&str> =
            CATALOGS.iter().flat_map(|of| of.columns).map(|(name, _)| *name).collect();
        let is_column = |word: &&str| {
            word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                && PREFIXES.iter().any(|prefix| word.starts_with(prefix))
                && !WORDS.contains(word)
        };
        let mut missing = Vec::new();
        for file in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("a folder") {
            let path = file.expect("an entry").path();
            if path.extension().is_none_or(|of| of != "rs") || path.ends_with("catalogs.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let literals = text.split('"').skip(1).step_by(2);
            let asked = text.split("column(\"").skip(1).filter_map(|rest| rest.split('"').next());
            let unknown = literals
                .filter(is_column)
                .chain(asked)
                .filter(|name| !name.contains('{') && !all.contains(name));
            missing.extend(unknown.map(|name| format!("{}: {name}", path.display())));
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
