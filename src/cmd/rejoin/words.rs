//! What `mmha rejoin` says to a person who has to decide.

use crate::config::{Config, NodeIndex};
use crate::report::{Quarantine, Status};

pub fn count(quarantine: &Quarantine) -> String {
    match quarantine.transactions {
        0 => "extra transactions (not compared now)".to_owned(),
        1 => format!("1 extra transaction ({})", quarantine.extra),
        many => format!("{many} extra transactions ({})", quarantine.extra),
    }
}

pub fn explain(status: &Status, quarantine: &Quarantine) -> String {
    let (here, peer) = (&status.node, &status.peer.name);
    let saved = match (&quarantine.file, &quarantine.trouble) {
        (Some(file), None) => format!("They are saved in {file}\n(rows readable, statements to be replayed)."),
        (Some(file), Some(trouble)) => format!("{file} holds {trouble}."),
        (None, Some(trouble)) => format!("They are NOT saved: {trouble}. The service tries again."),
        (None, None) => "They are being saved.".to_owned(),
    };
    let now = if quarantine.merging {
        format!("A merge was accepted: {peer} fetches them, or has stopped at a conflict.\n\n")
    } else {
        String::new()
    };
    format!(
        "{here} is quarantined: it has {} that {peer} lacks.\n{saved}\n\n{now}\
         Until you decide, {here} applies nothing and never takes over: when {peer} fails, nobody serves.\n\n\
         mmha rejoin --merge     {peer} gets these transactions, with the GTIDs they have, and {here} then follows again.\n\
         \x20                       First every row they changed is compared with every row {peer} has changed since; a row\n\
         \x20                       changed on both refuses the merge, and nothing is touched. At risk: what keys do not\n\
         \x20                       show, as two orders that took the same last item. Clients at {peer} see the rows appear.\n\
         mmha rejoin --discard   They are given up. Committed rows cannot be taken out of a server one by one, so {here}\n\
         \x20                       has to be filled anew from {peer}; this prints how. At risk: the saved file is all\n\
         \x20                       that is left of them.\n\
         Both take --dry-run.",
        count(quarantine)
    )
}

pub fn conflict(peer: &str, conflict: &str, quarantine: &Quarantine) -> String {
    format!(
        "{peer} has stopped at the first conflict, with {} to go: {conflict}\n\
         Nothing is lost: {peer} serves as before, this node still has its transactions and stays quarantined. Settle the conflict on both \
         nodes, since this one meets the same two rows when it follows: here make room (SET sql_log_bin=0, then change the row), at {peer} change or \
         delete the row that is in the way and run START REPLICA SQL_THREAD; the merge goes on by itself. Or see `mmha rejoin --discard`",
        count(quarantine)
    )
}

/// The way bootstrap goes with one empty node; this version has no other.
pub fn discard(config: &Config, me: NodeIndex, status: &Status, quarantine: &Quarantine) -> String {
    let (here, peer) = (&status.node, &config.node(me.other()).name);
    let file = quarantine.file.as_deref().unwrap_or("nothing: they are not saved yet, wait for that");
    format!(
        "Re-seed needed: to give up {}, {here} has to be emptied and filled from {peer}. Nothing was changed here. The steps:\n\
         \x20 1. here ({here}):   keep a copy of {file}\n\
         \x20 2. here:           systemctl disable --now mmha\n\
         \x20 3. here, as root:  SET sql_log_bin=0; DROP DATABASE ...; for each database of your own; then STOP REPLICA; RESET REPLICA ALL;\n\
         \x20                    (on MySQL before that: SET GLOBAL super_read_only=0;)\n\
         \x20                    {peer} serves on, without a second node, until here\n\
         \x20 4. on {peer}:      systemctl stop mmha   (from here on the floating address is down)\n\
         \x20 5. on both:        mmha bootstrap        (it finds {here} empty, and prints the command that copies {peer}'s data)\n\
         \x20 6. on {peer}:      that command\n\
         \x20 7. on both:        mmha bootstrap; systemctl enable --now mmha",
        count(quarantine)
    )
}
