//! The rules of the house, enforced by reading the sources: who may import whom, which room owns which crate, where `unsafe` may stand, and how
//! long a file may be. ARCHITECTURE.md gives the reasons. It reads words, not meaning: comments and strings are left out first.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const LONGEST: usize = 400;

/// `FROM` imports nothing of `TO`; a room is a folder or a file directly under src.
const NEVER: &[(&str, &str)] = &[
    ("act", "probe"),
    ("probe", "act"),
    ("cmd", "daemon"),
    ("sql", "daemon"),
    ("sql", "act"),
    ("sql", "probe"),
    ("mycnf", "daemon"),
    ("mycnf", "act"),
    ("peer", "daemon"),
    ("peer", "sys"),
    ("peer", "sql"),
    ("act", "daemon"),
    ("probe", "daemon"),
    ("act", "cmd"),
    ("probe", "cmd"),
    ("daemon", "cmd"),
    ("config", "daemon"),
    ("config", "sql"),
    ("config", "act"),
];

/// A room that may import these of ours and nothing else.
const ONLY: &[(&str, &[&str])] = &[("core", &[]), ("error", &[]), ("report", &[]), ("sys", &["error"])];

/// An external crate and the only rooms that may name it.
const ROOMS: &[(&str, &[&str])] = &[
    ("mysql", &["sql"]),
    ("rtnetlink", &["sys"]),
    ("futures_util", &["sys"]),
    ("bytes", &["sys"]),
    ("syslog", &["sys"]),
    ("signal_hook", &["sys"]),
    ("clap", &["cli"]),
    ("toml", &["config"]),
    ("hmac", &["peer", "config"]),
    ("sha1", &["peer", "config"]),
    ("sha2", &["peer", "config"]),
    ("base64", &["act"]),
];

/// What a decision must not depend on: the core has no way to ask the world anything.
const IMPURE: &[&str] = &["env", "fs", "io", "net", "os", "process", "sync", "thread", "time"];

struct Source {
    /// Below the package's folder.
    path: String,
    /// The folder or file under src; empty for what is not in src.
    room: String,
    text: String,
    /// The text without comments and strings, in words and single signs.
    words: Vec<String>,
}

fn sources() -> Vec<Source> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![package.join("build.rs")];
    collect(&package.join("src"), &mut files);
    collect(&package.join("tests"), &mut files);
    files.sort();
    assert!(files.len() > 60, "the sources have moved: only {} found", files.len());
    files.iter().map(|file| read(package, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

fn read(package: &Path, file: &Path) -> Source {
    let path = file.strip_prefix(package).expect("inside").to_string_lossy().into_owned();
    let room = path.strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next()).unwrap_or_default().to_owned();
    let text = fs::read_to_string(file).expect("readable");
    let words = words(&text);
    Source { path, room, text, words }
}

fn words(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    while at < bytes.len() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(length) = literal(rest) {
            at += length;
        } else if is_word(bytes[at]) {
            let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
            found.push(rest[..length].to_owned());
            at += length;
        } else {
            if !bytes[at].is_ascii_whitespace() {
                found.push(char::from(bytes[at]).to_string());
            }
            at += 1;
        }
    }
    found
}

/// How long the string or character literal is that `text` begins with; `None`: it begins with something else, a lifetime included.
fn literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix(['b', 'c']).unwrap_or(text);
    if let Some(raw) = body.strip_prefix('r')
        && let inside = raw.trim_start_matches('#')
        && inside.starts_with('"')
    {
        let end = format!("\"{}", "#".repeat(raw.len() - inside.len()));
        let length = inside[1..].find(&end)? + 1 + end.len();
        return Some(text.len() - inside.len() + length);
    }
    let before = text.len() - body.len();
    if body.starts_with('"') {
        return closing(body, b'"').map(|length| before + length);
    }
    let mut inside = body.strip_prefix('\'')?.chars();
    match inside.next()? {
        '\\' => closing(body, b'\'').map(|length| before + length),
        character if inside.next() == Some('\'') => Some(before + 2 + character.len_utf8()),
        _ => None,
    }
}

