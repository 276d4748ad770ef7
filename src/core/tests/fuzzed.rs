//! The properties of the fuzz targets (`fuzz/`), without libFuzzer: with the inputs in the corpus,
//! with random changes of them, and with repetitive inputs.
//!
//! `DRAGONFLY_SEED` sets the seed of the changes, and `FUZZ_SECONDS` how long each target runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../../../fuzz/src/lib.rs"]
mod properties;

use properties::{TARGETS, Target};

/// How long the changes of one target's corpus are tried.
const DURATION: Duration = Duration::from_secs(1);

/// The size of repetitive inputs, in bytes: small enough for a debug build, and large enough that a
/// time that grows with the cube of the size is minutes. The measurement below is with a megabyte,
/// and shows the square.
const LARGE: usize = 2_000;

/// The most time for such an input. Usual are milliseconds; other tests run at the same time.
const LONGEST: Duration = Duration::from_secs(10);

/// The longest changed input, in bytes.
const LONGEST_CHANGED: usize = 4_000;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the inputs in the corpus of a target, with their files.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = project().join("fuzz/corpus").join(target.name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let input = std::fs::read(&path).expect("a readable file");
        (path, input)
    };
    files.into_iter().map(read).collect()
}

/// Returns the words of the dictionaries.
fn dictionary() -> Vec<Vec<u8>> {
    let folder = project().join("fuzz/dictionaries");
    let files = std::fs::read_dir(folder).expect("the dictionaries");
    let words = files.flat_map(|file| {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a dictionary");
        let lines = text.lines().filter_map(|line| {
            let word = line.strip_prefix('"')?.strip_suffix('"')?;
            Some(word.replace("\\\"", "\"").replace("\\x0a", "\n").replace("\\\\", "\\"))
        });
        lines.map(String::into_bytes).collect::<Vec<_>>()
    });
    words.collect()
}

/// Numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// Changes an input a few times: bytes and words are inserted, parts are removed, repeated, or
/// replaced by parts of another input.
fn changed(input: &[u8], other: &[u8], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..=random.below(5) {
        let start = random.below(input.len() + 1);
        let end = start + random.below((input.len() - start).min(40) + 1);
        let new = match random.below(6) {
            0 => vec![],
            1 => vec![random.below(256) as u8],
            2 => b" '\"$\\;,.()[]{}:-/*\n=%_"[random.below(22)..][..1].to_vec(),
            3 => [&input[start..end], &input[start..end]].concat(),
            4 => {
                let from = random.below(other.len() + 1);
                let length = random.below((other.len() - from).min(60) + 1);
                other[from..from + length].to_vec()
            }
            _ => random.of(words).clone(),
        };
        let end = if random.below(2) == 0 { start } else { end };
        input.splice(start..end, new);
    }
    input.truncate(LONGEST_CHANGED);
    input
}

/// Checks one input, and shows it if a property does not hold.
fn check(target: &Target, input: &[u8], origin: &str) {
    let result = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    assert!(
        result.is_ok(),
        "target {} fails with {origin}, an input of {} bytes:\n{}",
        target.name,
        input.len(),
        input.escape_ascii()
    );
}

fn seed() -> u64 {
    let chosen = std::env::var("DRAGONFLY_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_micros() as u64);
    chosen.unwrap_or_else(now).max(1)
}

fn duration() -> Duration {
    let chosen = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    chosen.map_or(DURATION, Duration::from_secs)
}

/// Tries the corpus of a target and changes of it.
fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let inputs = corpus(target);
    assert!(!inputs.is_empty(), "target {name} has no corpus");
    for (path, input) in &inputs {
        check(target, input, &path.display().to_string());
    }
    let (seed, words) = (seed(), dictionary());
    let mut random = Random(seed);
    let start = Instant::now();
    let mut tried = 0;
    while start.elapsed() < duration() {
        let (path, input) = random.of(&inputs);
        let other = &random.of(&inputs).1;
        let input = changed(input, other, &words, &mut random);
        let origin = format!("a change of {} (DRAGONFLY_SEED={seed})", path.display());
        check(target, &input, &origin);
        tried += 1;
    }
    println!("{name}: {} inputs in the corpus, {tried} changes (seed {seed})", inputs.len());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested_and_has_a_program() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(tested, TARGETS.map(|target| target.name));
            let manifest = std::fs::read_to_string(project().join("fuzz/Cargo.toml")).unwrap();
            for name in tested {
                let program = format!("fuzz_targets/{name}.rs");
                assert!(manifest.contains(&format!("path = \"{program}\"")), "{program}");
                let path = project().join("fuzz").join(&program);
                let source = std::fs::read_to_string(path).unwrap();
                assert!(source.contains(&format!("dragonfly_fuzz::{name}::check")), "{program}");
            }
        }
    };
}

