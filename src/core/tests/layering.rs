//! A module imports only from the modules listed before it, and no files of one folder import each
//! other in a circle.
//!
//! The test reads the sources of the crates: their `use` items, and the paths that begin with
//! `crate`, `super`, `self` or a child module. What is compiled for tests alone does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules of the core, each importing only from those before it.
const CORE: &[&str] = &[
    "sql",
    "catalog",
    "stored",
    "access",
    "policy",
    "search_path",
    "contract",
    "requests",
    "fix",
    "rule",
    "finding",
    "rules",
    "declare",
    "orientation",
    "exemptions",
    "guard",
    "plan",
    "explain",
    "postgrest",
    "doctor",
    "infer",
    "drift",
    "report",
    "audit",
];

/// The modules of the reader of catalogs, each importing only from those before it.
const READER: &[&str] = &[
    "text_body",
    "rights",
    "source",
    "oids",
    "captured",
    "types",
    "catalogs",
    "data",
    "script",
    "page",
    "printed",
    "write",
    "quoted_path",
    "place",
    "toast",
    "objects",
    "by_rows",
    "roles",
    "publications",
    "caller_typed",
    "routines",
    "name",
    "named",
    "bodies",
    "code",
    "stored_policies",
    "updatable",
    "unique_keys",
    "row_triggers",
    "detours",
    "expressions",
    "policies",
    "question",
    "exposures",
    "definer_bodies",
    "dependencies",
    "extension",
    "guard",
    "server_objects",
    "texts",
    "snapshot",
    "mentions",
    "needs",
    "statement",
    "declared",
    "explain",
    "analysis",
    "in_memory",
    "audit",
];

/// The modules of the program, each importing only from those before it.
const PROGRAM: &[&str] = &[
    "progress",
    "failure",
    "output",
    "table",
    "environment",
    "parameters",
    "service",
    "passfile",
    "tls",
    "connection",
    "filter",
    "contract_file",
    "exemption_file",
    "baseline",
    "migrations",
    "places",
    "pipe",
    "source",
    "commands",
    "cli",
    "main",
];

/// The modules of the edge, each importing only from those before it. Nothing imports `api`.
const EDGE: &[&str] = &[
    "pg", "settings", "catalog", "store", "audit", "query", "access", "declare", "prove", "log",
    "guard", "api",
];

#[test]
fn core_imports_only_downwards() {
    assert_none(upward_imports(&core(), CORE));
}

#[test]
fn core_files_import_each_other_in_no_circle() {
    assert_none(circles(&core()));
}

#[test]
fn reader_imports_only_downwards() {
    assert_none(upward_imports(&reader(), READER));
}

#[test]
fn reader_files_import_each_other_in_no_circle() {
    assert_none(circles(&reader()));
}

#[test]
fn program_imports_only_downwards() {
    assert_none(upward_imports(&program(), PROGRAM));
}

#[test]
fn program_files_import_each_other_in_no_circle() {
    assert_none(circles(&program()));
}

#[test]
fn edge_imports_only_downwards() {
    assert_none(upward_imports(&edge(), EDGE));
}

#[test]
fn edge_files_import_each_other_in_no_circle() {
    assert_none(circles(&edge()));
}

fn core() -> Vec<Source> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(core, &[core.join("tests"), core.join("target")])
}

fn reader() -> Vec<Source> {
    sources(&folder_of_edge().join("reader"), &[])
}

fn program() -> Vec<Source> {
    sources(&folder_of_edge().join("program"), &[])
}

fn edge() -> Vec<Source> {
    let edge = folder_of_edge();
    sources(&edge, &[edge.join("core"), edge.join("reader"), edge.join("program")])
}

fn folder_of_edge() -> PathBuf {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    core.parent().expect("the core is a folder of the edge").to_owned()
}

fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// One file.
struct Source {
    /// As messages name it.
    name: String,
    /// `["catalog", "oids"]` of `catalog/oids.rs`, and `["catalog"]` of `catalog/mod.rs`; empty of
    /// `lib.rs`.
    module: Vec<String>,
    text: String,
}

