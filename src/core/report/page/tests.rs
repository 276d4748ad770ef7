use super::*;
use crate::access::Access;
use crate::catalog::Privileges;
use crate::finding::Finding;
use crate::rules::testing::World;
use crate::rules::{Context, RULES};

fn page(world: &World, limits: Limits, change: impl FnOnce(&mut Vec<Finding>)) -> Page {
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let cx = Context::new(&world.contract, &snapshot, &access, &|| ());
    let mut found: Vec<Finding> = RULES.iter().flat_map(|rule| cx.run(rule)).collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    change(&mut found);
    let head = Head {
        database: "shop".into(),
        at: "2026-01-02 03:04:05+00".into(),
        version: "1.0.0".into(),
        server: "15.1".into(),
    };
    let guard = vec![GuardPart {
        name: "mode".into(),
        active: true,
        detail: "block: statements that violate the contract are rejected.".into(),
        gap: None,
        fix: None,
    }];
    Page::of(&cx, &found, guard, head, limits)
}

#[test]
fn page_of_a_conforming_database_says_so() {
    let html = page(&World::conforming(), Limits::default(), |_| ()).html();
    assert!(html.starts_with("<!DOCTYPE html>"), "{html}");
    assert!(html.contains("class=\"verdict good\""), "{html}");
    assert!(!html.contains("class=\"verdict bad\""), "{html}");
    // Nothing is loaded, and nothing is executed.
    for word in ["<script", "src=", "url(", "@import", "http://", "https://"] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn what_anyone_can_reach_is_first() {
    let mut world = World::conforming();
    let (anon, client) = (world.role("anon").oid, world.role("authenticated").oid);
    world.snapshot.anonymous.insert("anon".into());
    world.grant_schema("enforcement", client, Privileges::USAGE);
    world.grant_schema("intake", anon, Privileges::USAGE);
    let page = page(&world, Limits::default(), |_| ());
    assert!(!page.conforms);
    let html = page.html();
    let anyone = html.find("<strong>Anyone:</strong>").expect(&html);
    let users = html.find("<strong>Users:</strong>").expect(&html);
    assert!(anyone < users);
    assert!(html.contains(" (differs)</strong>"), "{html}");
}

#[test]
fn what_does_not_work_is_last() {
    let mut world = World::conforming();
    world.snapshot.anonymous.insert("anon".into());
    world.schema("api").acl = None;
    let client = world.role("authenticated").oid;
    world.grant_schema("enforcement", client, Privileges::USAGE);
    let html = page(&world, Limits::default(), |_| ()).html();
    let users = html.find("<strong>Users:</strong>").expect(&html);
    let missing = html.find("<strong>Does not work:</strong>").expect(&html);
    assert!(users < missing, "{html}");
    assert!(!html.contains("<strong>Anyone:</strong>"), "{html}");
}

#[test]
fn what_takes_a_role_over_is_before_rows_and_before_what_comes_later() {
    let mut world = World::conforming();
    world.snapshot.anonymous.insert("anon".into());
    let anon = world.role("anon").oid;
    world.grant("public.plaintiff_contacts", anon, Privileges::SELECT);
    world.role("anon").bypass_rls = true;
    let html = page(&world, Limits::default(), |_| ()).html();
    let first = &html[html.find("id=\"first\"").expect(&html)..html.find("id=\"roles\"").unwrap()];
    let takes_over = first.find("BYPASSRLS").expect(first);
    let reads = first.find("public.plaintiff_contacts").expect(first);
    assert!(takes_over < reads, "{first}");
}

#[test]
fn views_that_clients_read_are_listed_with_whose_privileges_count() {
    let html = page(&World::conforming(), Limits::default(), |_| ()).html();
    let views =
        &html[html.find("id=\"views\"").expect(&html)..html.find("id=\"routines\"").unwrap()];
    assert!(views.contains("public.v_judgment_pipeline"), "{views}");
    assert!(views.contains("its owner <code>postgres</code>"), "{views}");
    let mut world = World::conforming();
    world.relation("public.v_judgment_pipeline").security_invoker = true;
    let html = page(&world, Limits::default(), |_| ()).html();
    assert!(html.contains("\nits caller\n"), "{html}");
}

#[test]
fn hostile_name_is_shown_as_text() {
    let mut world = World::conforming();
    let anon = world.role("anon").oid;
    world.grant_schema("enforcement", anon, Privileges::USAGE);
    let hostile = "<script>alert(1)</script>\"' onload=x {{ page.head }} {% raw %} \u{202e}";
    let html = page(&world, Limits::default(), |found| {
        for finding in found.iter_mut() {
            finding.object.identity = hostile.into();
            finding.detail = hostile.into();
        }
    })
    .html();
    assert!(!html.contains("<script"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;"), "{html}");
    assert!(html.contains("{{ page.head }} {% raw %}"), "{html}");
}

#[test]
fn list_that_is_too_long_says_how_many_are_left_out() {
    let mut world = World::conforming();
    let anon = world.role("anon").oid;
    for schema in ["enforcement", "intake"] {
        world.grant_schema(schema, anon, Privileges::USAGE);
    }
    let limits = Limits { first: 1, findings: 1, tables: 1, routines: 1 };
    let html = page(&world, limits, |_| ()).html();
    assert!(html.contains(" more findings are not listed here."), "{html}");
}

#[test]
fn exempt_finding_is_not_among_those_to_fix() {
    let mut world = World::conforming();
    let anon = world.role("anon").oid;
    world.grant_schema("enforcement", anon, Privileges::USAGE);
    let page = page(&world, Limits::default(), |found| {
        for finding in found.iter_mut() {
            finding.evidence["exemption"] =
                serde_json::json!({"status": "active", "reason": "agreed with legal"});
        }
    });
    assert!(page.conforms);
    let html = page.html();
    assert!(html.contains("There is nothing to fix."), "{html}");
    assert!(html.contains("<strong>Exempt:</strong> agreed with legal"), "{html}");
}
