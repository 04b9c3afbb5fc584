//! The program from outside: exit codes, where faults are reported, and that manual, help, known keys and shipped examples say the same.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mmha::config::{Config, Secret, keys};
use mmha::sys::run::{Output, run};

const BINARY: &str = env!("CARGO_BIN_EXE_mmha");
const LIMIT: Duration = Duration::from_secs(30);

fn mmha(arguments: &[&str]) -> Output {
    run(BINARY, arguments, None, LIMIT).expect("mmha runs")
}

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// A directory that goes away with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("mmha-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("temporary directory");
        Place(path)
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
    /// A configuration in which this machine is node 1.
    fn init(&self) -> Output {
        let me = nix::unistd::gethostname().expect("name").into_string().expect("text");
        let node = format!("--node={me}=192.0.2.241");
        mmha(&["init", &node, "--node=the-other=192.0.2.242", "--vip=192.0.2.243/24", "--ping=192.0.2.1", "--dir", &self.path("")])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_key_stands_in_the_manual_and_no_other() {
    let mut documented = BTreeSet::new();
    let mut section = String::new();
    for line in source("man/mmha.toml.5").lines() {
        if let Some(name) = line.strip_prefix(".Ss [") {
            section = name.trim_matches(['[', ']']).to_string();
        } else if let Some(key) = line.strip_prefix(".It Va ") {
            documented.insert(format!("{section}.{key}"));
        }
    }
    let known: BTreeSet<String> =
        keys::SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}"))).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_command_and_option_stands_in_the_manual_and_no_other() {
    let mut documented = BTreeSet::new();
    let mut command = "mmha".to_string();
    for line in source("man/mmha.8").lines() {
        if let Some(name) = line.strip_prefix(".Ss ") {
            command = format!("mmha {name}");
            documented.insert(command.clone());
        } else if let Some(item) = line.strip_prefix(".It Fl ") {
            // `n , Fl -lines Ar N`
            let options = item.split(" , Fl ").filter_map(|part| part.split_whitespace().next());
            documented.extend(options.map(|option| format!("{command} -{option}")));
        }
    }
    documented.retain(|line| !["mmha -h", "mmha --help", "mmha -V", "mmha --version"].contains(&line.as_str()));
    let mut known = BTreeSet::new();
    describe(&mmha::cli::description(), "", &mut known);
    assert_eq!(documented, known);
}

/// Leaves of the command tree, and the options of each.
fn describe(command: &clap::Command, above: &str, known: &mut BTreeSet<String>) {
    let name = format!("{above}{}", command.get_name());
    let is_leaf = command.get_subcommands().next().is_none();
    if is_leaf {
        known.insert(name.clone());
    }
    for argument in command.get_arguments() {
        known.extend(argument.get_long().map(|long| format!("{name} --{long}")));
        known.extend(argument.get_short().map(|short| format!("{name} -{short}")));
    }
    command.get_subcommands().for_each(|inner| describe(inner, &format!("{name} "), known));
}

#[test]
fn shipped_examples_load() {
    let load = |name: &str, text: &str| {
        Config::parse(Path::new(name), text, |_, _| Ok(Secret::new("x"))).unwrap_or_else(|error| panic!("{error}"));
    };
    load("etc/mmha.toml", &source("etc/mmha.toml"));
    load("etc/fast.toml", &source("etc/fast.toml"));
    let manual = source("man/mmha.toml.5");
    let examples: Vec<&str> =
        manual.split(".Bd -literal\n").skip(1).map(|rest| rest.split(".Ed").next().expect("closed").trim_start()).collect();
    let [whole, fast] = examples.as_slice() else { panic!("the manual has two examples") };
    load("first example", whole);
    let (above, _) = whole.split_once("[heartbeat]").expect("has the section");
    load("second example", &format!("{above}{fast}"));
}

#[test]
fn exit_codes_of_the_command_line() {
    fn check(arguments: &[&str], code: i32, expect: &str) {
        let output = mmha(arguments);
        assert_eq!(output.code, Some(code), "{arguments:?}: {}", output.stderr);
        assert!((output.stdout.clone() + &output.stderr).contains(expect), "{arguments:?}: {output:?}");
    }
    check(&["--help"], 0, "switchover");
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"));
    check(&[], 2, "Usage");
    check(&["frobnicate"], 2, "unrecognized");
    check(&["status", "--json", "--watch"], 2, "cannot be used with");
    check(&["bootstrap", "--timeout", "5"], 2, "is not a duration");
    check(&["init", "--node", "a=1.2.3.4", "--vip", "1.2.3.5/24"], 2, "exactly two nodes");
    check(&["init", "--node", "a", "--vip", "1.2.3.5/24"], 2, "NAME=ADDR");
    check(&["--config", "/nonexistent/mmha.toml", "status"], 3, "cannot read \"/nonexistent/mmha.toml\"");
    check(&["fsm"], 0, "-> standby");
    check(&["fsm", "--dot"], 0, "digraph mmha");
    check(&["fsm", "--mermaid"], 0, "stateDiagram-v2");
}

