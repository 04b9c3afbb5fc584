//! `mmha bootstrap`: from two servers to a replicating pair. Runs on both nodes in any order; every step looks at facts first, so that it
//! can be ended at any moment and run again. Leaves both servers read-only: opening one is the service's business.

mod facts;
mod interrupt;
mod join;
mod meeting;
mod plan;
mod prepare;

use std::path::Path;
use std::time::Duration;

use crate::act::firewall;
use crate::cmd::say;
use crate::config::{Config, NodeIndex, Writer};
use crate::control::{self, Request, Unanswered};
use crate::error::{Error, Result};
use crate::mycnf::check;
use crate::mycnf::server::Server;
use crate::mycnf::write::Plan;
use crate::sql::dialect::{Dialect, FORGET_SOURCE, START_EVENTS, START_REPLICATION};
use crate::sql::{Login, Session, SqlError, bounded, role, schema, status};
use meeting::{Meeting, Stop};
use plan::Secrets;
use prepare::{local, step};

pub struct Options {
    pub dry_run: bool,
    pub timeout: Duration,
}

const LOOK: Duration = Duration::from_secs(5);
/// Rounds end only when the other side begins anew; somebody who does that all day is in trouble.
const ROUNDS: u32 = 20;

pub fn run(config: &Config, me: NodeIndex, options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::failed("bootstrap changes the server's configuration and the firewall: run it as root"));
    }
    let server = Server::find(config)?;
    if options.dry_run {
        return dry_run(config, me, &server);
    }
    if is_paired(config, me, &server) {
        step("replication", "runs both ways with our settings; nothing to do");
        return prepare::filter_packets(config, me);
    }
    refuse_under_the_service()?;
    refuse_another_source(config, me)?;
    interrupt::watch()?;
    let before = Before::of(config);
    if let Err(error) = prepare_and_join(config, me, &server, options.timeout) {
        // The first error is the one to read; a server that does not answer cannot be given back either.
        let _ = finish(config, before);
        return Err(error);
    }
    finish(config, Before::default())?;
    step("done", "the pair replicates both ways; start the service on both nodes: systemctl enable --now mmha");
    Ok(())
}

fn prepare_and_join(config: &Config, me: NodeIndex, server: &Server, timeout: Duration) -> Result<()> {
    prepare::configure(config, me, server)?;
    interrupt::check()?;
    prepare::fence(config, me)?;
    prepare::filter_packets(config, me)?;
    prepare::admit_peer(config, me)?;
    let mut meeting = Meeting::open(config, me, timeout)?;
    for _ in 0..ROUNDS {
        match join::round(&mut meeting) {
            Ok(()) => return Ok(()),
            Err(Stop::Again(why)) => step("peer", &why),
            Err(Stop::Fail(error)) => return Err(error),
        }
    }
    Err(Error::failed(format!("{} began its bootstrap anew {ROUNDS} times: look at what it says", meeting.peer())))
}

/// Closed for the service; open where both nodes write, or where nothing came of it and the server had been in use.
fn finish(config: &Config, before: Before) -> Result<()> {
    let mut session = local(config, LOOK)?;
    let dialect = Dialect::of(&session);
    let joined = role::replica(&mut session)?.is_some();
    if config.mysql.writer == Writer::Both || (before.open && !joined) {
        for statement in dialect.open() {
            session.run(statement)?;
        }
        if before.events {
            session.run(START_EVENTS)?;
        }
        let until = if config.mysql.writer == Writer::Both {
            "both nodes take writes"
        } else {
            "the server takes writes as before, until its next restart"
        };
        step("read-only", &format!("off: {until}"));
        return Ok(());
    }
    session.run(dialect.close())?;
    step("read-only", "on; the service opens the node that holds the floating address");
    Ok(())
}

/// Whether both servers obey and follow, told without changing anything.
fn is_paired(config: &Config, me: NodeIndex, server: &Server) -> bool {
    let unchanged = Plan::make(config, me, server).is_ok_and(|plan| !plan.changes());
    let (wanted, found) = (config.clone(), server.clone());
    let look = move || {
        let mut here = Session::open(&Login::local(&wanted))?;
        let obeyed = check::by_server(&mut here, &found, &wanted, me)?.is_empty();
        let mut there = Session::open(&Login::remote(&wanted, me.other()))?;
        Ok(obeyed
            && follows(&mut here, &wanted, me)?
            && follows(&mut there, &wanted, me.other())?
            && markers_crossed(&mut here, &mut there)?)
    };
    unchanged && bounded("looking at both servers", LOOK * 3, look).unwrap_or(false)
}

