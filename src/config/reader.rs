//! Reads single values out of spanned TOML tables: right type, right form, in bounds. Records a fault and goes on with the default, so that one
//! run reports everything. Knows nothing of how values fit together (that is `checked`).

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Faults;
use super::{duration, keys};

/// A value, where it was written (or where its section is), and whether it may be judged together with others.
#[derive(Debug, Clone)]
pub struct At<T> {
    pub value: T,
    pub span: Range<usize>,
    pub sound: bool,
}

impl<T> At<T> {
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> At<U> {
        At { value: convert(self.value), span: self.span, sound: self.sound }
    }
}

/// One table of the file; absent sections are empty tables.
pub struct Section<'a> {
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    faults: &'a Faults<'a>,
}

type Form<T> = Result<T, String>;

impl<'a> Section<'a> {
    pub fn new(name: &'static str, table: &'a DeTable<'a>, span: Range<usize>, faults: &'a Faults<'a>) -> Section<'a> {
        for (key, _) in table {
            if !keys::keys_of(name).contains(&key.get_ref().as_ref()) {
                let advice = keys::advice(name, key.get_ref());
                faults.add(&key.span(), format!("unknown key \"{}\" in [{name}]{advice}", key.get_ref()));
            }
        }
        Section { name, table: Some(table), span, faults }
    }

    pub fn absent(name: &'static str, faults: &'a Faults<'a>) -> Section<'a> {
        Section { name, table: None, span: faults.end(), faults }
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(keys::keys_of(self.name).contains(&key), "{key} is not in keys::SECTIONS");
        self.table?.get(key)
    }

    /// `convert` says what is wrong as the end of a sentence that begins with the value as written.
    fn read<T>(&self, key: &str, default: T, convert: impl FnOnce(&DeValue<'a>) -> Form<T>) -> At<T> {
        let Some(found) = self.find(key) else { return At { value: default, span: self.span.clone(), sound: true } };
        match convert(found.get_ref()) {
            Ok(value) => At { value, span: found.span(), sound: true },
            Err(wrong) => {
                self.faults.add(&found.span(), format!("{key} {wrong}"));
                At { value: default, span: found.span(), sound: false }
            }
        }
    }

    fn missing<T>(&self, key: &str, what: &str, stand_in: T) -> At<T> {
        self.faults.add(&self.span, format!("[{}] needs {key} = {what}", self.name));
        At { value: stand_in, span: self.span.clone(), sound: false }
    }

    /// A text that `valid` accepts; its error is the end of a sentence.
    pub fn text(&self, key: &str, default: &str, valid: impl Fn(&str) -> Form<()>) -> At<String> {
        self.read(key, default.to_string(), |value| {
            let text = as_text(value)?;
            valid(text).map_err(|wrong| format!("\"{text}\" {wrong}"))?;
            Ok(text.to_string())
        })
    }

    pub fn needed_text(&self, key: &str, what: &str, valid: impl Fn(&str) -> Form<()>) -> At<String> {
        if self.find(key).is_some() { self.text(key, "", valid) } else { self.missing(key, what, String::new()) }
    }

    pub fn optional_text(&self, key: &str, valid: impl Fn(&str) -> Form<()>) -> At<Option<String>> {
        let present = self.find(key).is_some();
        self.text(key, "", valid).map(|text| present.then_some(text))
    }

    /// Never repeats the value: somebody writes the password where its file belongs.
    pub fn path(&self, key: &str, default: &str) -> At<PathBuf> {
        self.read(key, PathBuf::from(default), |value| absolute(as_text(value)?))
    }

    pub fn optional_path(&self, key: &str) -> At<Option<PathBuf>> {
        self.read(key, None, |value| absolute(as_text(value)?).map(Some))
    }

    pub fn flag(&self, key: &str, default: bool) -> At<bool> {
        self.read(key, default, |value| value.as_bool().ok_or_else(|| format!("must be true or false, not {}", kind(value))))
    }

    pub fn number(&self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> At<u64> {
        self.read(key, default, |value| within(as_number(value)?, &bounds))
    }

    /// A size in bytes: a number, or a text with K, M or G as my.cnf writes it.
    pub fn size(&self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> At<u64> {
        self.read(key, default, |value| {
            let size = value.as_str().map_or_else(|| as_number(value), parse_size)?;
            within(size, &bounds)
        })
    }

    pub fn duration(&self, key: &str, default: Duration, bounds: RangeInclusive<Duration>) -> At<Duration> {
        self.read(key, default, |value| {
            let text = as_text(value)?;
            let found = duration::parse(text).map_err(|wrong| format!("\"{text}\" {wrong}"))?;
            let (low, high) = (duration::show(*bounds.start()), duration::show(*bounds.end()));
            if bounds.contains(&found) { Ok(found) } else { Err(format!("\"{text}\" must be between {low} and {high}")) }
        })
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> At<T> {
        self.read(key, default, |value| {
            let text = as_text(value)?;
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            found.ok_or_else(|| format!("\"{text}\" must be {}", words.join(" or ")))
        })
    }

    pub fn address(&self, key: &str, what: &str) -> At<Ipv4Addr> {
        let Some(_) = self.find(key) else { return self.missing(key, what, Ipv4Addr::UNSPECIFIED) };
        self.read(key, Ipv4Addr::UNSPECIFIED, |value| as_address(as_text(value)?))
    }

    /// ADDRESS/PREFIX; the address may have host bits.
    pub fn address_and_prefix(&self, key: &str, what: &str) -> At<(Ipv4Addr, u8)> {
        let Some(_) = self.find(key) else { return self.missing(key, what, (Ipv4Addr::UNSPECIFIED, 32)) };
        self.read(key, (Ipv4Addr::UNSPECIFIED, 32), |value| {
            let text = as_text(value)?;
            let (address, prefix) = text.split_once('/').ok_or_else(|| format!("\"{text}\" needs its prefix length: \"{text}/24\""))?;
            Ok((as_address(address)?, as_prefix(prefix)?))
        })
    }

    /// A list whose items `convert` reads; a bad item is a fault at that item, the others are kept.
    pub fn list<T>(&self, key: &str, convert: impl Fn(&DeValue<'a>) -> Form<T>) -> At<Vec<At<T>>> {
        let nothing = At { value: Vec::new(), span: self.span.clone(), sound: true };
        let Some(found) = self.find(key) else { return nothing };
        let Some(items) = found.get_ref().as_array() else {
            self.faults.add(&found.span(), format!("{key} must be a list in [brackets], not {}", kind(found.get_ref())));
            return nothing;
        };
        let mut list = At { value: Vec::new(), span: found.span(), sound: true };
        for item in items {
            match convert(item.get_ref()) {
                Ok(value) => list.value.push(At { value, span: item.span(), sound: true }),
                Err(wrong) => {
                    self.faults.add(&item.span(), format!("{key}: {wrong}"));
                    list.sound = false;
                }
            }
        }
        list
    }
}

pub fn as_text<'v>(value: &'v DeValue<'_>) -> Form<&'v str> {
    value.as_str().ok_or_else(|| format!("must be a text in \"quotes\", not {}", kind(value)))
}

pub fn as_address(text: &str) -> Form<Ipv4Addr> {
    let address: Ipv4Addr = text.parse().map_err(|_| format!("\"{text}\" is not an IPv4 address (names are not looked up)"))?;
    let usable = !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback());
    if usable { Ok(address) } else { Err(format!("\"{text}\" is not an address a host can have on a network")) }
}

/// A network: ADDRESS or ADDRESS/PREFIX without host bits.
pub fn as_network(text: &str) -> Form<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    let address: Ipv4Addr = address.parse().map_err(|_| format!("\"{text}\" is not an IPv4 address or network"))?;
    let prefix = as_prefix(prefix)?;
    let network = super::network_of(address, prefix);
    if network == address {
        Ok((address, prefix))
    } else {
        Err(format!("\"{text}\" has host bits set; the network is \"{network}/{prefix}\""))
    }
}

/// Two addresses: this list item is one link.
pub fn as_link(value: &DeValue<'_>) -> Form<[Ipv4Addr; 2]> {
    let wanted = "a link is a pair: [\"address of node 1\", \"address of node 2\"]";
    let pair = value.as_array().filter(|items| items.len() == 2).ok_or_else(|| wanted.to_string())?;
    let mut ends = [Ipv4Addr::UNSPECIFIED; 2];
    for (end, item) in ends.iter_mut().zip(pair) {
        *end = as_address(as_text(item.get_ref())?)?;
    }
    Ok(ends)
}

fn as_prefix(text: &str) -> Form<u8> {
    text.parse().ok().filter(|prefix| (1..=32).contains(prefix)).ok_or_else(|| format!("\"/{text}\" is not a prefix length (1 to 32)"))
}

fn as_number(value: &DeValue<'_>) -> Form<u64> {
    let number = value.as_integer().ok_or_else(|| format!("must be a whole number, not {}", kind(value)))?;
    u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("{number} is out of range"))
}

fn within<T: PartialOrd + Display>(value: T, bounds: &RangeInclusive<T>) -> Form<T> {
    let fits = bounds.contains(&value);
    if fits { Ok(value) } else { Err(format!("{value} must be between {} and {}", bounds.start(), bounds.end())) }
}

fn parse_size(text: &str) -> Form<u64> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let size = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    size.ok_or_else(|| format!("\"{text}\" is not a size: write bytes, or a number with K, M or G"))
}

fn absolute(text: &str) -> Form<PathBuf> {
    let fine = text.starts_with('/') && !text.contains(['\0', '\n']);
    if fine { Ok(PathBuf::from(text)) } else { Err("must be an absolute path (it begins with /)".to_string()) }
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Table(_) => "a table".to_string(),
        DeValue::Array(_) => "a list".to_string(),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Integer(value) => format!("the number {value}"),
        DeValue::String(value) => format!("the text \"{value}\""),
        DeValue::Float(_) | DeValue::Datetime(_) => format!("a {}", value.type_str()),
    }
}
