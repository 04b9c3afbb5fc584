//! The key of what one server writes. It travels in every look at the server and in every heartbeat: copies share one text.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A MariaDB domain id as decimal text, or a MySQL server UUID in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ServerKey(Arc<str>);

impl Deref for ServerKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServerKey {
    fn from(text: &str) -> ServerKey {
        ServerKey(text.into())
    }
}

impl From<String> for ServerKey {
    fn from(text: String) -> ServerKey {
        ServerKey(text.into())
    }
}

impl From<ServerKey> for String {
    fn from(key: ServerKey) -> String {
        key.0.as_ref().to_owned()
    }
}
