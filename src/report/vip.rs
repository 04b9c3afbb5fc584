//! Where the floating addresses are: one group that is always in one place.

use serde::{Deserialize, Serialize};

/// So many addresses of the greatest length stay within 140 characters.
const A_LINE: usize = 7;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The first, which names the group.
    pub address: String,
    /// All of them, in the order of the file.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub interface: Option<String>,
    /// This node has it now.
    pub held: bool,
    /// Which node has it, as far as this one knows.
    pub holder: Option<String>,
}

impl Vip {
    pub(super) fn text(&self, me: &str) -> String {
        let interface = self.interface.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let place = match (&self.holder, self.held) {
            (_, true) => format!("here, on {me}{interface}"),
            (Some(holder), false) => format!("on {holder}"),
            (None, false) => "not here".to_string(),
        };
        match self.addresses.len() {
            0 | 1 => format!("{} is {place}", self.address),
            several => format!("{} and {} more are {place}", self.address, several - 1),
        }
    }

    /// The others, a line full at a time.
    pub(super) fn others(&self) -> impl Iterator<Item = String> {
        self.addresses.get(1..).unwrap_or_default().chunks(A_LINE).map(|others| others.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_are_listed() {
        let mut status = crate::report::tests::example();
        status.vip.addresses.extend((1..=8).map(|last| format!("192.0.2.{last}")));
        let several = "address      192.0.2.243 and 8 more are here, on db-01 (eth0)\n\
                       \x20 and        192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.7\n\
                       \x20 and        192.0.2.8\nwrite gate";
        assert!(status.text().contains(several), "{}", status.text());
    }
}
