//! Access control lists: names of privileges are read as they are written, and effective privileges
//! are those that a simple search through the memberships finds.

use super::input::{Bytes, text};
use dragonfly_core::access::{Access, Follow};
use dragonfly_core::catalog::{
    AclItem, Database, Membership, ObjectKind, Oid, PUBLIC, Privileges, Role, Snapshot,
};
use dragonfly_core::drift::{AclKind, Object, grants};
use std::collections::{BTreeMap, BTreeSet};

/// The first of the roles; the others follow it.
const FIRST_ROLE: Oid = 20_000;

/// The most roles.
const MOST_ROLES: u8 = 8;

/// Checks the properties: the input is the name of a privilege, and a list of decisions from which
/// roles, memberships and an ACL are built.
pub fn check(input: &[u8]) {
    read(&text(input));
    let mut bytes = Bytes(input);
    words(Privileges(u32::from_le_bytes([bytes.next(), bytes.next(), 0, 0])));
    let mut world = world(&mut bytes);
    let acl = acl(&mut bytes);
    // No role has all privileges without a grant, and the database has an owner.
    world.roles.iter_mut().for_each(|role| role.superuser = false);
    effective_privileges(&world, &acl);
    properties_of_drift(&acl, &mut bytes);
}

/// A set of privileges is the set of its names, each of which is read in any case.
fn words(privileges: Privileges) {
    let known = Privileges(privileges.0 & 0x7fff);
    let read = known.words().into_iter().map(|word| {
        let one: Privileges = word.parse().expect("the name of a privilege");
        assert_eq!(word.to_lowercase().parse().ok(), Some(one));
        assert_eq!(one.words(), [word]);
        one
    });
    assert_eq!(read.fold(Privileges::NONE, |all, one| all | one), known);
    assert_eq!(known.each().len(), known.0.count_ones() as usize);
    assert_eq!(list(&known.to_string()), known);
}

/// Reads a list of names.
fn list(names: &str) -> Privileges {
    let names = names.split(", ").filter(|name| !name.is_empty());
    let one = |name: &str| name.parse::<Privileges>().expect("the name of a privilege");
    names.fold(Privileges::NONE, |all, name| all | one(name))
}

fn world(input: &mut Bytes<'_>) -> Snapshot {
    let count = 1 + input.below(MOST_ROLES);
    let roles = (0..count).map(|i| Role {
        oid: FIRST_ROLE + Oid::from(i),
        name: format!("r{i}"),
        superuser: false,
        inherit: input.below(2) == 0,
        create_role: false,
        create_db: false,
        can_login: false,
        replication: false,
        bypass_rls: false,
        connection_limit: None,
        password_expired: false,
    });
    let roles: Vec<Role> = roles.collect();
    let version = 15 + u32::from(input.below(4));
    let memberships = (0..input.below(2 * MOST_ROLES)).map(|_| Membership {
        role: role(input),
        member: role(input),
        grantor: FIRST_ROLE,
        admin: input.below(2) == 0,
        inherit: input.below(2) == 0,
        set: input.below(2) == 0,
    });
    Snapshot {
        version,
        memberships: memberships.collect(),
        database: Database { owner: FIRST_ROLE + 1_000, ..Database::default() },
        roles: roles.into(),
        ..Snapshot::default()
    }
    .complete()
}

fn role(input: &mut Bytes<'_>) -> Oid {
    FIRST_ROLE + Oid::from(input.below(MOST_ROLES))
}

fn acl(input: &mut Bytes<'_>) -> Vec<AclItem> {
    let items = (0..input.below(12)).map(|_| {
        let privileges = Privileges(u32::from(input.next()) << input.below(8) & 0x7fff);
        AclItem {
            grantee: if input.below(4) == 0 { PUBLIC } else { role(input) },
            grantor: role(input),
            privileges,
            grantable: privileges & Privileges(u32::from(input.next())),
        }
    });
    items.collect()
}

/// Checks that the first step from a member to each role begins a shortest chain, and that the
/// roles in which the member can grant membership are those with a membership WITH ADMIN.
fn first_steps(world: &Snapshot, access: &Access<'_>, member: Oid) {
    let reached = reached(world, member, Follow::Members);
    let length = |from: Oid, to: Oid| access.path(from, to, Follow::Members).len();
    for Role { oid: other, .. } in &world.roles {
        let other = *other;
        match access.first_step(member, other) {
            Some(first) => {
                assert!(edges(world, Follow::Members).any(|edge| edge == (member, first)));
                assert!(other == first || length(first, other) + 1 == length(member, other));
            }
            None => assert!(other == member || !reached.contains(&other)),
        }
        let mut stored = world.memberships.iter();
        let is_admin = stored.any(|m| m.admin && m.role == other && reached.contains(&m.member));
        assert_eq!(access.is_admin_of(member, other), is_admin || access.is_superuser(member));
    }
}

