//! The heartbeat datagram: its bytes (`codec`) and who may be believed (`session`). Pure; the link thread in `daemon` does the I/O.

pub mod codec;
pub mod session;
