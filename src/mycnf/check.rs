//! Compares what the running server does with what the fragment says, by effective value, and names the file and line that overrides it.

use crate::config::{Config, NodeIndex};
use crate::mycnf::fragment::{Seen, Setting, groups};
use crate::mycnf::reader::{self, Line};
use crate::mycnf::server::Server;
use crate::sql::{Session, SqlError};

/// One setting that is not as the fragment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    pub name: String,
    pub wanted: String,
    /// What the server has; `None` when it was not asked or has no such variable.
    pub effective: Option<String>,
    /// The line of the operator's that overrides ours, if one does.
    pub by: Option<Line>,
}

impl std::fmt::Display for Clash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.effective {
            Some(value) => write!(f, "{} is \"{value}\" in the running server, not \"{}\"", self.name, self.wanted)?,
            None => write!(f, "{} should be \"{}\"", self.name, self.wanted)?,
        }
        match &self.by {
            Some(line) => write!(
                f,
                ": {}:{} sets it to \"{}\" after our fragment; remove that line and restart the server",
                line.file.display(),
                line.line,
                line.value.as_deref().unwrap_or_default()
            ),
            None => f.write_str(
                ": not restarted since the fragment was written, or changed at run time (SET GLOBAL, SET PERSIST); restart the server",
            ),
        }
    }
}

/// Clashes the files alone show.
pub fn by_files(server: &Server, config: &Config, me: NodeIndex) -> Vec<Clash> {
    let wanted = settings(server, config, me);
    reader::overrides(&server.lines, &server.fragment)
        .into_iter()
        .filter_map(|line| {
            let setting = wanted.iter().find(|setting| reader::canonical(setting.name) == line.name)?;
            undoes(line, setting).then(|| clash(setting, line))
        })
        .collect()
}

fn clash(setting: &Setting, by: &Line) -> Clash {
    Clash { name: setting.name.into(), wanted: setting.value.clone(), effective: None, by: Some(by.clone()) }
}

/// An option without a value is on. Which name the logs have is the operator's to say, as long as they are written.
fn undoes(line: &Line, setting: &Setting) -> bool {
    let value = line.value.as_deref().unwrap_or("1");
    let is_name = ["log_bin", "relay_log"].contains(&setting.name);
    if is_name { normal(value) == "0" } else { !same_value(value, &setting.value) }
}

/// Clashes the running server shows, with the file and line where there is one.
pub fn by_server(session: &mut Session, server: &Server, config: &Config, me: NodeIndex) -> Result<Vec<Clash>, SqlError> {
    let overrides = reader::overrides(&server.lines, &server.fragment);
    let mut clashes = Vec::new();
    for setting in settings(server, config, me) {
        let by = overrides.iter().rev().find(|line| line.name == reader::canonical(setting.name)).map(|line| (*line).clone());
        // What the service changes at run time, and what has no variable, shows in the files alone: above all how the server starts.
        let Seen::As(variable) = setting.seen else {
            clashes.extend(by.filter(|line| undoes(line, &setting)).map(|line| clash(&setting, &line)));
            continue;
        };
        // A variable the server does not have (1193) is effective as nothing.
        let value = match session.value(&format!("SELECT @@global.{variable}")) {
            Err(error) if error.code == Some(1193) => None,
            outcome => Some(outcome?.unwrap_or_default()),
        };
        if value.as_deref().is_some_and(|value| same_value(value, &setting.value)) {
            continue;
        }
        clashes.push(Clash { name: setting.name.into(), wanted: setting.value, effective: value.or(Some("(unknown)".into())), by });
    }
    Ok(clashes)
}

fn settings(server: &Server, config: &Config, me: NodeIndex) -> Vec<Setting> {
    groups(config, me, server.dialect, server.theirs()).into_iter().flat_map(|group| group.settings).collect()
}

/// ON is 1 and TRUE, 100M is 104857600, case does not count.
fn same_value(left: &str, right: &str) -> bool {
    normal(left) == normal(right)
}

fn normal(value: &str) -> String {
    let value = value.trim().to_ascii_lowercase();
    match value.as_str() {
        "on" | "true" | "yes" => return "1".into(),
        "off" | "false" | "no" => return "0".into(),
        _ => {}
    }
    let digits = value.trim_end_matches(['k', 'm', 'g']);
    let scale = match &value[digits.len()..] {
        "k" => 1u64 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).map_or(value, |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_mean_the_same() {
        for (left, right, same) in [
            ("ON", "1", true),
            ("off", "0", true),
            ("100M", "104857600", true),
            ("ROW", "row", true),
            ("1", "2", false),
            ("127.0.0.1", "0.0.0.0", false),
            ("", "0", false),
        ] {
            assert_eq!(same_value(left, right), same, "{left} {right}");
        }
    }

    #[test]
    fn what_a_later_line_undoes() {
        for (name, ours, theirs, expect) in [
            ("read_only", "1", Some("0"), true),
            ("read_only", "1", None, false),
            ("skip_slave_start", "1", None, false),
            ("skip_slave_start", "1", Some("OFF"), true),
            ("log_bin", "mysql-bin", None, false),
            ("log_bin", "mysql-bin", Some("/var/log/mysql/bin"), false),
            ("log_bin", "mysql-bin", Some("0"), true),
            ("init_rpl_role", "MASTER", Some("SLAVE"), true),
        ] {
            let setting = Setting { name, value: ours.into(), seen: Seen::Not };
            let line = Line { name: name.into(), value: theirs.map(str::to_owned), file: "/etc/mysql/d/zzz.cnf".into(), line: 3 };
            assert_eq!(undoes(&line, &setting), expect, "{name} {theirs:?}");
        }
    }

    #[test]
    fn a_clash_names_file_and_line() {
        let line = Line { name: "server_id".into(), value: Some("9".into()), file: "/etc/mysql/d/zzz.cnf".into(), line: 3 };
        let clash = Clash { name: "server_id".into(), wanted: "1".into(), effective: Some("9".into()), by: Some(line) };
        let text = clash.to_string();
        assert!(text.contains("server_id is \"9\"") && text.contains("/etc/mysql/d/zzz.cnf:3"), "{text}");
    }
}
