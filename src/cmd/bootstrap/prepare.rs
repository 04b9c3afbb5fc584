//! Bootstrap's steps at its own node, before it needs the peer: my.cnf, restart, fence, firewall, accounts, schema. Each looks first and
//! changes only what is not yet as it should be.

use std::net::IpAddr;
use std::time::Duration;

use crate::act::firewall;
use crate::cmd::bootstrap::plan::{Secrets, accounts};
use crate::cmd::say;
use crate::config::{Config, NodeIndex};
use crate::error::{Error, Result};
use crate::mycnf::check;
use crate::mycnf::server::Server;
use crate::mycnf::write::{self, Plan, is_older_than_fragment};
use crate::sql::dialect::{Dialect, LOG_AGAIN, LOG_NOTHING};
use crate::sql::fence::{Keys, Spare, Waiters, close_writes};
use crate::sql::{Family, Login, PEER_ACCOUNT, Session, bounded, schema};
use crate::sys::run::run;

const OPEN: Duration = Duration::from_secs(10);
const FENCE: Duration = Duration::from_secs(30);
const ASK_NAMES: Duration = Duration::from_secs(3);

/// A session to this node's own server whose statements may take `io`.
pub fn local(config: &Config, io: Duration) -> Result<Session> {
    let login = Login::local(config).within(io);
    Ok(bounded("connecting to this node's server", OPEN, move || Session::open(&login))?)
}

pub fn step(what: &str, result: &str) {
    say(&format!("{what:<12} {result}"));
}

/// Our fragment in place and obeyed; the server is restarted only if it does not know it yet.
pub fn configure(config: &Config, me: NodeIndex, server: &Server) -> Result<()> {
    let plan = Plan::make(config, me, server)?;
    write::write(&plan, server)?;
    let what = if plan.changes() { "written and accepted by the server" } else { "as it should be" };
    step("my.cnf", &format!("\"{}\" {what}", plan.path.display()));

    // Read again: the fragment is among the lines now.
    let server = Server::find(config)?;
    write::settle(&server)?;
    if !plan.changes() && knows_the_fragment(config, me, &server)? {
        step("restart", "not needed");
        return write::settled(&plan);
    }
    step("restart", &format!("restarting {} ...", server.unit));
    write::restart(&plan, &server, &Login::local(config))?;
    let clashes = check::by_server(&mut local(config, OPEN)?, &server, config, me)?;
    if clashes.is_empty() {
        step("restart", &format!("{} answers and obeys the fragment", server.unit));
        return Ok(());
    }
    let lines: Vec<String> = clashes.iter().map(ToString::to_string).collect();
    Err(Error::refused(format!("the server does not obey our fragment:\n  {}", lines.join("\n  "))))
}

/// Whether the running server has read the fragment and obeys it. One that is down does not.
fn knows_the_fragment(config: &Config, me: NodeIndex, server: &Server) -> Result<bool> {
    let Ok(mut session) = local(config, OPEN) else { return Ok(false) };
    Ok(check::by_server(&mut session, server, config, me)?.is_empty() && !is_older_than_fragment(&mut session, server)?)
}

/// Read-only, without clients. Root of MySQL may write again after it: bootstrap's own rows need that.
pub fn fence(config: &Config, me: NodeIndex) -> Result<()> {
    let login = Login::local(config);
    let spare = Spare::of(config);
    let (own, peer) = (config.node(me).server_id.to_string(), config.node(me.other()).server_id.to_string());
    let closed = bounded("closing this node's server to writes", FENCE + OPEN, move || {
        close_writes(&login, Keys { own: &own, peer: &peer }, &spare, Waiters::Free, FENCE)
    })?;
    let clients = if closed.killed > 0 { format!(", {} client sessions ended", closed.killed) } else { String::new() };
    step("read-only", &format!("nobody writes here now{clients}"));
    if closed.events_stopped {
        step("events", "the event scheduler is stopped; start it at the writer once the pair serves: SET GLOBAL event_scheduler=ON");
    }
    let mut session = local(config, OPEN)?;
    if session.family() == Family::MySql {
        session.run("SET GLOBAL super_read_only=0")?;
    }
    Ok(())
}

pub fn filter_packets(config: &Config, me: NodeIndex) -> Result<()> {
    if !config.firewall.manage {
        step("firewall", "not managed (firewall.manage = false)");
        return Ok(());
    }
    let changed = firewall::apply(config, me)?;
    step("firewall", if changed { "rules written" } else { "as it should be" });
    Ok(())
}

/// The peer's accounts and our schema, unlogged: made on both sides they would stop each other's replication.
pub fn admit_peer(config: &Config, me: NodeIndex) -> Result<()> {
    let mut session = local(config, OPEN)?;
    let names = peer_names(config, me, &mut session)?;
    session.run(LOG_NOTHING)?;
    for statement in schema::CREATE {
        session.run(statement)?;
    }
    keep_out_of_the_log(&mut session);
    for statement in accounts(config, me, Dialect::of(&session), &names, Secrets::Real)? {
        session.run(&statement).map_err(|error| Error::failed(error.text.replace(config.replication.password.reveal(), "***")))?;
    }
    session.run(LOG_AGAIN)?;
    let hosts: Vec<String> = std::iter::once(config.node(me.other()).address.to_string()).chain(names).collect();
    step("accounts", &format!("'{}' and '{PEER_ACCOUNT}' for {}", config.replication.user, hosts.join(", ")));
    Ok(())
}

/// MariaDB's general log would have the password in clear. An account that may not switch it off goes on without.
pub fn keep_out_of_the_log(session: &mut Session) {
    let _ = session.run("SET SESSION sql_log_off=1");
}

/// Names the server may see the peer under. With skip_name_resolve it sees addresses only.
pub fn peer_names(config: &Config, me: NodeIndex, session: &mut Session) -> Result<Vec<String>> {
    if session.value("SELECT @@skip_name_resolve")?.as_deref() != Some("0") {
        return Ok(Vec::new());
    }
    let peer = config.node(me.other());
    let mut names = vec![peer.name.to_lowercase()];
    // The resolver knows the address by other names too, or not at all; both are fine.
    if let Ok(said) = run("getent", &["hosts", &peer.address.to_string()], None, ASK_NAMES) {
        names.extend(said.stdout.split_whitespace().skip(1).map(str::to_lowercase));
    }
    names.retain(|name| name.parse::<IpAddr>().is_err() && name != "localhost" && name.len() <= 60);
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