/// Every file below `root`, but for some folders.
fn sources(root: &Path, except: &[PathBuf]) -> Vec<Source> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !except.contains(&path) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root).expect("below the root").to_owned();
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                found.push(Source {
                    name: path.display().to_string(),
                    module: module_of(&relative),
                    text,
                });
            }
        }
    }
    assert!(!found.is_empty(), "there are no sources in {}", root.display());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn module_of(relative: &Path) -> Vec<String> {
    let mut module: Vec<String> = relative
        .with_extension("")
        .components()
        .map(|component| component.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// A path in a source: `["crate", "catalog", "oids"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Import {
    path: Vec<String>,
    line: usize,
    /// The name under which a `pub use` offers it.
    offered_as: Option<String>,
}

/// A word or a sign of a source, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// The tokens of a source, without comments, literals, and what is compiled for tests alone.
fn tokens(text: &str) -> Vec<Token> {
    without_tests(all_tokens(text))
}

fn all_tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let starts = |at: usize, with: &str| {
        with.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    while at < chars.len() {
        let (c, begin) = (chars[at], at);
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            at += 2;
            while at < chars.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if let Some(end) = raw_string_end(&chars, at) {
            at = end;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // A character; or a lifetime, which has no second quote.
            let length = match chars.get(at + 1) {
                Some('\\') => {
                    chars[at + 2..].iter().skip(1).position(|c| *c == '\'').map(|end| end + 4)
                }
                _ if chars.get(at + 2) == Some(&'\'') => Some(3),
                _ => None,
            };
            at += length.unwrap_or(1);
        } else if c.is_alphanumeric() || c == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            tokens.push(Token { text: chars[begin..at].iter().collect(), line });
        } else if starts(at, "::") {
            at += 2;
            tokens.push(Token { text: "::".into(), line });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.into(), line });
            }
        }
        line += chars[begin..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Where a raw string ends that begins here, with all that it may have before it.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let prefix = chars[at..].iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    if prefix == 0 || chars[at + prefix - 1] != 'r' {
        return None;
    }
    let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    let open = at + prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |end: usize| {
        chars[end] == '"'
            && chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(|end| closes(*end)).map(|end| end + 1 + hashes)
}

/// Leaves out `#[cfg(test)]` and `#[cfg(any(test, ...))]` with the item that follows.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let is = |i: usize, text: &str| tokens.get(i).is_some_and(|token| token.text == text);
        if is(at, "#") && is(at + 1, "[") && is(at + 2, "cfg") {
            let end = closing(&tokens, at + 1);
            if tokens[at..end].iter().any(|token| token.text == "test") && !is(at + 4, "not") {
                at = item_end(&tokens, end);
                continue;
            }
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// The modules that a source declares, `mod cases;`, those for tests among them where `with_tests`.
fn declared_modules(text: &str, with_tests: bool) -> BTreeSet<String> {
    let tokens = if with_tests { all_tokens(text) } else { tokens(text) };
    let declared = tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";");
    declared.map(|w| w[1].text.clone()).collect()
}

/// The place after the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// The place after an item: after its semicolon, or after its body.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Every path of a source that may lead to another file: `use` items, and what begins with `crate`,
/// `super`, `self` or one of `children`.
fn imports(tokens: &[Token], children: &BTreeSet<String>) -> Vec<Import> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let token = &tokens[at];
        let before = at.checked_sub(1).map(|i| tokens[i].text.as_str());
        // In a type, `use<'a>` names what it captures.
        let next = tokens.get(at + 1).map(|token| token.text.as_str());
        if token.text == "use" && next != Some("<") {
            let is_offered = matches!(before, Some("pub" | ")"));
            let mut tree = Vec::new();
            at = use_tree(tokens, at + 1, &[], &mut tree);
            found.extend(tree.into_iter().map(|(path, name, line)| Import {
                path,
                line,
                offered_as: Some(name).filter(|_| is_offered),
            }));
            continue;
        }
        let begins = matches!(token.text.as_str(), "crate" | "super" | "self")
            || children.contains(&token.text);
        let is_path = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        if begins && is_path && before != Some("::") {
            let mut path = vec![token.text.clone()];
            while tokens.get(at + 1).is_some_and(|t| t.text == "::")
                && tokens
                    .get(at + 2)
                    .is_some_and(|t| t.text.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            {
                path.push(tokens[at + 2].text.clone());
                at += 2;
            }
            found.push(Import { path, line: token.line, offered_as: None });
        }
        at += 1;
    }
    found
}

