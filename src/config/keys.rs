//! Every section and key mmha.toml knows, named once: the reader, its "did you mean" and the test of mmha.toml(5) use this list.

pub const SECTIONS: [(&str, &[&str]); 8] = [
    ("cluster", &["name"]),
    ("node", &["name", "address", "server_id"]),
    ("vip", &["address", "interface", "preferred"]),
    (
        "heartbeat",
        &[
            "port",
            "keepalive",
            "deadtime",
            "warntime",
            "initdead",
            "auto_failback",
            "failback_delay",
            "flap_count",
            "flap_window",
            "fence_command",
            "fence_timeout",
            "authkeys",
            "links",
            "ping",
            "lease",
            "gate",
            "isolation",
            "watchdog",
            "watchdog_timeout",
        ],
    ),
    ("mysql", &["socket", "port", "user", "password_file", "service", "config_file", "writer", "hang", "kill_hung"]),
    ("replication", &["user", "password_file", "databases", "filter", "durability", "catch_up", "binlog_expire", "binlog_size"]),
    ("firewall", &["manage", "clients", "close"]),
    ("arbiter", &["endpoints", "ttl", "user", "password_file", "ca_file", "cert_file", "key_file"]),
];

pub fn keys_of(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

/// The end of the sentence about an unknown key: what was probably meant, or what would be valid.
pub fn advice(section: &str, key: &str) -> String {
    let known = keys_of(section);
    if let Some(near) = nearest(key, known) {
        return format!("; did you mean \"{near}\"?");
    }
    let elsewhere = SECTIONS.iter().find(|(_, keys)| keys.contains(&key));
    match elsewhere {
        Some((other, _)) => format!("; it belongs to [{other}]"),
        None => format!("; it knows {}", known.join(", ")),
    }
}

pub fn section_advice(section: &str) -> String {
    let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    if let Some(near) = nearest(section, &names) {
        return format!("; did you mean \"{near}\"?");
    }
    match SECTIONS.iter().find(|(_, keys)| keys.contains(&section)) {
        Some((owner, _)) => format!("; it belongs to [{owner}]"),
        None => format!("; the file knows {}", names.join(", ")),
    }
}

fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wrong = plain(wrong);
    if let Some(longer) = known.iter().find(|name| wrong.len() >= 4 && plain(name).starts_with(&wrong)) {
        return Some(longer);
    }
    let distances = known.iter().map(|name| (distance(&wrong, &plain(name)), *name));
    let (best, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (best <= 1 + wrong.chars().count() / 4).then_some(name)
}

/// Levenshtein's edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[at + 1];
            row[at + 1] = substituted.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_for_unknown_keys() {
        fn check(section: &str, key: &str, expect: &str) {
            let said = if section.is_empty() { section_advice(key) } else { advice(section, key) };
            assert!(said.contains(expect), "{section} {key}: {said}");
        }
        check("heartbeat", "keepaliv", "did you mean \"keepalive\"");
        check("heartbeat", "dead_time", "did you mean \"deadtime\"");
        check("heartbeat", "auto-failback", "did you mean \"auto_failback\"");
        check("replication", "password", "did you mean \"password_file\"");
        check("cluster", "keepalive", "belongs to [heartbeat]");
        check("firewall", "zzz", "it knows manage, clients, close");
        check("", "heartbeats", "did you mean \"heartbeat\"");
        check("", "deadtime", "belongs to [heartbeat]");
        check("", "qqqqqqqqqq", "the file knows cluster, node");
    }
}
