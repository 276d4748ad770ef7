//! Relative links between Markdown files lead to a file, and their anchors to a heading of it.

use dragonfly_tests::pages::{Page, pages};
use dragonfly_tests::project;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

#[test]
fn every_relative_link_resolves() {
    let pages = pages();
    let anchors: HashMap<&Path, HashSet<String>> =
        pages.iter().map(|page| (page.path.as_path(), anchors(&page.text))).collect();
    let mut broken = Vec::new();
    for page in &pages {
        for (line, link) in links(&page.text) {
            if let Err(reason) = resolve(page, &link, &anchors) {
                broken.push(format!("{}:{line}: {link}: {reason}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_is_linked() {
    let pages = pages();
    let linked: HashSet<PathBuf> = pages
        .iter()
        .flat_map(|page| links(&page.text).into_iter().map(|(_, link)| target(page, &link)))
        .collect();
    let unlinked =
        pages.iter().filter(|page| page.path.starts_with("docs") && !linked.contains(&page.path));
    let unlinked: Vec<String> = unlinked.map(|page| page.path.display().to_string()).collect();
    assert!(unlinked.is_empty(), "no page links to {}", unlinked.join(", "));
}

/// The file that a link names, relative to the project's folder.
fn target(page: &Page, link: &str) -> PathBuf {
    let file = link.split('#').next().unwrap_or_default();
    if file.is_empty() {
        return page.path.clone();
    }
    let mut path = page.path.parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(file).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

fn resolve(
    page: &Page,
    link: &str,
    anchors: &HashMap<&Path, HashSet<String>>,
) -> Result<(), &'static str> {
    let target = target(page, link);
    if !project().join(&target).exists() {
        return Err("no such file");
    }
    let Some((_, anchor)) = link.split_once('#') else { return Ok(()) };
    match anchors.get(target.as_path()) {
        Some(known) if known.contains(anchor) => Ok(()),
        Some(_) => Err("no such heading"),
        None => Err("an anchor in a file that is no page"),
    }
}

/// The lines of a page that are not in a fenced block, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        (!is_fence && !is_fenced).then_some((i + 1, line))
    })
}

/// Targets of `[text](target)` without a scheme, with their lines; code is skipped.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // Every second part is between backquotes. A link's text may be code: its `](` is not.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in outside.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            if !link.contains(':') {
                links.push((number, link.to_owned()));
            }
        }
    }
    links
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> HashSet<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| slug(title.trim()))
    });
    headings
        .map(|slug| {
            let count = seen.entry(slug.clone()).or_default();
            *count += 1;
            if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
        })
        .collect()
}

fn slug(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
