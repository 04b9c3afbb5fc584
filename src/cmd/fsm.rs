//! `mmha fsm`: the rule table as text, or as a graph. Prints what the core has; decides nothing.

use std::fmt::Write;

use super::say;
use crate::core::rules::{RuleRow, table};
use crate::error::Result;

pub fn text() -> Result<()> {
    let mut text = String::from("The first rule that matches decides. In a state the rules are tried from top to bottom.\n\n");
    for rule in table() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>3}  {} -> {}\n     when {}\n     \"{}\"\n", rule.number, rule.from, rule.to, rule.when, rule.sentence);
    }
    say(text.trim_end());
    Ok(())
}

/// For dot(1): one edge per pair of states, labelled with the numbers of its rules. Rules that stay where they are make no edge.
pub fn dot() -> Result<()> {
    let mut text = String::from("digraph mmha {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for (from, to, numbers) in edges(&table()) {
        let _ = writeln!(text, "  {from} -> {to} [label=\"{numbers}\"];");
    }
    say(&(text + "}"));
    Ok(())
}

pub fn mermaid() -> Result<()> {
    let mut text = String::from("stateDiagram-v2\n  [*] --> boot\n");
    for (from, to, numbers) in edges(&table()) {
        let _ = writeln!(text, "  {from} --> {to}: {numbers}");
    }
    say(&text);
    Ok(())
}

fn edges(rules: &[RuleRow]) -> Vec<(String, String, String)> {
    let mut edges: Vec<(String, String, String)> = Vec::new();
    for rule in rules {
        for from in rule.from.split_whitespace().filter(|from| *from != rule.to) {
            let known = edges.iter_mut().find(|(one, other, _)| one == from && *other == rule.to);
            match known {
                Some((_, _, numbers)) => {
                    let _ = write!(numbers, ", {}", rule.number);
                }
                None => edges.push((from.to_string(), rule.to.clone(), rule.number.to_string())),
            }
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_edge_per_pair_of_states() {
        let row = |number, from: &str, to: &str| RuleRow {
            number,
            from: from.to_string(),
            when: String::new(),
            to: to.to_string(),
            sentence: String::new(),
        };
        let rules = [row(1, "a b", "c"), row(2, "a", "c"), row(3, "c", "c")];
        let expect = [("a", "c", "1, 2"), ("b", "c", "1")].map(|(from, to, numbers)| (from.into(), to.into(), numbers.into()));
        assert_eq!(edges(&rules), expect);
    }
}
