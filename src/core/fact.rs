//! The named booleans that rules read. A fact is false when what it rests on is missing or stale, unless its comment says otherwise.

macro_rules! facts {
    ($($name:ident $text:literal,)*) => {
        /// One fact; `text` is its name in the printed table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fact { $($name,)* }

        impl Fact {
            pub const ALL: &[Fact] = &[$(Fact::$name,)*];
            pub fn text(self) -> &'static str {
                match self { $(Fact::$name => $text,)* }
            }
        }
    };
}

facts! {
    Woke "woke",                        // this process stood still for longer than its leases
    Settled "settled",                  // server, lease and epoch file have each been looked at once since the start
    PeerHeard "peer.heard",             // a verified datagram arrived less than the pair's deadtime ago
    PeerLate "peer.late",               // nothing arrived for warntime
    PeerEcho "peer.echo",               // ... and it proves that the peer hears me now
    PeerHolds "peer.holds",             // heard, and it says that it claimed or serves
    PeerNewer "peer.newer",             // heard, holding, with a higher epoch than mine
    PeerClaims "peer.claims",           // it hears nothing of me, nobody answers it for the VIP, and it is about to take it; never while the lease is mine
    PeerConsents "peer.consents",       // holds nothing, names me, and knew my own stance when it said so
    PeerRefuses "peer.refuses",         // promised never to use my grant
    PeerReady "peer.ready",             // could take over now
    PeerCurrent "peer.current",         // its receiver runs and it has applied what it received
    PeerSynced "peer.synced",           // everything acknowledged while my server lived is at the peer
    PeerStable "peer.stable",           // ready and current for failback_delay
    PeerPreferred "peer.preferred",     // the configuration prefers the peer, and auto_failback is on
    PeerAsks "peer.asks",               // its operator wants the VIP there
    PeerApplied "peer.applied",         // the peer has applied everything up to where I closed
    Mine "candidate.me",                // by all I know the address should be mine
    Alone "may.alone",                  // I was in sync when the peer was last heard: I may go on without it
    Life "life.seen",                   // since the start the peer or a ping target has answered (or none is configured)
    MayStart "may.start",               // I was the last holder I know of
    LinkUp "link.up",                   // the VIP's interface has a carrier
    Cut "cut",                          // neither the peer nor a ping target for the isolation limit, or no carrier
    VipSet "vip.set",                   // the address is here
    VipGone "vip.gone",                 // the address is confirmed to be absent
    LeaseKept "lease.kept",             // its lease was renewed in time
    GateShut "gate.shut",               // the write gate is closed, or there is none to close
    Adoptable "lease.adoptable",        // at start: my own lease from before still runs
    VipAnswered "vip.answered",         // another MAC answered or announced for the VIP lately
    VipContested "vip.contested",       // ... while I hold it, and it is I who should yield
    VipTaken "vip.taken",               // answered for since the peer let it go: by a stranger
    Duel "duel",                        // I am node 2, or my last claim came to nothing, and somebody else has probed for the VIP just now: it goes first, for a while
    VipQuiet "vip.quiet",               // enough probes, none answered, the last one just now
    RemoteClear "remote.clear",         // the peer's server does not answer, or was closed by me, or the peer was fenced
    FenceOk "fence.ok",                 // the fencing command said that the peer is off (or none is configured)
    DbOk "db.ok",
    DiskOk "disk.ok",                   // nothing is known against the server's disk: a synced write went through
    DbDead "db.dead",
    DbHung "db.hung",
    DbRw "db.writable",                 // confirmed for this state
    DbRo "db.read_only",                // confirmed for this state
    DbFoundClosed "db.found_closed",    // it was opened in this state, and now it is read-only: restarted, or closed by somebody
    DbClosed "db.closed",               // read-only, sessions gone, position read twice
    Applied "repl.applied",             // everything ever received is applied
    Extra "data.extra",                 // I have transactions of my own that the peer, who leads, lacks
    Agrees "data.agrees",               // compared with the leader: nothing of mine is missing there
    Merging "data.merging",             // its operator lets exactly these extra transactions flow to the leader
    InitOver "initdead.over",
    EpochOk "epoch.ok",                 // the epoch file was read and can be written
    EpochSaved "epoch.saved",           // what this state needs on disk is there
    IntentOver "intent.over",           // my claim by silence has been announced for two keepalives
    ArbiterOk "arbiter.ok",             // no arbiter, or its lease proves that the peer cannot claim, or (while I hold) a fresh echo does
    OpStop "op.stop",
    OpSwitch "op.switch",
    OpForce "op.force",
    Paused "paused",                    // an operator wants nothing to move, here or at the peer
    Flapping "flapping",                // the address has left this node flap_count times within flap_window
    TimeOver "t.over",                  // the bound of this state has passed
}

/// A set of facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts(u64);

impl Facts {
    pub fn set(&mut self, fact: Fact, holds: bool) {
        let bit = 1u64 << fact as u32;
        self.0 = if holds { self.0 | bit } else { self.0 & !bit };
    }
    pub fn has(self, fact: Fact) -> bool {
        self.0 & (1u64 << fact as u32) != 0
    }
    pub fn has_all(self, wanted: Facts) -> bool {
        self.0 & wanted.0 == wanted.0
    }
    pub fn has_none(self, forbidden: Facts) -> bool {
        self.0 & forbidden.0 == 0
    }
    pub fn of(facts: &[Fact]) -> Facts {
        let mut set = Facts::default();
        for fact in facts {
            set.set(*fact, true);
        }
        set
    }
}