/// Expands one tree of a `use` item into paths, each with the name that it gets, and returns the
/// place after it.
fn use_tree(
    tokens: &[Token],
    start: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, String, usize)>,
) -> usize {
    let (mut path, mut at) = (prefix.to_vec(), start);
    let line = tokens.get(start).map_or(0, |token| token.line);
    let mut renamed = None;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => at += 1,
            "as" => {
                renamed = tokens.get(at + 1).map(|token| token.text.clone());
                at += 2;
            }
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            // `{self}` is what comes before it.
            "self" if !path.is_empty() => at += 1,
            word => {
                path.push(word.to_owned());
                at += 1;
            }
        }
    }
    let name = renamed.or_else(|| path.last().cloned()).unwrap_or_default();
    found.push((path, name, line));
    at
}

/// All sources of a crate, by module.
struct Modules<'a> {
    by_path: BTreeMap<&'a [String], &'a Source>,
    imports: BTreeMap<&'a [String], Vec<Import>>,
}

impl<'a> Modules<'a> {
    fn of(sources: &'a [Source]) -> Self {
        let declared_for_tests = |source: &Source| -> Vec<Vec<String>> {
            let kept = declared_modules(&source.text, false);
            let mut names = declared_modules(&source.text, true);
            names.retain(|name| !kept.contains(name));
            names.into_iter().map(|name| [source.module.clone(), vec![name]].concat()).collect()
        };
        let for_tests: BTreeSet<Vec<String>> =
            sources.iter().flat_map(declared_for_tests).collect();
        let is_for_tests = |module: &[String]| {
            (0..=module.len()).any(|length| for_tests.contains(&module[..length]))
        };
        let kept = sources.iter().filter(|source| !is_for_tests(&source.module));
        let by_path: BTreeMap<&[String], &Source> =
            kept.map(|source| (source.module.as_slice(), source)).collect();
        let imports = by_path
            .iter()
            .map(|(module, source)| {
                let is_child = |other: &&&[String]| {
                    other.len() == module.len() + 1 && other.starts_with(module)
                };
                let children = by_path
                    .keys()
                    .filter(is_child)
                    .map(|child| child[child.len() - 1].clone())
                    .collect();
                (*module, imports(&tokens(&source.text), &children))
            })
            .collect();
        Self { by_path, imports }
    }

    /// The module in whose file that is defined which a path in `module` names; `None` for what is
    /// outside of the crate.
    fn target(&self, module: &[String], path: &[String], depth: usize) -> Option<&'a [String]> {
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (vec![], &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module.to_vec(), path),
            first => {
                let child = [module.to_vec(), vec![first.to_owned()]].concat();
                self.by_path.get(child.as_slice())?;
                (module.to_vec(), path)
            }
        };
        while rest.first().is_some_and(|word| word == "super") {
            at.pop();
            rest = &rest[1..];
        }
        while let Some(word) = rest.first() {
            let child = [at.clone(), vec![word.clone()]].concat();
            if !self.by_path.contains_key(child.as_slice()) {
                break;
            }
            (at, rest) = (child, &rest[1..]);
        }
        let (found, _) = self.by_path.get_key_value(at.as_slice())?;
        // What it offers of another file is defined there.
        let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(found) };
        let offers = |wanted: &str| {
            let is_wanted = |import: &&Import| import.offered_as.as_deref() == Some(wanted);
            self.imports[found].iter().filter(is_wanted).collect::<Vec<_>>()
        };
        if let Some(import) = offers(name).first() {
            return self.target(found, &import.path, depth + 1).or(Some(found));
        }
        // `pub use types::*` offers what that file defines.
        let by_glob = offers("*").into_iter().find_map(|import| {
            let path = [&import.path[..import.path.len() - 1], std::slice::from_ref(name)].concat();
            let target = self.target(found, &path, depth + 1)?;
            defines(&self.by_path[target].text, name).then_some(target)
        });
        by_glob.or(Some(found))
    }
}

