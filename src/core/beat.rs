//! What a node says about itself in every heartbeat. Plain data; `peer::codec` puts it on the wire.

use std::borrow::Cow;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::history::History;
use super::key::ServerKey;
use super::state::State;

/// One node's stance. Nothing here is a wish: each field is a fact its sender has confirmed or a promise it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    pub state: State,
    /// The highest epoch this node has on disk; while it holds, the epoch of its claim.
    pub epoch: u64,
    /// The epoch in which the sender was the last to hold the address, by all it knows; 0: another node was, or has been granted it.
    #[serde(default)]
    pub held: u64,
    /// Grows with every change of what is said: an echo of it proves what the peer knew.
    pub version: u64,
    /// Confirmed: no address, gate shut, server read-only or unable to answer clients.
    pub gone: bool,
    /// The number (1 or 2) of the node that should hold the address by all the sender knows; 0 = undecided.
    pub candidate: u8,
    /// About to claim by silence: hears nothing of the peer, and nobody answers for the address. A holder that hears this yields.
    pub claims: bool,
    /// A claim of the sender's has just come to nothing: the other one goes first.
    pub shy: bool,
    /// The number of the last pause or resume this node knows of, and the minutes that are left of it (0: resumed).
    #[serde(default)]
    pub pause: u64,
    #[serde(default)]
    pub pause_minutes: u64,
    /// Grants up to this epoch will never be used by the sender.
    pub refused: u64,
    /// Could take over now.
    pub ready: bool,
    /// Receiver runs and everything received is applied.
    pub current: bool,
    /// Receiver runs.
    pub receiving: bool,
    /// Semi-sync is active, or was to the end: nothing was acknowledged that the receiver of this datagram does not have.
    pub protected: bool,
    /// The server answers and `history` was read from it in this state.
    pub server_ok: bool,
    /// GTID key of the sender's own writes (domain id or server UUID).
    pub server_key: ServerKey,
    /// Everything the sender's server has, read since it entered its present state; `None` = not known yet.
    pub history: Option<History>,
    /// What has reached the sender and is not applied there yet: its receiver must not write these anew.
    #[serde(default)]
    pub unapplied: History,
    /// Its applier runs: what is not applied yet will be, unless it conflicts.
    #[serde(default)]
    pub applying: bool,
    /// Where the sender closed its server for a handover: what the receiver must have applied.
    pub closed: Option<History>,
    /// Its operator asks for the address.
    pub asks: bool,
    /// The handover under way was asked for by an operator: no automatic failback undoes it.
    pub by_request: bool,
    /// Leaving for good.
    pub leaving: bool,
    /// Quarantined, and the receiver of this datagram may fetch what the sender has of its own.
    #[serde(default)]
    pub merges: bool,
    /// How long after this datagram's sending acknowledgements may still leave the sender (its gate lease), milliseconds.
    pub gate_ms: u64,
    /// It is a fence of the kernel's: when it ends, nothing the sender's server does can reach a client any more, whatever it is.
    #[serde(default)]
    pub gated: bool,
    /// Deadtime of the sender, milliseconds: the larger of the pair's counts.
    pub deadtime_ms: u64,
    /// Digest of the sender's configuration file.
    pub config: u64,
    /// Short reason why `ready` is false, for the peer's operator.
    pub why: Reason,
}

/// A few words out of this program's own list, or from the wire.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(Cow<'static, str>);

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Reason {
        Reason(text.into())
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Reason {
    /// Asked in every step, and nearly always about one text.
    fn eq(&self, other: &Reason) -> bool {
        std::ptr::eq(&**self, &**other) || **self == **other
    }
}

impl Beat {
    /// What the sender's server has, applied or not; `None` = not known yet.
    pub fn has(&self) -> Option<History> {
        self.history.as_ref().map(|history| history.union(&self.unapplied))
    }
}
