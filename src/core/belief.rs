//! What we believe and how fresh it is. Only bookkeeping: no decision is taken here.

use std::cell::Cell;
use std::sync::Arc;

use super::Core;
use super::beat::Beat;
use super::brake::Pause;
use super::event::{
    Address, ArbiterSeen, DiskSeen, Event, FenceSeen, Gate, Heard, LeaseSeen, Ms, Record, RemoteSeen, RoleOutcome, Sample, ServerSeen,
    StoreSeen,
};
use super::history::History;
use super::mark::Marks;
use super::relation::Known;
use super::state::State;
use super::want::{ArbiterOrder, Hold};

#[derive(Debug, Clone)]
pub struct Peer {
    pub beat: Arc<Beat>,
    pub heard_ms: Ms,
    pub echo_sent_ms: Option<Ms>,
    pub echo_version: u64,
    /// Ready and current without a break since then.
    pub fit_since: Option<Ms>,
    /// Its receiver has not run since then.
    pub deaf_since: Option<Ms>,
}

#[derive(Debug)]
pub struct Belief {
    pub now: Ms,
    /// When the next comparison of an age with a limit comes out differently, by all that were made since the last event.
    pub next: Cell<Ms>,
    pub started_ms: Ms,
    /// The last change between holding and not holding: older looks at a server prove nothing about now.
    pub era_ms: Ms,
    pub era_order: u64,
    /// This run has found the address here and has not claimed it.
    pub adopted: bool,
    pub peer: Option<Peer>,
    /// Grants up to this epoch are refused for good.
    pub refused: u64,
    /// Decided when the node let go; in force until it is well again.
    pub kill_server: bool,
    /// Let go after a sleep that was long enough for the peer to take over.
    pub slept: bool,
    pub woke: Option<Ms>,
    /// The last standstill's length, for its sentence.
    pub gap_ms: Ms,
    pub carrier: Option<bool>,
    pub ping_ms: Option<Ms>,
    /// When this node's own network last came back: until then the silence may have been its own.
    pub back_ms: Option<Ms>,
    pub vip_claim: Option<([u8; 6], Ms)>,
    pub contest_since: Option<Ms>,
    /// When another host last probed for the VIP.
    pub probed_ms: Option<Ms>,
    /// When the present or last claim began.
    pub gate_ms: Ms,
    pub probes: u32,
    pub first_probe_ms: Option<Ms>,
    pub last_probe_ms: Ms,
    /// Probing is wanted now: what was probed earlier proves nothing.
    pub probing: bool,
    pub claims_since: Option<Ms>,
    pub lease: LeaseSeen,
    pub server: Option<ServerSeen>,
    pub sample: Option<Arc<Sample>>,
    pub marks: Marks,
    /// What these, my server's history and the peer's are to each other.
    pub known: Known,
    pub closed: Option<(u64, History)>,
    pub closed_ms: Ms,
    pub found_closed_order: u64,
    pub claim_failed_ms: Option<Ms>,
    pub granted_since: Option<Ms>,
    pub opened_order: u64,
    pub role_error: String,
    pub remote: Option<(RemoteSeen, Ms)>,
    /// Since the peer was last heard.
    pub fence: Option<FenceSeen>,
    pub pause: Pause,
    /// What is wrong with the server's disk.
    pub disk_error: Option<String>,
    /// When a rule that the flap brake can stop has moved the address away from here: the last few.
    pub departures: Vec<Ms>,
    /// On disk.
    pub record: Record,
    pub record_known: bool,
    pub store_error: Option<String>,
    /// To be on disk.
    pub want_record: Record,
    /// `want_record` has the number of the next claim already (`core/claim.rs`).
    pub numbered: bool,
    /// What was held last before the present claim.
    pub held_before: u64,
    /// May go on without the peer: in sync when it was last heard.
    pub alone: bool,
    /// I acknowledged writes that the peer does not have, and it has not been heard since: nobody else may go on.
    pub solo: bool,
    /// The most own writes that were seen acknowledged, and when they last moved or had nothing to wait for.
    pub acknowledged: u64,
    pub flowed_ms: Ms,
    /// When the peer's server was last seen to have acknowledged one.
    pub receipt_ms: Ms,
    /// At my last good look at the server everything acknowledged was at the peer too.
    pub synced: bool,
    /// What may have been acknowledged before commits began to wait for the peer.
    pub alone_until: Option<History>,
    /// When commits last ceased to wait for the peer.
    pub given_up_ms: Option<Ms>,
    /// My server has ended while I followed the peer, and has not yet caught up with what the peer had then.
    pub torn: bool,
    pub torn_until: Option<History>,
    /// The writer has transactions that have not reached me; how many have, and when the last did.
    pub missing: bool,
    pub got: u64,
    pub got_ms: Ms,
    /// The peer was silent since my receiver connected: its connection may be dead and not know it.
    pub suspect: bool,
    /// Since it connected, the receiver has once had everything that the writer said it had.
    pub level: bool,
    pub semi_sync: bool,
    pub unprotected_since: Option<Ms>,
    /// Own transactions that the leader lacks: the fewest so far, and since when.
    pub extra: Option<(u64, Ms)>,
    /// Extra transactions that may flow to the leader; `None`: not read from the disk yet.
    pub merge: Option<History>,
    pub rolled_back_ms: Option<Ms>,
    pub switch: bool,
    /// When this node's operator asked for the address here.
    pub asked_ms: Option<Ms>,
    /// The present claim, or the handover under way, is an operator's wish.
    pub by_request: bool,
    pub force: bool,
    pub forced_ms: Ms,
    pub stop: bool,
    pub arbiter: Option<ArbiterSeen>,
    /// Since when every answer of the arbiter has named the peer.
    pub taken_since: Option<Ms>,
    /// The arbiter's lease may be believed in until then.
    pub arbiter_until_ms: Ms,
    pub arbiter_order: ArbiterOrder,
    /// My own stance (candidate) and the version of `say` since which it has been "me".
    pub stance_version: u64,
    /// The version of `say` since which it has been "unprotected".
    pub unprotected_version: u64,
}