targets! {
    acls bodies constant_body contract cursor_use drift identifiers patterns search_path secrets
}

/// Texts that are repeated to make a large input.
const REPEATED: &[&str] = &[
    "a",
    "A",
    "é",
    "\u{1}",
    " ",
    "\n",
    "'",
    "\"",
    "$",
    "$a",
    "$a$",
    "$$",
    "$1",
    "$1::",
    "(",
    "(a,",
    "(a",
    "()",
    "[",
    "[0]",
    "a[",
    "a[1]",
    "{",
    "{\"a\":",
    "[1,",
    "\"a\",",
    ",",
    ";",
    ".",
    "a.",
    "a,",
    "a ",
    "\"a\".",
    "/*",
    "*/",
    "/**/",
    "--",
    "-",
    "--\n",
    "+",
    "+-",
    "-+",
    "%",
    "%I",
    "%1$",
    "%-",
    "=",
    "=>",
    "::",
    ":=",
    "..",
    "\\",
    "\\'",
    "e'",
    "e'\\",
    "U&\"",
    "''",
    "'a'",
    "'a''b'",
    "''''",
    "'a'::b",
    "not ",
    "not(",
    "1=",
    "1 or ",
    "true and ",
    "is not ",
    "coalesce(",
    "coalesce(true,",
    "(select ",
    "'t'::bool ",
    "null is null is ",
    "fetch c into x;",
    "begin fetch c ",
    "begin fetch a ",
    ";fetch",
    "fetch c;",
    "move $1;",
    "open c;",
    "open c;fetch c;",
    "execute ",
    "execute 'fetch' ",
    "execute c;",
    "execute 'move'||$1;",
    "x:=c;",
    "c cursor ",
    "cursor ",
    "create ",
    "create temp ",
    "create temp (",
    "create temp table if not exists ",
    "into temp a.",
    "a::text ",
    "to_json(",
    "row(",
    "array[",
    "(((a)))",
    "lower(a",
    "insert into t select ",
    "using ",
    "'x' using a",
    "'$1' using ",
    "execute '$1::x' using a;",
    "f.a",
    "f.a[",
    "a.a[",
    "return a ",
    "set x.secret = ",
    "password 'a' ",
    "do $a$ password ",
    "as $a$",
    "as $$",
    "; do ",
    "create table password as $a$ $b$ ",
    "*",
    "?",
    "*a",
    "a*",
    "*a?",
    "\\*",
    "table ",
    "out ",
    "in ",
    "default ",
    "order by ",
    "numeric(1,2)",
    "character varying",
    "public, ",
    "\"$user\", ",
    "{\"name\": \"a\", \"kind\": \"client\"},",
    "1e9,",
    "\\u0000",
    "\"\\u0000\",",
    "grant ",
    "all ",
];

/// Returns what is repeated for a target: of an ACL, only the size matters.
fn parts(target: &Target) -> &'static [&'static str] {
    if target.name == "acls" { &REPEATED[..1] } else { REPEATED }
}

#[test]
fn repetitive_input_is_read_in_short_time() {
    let mut slow = Vec::new();
    for target in &TARGETS {
        for part in parts(target) {
            let text = part.repeat(LARGE / part.len());
            let start = Instant::now();
            (target.read)(&text);
            let needed = start.elapsed();
            if needed > LONGEST {
                slow.push(format!("target {} needs {needed:?} for {part:?}", target.name));
            }
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

/// Prints the times for a megabyte. Meaningful in a release build only:
/// `cargo test --release -p dragonfly_core --test fuzzed -- --ignored --nocapture megabyte`
#[test]
#[ignore = "a measurement"]
fn megabyte_is_read_well_below_a_second() {
    let size = std::env::var("FUZZ_BYTES").ok().and_then(|size| size.parse().ok());
    let size: usize = size.unwrap_or(1 << 20);
    for target in &TARGETS {
        let mut times: Vec<(Duration, &str)> = Vec::new();
        for part in parts(target) {
            let text = part.repeat(size / part.len());
            let start = Instant::now();
            (target.read)(&text);
            times.push((start.elapsed(), part));
        }
        times.sort();
        let longest: Vec<String> =
            times.iter().rev().take(4).map(|(time, part)| format!("{time:.0?} {part:?}")).collect();
        println!("{:14} {}", target.name, longest.join("  "));
    }
}
