//! The keywords of PostgreSQL that cannot be an identifier without quotes, from
//! `src/include/parser/kwlist.h` of PostgreSQL 15 to 18.

/// The reserved keywords, which can be a name only in quotes, sorted.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// The keywords that can be the name of some kinds of objects without quotes, but not of all: the
/// column-name and type-or-function-name keywords, sorted.
const RESTRICTED: &[&str] = &[
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "char",
    "character",
    "coalesce",
    "collation",
    "concurrently",
    "cross",
    "current_schema",
    "dec",
    "decimal",
    "exists",
    "extract",
    "float",
    "freeze",
    "full",
    "greatest",
    "grouping",
    "ilike",
    "inner",
    "inout",
    "int",
    "integer",
    "interval",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "least",
    "left",
    "like",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "notnull",
    "nullif",
    "numeric",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "position",
    "precision",
    "real",
    "right",
    "row",
    "setof",
    "similar",
    "smallint",
    "substring",
    "system_user",
    "tablesample",
    "time",
    "timestamp",
    "treat",
    "trim",
    "values",
    "varchar",
    "verbose",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// The length of the longest keyword in both lists.
const LONGEST: usize = "current_timestamp".len();

/// Whether `word`, in lower case, can be a name only in quotes.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word).is_ok()
}

/// Whether `word`, in lower case, has to be quoted in some place where a name can stand.
pub(super) fn needs_quotes(word: &str) -> bool {
    // Many names of users are longer or contain a digit, and need no search.
    word.len() <= LONGEST
        && !word.bytes().any(|byte| byte.is_ascii_digit())
        && (is_reserved(word) || RESTRICTED.binary_search(&word).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_sorted_and_in_one_list() {
        assert!(RESERVED.is_sorted() && RESTRICTED.is_sorted());
        assert!(!RESTRICTED.iter().any(|word| is_reserved(word)));
    }

    #[test]
    fn every_keyword_needs_quotes() {
        for word in RESERVED.iter().chain(RESTRICTED) {
            assert!(needs_quotes(word), "{word}");
        }
        assert!(!needs_quotes("select1") && !needs_quotes("account"));
    }
}
