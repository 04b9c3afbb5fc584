//! Values and names inside SQL text. Pure. What is returned means the same under every `sql_mode`; what cannot be said so is refused.

use crate::sql::error::SqlError;

/// A string literal. Quotes are doubled, which every mode understands; a backslash escapes or does not depending on
/// NO_BACKSLASH_ESCAPES, so text with one is refused (some statements, such as CREATE USER, take no hexadecimal literal instead).
pub fn literal(text: &str) -> Result<String, SqlError> {
    if text.contains(['\\', '\0']) {
        return Err(SqlError::other(
            "a value for the server has a backslash or NUL in it, which not every sql_mode reads alike; choose one without",
        ));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// Any text as an expression; for places where the grammar takes an expression and not only a literal.
pub fn expression(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut hex = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        hex.push_str(&format!("{byte:02X}"));
    }
    format!("CONVERT(X'{hex}' USING utf8mb4)")
}

/// A schema, table or column name.
pub fn identifier(name: &str) -> Result<String, SqlError> {
    if name.is_empty() || name.contains('\0') {
        return Err(SqlError::other(format!("{name:?} is no name for a schema, table or column")));
    }
    Ok(format!("`{}`", name.replace('`', "``")))
}

/// `'user'@'host'`.
pub fn account(user: &str, host: &str) -> Result<String, SqlError> {
    Ok(format!("{}@{}", literal(user)?, literal(host)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_mean_the_same_in_every_mode() {
        for (text, expect) in [
            ("", Some("''")),
            ("plain", Some("'plain'")),
            ("it's", Some("'it''s'")),
            ("' OR 1=1 -- ", Some("''' OR 1=1 -- '")),
            ("\"", Some("'\"'")),
            ("größe\n", Some("'größe\n'")),
            ("\\", None),
            ("a\\' OR 1=1 -- ", None),
            ("a\0b", None),
        ] {
            assert_eq!(literal(text).ok().as_deref(), expect, "{text:?}");
        }
    }

    /// A literal read by either rule ends where it should and gives the text back.
    #[test]
    fn literals_survive_both_readers() {
        for text in ["", "'", "''", "a'b", "'; DROP TABLE t; --", "%_", "x\"y`z"] {
            let quoted = literal(text).unwrap();
            assert_eq!(read(&quoted, true), Some(text.to_owned()));
            assert_eq!(read(&quoted, false), Some(text.to_owned()));
        }
    }

    /// What a server makes of a literal; `None` if the literal does not end exactly at the end of the text.
    fn read(quoted: &str, backslash_escapes: bool) -> Option<String> {
        let mut rest = quoted.strip_prefix('\'')?.chars().peekable();
        let mut value = String::new();
        while let Some(c) = rest.next() {
            match c {
                '\\' if backslash_escapes => value.push(rest.next()?),
                '\'' if rest.peek() == Some(&'\'') => {
                    rest.next();
                    value.push('\'');
                }
                '\'' => return rest.next().is_none().then_some(value),
                c => value.push(c),
            }
        }
        None
    }

    #[test]
    fn expressions_and_names() {
        assert_eq!(expression("a\\'"), "CONVERT(X'615C27' USING utf8mb4)");
        assert_eq!(expression(""), "''");
        assert_eq!(identifier("my`app").unwrap(), "`my``app`");
        assert!(identifier("").is_err() && identifier("a\0").is_err());
        assert_eq!(account("replication", "192.0.2.1").unwrap(), "'replication'@'192.0.2.1'");
    }
}