impl Belief {
    pub fn new(now: Ms) -> Belief {
        Belief {
            now,
            next: Cell::new(0),
            started_ms: now,
            era_ms: now,
            era_order: 0,
            adopted: false,
            peer: None,
            refused: 0,
            kill_server: false,
            slept: false,
            woke: None,
            gap_ms: 0,
            carrier: None,
            ping_ms: None,
            back_ms: None,
            vip_claim: None,
            contest_since: None,
            probed_ms: None,
            gate_ms: now,
            probes: 0,
            first_probe_ms: None,
            last_probe_ms: 0,
            probing: false,
            claims_since: None,
            lease: LeaseSeen { address: Address::Unknown, gate: Gate::Unknown },
            server: None,
            sample: None,
            marks: Marks::default(),
            known: Known::default(),
            closed: None,
            closed_ms: 0,
            found_closed_order: 0,
            claim_failed_ms: None,
            granted_since: None,
            opened_order: 0,
            role_error: String::new(),
            remote: None,
            fence: None,
            pause: Pause::default(),
            disk_error: None,
            departures: Vec::new(),
            record: Record::default(),
            record_known: false,
            store_error: None,
            want_record: Record::default(),
            numbered: false,
            held_before: 0,
            alone: false,
            solo: false,
            acknowledged: 0,
            flowed_ms: now,
            receipt_ms: now,
            synced: false,
            alone_until: None,
            given_up_ms: None,
            torn: false,
            torn_until: None,
            missing: false,
            got: 0,
            got_ms: now,
            suspect: false,
            level: false,
            semi_sync: false,
            unprotected_since: None,
            extra: None,
            merge: None,
            rolled_back_ms: None,
            switch: false,
            asked_ms: None,
            by_request: false,
            force: false,
            forced_ms: 0,
            stop: false,
            arbiter: None,
            taken_since: None,
            arbiter_until_ms: 0,
            arbiter_order: ArbiterOrder { hold: Hold::Keep, turn: 0, epoch: 0 },
            stance_version: u64::MAX,
            unprotected_version: u64::MAX,
        }
    }
}

impl Core {
    pub(super) fn note(&mut self, event: Event, now: Ms) {
        self.belief.now = now;
        self.belief.next.set(Ms::MAX);
        match event {
            Event::Tick => {}
            Event::Woke { gap_ms } => self.note_woke(gap_ms),
            Event::Beat(heard) => self.note_beat(*heard),
            Event::Link { carrier } => self.note_carrier(carrier),
            Event::PingAnswered { at_ms } => self.note_ping(at_ms),
            Event::VipProbed => self.belief.probed_ms = Some(now),
            Event::VipClaimed { mac } => self.note_claim(mac),
            Event::ProbeSent => {
                self.belief.probes += 1;
                self.belief.first_probe_ms.get_or_insert(now);
                self.belief.last_probe_ms = now;
            }
            Event::Lease(lease) => self.belief.lease = lease,
            Event::Server(seen) => self.note_server(seen),
            Event::Role { order, outcome } => self.note_role(order, outcome),
            Event::Remote(seen) => self.note_remote(seen),
            Event::Disk(DiskSeen::Ok) => self.belief.disk_error = None,
            Event::Disk(DiskSeen::Failed(text)) => self.belief.disk_error = Some(text),
            Event::Fence(seen) => self.belief.fence = Some(seen),
            Event::Store(seen) => self.note_store(seen),
            Event::Arbiter { turn, seen } => self.note_arbiter(turn, seen),
            Event::Switch { force } => {
                self.belief.switch = self.state == State::Active;
                self.belief.force = force && self.state != State::Active;
                self.belief.forced_ms = now;
                self.belief.asked_ms = (self.state == State::Standby).then_some(now);
            }
            Event::Pause { minutes } => self.note_pause(minutes),
            Event::Resume => {
                self.note_pause(0);
                self.belief.departures.clear();
            }
            Event::Merge(accepted) => self.belief.merge = Some(accepted),
            Event::Stop => self.belief.stop = true,
        }
        self.relate();
        self.track();
    }

