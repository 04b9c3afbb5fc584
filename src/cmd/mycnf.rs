//! `mmha mycnf show|diff|write|check`: our my.cnf fragment as it would be, as it is, and as the server obeys it.

use std::time::Duration;

use crate::config::{Config, NodeIndex};
use crate::error::{Error, Kind, Result};
use crate::mycnf::check;
use crate::mycnf::server::Server;
use crate::mycnf::write::{self, Plan};
use crate::sql::{Login, Session, bounded};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Show,
    Diff,
    Write { dry_run: bool },
    Check,
}

const ASK: Duration = Duration::from_secs(20);

pub fn run(config: &Config, me: NodeIndex, action: Action) -> Result<()> {
    let server = Server::find(config)?;
    let plan = Plan::make(config, me, &server)?;
    match action {
        Action::Show => print!("{}", plan.new),
        Action::Diff | Action::Write { dry_run: true } => show_diff(&plan),
        Action::Write { dry_run: false } => write_it(&plan, &server)?,
        Action::Check => return check_it(config, me, &plan, server),
    }
    Ok(())
}

fn show_diff(plan: &Plan) {
    if plan.changes() {
        print!("{}", plan.diff());
    } else {
        println!("\"{}\" is as it should be", plan.path.display());
    }
}

fn write_it(plan: &Plan, server: &Server) -> Result<()> {
    write::write(plan, server)?;
    if plan.changes() {
        println!(
            "\"{}\" written and accepted by the server; it takes effect at the next `systemctl restart {}`",
            plan.path.display(),
            server.unit
        );
    } else {
        println!("\"{}\" is as it should be; nothing written", plan.path.display());
    }
    Ok(())
}

/// By the files, and by the running server when it answers. Degraded when anything is not as the fragment says.
fn check_it(config: &Config, me: NodeIndex, plan: &Plan, server: Server) -> Result<()> {
    let mut findings: Vec<String> = Vec::new();
    if plan.changes() {
        let what = if plan.old.is_some() { "differs from the configuration" } else { "is missing" };
        findings.push(format!("\"{}\" {what}: run `mmha mycnf write`", plan.path.display()));
    }
    let (login, wanted, files) = (Login::local(config), config.clone(), check::by_files(&server, config, me));
    let asked = bounded("reading the server's settings", ASK, move || check::by_server(&mut Session::open(&login)?, &server, &wanted, me));
    match asked {
        // Without the fragment everything else follows, but for what would override it.
        Ok(clashes) => findings.extend(clashes.iter().filter(|clash| plan.old.is_some() || clash.by.is_some()).map(ToString::to_string)),
        Err(error) => {
            findings.extend(files.iter().map(ToString::to_string));
            findings.push(format!("the running server could not be asked: {error}"));
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("\"{}\" is in place and the server obeys it", plan.path.display());
        return Ok(());
    }
    Err(Error::new(Kind::Degraded, format!("{} of the server's settings are not as the pair needs them", findings.len())))
}