fn follows(session: &mut Session, config: &Config, me: NodeIndex) -> std::result::Result<bool, SqlError> {
    let replica = role::replica(session)?;
    Ok(replica.is_some_and(|replica| facts::follows(&replica, config, me) && replica.is_healthy()))
}

/// Both proofs of the first time are on both sides.
fn markers_crossed(here: &mut Session, there: &mut Session) -> std::result::Result<bool, SqlError> {
    for node in [0, 1] {
        let query = schema::read_marker(node);
        let seen = here.value(&query)?;
        if seen.is_none() || seen != there.value(&query)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Roles and replication are the service's while it runs.
fn refuse_under_the_service() -> Result<()> {
    match control::ask(Path::new(control::SOCKET), &Request::Status, LOOK) {
        Err(Unanswered::NotRunning) => Ok(()),
        _ => Err(Error::refused(
            "the service runs on this node and owns its server: see `mmha check` for what is wrong, or `systemctl stop mmha` first",
        )),
    }
}

/// How the server was before it was touched.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    open: bool,
    events: bool,
}

impl Before {
    fn of(config: &Config) -> Before {
        let login = Login::local(config);
        let look = move || {
            let mut session = Session::open(&login)?;
            let open = session.value("SELECT @@global.read_only")?.as_deref() == Some("0");
            Ok(Before { open, events: session.value("SELECT @@global.event_scheduler")?.as_deref() == Some("ON") })
        };
        bounded("looking at this node's server", LOOK, look).unwrap_or_default()
    }
}

/// A server that follows somebody else would lose that, and its position there, for good.
fn refuse_another_source(config: &Config, me: NodeIndex) -> Result<()> {
    let (login, peer) = (Login::local(config), config.node(me.other()));
    let look = move || {
        let mut session = Session::open(&login)?;
        let rows = session.rows(Dialect::of(&session).all_sources())?;
        Ok(status::sources(&rows))
    };
    // One that is down is started, and replicates nothing by then.
    let sources = bounded("looking at this node's server", LOOK, look).unwrap_or_default();
    let Some(stranger) = sources.iter().find(|host| **host != peer.address.to_string() && !host.eq_ignore_ascii_case(&peer.name)) else {
        return Ok(());
    };
    Err(Error::refused(format!(
        "this server replicates from {stranger}, which is not {}; bootstrap would end that and forget its position. \
         If that is meant, run STOP ALL SLAVES (MySQL: STOP REPLICA) and RESET REPLICA ALL here, then bootstrap again",
        peer.name
    )))
}

/// Everything a run would do here, in order, and nothing done.
fn dry_run(config: &Config, me: NodeIndex, server: &Server) -> Result<()> {
    let peer = &config.node(me.other()).name;
    let plan = Plan::make(config, me, server)?;
    if plan.changes() {
        say(&format!("# my.cnf, then `systemctl restart {}`\n{}", server.unit, plan.diff()));
    } else {
        say(&format!("# \"{}\" is as it should be", plan.path.display()));
    }
    say("# firewall");
    for change in firewall::changes(config, me)? {
        say(&change.text());
    }
    let dialect = server.dialect;
    let names = local(config, LOOK).and_then(|mut session| prepare::peer_names(config, me, &mut session)).unwrap_or_default();
    let mut statements: Vec<String> = vec![dialect.close().into(), "SET SESSION sql_log_bin=0".into()];
    statements.extend(schema::CREATE.map(str::to_owned));
    statements.extend(plan::accounts(config, me, dialect, &names, Secrets::Masked)?);
    say(&format!("# at this node's server\n{};", statements.join(";\n")));
    let mut statements: Vec<String> = vec!["STOP REPLICA".into(), FORGET_SOURCE.into()];
    statements.extend(dialect.reset_history().iter().map(|text| (*text).to_owned()));
    statements.extend([
        plan::follow(config, me, dialect, Secrets::Masked)?,
        START_REPLICATION.into(),
        schema::write_marker(me.0, "(random)"),
    ]);
    say(&format!("# once {peer} is there and both are empty or equal; otherwise refused\n{};", statements.join(";\n")));
    Ok(())
}