/// Compares effective privileges and memberships with those of a simple search.
fn effective_privileges(world: &Snapshot, acl: &[AclItem]) {
    let access = Access::new(world);
    let owner = FIRST_ROLE;
    for one in &world.roles {
        for follow in [Follow::Members, Follow::Privileges, Follow::Set] {
            let reached = reached(world, one.oid, follow);
            let found: BTreeSet<Oid> = access.closure(one.oid, follow).iter().copied().collect();
            assert_eq!(found, reached);
            for other in &reached {
                let path = access.path(one.oid, *other, follow);
                let starts = std::iter::once(&one.oid).chain(&path);
                let is_edge = |(member, role): (&Oid, &Oid)| {
                    edges(world, follow).any(|edge| edge == (*member, *role))
                };
                assert!(starts.zip(&path).all(is_edge), "{path:?}");
                assert!(path.last().unwrap_or(&one.oid) == other);
            }
        }
        first_steps(world, &access, one.oid);
        let inherited = reached(world, one.oid, Follow::Privileges);
        let has = |item: &&AclItem| item.grantee == PUBLIC || inherited.contains(&item.grantee);
        let expected =
            acl.iter().filter(has).fold(Privileges::NONE, |all, item| all | item.privileges);
        let stored = acl.to_vec().into();
        let kind = ObjectKind::Relation;
        assert_eq!(access.privileges(one.oid, owner, Some(&stored), kind), expected);
        let by_default = access.privileges(one.oid, owner, None, kind);
        assert_eq!(by_default.is_empty(), !inherited.contains(&owner));
    }
}

/// Returns member and role of each membership that is followed.
fn edges(world: &Snapshot, follow: Follow) -> impl Iterator<Item = (Oid, Oid)> {
    let is_followed = move |m: &&Membership| match follow {
        Follow::Members => true,
        Follow::Privileges => m.inherit,
        Follow::Set => m.set,
    };
    world.memberships.iter().filter(is_followed).map(|m| (m.member, m.role))
}

/// Returns the roles that a role reaches: memberships are added until no role is new.
fn reached(world: &Snapshot, from: Oid, follow: Follow) -> BTreeSet<Oid> {
    let mut reached = BTreeSet::from([from]);
    loop {
        let before = reached.len();
        let further = edges(world, follow).filter(|(member, _)| reached.contains(member));
        let further: Vec<Oid> = further.map(|(_, role)| role).collect();
        reached.extend(further);
        if reached.len() == before {
            return reached;
        }
    }
}

/// The properties of an object say which privileges its ACL has, and with which grant options.
fn properties_of_drift(acl: &[AclItem], input: &mut Bytes<'_>) {
    let version = 15 + u32::from(input.below(4));
    let kinds = [
        (AclKind::Relation, Privileges::ALL_ON_TABLE),
        (AclKind::Sequence, Privileges::ALL_ON_SEQUENCE),
        (AclKind::Routine, Privileges::EXECUTE),
        (AclKind::Schema, Privileges::USAGE | Privileges::CREATE),
    ];
    let (kind, all) = kinds[usize::from(input.below(4))];
    let has_maintain = kind == AclKind::Relation && version >= 17;
    let all = if has_maintain { all | Privileges::MAINTAIN } else { all };
    let mut object = Object::new("table", None, "t".into());
    let owner = FIRST_ROLE;
    grants(&mut object, kind, owner, Some(acl), version, &|oid| format!("r{}", oid - FIRST_ROLE));

    let mut expected: BTreeMap<String, (Privileges, Privileges)> = BTreeMap::new();
    for item in acl {
        let grantee = match item.grantee {
            PUBLIC => "PUBLIC".to_owned(),
            oid if oid == owner => "its owner".to_owned(),
            oid => format!("r{}", oid - FIRST_ROLE),
        };
        let held = expected.entry(grantee).or_default();
        *held = (held.0 | item.privileges, held.1 | item.grantable);
    }
    // Of the owner, what differs from the default is said; of the others, what they have.
    let of_owner = expected.entry("its owner".to_owned()).or_default();
    let is_default = *of_owner == (all, Privileges::NONE);
    expected.retain(|grantee, held| match grantee.as_str() {
        "its owner" => !is_default,
        _ => !held.0.is_empty(),
    });
    let described = object.properties.iter().map(|(property, text)| {
        let grantee = property.strip_prefix("grants to ").expect("a grantee");
        (grantee.to_owned(), described(text, all))
    });
    assert_eq!(described.collect::<BTreeMap<_, _>>(), expected);
}

/// Reads the privileges in the text of a property, and those with grant option.
fn described(text: &str, all: Privileges) -> (Privileges, Privileges) {
    let list = |text: &str| match text {
        "ALL" => all,
        "nothing" => Privileges::NONE,
        names => list(names),
    };
    match text.strip_suffix(" WITH GRANT OPTION") {
        None => (list(text), Privileges::NONE),
        Some(text) => {
            let (plain, grantable) = text.split_once("; ").unwrap_or(("", text));
            let grantable = list(grantable);
            (list(plain) | grantable, grantable)
        }
    }
}

/// Executes the functions on a text of any size: as the name of a privilege, and with an ACL that
/// has an item for each byte.
pub fn read(text: &str) {
    let _ = text.parse::<Privileges>();
    let items = text.bytes().zip(0..).map(|(byte, i)| AclItem {
        grantee: FIRST_ROLE + i,
        grantor: FIRST_ROLE,
        privileges: Privileges(u32::from(byte)),
        grantable: Privileges::NONE,
    });
    let items: Vec<AclItem> = items.collect();
    let mut object = Object::new("table", None, "t".into());
    let name = |oid: Oid| format!("r{oid}");
    grants(&mut object, AclKind::Relation, FIRST_ROLE, Some(&items), 17, &name);
    // A chain of memberships.
    let chain = items.iter().map(|item| Membership {
        role: item.grantee + 1,
        member: item.grantee,
        grantor: FIRST_ROLE,
        admin: true,
        inherit: true,
        set: true,
    });
    let last = FIRST_ROLE + items.len() as Oid;
    let world = Snapshot { memberships: chain.collect(), ..Snapshot::default() }.complete();
    let access = Access::new(&world);
    let _ = access.privileges(FIRST_ROLE, FIRST_ROLE, Some(&items.into()), ObjectKind::Relation);
    let _ = access.path(FIRST_ROLE, last, Follow::Members);
}