    fn note_beat(&mut self, heard: Heard) {
        let now = self.belief.now;
        let fit = heard.beat.ready && heard.beat.current;
        // What lay between us for so long has stopped the replication's connection too, and TCP tries it again ever more seldom.
        self.belief.suspect |= self.belief.peer.is_some() && !self.peer_heard();
        let old = self.belief.peer.take().filter(|_| !heard.new_session);
        let (fit_since, deaf_since) = old.as_ref().map_or((None, None), |peer| (peer.fit_since, peer.deaf_since));
        self.belief.peer = Some(Peer {
            heard_ms: now,
            echo_sent_ms: heard.echo_sent_ms.or(old.as_ref().and_then(|peer| peer.echo_sent_ms)),
            echo_version: heard.echo_version.max(old.as_ref().map_or(0, |peer| peer.echo_version)),
            fit_since: if fit { fit_since.or(Some(now)) } else { None },
            deaf_since: if heard.beat.receiving { None } else { deaf_since.or(Some(now)) },
            beat: heard.beat,
        });
        self.belief.remote = None;
        self.belief.fence = None;
        self.adopt_pause();
        self.note_own_mark();
        self.note_sync();
    }

    fn note_own_mark(&mut self) {
        let theirs = self.belief.peer.as_ref().and_then(|peer| peer.beat.has());
        if let (Some(theirs), Some(sample)) = (theirs, &self.belief.sample) {
            self.belief.marks.they_have(&theirs, &sample.server_key);
        }
    }

    /// What was proved before standing still proves nothing now.
    fn note_woke(&mut self, gap_ms: Ms) {
        self.belief.gap_ms = gap_ms;
        self.belief.probes = 0;
        self.belief.first_probe_ms = None;
        self.belief.claims_since = None;
        self.belief.remote = None;
        self.belief.fence = None;
        if !self.peer_heard() {
            self.belief.alone = self.belief.solo;
        }
        self.belief.woke = (self.state.holds() || self.state == State::Gate).then_some(gap_ms);
    }

    fn note_claim(&mut self, mac: [u8; 6]) {
        let now = self.belief.now;
        let fresh = self.belief.vip_claim.is_some_and(|(_, at)| now.saturating_sub(at) < self.limits.deadtime);
        if !fresh || self.belief.contest_since.is_none() {
            self.belief.contest_since = Some(now);
        }
        self.belief.vip_claim = Some((mac, now));
        self.doubt_sync();
        self.belief.probes = 0;
        self.belief.first_probe_ms = None;
    }

    fn note_server(&mut self, seen: ServerSeen) {
        if let ServerSeen::Ok(sample) = &seen {
            if let Some(replica) = &sample.replica {
                self.belief.marks.reached(&replica.received, &sample.server_key, self.belief.now);
            }
            self.note_flow(sample);
            self.belief.sample = Some(Arc::clone(sample));
            self.note_synced();
        } else if seen == ServerSeen::Dead {
            self.note_torn();
        }
        self.belief.server = Some(seen);
    }

    fn note_role(&mut self, order: u64, outcome: RoleOutcome) {
        match outcome {
            RoleOutcome::Closed(history) => {
                self.belief.closed = Some((order, history));
                self.belief.closed_ms = self.belief.now;
            }
            RoleOutcome::Waiting if order == self.order && self.must_spare_waiting() => self.belief.kill_server = true,
            RoleOutcome::Waiting => {}
            RoleOutcome::FoundClosed => self.belief.found_closed_order = order,
            RoleOutcome::Opened => self.belief.opened_order = order,
            RoleOutcome::Reconnected => (self.belief.suspect, self.belief.level, self.belief.got_ms) = (false, false, self.belief.now),
            RoleOutcome::Failed(text) if order == self.order => self.belief.role_error = text,
            RoleOutcome::Failed(_) => {}
        }
    }

    fn note_remote(&mut self, seen: RemoteSeen) {
        if let (RemoteSeen::Fenced(history), Some(sample)) = (&seen, &self.belief.sample) {
            self.belief.marks.closed_at(history, &sample.server_key);
        }
        self.belief.remote = Some((seen, self.belief.now));
    }

    fn note_store(&mut self, seen: StoreSeen) {
        match seen {
            StoreSeen::Saved(record) => {
                if !self.belief.record_known {
                    self.belief.want_record = record;
                }
                self.belief.record = record;
                self.belief.record_known = true;
                self.belief.store_error = None;
            }
            StoreSeen::Failed(text) => self.belief.store_error = Some(text),
        }
    }
}
