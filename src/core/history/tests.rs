//! GTID arithmetic against plain sets, and texts as both families print them.

use super::*;
use std::collections::BTreeSet;

const A: &str = "7b287223-e6e1-11f1-bbe8-8ed5aabbccdd";
const B: &str = "00000000-0000-0000-0000-000000000002";

fn shown(history: Option<History>) -> Option<String> {
    history.map(|history| history.to_string())
}

#[test]
fn mariadb_positions_are_prefixes() {
    for (text, expect) in [
        ("", Some("")),
        ("1-1-22", Some("1:1-22")),
        ("1-1-22,2-2-9", Some("1:1-22,2:1-9")),
        (" 2-1-1 , 0-7-3 ", Some("0:1-3,2:1")),
        ("1-1-5,1-2-9", Some("1:1-9")),
        ("1-1-0", Some("")),
        ("1-1", None),
        ("1-1-2-3", None),
        ("1-x-2", None),
        ("-1-1-2", None),
        ("1-1-99999999999999999999", None),
    ] {
        assert_eq!(shown(History::parse_mariadb(text)).as_deref(), expect, "{text}");
    }
}

#[test]
fn mysql_sets_with_gaps_tags_and_line_breaks() {
    let upper = A.to_uppercase();
    for (text, expect) in [
        (String::new(), Some(String::new())),
        (format!("{A}:1-5:7"), Some(format!("{A}:1-5:7"))),
        (format!("{upper}:1-5:6-9,\n{B}:1"), Some(format!("{B}:1,{A}:1-9"))),
        (format!("{A}:1-2:Blue:1-3:5:red:4"), Some(format!("{A}:1-2,{A}:blue:1-3:5,{A}:red:4"))),
        (format!("{A}:tag:1-3"), Some(format!("{A}:tag:1-3"))),
        (format!("{A}:5-1"), None),
        (format!("{A}:0-1"), None),
        (A.to_string(), None),
        (format!("{A}:"), None),
        (format!("{A}:tag"), None),
        (format!("{A}:1-"), None),
        ("1:1-5".into(), None),
        (format!("{A}x:1"), None),
    ] {
        assert_eq!(shown(History::parse_mysql(&text)), expect, "{text}");
    }
}

#[test]
fn parts_of_one_server() {
    let all = History::parse_mysql(&format!("{A}:1-5:tag:1-2,{B}:1-3")).unwrap();
    assert_eq!(all.only(A).to_string(), format!("{A}:1-5,{A}:tag:1-2"));
    assert_eq!(all.without(A).to_string(), format!("{B}:1-3"));
    assert_eq!(all.only(A).union(&all.without(A)), all);
    assert_eq!((all.count(), all.last(B), all.last("1")), (10, Some(3), None));
    let domains = History::parse_mariadb("1-1-5,11-1-7").unwrap();
    assert_eq!(domains.only("1").to_string(), "1:1-5");
    assert_eq!(domains.only("2"), History::default());
}

/// The arithmetic agrees with plain sets of numbers on a few thousand pseudo-random pairs, and every result keeps its form.
#[test]
fn arithmetic_agrees_with_plain_sets() {
    let mut seed = 1u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut one = || {
        let (mut history, mut plain) = (History::default(), BTreeSet::new());
        for _ in 0..random(5) {
            let key = (1 + random(2)).to_string();
            let first = 1 + random(20);
            let last = first + random(6);
            history.add(&key, first, last);
            plain.extend((first..=last).map(|number| (key.clone(), number)));
        }
        (history, plain)
    };
    for _ in 0..3000 {
        let ((a, plain_a), (b, plain_b)) = (one(), one());
        check(&a.minus(&b), plain_a.difference(&plain_b));
        check(&a.union(&b), plain_a.union(&plain_b));
        check(&a.only("1"), plain_a.iter().filter(|(key, _)| key == "1"));
        check(&a.without("1"), plain_a.iter().filter(|(key, _)| key != "1"));
        assert_eq!(a.contains(&b), plain_b.is_subset(&plain_a));
        assert_eq!(a.contains_of(&b, "2"), a.contains(&b.only("2")));
        assert_eq!(a.contains_without(&b, "2"), a.contains(&b.without("2")));
        assert_eq!(a.agrees_on(&b, "2"), a.only("2") == b.only("2"));
        assert!(a.contains(&a) && a.union(&b).contains(&b) && a.minus(&a).is_empty());
    }
}

fn check<'a>(history: &History, plain: impl Iterator<Item = &'a (String, u64)>) {
    let listed: BTreeSet<(String, u64)> = history
        .entries()
        .iter()
        .flat_map(|(key, list)| list.iter().flat_map(move |&(first, last)| (first..=last).map(move |n| (key.clone(), n))))
        .collect();
    assert_eq!(listed, plain.cloned().collect());
    assert_eq!(history.count(), listed.len() as u64);
    let sound = |(_, list): &Entry| !list.is_empty() && list.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
    assert!(history.entries().iter().all(sound), "{history}");
    assert_eq!(History::parse(&history.to_string()).as_ref(), Some(history));
}
