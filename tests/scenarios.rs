//! Scenario files: two real decision cores in a modelled world (`world`), told in plain text. Each file has its story on top, then steps:
//!
//!   500ms                          let time pass
//!   do power_off db-01             a fault or an operator's act (see `act`)
//!   expect db-02 active in 2500ms  wait for it, at most so long
//!   expect db-01 rule 32 in 3s     the rule that last fired there
//!   expect writes in 100ms         a write is acknowledged by then
//!   expect lost 0                  acknowledged rows that the holder does not have
//!
//! Below stand the decisions that were taken, each line begun by a bar: changing a rule shows here as a diff.
//!
//! At every millisecond the world checks that nobody else holds the address and nobody else can acknowledge a write.

#[path = "scenarios/acts.rs"]
mod acts;
#[path = "scenarios/arbiter.rs"]
mod arbiter;
#[path = "scenarios/node.rs"]
mod node;
#[path = "scenarios/world.rs"]
mod world;

use std::path::{Path, PathBuf};

use node::told;
use world::World;

fn millis(text: &str) -> u64 {
    match text.strip_suffix("ms") {
        Some(number) => number.parse().expect("a number of ms"),
        None => text.strip_suffix('s').expect("ms or s").parse::<u64>().expect("a number of s") * 1000,
    }
}

fn node(text: &str) -> usize {
    match text {
        "db-01" => 0,
        "db-02" => 1,
        other => panic!("no node {other}"),
    }
}

fn expect(world: &mut World, words: &[&str]) {
    match words {
        ["lost", count] => assert_eq!(world.lost(), count.parse::<u64>().expect("a count"), "acknowledged rows missing"),
        [name, "rule", number, "in", limit] => {
            let (at, number) = (node(name), number.parse::<u16>().expect("a rule"));
            world.run_until(millis(limit), &format!("{name} at rule {number}"), |world| world.rule(at) == Some(number));
        }
        ["writes", "in", limit] => {
            let before = world.acked;
            world.run_until(millis(limit), "an acknowledged write", |world| world.acked != before);
        }
        [name, state, "in", limit] => {
            let at = node(name);
            world.run_until(millis(limit), &format!("{name} {state}"), |world| world.state(at) == Some(*state));
        }
        [name, state] => assert_eq!(world.state(node(name)), Some(*state), "{name}"),
        other => panic!("what is expected by {other:?}?"),
    }
}

fn play(text: &str) -> World {
    let mut world = World::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '|'])) {
        let words: Vec<&str> = line.split_whitespace().collect();
        world.step_line = line.to_owned();
        match words.as_slice() {
            [time] => world.run(millis(time)),
            ["do", act, rest @ ..] => world.act(act, rest),
            ["expect", rest @ ..] => expect(&mut world, rest),
            other => panic!("what does {other:?} mean?"),
        }
    }
    world
}

/// The decisions below a scenario's steps are those that were taken now. `MMHA_REGENERATE=1` writes them anew, to be read as a diff.
fn is_as_written(path: &Path, text: &str) -> bool {
    let (written, steps): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('|'));
    let now: Vec<String> = told().iter().map(|line| format!("| {line}")).collect();
    if std::env::var_os("MMHA_REGENERATE").is_some() {
        let whole = format!("{}\n\n{}\n", steps.join("\n").trim_end(), now.join("\n"));
        std::fs::write(path, whole).expect("written");
        return true;
    }
    let differs = written.iter().map(|line| (*line).to_owned()).ne(now.iter().cloned());
    if differs {
        println!("{}: MMHA_REGENERATE=1 cargo test --test scenarios, then read the diff\n{}", path.display(), now.join("\n"));
    }
    !differs
}

#[test]
fn every_scenario_goes_as_told() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    assert!(files.len() >= 12, "scenarios are missing");
    let mut failed = Vec::new();
    for path in &files {
        let text = std::fs::read_to_string(path).expect("readable");
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if std::env::var("MMHA_SCENARIO").is_ok_and(|only| !name.starts_with(&only)) {
            continue;
        }
        told();
        if std::panic::catch_unwind(|| play(&text)).is_err() {
            failed.push(name);
        } else if !is_as_written(path, &text) {
            failed.push(format!("{name} (other decisions than written)"));
        }
    }
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

/// The world must be able to see a second writer: without gate, fence and semi-sync a frozen holder goes on acknowledging.
#[test]
fn the_world_notices_a_second_writer() {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new();
        world.gate_works = false;
        world.fence_works = false;
        world.commits_wait = false;
        world.run_until(10_000, "db-01 active", |world| world.state(0) == Some("active"));
        world.run(3_000);
        world.act("freeze", &["db-01"]);
        world.run(10_000);
    });
    assert!(outcome.is_err(), "a second writer went unnoticed");
}
