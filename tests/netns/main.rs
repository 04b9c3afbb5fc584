//! The network edges against the real kernel, each test in network namespaces of its own (made by unshare(2) in its threads, gone with
//! them). Needs root and `ip`, `nft`; without root it passes only on a desk, never in CI.

mod gate;
mod lan;
mod lease;
mod stage;