fn closing(body: &str, end: u8) -> Option<usize> {
    let (mut at, bytes) = (1, body.as_bytes());
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == end => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// What follows `crate::`, `use crate::{…}` included.
fn imports(words: &[String]) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for at in 0..words.len() {
        if words[at] != "crate" || words.get(at + 1).is_none_or(|word| word != ":") {
            continue;
        }
        match words.get(at + 3).map(String::as_str) {
            Some("{") => found.extend(group(&words[at + 4..])),
            Some(word) => drop(found.insert(word)),
            None => {}
        }
    }
    found
}

/// The first word of each part of `{a::b, c::{d, e}}`.
fn group(words: &[String]) -> Vec<&str> {
    let (mut found, mut depth, mut is_first) = (Vec::new(), 0, true);
    for word in words {
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => is_first = true,
            word if depth == 0 && is_first => {
                found.push(word);
                is_first = false;
            }
            _ => {}
        }
    }
    found
}

/// Whether `name` begins a path here (`name::…`, `use name;`), and is not a module or an alias of ours by the same name.
fn names_crate(words: &[String], name: &str) -> bool {
    let word = |at: Option<usize>| at.and_then(|at| words.get(at)).map_or("", String::as_str);
    let is_ours = (0..words.len()).any(|at| {
        let (before, after) = (word(at.checked_sub(1)), word(Some(at + 1)));
        words[at] == name && (before == "as" || before == "mod" || ([",", "{"].contains(&before) && [",", "}", "as"].contains(&after)))
    });
    !is_ours
        && (0..words.len()).any(|at| {
            let (before, after) = (word(at.checked_sub(1)), word(Some(at + 1)));
            let is_path = after == ":" && word(Some(at + 2)) == ":";
            words[at] == name && ![":", ".", "fn"].contains(&before) && (is_path || (before == "use" && [";", "as"].contains(&after)))
        })
}

fn verdict(faults: &str) {
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut faults = String::new();
    for source in sources().iter().filter(|source| !source.room.is_empty()) {
        let imports = imports(&source.words);
        for (from, to) in NEVER {
            if source.room == *from && imports.contains(to) {
                let _ = writeln!(faults, "{}: {from} must not import {to}", source.path);
            }
        }
        for (from, allowed) in ONLY {
            if source.room != *from {
                continue;
            }
            for other in imports.iter().filter(|other| *other != from && !allowed.contains(other)) {
                let _ = writeln!(faults, "{}: {from} must not import {other}", source.path);
            }
        }
    }
    verdict(&faults);
}

#[test]
fn the_core_cannot_ask_the_world() {
    let mut faults = String::new();
    for source in sources().iter().filter(|source| source.room == "core") {
        for name in ["log", "libc", "nix", "serde_json"].into_iter().chain(ROOMS.iter().map(|(name, _)| *name)) {
            if names_crate(&source.words, name) {
                let _ = writeln!(faults, "{}: the core must not use {name}", source.path);
            }
        }
        for path in source.words.windows(7).filter(|path| path[0] == "std" && path[1] == ":" && IMPURE.contains(&path[3].as_str())) {
            // A value that several hold and nobody changes asks the world nothing.
            if (path[3].as_str(), path[6].as_str()) == ("sync", "Arc") {
                continue;
            }
            let _ = writeln!(faults, "{}: the core must not use std::{}", source.path, path[3]);
        }
        for path in source.words.windows(2).filter(|path| path[0] == "super" && path[1] == "super") {
            let _ = writeln!(faults, "{}: {path:?} may leave the core", source.path);
        }
        if source.path == "src/core/mod.rs" && source.words.iter().any(|word| word == "super") {
            let _ = writeln!(faults, "{}: super leaves the core", source.path);
        }
    }
    verdict(&faults);
}

#[test]
fn every_crate_has_its_room() {
    let mut faults = String::new();
    for source in sources().iter().filter(|source| !source.room.is_empty()) {
        for (name, rooms) in ROOMS.iter().filter(|(name, _)| names_crate(&source.words, name)) {
            if !rooms.contains(&source.room.as_str()) {
                let _ = writeln!(faults, "{}: {name} belongs in {}", source.path, rooms.join(" and "));
            }
        }
    }
    verdict(&faults);
}

