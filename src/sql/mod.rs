//! Talking to the servers: every statement, per family. Makes no decision; each call is straight-line and bounded by its caller.

pub mod binlog;
pub mod changes;
pub mod dialect;
mod error;
pub mod fence;
pub mod login;
pub mod observe;
pub mod quote;
pub mod role;
pub mod schema;
pub mod session;
pub mod standing;
pub mod status;
pub mod worker;

pub use crate::core::history::History;
pub use dialect::Dialect;
pub use error::{Fault, SqlError};
pub use login::PEER_ACCOUNT;
pub use observe::{Observation, observe};
pub use session::{Family, Login, Record, Session, Target};
pub use status::{ApplierState, ReceiverState, Replica};
pub use worker::bounded;
