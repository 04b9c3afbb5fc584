//! The logins the product uses: this node's server over its socket, the peer's over TCP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::{Config, NodeIndex};
use crate::sql::fence::Spare;
use crate::sql::{Login, Target};

/// The account each node's agent has at the other's server. Bootstrap makes it; it has the replication account's password.
pub const PEER_ACCOUNT: &str = "mmha_peer";

const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(5);

impl Login {
    /// This node's own server.
    pub fn local(config: &Config) -> Login {
        Login {
            target: Target::Socket(config.mysql.socket.clone()),
            user: config.mysql.user.clone(),
            password: config.mysql.password.clone(),
            connect: CONNECT,
            io: ANSWER,
        }
    }

    /// `node`'s server, as the peer's agent.
    pub fn remote(config: &Config, node: NodeIndex) -> Login {
        Login {
            target: Target::Tcp(SocketAddr::new(IpAddr::V4(config.node(node).address), config.mysql.port)),
            user: PEER_ACCOUNT.to_owned(),
            password: Some(config.replication.password.clone()),
            connect: CONNECT,
            io: ANSWER,
        }
    }

    /// The same login with another bound on each statement.
    #[must_use]
    pub fn within(&self, io: Duration) -> Login {
        Login { io, ..self.clone() }
    }
}

impl Spare {
    /// Whose sessions are never killed: replication and the agents.
    pub fn of(config: &Config) -> Spare {
        Spare { connections: Vec::new(), users: vec![config.replication.user.clone(), PEER_ACCOUNT.to_owned()] }
    }
}