#[test]
fn init_writes_what_loads_and_overwrites_nothing() {
    let place = Place::new("init");
    let first = place.init();
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stdout.contains("mmha bootstrap") && first.stdout.contains("rsync -a "), "{}", first.stdout);
    let mode = |name: &str| fs::metadata(place.path(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("mmha.toml"), mode("authkeys"), mode("replication.password")), (0o644, 0o600, 0o600));
    let second = place.init();
    assert_eq!(second.code, Some(5), "{}", second.stderr);
    assert!(second.stderr.contains("--force"), "{}", second.stderr);
}

#[test]
fn status_without_a_service_is_degraded_and_says_so() {
    let place = Place::new("status");
    assert_eq!(place.init().code, Some(0));
    let output = mmha(&["--config", &place.path("mmha.toml"), "status", "--json"]);
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!((status["agent"].as_str(), status["vip"]["held"].as_bool()), (Some("stopped"), Some(false)));
    assert!(status["warnings"][0].as_str().expect("text").contains("systemctl start mmha"));
    let text = mmha(&["--config", &place.path("mmha.toml"), "status"]);
    assert!(text.code == Some(4) && text.stdout.contains("AGENT NOT RUNNING") && text.stderr.is_empty(), "{text:?}");
}

#[test]
fn faults_stand_at_their_place_with_a_caret() {
    let place = Place::new("faults");
    assert_eq!(place.init().code, Some(0));
    let file = place.path("mmha.toml");
    let good = fs::read_to_string(&file).expect("written");
    let line_of = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).expect(part) + 1;
    let bad = good.replace("keepalive =", "keepaliv =").replace("port = 3306", "port = \"3306\"");
    fs::write(&file, &bad).expect("write");
    let output = mmha(&["--config", &file, "check"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(3), ""));
    for (part, column, caret) in [("keepaliv =", 1, "\n     | ^^^^^^^^\n"), ("port = \"3306\"", 8, "\n     |        ^^^^^^")] {
        let place = format!("{file}:{}:{column}: ", line_of(&bad, part));
        assert!(output.stderr.contains(&place) && output.stderr.contains(caret), "{part}: {}", output.stderr);
    }
    fs::write(&file, &good).expect("write");
    for name in ["authkeys", "replication.password"] {
        let secret = fs::read_to_string(place.path(name)).expect(name);
        fs::set_permissions(place.path(name), Permissions::from_mode(0o644)).expect(name);
        let output = mmha(&["--config", &file, "status"]);
        assert_eq!(output.code, Some(3), "{name}");
        assert!(output.stderr.contains(&format!("chmod 600 {}", place.path(name))), "{}", output.stderr);
        let word = secret.split_whitespace().last().expect("a secret");
        assert!(!output.stderr.contains(word), "the secret is shown");
        fs::set_permissions(place.path(name), Permissions::from_mode(0o600)).expect(name);
    }
}

/// ARCHITECTURE.md's picture of the states is what the rules draw. `MMHA_REGENERATE=1` draws it anew.
#[test]
fn the_picture_of_the_states_is_drawn_from_the_rules() {
    let (open, close) = ("```mermaid\n", "```\n");
    let text = source("ARCHITECTURE.md");
    let (before, rest) = text.split_once(open).expect("a picture");
    let (shown, after) = rest.split_once(close).expect("its end");
    let drawn = mmha(&["fsm", "--mermaid"]).stdout;
    if std::env::var_os("MMHA_REGENERATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
        fs::write(path, format!("{before}{open}{drawn}{close}{after}")).expect("written");
    } else {
        assert_eq!(shown, drawn, "the rules have changed: MMHA_REGENERATE=1 cargo test --test cli");
    }
}

#[test]
fn a_closed_pipe_is_no_fault() {
    let output = run("sh", &["-c", &format!("{BINARY} fsm | true; {BINARY} --help | true")], None, LIMIT).expect("sh");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

/// Stops that are no orderly ends are left to the leases: nothing is looked at, not even the configuration.
#[test]
fn the_final_release_waits_for_an_orderly_stop() {
    let output = mmha(&["--config", "/nonexistent/mmha.toml", "release", "--final"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stdout.contains("a restart follows"), "{}", output.stdout);
}
