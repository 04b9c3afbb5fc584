//! The statements bootstrap runs at its own server before it meets the peer, with and without the password in them. Pure.

use crate::config::{Config, NodeIndex};
use crate::sql::dialect::{Dialect, Source};
use crate::sql::{PEER_ACCOUNT, SqlError};

/// Whether secrets stand in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    Real,
    Masked,
}

fn password(config: &Config, secrets: Secrets) -> &str {
    match secrets {
        Secrets::Real => config.replication.password.reveal(),
        Secrets::Masked => "***",
    }
}

/// The peer's accounts at this server, for its address and for `names` it may appear under.
pub fn accounts(config: &Config, me: NodeIndex, dialect: Dialect, names: &[String], secrets: Secrets) -> Result<Vec<String>, SqlError> {
    let mut statements = Vec::new();
    let address = config.node(me.other()).address.to_string();
    for host in std::iter::once(&address).chain(names) {
        statements.extend(dialect.make_account(&config.replication.user, host, password(config, secrets))?);
        statements.extend(dialect.grant_replication(&config.replication.user, host)?);
        statements.extend(dialect.make_account(PEER_ACCOUNT, host, password(config, secrets))?);
        statements.extend(dialect.grant_fencing(PEER_ACCOUNT, host)?);
    }
    Ok(statements)
}

/// What makes this server follow the peer's.
pub fn follow(config: &Config, me: NodeIndex, dialect: Dialect, secrets: Secrets) -> Result<String, SqlError> {
    let host = config.node(me.other()).address.to_string();
    dialect.follow(&Source { host: &host, port: config.mysql.port, user: &config.replication.user, password: password(config, secrets) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mycnf::fragment::tests::config;
    use crate::sql::Family;

    #[test]
    fn masked_statements_hold_no_secret() {
        for family in [Family::MariaDb, Family::MySql] {
            let dialect = Dialect { family, version: (10, 11, 19) };
            let names = ["db-02".to_owned()];
            let mut shown = accounts(&config(), NodeIndex(0), dialect, &names, Secrets::Masked).unwrap();
            shown.push(follow(&config(), NodeIndex(0), dialect, Secrets::Masked).unwrap());
            assert!(shown.iter().all(|statement| !statement.contains("secret")));
            let real = accounts(&config(), NodeIndex(0), dialect, &names, Secrets::Real).unwrap();
            assert_eq!(real.len() + 1, shown.len());
            assert!(real.iter().any(|statement| statement.contains("'replication'@'192.0.2.242'") && statement.contains("'secret'")));
            assert!(real.iter().any(|statement| statement.contains("'mmha_peer'@'db-02'")));
        }
    }
}