/// Whether a source defines an item of this name.
fn defines(text: &str, name: &str) -> bool {
    let kinds = ["struct", "enum", "fn", "type", "const", "static", "trait", "union"];
    tokens(text).windows(2).any(|w| kinds.contains(&w[0].text.as_str()) && w[1].text == name)
}

/// An import that counts: from which file to which, and where.
struct Edge<'a> {
    from: &'a [String],
    to: &'a [String],
    line: usize,
}

fn edges<'a>(modules: &Modules<'a>) -> Vec<Edge<'a>> {
    let mut found = Vec::new();
    for (from, imports) in &modules.imports {
        for import in imports {
            let Some(to) = modules.target(from, &import.path, 0) else { continue };
            // To offer what a child has is no use of it.
            let is_offer = import.offered_as.is_some() && to.starts_with(from);
            if to != *from && !is_offer {
                found.push(Edge { from, to, line: import.line });
            }
        }
    }
    found
}

/// The modules that are in no layer, and the imports of a module from a layer above it.
fn upward_imports(sources: &[Source], layers: &[&str]) -> Vec<String> {
    let modules = Modules::of(sources);
    let layer = |module: &[String]| {
        module.first().and_then(|top| layers.iter().position(|layer| layer == top))
    };
    let mut found = Vec::new();
    for (module, source) in modules.by_path.iter().filter(|(module, _)| !module.is_empty()) {
        if layer(module).is_none() {
            found.push(format!("{}: module {} is in no layer", source.name, module[0]));
        }
    }
    for Edge { from, to, line } in edges(&modules) {
        // The root knows every module, and no module needs what the root defines.
        if let (Some(low), Some(high)) = (layer(from), layer(to))
            && high > low
        {
            found.push(format!(
                "{}:{line}: module {} (layer {}) imports {} (layer {})",
                modules.by_path[from].name,
                from[0],
                low + 1,
                to[0],
                high + 1
            ));
        }
    }
    found.dedup();
    found
}

