//! GRANT of memberships, as SQL text. Since PostgreSQL 16, a GRANT that names no options leaves
//! those of an existing membership as they are.

use crate::catalog::{Membership, Oid, Snapshot};

/// Returns the GRANT after which `member` can SET ROLE to `role`.
pub(crate) fn grant_set_role(snapshot: &Snapshot, role: Oid, member: Oid) -> String {
    let is_new = memberships(snapshot, role, member).next().is_none();
    let options = if snapshot.version < 16 || is_new { "" } else { " WITH SET TRUE" };
    format!("GRANT {} TO {}{options};", snapshot.grantee(role), snapshot.grantee(member))
}

/// Returns the statements after which `member` does not inherit the privileges of `role`. Since
/// PostgreSQL 16, each grantor grants a membership of its own.
pub(crate) fn end_inheritance(snapshot: &Snapshot, role: Oid, member: Oid) -> String {
    let sql_member = snapshot.grantee(member);
    if snapshot.version < 16 {
        return format!("ALTER ROLE {sql_member} NOINHERIT;");
    }
    let inherited = memberships(snapshot, role, member).filter(|m| m.inherit);
    let statement = |m: &Membership| {
        let (role, by) = (snapshot.grantee(role), snapshot.grantee(m.grantor));
        format!("GRANT {role} TO {sql_member} WITH INHERIT FALSE GRANTED BY {by};")
    };
    inherited.map(statement).collect::<Vec<_>>().join("\n")
}

fn memberships(snapshot: &Snapshot, role: Oid, member: Oid) -> impl Iterator<Item = &Membership> {
    snapshot.memberships.iter().filter(move |m| (m.role, m.member) == (role, member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    #[test]
    fn grant_names_the_option_where_a_membership_exists_since_16() {
        let mut world = World::conforming();
        world.add_login("gateway");
        let (anon, gateway) = (world.role("anon").oid, world.role("gateway").oid);
        let grant =
            |world: &World| grant_set_role(&world.snapshot.clone().complete(), anon, gateway);
        for version in [15, 16, 18] {
            world.snapshot.version = version;
            assert_eq!(grant(&world), "GRANT anon TO gateway;", "{version}: none yet");
        }
        world.grant_role("anon", "gateway");
        world.snapshot.memberships[0].set = false;
        assert_eq!(grant(&world), "GRANT anon TO gateway WITH SET TRUE;");
        world.snapshot.version = 15;
        assert_eq!(grant(&world), "GRANT anon TO gateway;", "there are no options");
    }

    #[test]
    fn inheritance_ends_for_each_grantor_since_16() {
        let mut world = World::conforming();
        world.add_login("gateway");
        world.grant_role("anon", "gateway");
        world.grant_role("anon", "gateway");
        world.snapshot.memberships[1].grantor = world.role("postgres").oid;
        let (anon, gateway) = (world.role("anon").oid, world.role("gateway").oid);
        assert_eq!(
            end_inheritance(&world.snapshot.clone().complete(), anon, gateway),
            "ALTER ROLE gateway NOINHERIT;"
        );
        world.snapshot.version = 16;
        assert_eq!(
            end_inheritance(&world.snapshot.clone().complete(), anon, gateway),
            "GRANT anon TO gateway WITH INHERIT FALSE GRANTED BY root;\nGRANT anon TO gateway \
             WITH INHERIT FALSE GRANTED BY postgres;"
        );
    }
}
