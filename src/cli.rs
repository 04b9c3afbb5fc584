//! Arguments in, exit code out: one enum of commands, one place where an error becomes a sentence on stderr and a code. Does nothing itself.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cmd;
use crate::config::{Config, NodeIndex, duration};
use crate::error::Result;

const CODES: &str = "Exit codes: 0 fine, 1 failed, 2 usage, 3 configuration, 4 degraded, 5 refused for safety.\n\
                     Manual: mmha(8), mmha.toml(5)";

#[derive(Debug, Parser)]
#[command(name = "mmha", version, about = "Makes two MySQL or MariaDB boxes one highly available pair with a floating address", after_help = CODES, disable_help_subcommand = true)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/mmha/mmha.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented configuration and strong keys
    Init(Init),
    /// Look for trouble here and at the peer, and say what to do about it
    Check {
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Set up the server and replication with the peer; run it on both nodes, in any order
    Bootstrap {
        /// Change nothing; print what would be done
        #[arg(long)]
        dry_run: bool,
        /// How long to wait for the peer
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_text)]
        timeout: Duration,
    },
    /// Run the service (systemd starts this)
    Run,
    /// Show who holds the address, how the pair is, and the last decision
    Status {
        /// Print it as JSON
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// Print it again every second
        #[arg(long)]
        watch: bool,
    },
    /// Move the address to the other node without losing a write
    Switchover {
        /// The node that shall hold the address [default: the other one]
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Take it although not all proof is there; may lose writes of a silent peer
        #[arg(long)]
        force: bool,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Let nothing move for a while, for maintenance; ends by itself
    Pause {
        /// How long, at most a day
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration_text)]
        length: Duration,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// End a pause, and release the flap brake
    Resume {
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Decide about the transactions that quarantine this node; without an option, explain them
    Rejoin {
        /// Let the other node have them, if no row was changed on both
        #[arg(long, conflicts_with = "discard")]
        merge: bool,
        /// Give them up: say how this node is filled anew
        #[arg(long)]
        discard: bool,
        /// Compare and tell; change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// The server settings this pair needs
    Mycnf {
        #[command(subcommand)]
        action: Mycnf,
    },
    /// The packet filter rules this pair needs
    Firewall {
        #[command(subcommand)]
        action: Firewall,
    },
    /// Print the history of decisions
    Events {
        /// How many, the last ones
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Print the table of rules by which it decides
    Fsm {
        /// As a graph for dot(1)
        #[arg(long, conflicts_with = "mermaid")]
        dot: bool,
        /// As a graph for Mermaid
        #[arg(long)]
        mermaid: bool,
    },
    /// Before a MariaDB server starts: say whether its crash recovery keeps commits that nobody acknowledged (systemd runs this)
    Recovery {
        /// After the start: the decision was for that start alone
        #[arg(long)]
        done: bool,
    },
    /// Let go of the address now
    Release {
        /// After the service has ended: do nothing when systemd is going to restart it
        #[arg(long = "final")]
        last: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct Init {
    /// A node, by the name `uname -n` prints there; give it twice
    #[arg(long = "node", value_name = "NAME=ADDR", required = true, value_parser = node)]
    nodes: Vec<(String, Ipv4Addr)>,
    /// The floating address with its prefix length; give it several times for several that move together
    #[arg(long = "vip", value_name = "ADDR/PREFIX", required = true)]
    vips: Vec<String>,
    /// Interface of the floating address [default: the one that has the node's own address]
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Name of the pair
    #[arg(long, value_name = "NAME", default_value = "mmha")]
    cluster: String,
    /// Who may reach MySQL on the floating address; give it several times [default: anyone]
    #[arg(long = "client", value_name = "CIDR")]
    clients: Vec<String>,
    /// Address that tells "cut off" from "peer dead"; give it several times [default: the default gateway]
    #[arg(long = "ping", value_name = "ADDR")]
    ping: Vec<Ipv4Addr>,
    /// The node that holds the address when both are well [default: the first]
    #[arg(long, value_name = "NAME")]
    preferred: Option<String>,
    /// Directory to write to
    #[arg(long, value_name = "DIR", default_value = "/etc/mmha")]
    dir: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
enum Mycnf {
    /// Print the fragment
    Show,
    /// Compare it with the installed one
    Diff,
    /// Ask the server whether it accepts it, and install it; takes effect at its next restart
    Write {
        /// Change nothing; print what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare the server's effective settings with it
    Check,
}

#[derive(Debug, Subcommand)]
enum Firewall {
    /// Print the rules, and whether they are in force
    Show,
    /// Put them in force
    Apply {
        /// Change nothing; print what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Take them out
    Remove {
        /// Change nothing; print what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// What `main` returns. A reader that closes its end of the pipe is no fault.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            let _ = answer.print();
            let is_asked_for = matches!(answer.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_asked_for { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A report that was printed already comes with an empty sentence.
            if !error.to_string().is_empty() {
                cmd::complain(&error.to_string());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// The whole command line, for the test that compares it with the manual.
pub fn description() -> clap::Command {
    Arguments::command()
}

fn run(arguments: Arguments) -> Result<()> {
    let file = arguments.config.as_path();
    let here = || -> Result<(Config, NodeIndex)> {
        let config = Config::load(file)?;
        let me = config.me()?;
        Ok((config, me))
    };
    match arguments.command {
        Command::Init(init) => cmd::init::run(&init.into()),
        Command::Check { json } => cmd::check::run(file, json),
        Command::Bootstrap { dry_run, timeout } => {
            let (config, me) = here()?;
            cmd::bootstrap::run(&config, me, &cmd::bootstrap::Options { dry_run, timeout })
        }
        Command::Run => crate::daemon::run(file),
        Command::Status { json, watch } => {
            let (config, me) = here()?;
            match (json, watch) {
                (true, _) => cmd::status::json(&config, me),
                (_, true) => cmd::status::watch(&config, me),
                _ => cmd::status::text(&config, me),
            }
        }
        Command::Switchover { to, force, dry_run } => {
            let (config, me) = here()?;
            cmd::switchover::run(&config, me, &cmd::switchover::Options { to, force, dry_run })
        }
        Command::Pause { length, dry_run } => cmd::pause::pause(length, dry_run),
        Command::Resume { dry_run } => cmd::pause::resume(dry_run),
        Command::Rejoin { merge, discard, dry_run } => {
            let (config, me) = here()?;
            let way = match (merge, discard) {
                (true, _) => cmd::rejoin::Way::Merge,
                (_, true) => cmd::rejoin::Way::Discard,
                _ => cmd::rejoin::Way::Explain,
            };
            cmd::rejoin::run(&config, me, &cmd::rejoin::Options { way, dry_run })
        }
        Command::Mycnf { action } => {
            let (config, me) = here()?;
            let action = match action {
                Mycnf::Show => cmd::mycnf::Action::Show,
                Mycnf::Diff => cmd::mycnf::Action::Diff,
                Mycnf::Write { dry_run } => cmd::mycnf::Action::Write { dry_run },
                Mycnf::Check => cmd::mycnf::Action::Check,
            };
            cmd::mycnf::run(&config, me, action)
        }
        Command::Firewall { action } => {
            let (config, me) = here()?;
            match action {
                Firewall::Show => cmd::firewall::show(&config, me),
                Firewall::Apply { dry_run } => cmd::firewall::apply(&config, me, dry_run),
                Firewall::Remove { dry_run } => cmd::firewall::remove(&config, me, dry_run),
            }
        }
        Command::Events { lines, json } => cmd::events::run(lines, json),
        Command::Fsm { dot, mermaid } => match (dot, mermaid) {
            (true, _) => cmd::fsm::dot(),
            (_, true) => cmd::fsm::mermaid(),
            _ => cmd::fsm::text(),
        },
        Command::Recovery { done } => cmd::recovery::run(file, done),
        Command::Release { last, dry_run } => cmd::release::run(file, &cmd::release::Options { last, dry_run }),
    }
}

impl From<Init> for cmd::init::Options {
    fn from(init: Init) -> cmd::init::Options {
        // The files name each other by absolute paths, written as an operator would.
        let dir = std::path::absolute(&init.dir).unwrap_or(init.dir).components().collect();
        cmd::init::Options {
            nodes: init.nodes,
            vips: init.vips,
            interface: init.interface,
            cluster: init.cluster,
            clients: init.clients,
            ping: init.ping,
            preferred: init.preferred,
            dir,
            force: init.force,
        }
    }
}

fn node(text: &str) -> std::result::Result<(String, Ipv4Addr), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDRESS")?;
    let address = address.parse().map_err(|_| format!("\"{address}\" is not an IPv4 address"))?;
    Ok((name.to_string(), address))
}

fn duration_text(text: &str) -> std::result::Result<Duration, String> {
    duration::parse(text).map_err(|wrong| format!("\"{text}\" {wrong}"))
}