/// The circles in which files of one folder import each other, each with the lines that make it
/// one.
fn circles(sources: &[Source]) -> Vec<String> {
    let modules = Modules::of(sources);
    let mut within = edges(&modules);
    within.retain(|edge| !edge.from.is_empty() && edge.to.first() == edge.from.first());
    let reaches = |start: &[String]| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![start]);
        while let Some(current) = waiting.pop() {
            for edge in within.iter().filter(|edge| edge.from == current) {
                if seen.insert(edge.to) {
                    waiting.push(edge.to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&[String], BTreeSet<&[String]>> =
        modules.by_path.keys().map(|module| (*module, reaches(module))).collect();
    let mut found: BTreeMap<BTreeSet<&[String]>, String> = BTreeMap::new();
    for (module, all) in reached.iter().filter(|(module, all)| all.contains(*module)) {
        let members: BTreeSet<&[String]> =
            all.iter().copied().filter(|other| reached[other].contains(module)).collect();
        let is_of_it = |edge: &&Edge<'_>| members.contains(edge.from) && members.contains(edge.to);
        let mut lines: Vec<String> = within
            .iter()
            .filter(is_of_it)
            .map(|edge| {
                let (from, to) = (&modules.by_path[edge.from].name, edge.to.join("::"));
                format!("\n  {from}:{}: imports {to}", edge.line)
            })
            .collect();
        lines.dedup();
        found.insert(
            members,
            format!("these files import each other in a circle:{}", lines.concat()),
        );
    }
    found.into_values().collect()
}

fn example(files: &[(&str, &str)]) -> Vec<Source> {
    let source = |(name, text): &(&str, &str)| Source {
        name: (*name).to_owned(),
        module: module_of(Path::new(name)),
        text: (*text).to_owned(),
    };
    files.iter().map(source).collect()
}

#[test]
fn upward_import_is_reported_with_file_and_line() {
    let files = example(&[
        ("lib.rs", "mod low;\nmod high;\nuse high::H;"),
        ("low.rs", "// crate::high::H in a comment\nuse std::fmt;\nuse crate::{high::{self, H}};"),
        ("high.rs", "use crate::low;\npub struct H;"),
    ]);
    let found = upward_imports(&files, &["low", "high"]);
    assert_eq!(found, ["low.rs:3: module low (layer 1) imports high (layer 2)"]);
    assert_eq!(
        upward_imports(&files, &["high", "low"]),
        ["high.rs:1: module high (layer 1) imports low (layer 2)"]
    );
}

#[test]
fn inline_path_counts_as_an_import() {
    let files = example(&[
        ("low.rs", "fn f() {\n    let text = \"crate::high::g\";\n    crate::high::g(text)\n}"),
        ("high.rs", "pub fn g() {}"),
    ]);
    assert_eq!(
        upward_imports(&files, &["low", "high"]),
        ["low.rs:3: module low (layer 1) imports high (layer 2)"]
    );
}

#[test]
fn unknown_module_is_reported() {
    assert_eq!(
        upward_imports(&example(&[("other.rs", "")]), &["low"]),
        ["other.rs: module other is in no layer"]
    );
}

#[test]
fn files_that_import_each_other_are_reported() {
    let files = example(&[
        ("a/mod.rs", "mod one;\nmod two;\npub use one::One;"),
        ("a/one.rs", "use super::two::Two;\npub struct One;"),
        ("a/two.rs", "use super::One;\npub struct Two;"),
    ]);
    let found = circles(&files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("a/one.rs:1: imports a::two"), "{found:?}");
    assert!(found[0].contains("a/two.rs:1: imports a::one"), "{found:?}");
}

#[test]
fn module_that_offers_its_children_is_no_circle() {
    let files = example(&[
        ("a/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use two::two;"),
        ("a/one.rs", "pub struct One;"),
        ("a/two.rs", "use super::One;\npub fn two(_: One) {}"),
    ]);
    assert_eq!(circles(&files), [""; 0]);
}

#[test]
fn glob_that_a_module_offers_is_followed() {
    let files = example(&[
        ("a/mod.rs", "mod one;\nmod two;\npub use one::*;\npub use two::*;"),
        ("a/one.rs", "use super::Two;\npub struct One;"),
        ("a/two.rs", "use super::One;\npub struct Two;"),
    ]);
    assert_eq!(circles(&files).len(), 1);
    let files = example(&[
        ("lib.rs", "mod low;\nmod high;\npub use high::*;"),
        ("low.rs", "use crate::H;"),
        ("high.rs", "pub struct H;"),
    ]);
    assert_eq!(
        upward_imports(&files, &["low", "high"]),
        ["low.rs:1: module low (layer 1) imports high (layer 2)"]
    );
}

#[test]
fn tests_do_not_count() {
    let files = example(&[
        (
            "low.rs",
            "#[cfg(test)]\nmod cases;\n#[cfg(test)]\nmod tests {\n    use crate::high::H;\n}\n",
        ),
        ("low/cases.rs", "use crate::high::H;"),
        ("high.rs", "pub struct H;"),
    ]);
    assert_eq!(upward_imports(&files, &["low", "high"]), [""; 0]);
}
