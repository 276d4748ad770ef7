//! OIDs of catalogs and their indexes, which are the same in every release (the headers in
//! `src/include/catalog`).

use crate::source::ByOid;
use dragonfly_core::catalog::Oid;

pub const PG_AGGREGATE: Oid = 2600;
pub const PG_AGGREGATE_FNOID_INDEX: Oid = 2650;
pub const PG_AMOP: Oid = 2602;
pub const PG_AMOP_OPERATOR_INDEX: Oid = 2654;
pub const PG_ATTRDEF: Oid = 2604;
pub const PG_ATTRDEF_OID_INDEX: Oid = 2657;
pub const PG_ATTRDEF_RELID_INDEX: Oid = 2656;
pub const PG_ATTRIBUTE: Oid = 1249;
pub const PG_ATTRIBUTE_RELID_INDEX: Oid = 2659;
pub const PG_AUTHID: Oid = 1260;
pub const PG_AUTHID_OID_INDEX: Oid = 2677;
pub const PG_AUTH_MEMBERS: Oid = 1261;
pub const PG_CAST: Oid = 2605;
pub const PG_CAST_SOURCE_TARGET_INDEX: Oid = 2661;
pub const PG_CLASS: Oid = 1259;
pub const PG_COLLATION: Oid = 3456;
pub const PG_COLLATION_OID_INDEX: Oid = 3085;
pub const PG_CONSTRAINT: Oid = 2606;
pub const PG_CONSTRAINT_OID_INDEX: Oid = 2667;
pub const PG_CONSTRAINT_RELID_INDEX: Oid = 2665;
pub const PG_CONSTRAINT_TYPE_INDEX: Oid = 2666;
pub const PG_CLASS_OID_INDEX: Oid = 2662;
pub const PG_CLASS_NAME_INDEX: Oid = 2663;
pub const PG_DATABASE: Oid = 1262;
pub const PG_DB_ROLE_SETTING: Oid = 2964;
pub const PG_DEFAULT_ACL: Oid = 826;
pub const PG_DEPEND: Oid = 2608;
pub const PG_DEPEND_DEPENDER_INDEX: Oid = 2673;
pub const PG_DEPEND_REFERENCE_INDEX: Oid = 2674;
pub const PG_ENUM: Oid = 3501;
pub const PG_ENUM_OID_INDEX: Oid = 3502;
pub const PG_ENUM_TYPID_LABEL_INDEX: Oid = 3503;
pub const PG_EVENT_TRIGGER: Oid = 3466;
pub const PG_EVENT_TRIGGER_OID_INDEX: Oid = 3468;
pub const PG_EXTENSION: Oid = 3079;
pub const PG_FOREIGN_DATA_WRAPPER: Oid = 2328;
pub const PG_FOREIGN_SERVER: Oid = 1417;
pub const PG_FOREIGN_TABLE: Oid = 3118;
pub const PG_FOREIGN_TABLE_RELATION_INDEX: Oid = 3119;
pub const PG_INDEX: Oid = 2610;
pub const PG_INDEX_INDEXRELID_INDEX: Oid = 2679;
pub const PG_INDEX_RELID_INDEX: Oid = 2678;
pub const PG_INHERITS: Oid = 2611;
pub const PG_INHERITS_CHILD_INDEX: Oid = 2680;
pub const PG_INHERITS_PARENT_INDEX: Oid = 2187;
pub const PG_INIT_PRIVS: Oid = 3394;
pub const PG_LANGUAGE: Oid = 2612;
pub const LANGUAGE_INTERNAL: Oid = 12;
pub const LANGUAGE_C: Oid = 13;
pub const PG_LANGUAGE_OID_INDEX: Oid = 2682;
pub const PG_LARGEOBJECT: Oid = 2613;
pub const PG_LARGEOBJECT_METADATA: Oid = 2995;
pub const PG_LARGEOBJECT_METADATA_OID_INDEX: Oid = 2996;
pub const PG_NAMESPACE: Oid = 2615;
pub const PG_NAMESPACE_NAME_INDEX: Oid = 2684;
pub const PG_NAMESPACE_OID_INDEX: Oid = 2685;
pub const PG_OPCLASS: Oid = 2616;
pub const PG_OPERATOR: Oid = 2617;
pub const PG_OPERATOR_NAME_INDEX: Oid = 2689;
pub const PG_PARAMETER_ACL: Oid = 6243;
pub const PG_POLICY: Oid = 3256;
pub const PG_POLICY_OID_INDEX: Oid = 3257;
pub const PG_POLICY_RELID_INDEX: Oid = 3258;
pub const PG_PARTITIONED_TABLE: Oid = 3350;
pub const PG_PARTITIONED_TABLE_RELID_INDEX: Oid = 3351;
pub const PG_PROC: Oid = 1255;
pub const PG_PROC_OID_INDEX: Oid = 2690;
pub const PG_PROC_NAME_INDEX: Oid = 2691;
pub const PG_PUBLICATION: Oid = 6104;
pub const PG_PUBLICATION_NAMESPACE: Oid = 6237;
pub const PG_PUBLICATION_REL: Oid = 6106;
pub const PG_RANGE: Oid = 3541;
pub const PG_REWRITE: Oid = 2618;
pub const PG_REWRITE_OID_INDEX: Oid = 2692;
pub const PG_REWRITE_RELATION_INDEX: Oid = 2693;
pub const PG_SEQUENCE: Oid = 2224;
pub const PG_SHDEPEND: Oid = 1214;
pub const PG_SHDEPEND_REFERENCE_INDEX: Oid = 1233;
pub const PG_SUBSCRIPTION: Oid = 6100;
pub const PG_TABLESPACE: Oid = 1213;
pub const PG_STATISTIC_EXT: Oid = 3381;
pub const PG_STATISTIC_EXT_OID_INDEX: Oid = 3380;
pub const PG_STATISTIC_EXT_RELID_INDEX: Oid = 3379;
pub const PG_TRIGGER: Oid = 2620;
pub const PG_TRIGGER_OID_INDEX: Oid = 2702;
pub const PG_TRIGGER_RELID_INDEX: Oid = 2701;
pub const PG_OPERATOR_OID_INDEX: Oid = 2688;
pub const PG_TS_CONFIG: Oid = 3602;
pub const PG_TS_DICT: Oid = 3600;
pub const PG_TYPE: Oid = 1247;
pub const PG_TYPE_OID_INDEX: Oid = 2703;
pub const PG_TYPE_NAME_INDEX: Oid = 2704;

