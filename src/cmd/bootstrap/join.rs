//! The joint part of bootstrap: compare, begin both histories anew, follow each other, prove it. In step with the peer by `Meeting`.

use std::time::{Duration, Instant};

use crate::cmd::bootstrap::facts::{self, Counted, Facts, Verdict, judge, lonely_accounts};
use crate::cmd::bootstrap::meeting::{Meeting, Phase, Stop};
use crate::cmd::bootstrap::plan::{self, Secrets};
use crate::cmd::bootstrap::prepare::{self, step};
use crate::error::Error;
use crate::sql::dialect::{Dialect, FORGET_SOURCE, LOG_AGAIN, LOG_NOTHING, START_REPLICATION, STOP_REPLICATION};
use crate::sql::{Replica, role, schema};

/// How long replication may take to run on both sides once it is started.
const PROOF: Duration = Duration::from_secs(60);

/// One meeting from the first look to the proof.
pub fn round(meeting: &mut Meeting) -> Result<(), Stop> {
    let (here, there) = (meeting.config.node(meeting.me).name.clone(), meeting.peer().to_owned());
    let mut mine = facts::gather(&mut meeting.here, meeting.config, meeting.me)?;
    let theirs = meeting.form(&mine)?;
    step("peer", &format!("{there} is there"));
    let verdict = match judge(&mine, &theirs, &here, &there, Counted::No) {
        Verdict::Count => compare_contents(meeting, &mut mine, &here, &there)?,
        verdict => verdict,
    };
    match verdict {
        Verdict::Refuse(reason) => return Err(Error::refused(reason).into()),
        Verdict::Join | Verdict::Count => {
            step("compare", if mine.objects.is_empty() { "both servers are empty" } else { "both servers hold the same data" });
            for account in lonely_accounts(&mine, &theirs, &here, &there) {
                step("warning", &format!("account {account}; make it on the other too before clients use the floating address"));
            }
            begin_anew(meeting, &mine, theirs.server_id)?;
        }
        Verdict::Resume => {
            step("compare", "both servers follow each other already");
            start(meeting)?;
        }
    }
    prove(meeting, &mut mine)
}

fn compare_contents(meeting: &mut Meeting, mine: &mut Facts, here: &str, there: &str) -> Result<Verdict, Stop> {
    step("compare", "both servers have the same tables; reading their contents ...");
    mine.contents = facts::count(&mut meeting.here, mine)?;
    meeting.publish(Phase::Counted, mine)?;
    let theirs = meeting.wait_for(Phase::Counted, "read its tables")?;
    Ok(judge(mine, &theirs, here, there, Counted::Yes))
}

/// Nobody may start to follow before both have forgotten: a history that only one has dropped would come back from the other.
fn begin_anew(meeting: &mut Meeting, mine: &Facts, peer_id: u32) -> Result<(), Stop> {
    let dialect = Dialect::of(&meeting.here);
    let strangers: Vec<String> = meeting
        .here
        .rows(dialect.attached_replicas())?
        .iter()
        .filter_map(|row| row.at(0))
        .filter(|id| *id != peer_id.to_string())
        .map(str::to_owned)
        .collect();
    if !strangers.is_empty() {
        let text = format!(
            "other replicas hang on this server (server_id {}); beginning its history anew would break them: detach them first",
            strangers.join(", ")
        );
        return Err(Error::refused(text).into());
    }
    meeting.here.run(STOP_REPLICATION)?;
    meeting.here.run(FORGET_SOURCE)?;
    meeting.publish(Phase::Detached, mine)?;
    meeting.wait_for(Phase::Detached, "stop replicating")?;

    for statement in dialect.reset_history() {
        meeting.here.run(statement)?;
    }
    for statement in [LOG_NOTHING, schema::FORGET_MARKERS, LOG_AGAIN] {
        meeting.here.run(statement)?;
    }
    meeting.publish(Phase::Blank, mine)?;
    meeting.wait_for(Phase::Blank, "begin its history anew")?;
    step("history", "begun anew on both nodes");

    follow(meeting)?;
    Ok(meeting.here.run(START_REPLICATION)?)
}

/// Runs again what is set up already. The account's password may have changed since: a receiver that still runs would find out
/// at its next connection only. Both sides are up, so what it throws away by stopping it fetches again.
fn start(meeting: &mut Meeting) -> Result<(), Stop> {
    meeting.here.run(STOP_REPLICATION)?;
    follow(meeting)?;
    Ok(meeting.here.run(START_REPLICATION)?)
}

fn follow(meeting: &mut Meeting) -> Result<(), Stop> {
    let statement = plan::follow(meeting.config, meeting.me, Dialect::of(&meeting.here), Secrets::Real)?;
    prepare::keep_out_of_the_log(&mut meeting.here);
    let secret = meeting.config.replication.password.reveal();
    meeting.here.run(&statement).map_err(|error| Error::failed(error.text.replace(secret, "***")))?;
    Ok(())
}

/// A row written here is read there and the other way round; both threads run and wait for more.
fn prove(meeting: &mut Meeting, mine: &mut Facts) -> Result<(), Stop> {
    let there = meeting.peer().to_owned();
    mine.marker = meeting.here.value("SELECT UUID()")?.unwrap_or_default();
    meeting.here.run(&schema::write_marker(meeting.me.0, &mine.marker))?;
    meeting.publish(Phase::Following, mine)?;
    let theirs = meeting.wait_for(Phase::Following, "follow this node")?;
    step("replication", &format!("waiting for proof: a row from here read on {there}, a row from there read here"));
    let deadline = Instant::now() + PROOF;
    loop {
        let Some(missing) = what_is_missing(meeting, mine, &theirs, &there)? else {
            step("replication", &format!("proven both ways; both threads run and wait for {there} to send more"));
            return Ok(());
        };
        meeting.note(missing);
        meeting.pause(deadline)?;
        meeting.wait_for(Phase::Following, "follow this node")?;
    }
}

/// The first part of the proof that is still open.
fn what_is_missing(meeting: &mut Meeting, mine: &Facts, theirs: &Facts, there: &str) -> Result<Option<String>, Stop> {
    let (me, peer) = (meeting.me.0, meeting.me.other().0);
    let replica = role::replica(&mut meeting.here)?;
    if let Some(error) = replica.as_ref().and_then(Replica::error) {
        return Ok(Some(format!("replication from {there} reports {error}")));
    }
    if meeting.ask(|session| session.value(&schema::read_marker(me))).flatten().as_ref() != Some(&mine.marker) {
        return Ok(Some(format!("the row written here has not arrived on {there}")));
    }
    if meeting.here.value(&schema::read_marker(peer))?.as_ref() != Some(&theirs.marker) {
        return Ok(Some(format!("the row written on {there} has not arrived here")));
    }
    let waits = replica.is_some_and(|replica| replica.is_healthy() && replica.waits_for_events());
    Ok((!waits).then(|| format!("replication from {there} does not wait for more yet")))
}
