//! Our one my.cnf fragment: rendered from the configuration, accepted by the server before it is used, put back when the server
//! does not start with it. Never edits a file of the operator's.

pub mod check;
pub mod fragment;
pub mod reader;
pub mod recovery;
pub mod server;
pub mod write;