/// Catalogs with their indexes by OID.
pub const ATTRDEF_BY_OID: ByOid = ByOid { catalog: PG_ATTRDEF, index: PG_ATTRDEF_OID_INDEX };
pub const EVENT_TRIGGER_BY_OID: ByOid =
    ByOid { catalog: PG_EVENT_TRIGGER, index: PG_EVENT_TRIGGER_OID_INDEX };
pub const CLASS_BY_OID: ByOid = ByOid { catalog: PG_CLASS, index: PG_CLASS_OID_INDEX };
pub const LARGE_OBJECT_BY_OID: ByOid =
    ByOid { catalog: PG_LARGEOBJECT_METADATA, index: PG_LARGEOBJECT_METADATA_OID_INDEX };
pub const LANGUAGE_BY_OID: ByOid = ByOid { catalog: PG_LANGUAGE, index: PG_LANGUAGE_OID_INDEX };
pub const NAMESPACE_BY_OID: ByOid = ByOid { catalog: PG_NAMESPACE, index: PG_NAMESPACE_OID_INDEX };
pub const PROC_BY_OID: ByOid = ByOid { catalog: PG_PROC, index: PG_PROC_OID_INDEX };
pub const ROLE_BY_OID: ByOid = ByOid { catalog: PG_AUTHID, index: PG_AUTHID_OID_INDEX };
pub const TYPE_BY_OID: ByOid = ByOid { catalog: PG_TYPE, index: PG_TYPE_OID_INDEX };
pub const CONSTRAINT_BY_OID: ByOid =
    ByOid { catalog: PG_CONSTRAINT, index: PG_CONSTRAINT_OID_INDEX };
pub const OPERATOR_BY_OID: ByOid = ByOid { catalog: PG_OPERATOR, index: PG_OPERATOR_OID_INDEX };
pub const POLICY_BY_OID: ByOid = ByOid { catalog: PG_POLICY, index: PG_POLICY_OID_INDEX };
pub const REWRITE_BY_OID: ByOid = ByOid { catalog: PG_REWRITE, index: PG_REWRITE_OID_INDEX };
pub const STATISTICS_BY_OID: ByOid =
    ByOid { catalog: PG_STATISTIC_EXT, index: PG_STATISTIC_EXT_OID_INDEX };
pub const TRIGGER_BY_OID: ByOid = ByOid { catalog: PG_TRIGGER, index: PG_TRIGGER_OID_INDEX };

/// The columns of `pg_aggregate` with the functions that an aggregate calls.
pub const AGGREGATE_FUNCTIONS: [&str; 8] = [
    "aggtransfn",
    "aggfinalfn",
    "aggcombinefn",
    "aggserialfn",
    "aggdeserialfn",
    "aggmtransfn",
    "aggminvtransfn",
    "aggmfinalfn",
];