/// A dependency that is declared and whose room does not name it would make the table above mean nothing.
#[test]
fn every_crate_of_the_table_is_used_where_it_belongs() {
    let sources = sources();
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("Cargo.toml");
    for (name, rooms) in ROOMS {
        assert!(manifest.contains(&format!("\n{} = ", name.replace('_', "-"))), "{name} is no dependency");
        let used = sources.iter().any(|source| rooms.contains(&source.room.as_str()) && names_crate(&source.words, name));
        assert!(used, "{name} is used in none of its rooms {rooms:?}");
    }
}

#[test]
fn there_is_no_async_runtime() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).expect("Cargo.lock");
    for runtime in ["tokio", "async-std", "smol", "async-io", "async-global-executor", "openssl-sys"] {
        assert!(!lock.contains(&format!("name = \"{runtime}\"\n")), "{runtime} has come in with a dependency");
    }
}

#[test]
fn unsafe_stands_in_sys_and_says_why() {
    let mut faults = String::new();
    for source in sources() {
        let uses = source.words.iter().filter(|word| *word == "unsafe").count();
        if source.path != "tests/architecture.rs" && uses > 0 && source.room != "sys" {
            let _ = writeln!(faults, "{}: unsafe outside sys", source.path);
        }
        let reasons = source.text.matches("// SAFETY:").count();
        if source.room == "sys" && uses > reasons {
            let _ = writeln!(faults, "{}: {uses} times unsafe, {reasons} times // SAFETY:", source.path);
        }
    }
    verdict(&faults);
}

#[test]
fn every_file_says_what_it_is_for_and_none_is_long() {
    let mut faults = String::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            let _ = writeln!(faults, "{}: begins without \"//! \" and what it is for", source.path);
        }
        let lines = source.text.lines().count();
        if lines > LONGEST {
            let _ = writeln!(faults, "{}: {lines} lines, more than {LONGEST}", source.path);
        }
    }
    verdict(&faults);
}

#[test]
fn nothing_is_left_for_later() {
    let later = ["TO", "FIX"].map(|half| format!("{half}{}", if half == "TO" { "DO" } else { "ME" }));
    let mut faults = String::new();
    for source in sources() {
        for mark in later.iter().filter(|mark| source.text.contains(mark.as_str())) {
            let _ = writeln!(faults, "{}: {mark}", source.path);
        }
        if source.words.windows(3).any(|words| words[0] == "#" && words[1] == "[" && words[2] == "ignore") {
            let _ = writeln!(faults, "{}: an ignored test", source.path);
        }
        for skipped in source.words.windows(2).filter(|words| ["todo", "unimplemented"].contains(&words[0].as_str()) && words[1] == "!") {
            let _ = writeln!(faults, "{}: {}!", source.path, skipped[0]);
        }
    }
    verdict(&faults);
}

/// The reader of words itself: what it must see, and what it must not.
#[test]
fn words_are_told_from_comments_and_strings() {
    fn check(text: &str, expect: &str) {
        assert_eq!(words(text).join(" "), expect, "{text}");
    }
    check("use a::b; // unsafe", "use a : : b ;");
    check("/* unsafe */ let x = \"unsafe \\\" unsafe\";", "let x = ;");
    check("r#\"unsafe \" unsafe\"# + br\"unsafe\" + b\"x\" end", "+ + end");
    check("fn f<'a>(x: &'a str) { x == '\"' || x == '\\'' || x == 'é' }", "fn f < ' a > ( x : & ' a str ) { x = = | | x = = | | x = = }");
    let seen = |text: &str| imports(&words(text)).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(seen("use crate::{act::{gate, lease}, sys}; crate::core::x() // crate::cmd"), "act core sys");
    let names = |text: &str| names_crate(&words(text), "syslog");
    assert!(names("use syslog::Facility;") && names("fn f() { syslog::init() }") && names("use syslog as log;"));
    assert!(!names("use crate::sys::{clock, log as syslog}; syslog::init()") && !names("crate::sys::syslog::init()") && !names("a.syslog"));
}
