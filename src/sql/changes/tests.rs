//! What MariaDB 10.11's and MySQL 9.7's tools print, shortened.

use super::*;

const MARIADB: &str = "\
#261124 17:06:33 server id 1  end_log_pos 42 CRC32 0x07 \tGTID 1-1-5 trans
/*M!100001 SET @@session.gtid_seq_no=5*//*!*/;
START TRANSACTION
/*!*/;
# at 384
#261124 17:06:33 server id 1  end_log_pos 433 CRC32 0x6b6ea2a1 \tAnnotate_rows:
#Q> update s.t set v='z' where id=1
#261124 17:06:33 server id 1  end_log_pos 524 CRC32 0x20bf71b9 \tUpdate_rows: table id 18 flags: STMT_END_F

BINLOG '
GcQFaxMBAAAANQAAAOYBAAAAABIAAAAAAAEAAXMAAXQABgMP9hL8BQdQAAoCAwIIPvScQHY=
'/*!*/;
### UPDATE `s`.`t`
### WHERE
###   @1=1
###   @2='a'b\\x0ac'
### SET
###   @1=7
###   @2='z'
### DELETE FROM `s`.`t`
### WHERE
###   @1=2
###   @2=NULL
# Number of rows: 2
COMMIT/*!*/;
#261124 17:06:33 server id 1  end_log_pos 650 CRC32 0x5ad8e0ea \tGTID 1-1-7 ddl
/*M!100001 SET @@session.gtid_seq_no=7*//*!*/;
# at 650
#261124 17:06:33 server id 1  end_log_pos 730 CRC32 0xcebfa58d \tQuery\tthread_id=5\texec_time=0\terror_code=0
SET TIMESTAMP=1795539993/*!*/;
/*!\\C utf8mb3 *//*!*/;
";

fn query(statement: &str) -> String {
    format!("{MARIADB}{statement}\n/*!*/;\nDELIMITER ;\n# End of log file\nROLLBACK /* added by mysqlbinlog */;\n")
}

fn rows(changes: &Changes) -> Vec<&str> {
    let mut rows: Vec<&str> = changes.rows.iter().map(String::as_str).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn rows_by_their_keys_before_and_after() {
    let keys = vec![("`s`.`t`".to_owned(), vec![1])];
    let changes = read(query("analyze table s.t").as_bytes(), &keys, &History::default()).unwrap();
    assert_eq!(rows(&changes), ["row (1) of `s`.`t`", "row (2) of `s`.`t`", "row (7) of `s`.`t`"]);
    assert_eq!(changes.transactions, 2);
    assert!(changes.statements.is_empty() && !changes.cut && !changes.is_ours_alone());
    let whole = read(MARIADB.as_bytes(), &Keys::default(), &History::default()).unwrap();
    assert_eq!(rows(&whole), ["row (1, 'a'b\\x0ac') of `s`.`t`", "row (2, NULL) of `s`.`t`", "row (7, 'z') of `s`.`t`"]);
}

#[test]
fn what_is_known_is_passed_over() {
    let two = format!("{MARIADB}create table a (b int)\n/*!*/;\n");
    for (known, rows, statements) in [("1:1-4", 3, 1), ("1:1-5", 0, 1), ("1:1-9", 0, 0), ("2:1-9", 3, 1)] {
        let changes = read(two.as_bytes(), &Keys::default(), &History::parse(known).unwrap()).unwrap();
        assert_eq!((changes.rows.len(), changes.statements.len()), (rows, statements), "{known}");
    }
    let mysql = "SET @@SESSION.GTID_NEXT= '7b287223-e6e1-11f1-bbe8-8ed5aabbccdd:5'/*!*/;\n### INSERT INTO `s`.`t`\n### SET\n###   @1=4\n";
    let known = History::parse("7b287223-e6e1-11f1-bbe8-8ed5aabbccdd:1-5").unwrap();
    assert_eq!(read(mysql.as_bytes(), &Keys::default(), &known).unwrap(), Changes::default());
}

#[test]
fn a_minimal_image_has_its_key_before_the_change() {
    let text = "### UPDATE `s`.`t`\n### WHERE\n###   @1=4\n### SET\n###   @2='z'\n";
    let keys = vec![("`s`.`t`".to_owned(), vec![1])];
    assert_eq!(rows(&read(text.as_bytes(), &keys, &History::default()).unwrap()), ["row (4) of `s`.`t`"]);
}

#[test]
fn statements_but_not_maintenance() {
    for (statement, expect) in [
        ("analyze table s.t", vec![]),
        ("FLUSH PRIVILEGES", vec![]),
        ("BEGIN", vec![]),
        ("truncate s.np", vec!["truncate s.np"]),
        ("CREATE TABLE s.x (\n  a INT\n)", vec!["CREATE TABLE s.x (   a INT )"]),
        ("FLUSHED", vec!["FLUSHED"]),
    ] {
        let changes = read(query(statement).as_bytes(), &Keys::default(), &History::default()).unwrap();
        assert_eq!(changes.statements, expect, "{statement}");
    }
}

#[test]
fn our_own_rows_are_told_from_others() {
    let begin = "SET @@SESSION.GTID_NEXT= '7b287223-e6e1-11f1-bbe8-8ed5aabbccdd:5'/*!*/;\nBEGIN\n";
    let row = |table: &str| format!("{begin}### INSERT INTO {table}\n### SET\n###   @1=1\nCOMMIT/*!*/;\n");
    for (text, ours) in [
        (row("`mmha`.`marker`"), true),
        (row("`mmha`.`marker`") + &row("`shop`.`t`"), false),
        (row("`mmhax`.`marker`"), false),
        (format!("{begin}COMMIT\n/*!*/;\n"), true),
        (begin.to_owned(), false),
        ("SET @@SESSION.GTID_NEXT= 'AUTOMATIC' /* added by mysqlbinlog */ /*!*/;\n".to_owned(), false),
    ] {
        assert_eq!(read(text.as_bytes(), &Keys::default(), &History::default()).unwrap().is_ours_alone(), ours, "{text}");
    }
}

#[test]
fn what_a_full_disk_has_left_half_written_is_noticed() {
    let torn = |cut: &str| MARIADB[..MARIADB.find(cut).unwrap()].to_owned();
    let next = "#261124 17:06:33 server id 1  end_log_pos 42 CRC32 0x07 \tGTID 1-1-6 trans\nSTART TRANSACTION\n/*!*/;\nCOMMIT/*!*/;\n";
    let end = "DELIMITER ;\n# End of log file\nROLLBACK /* added by mysqlbinlog */;\n";
    let file = "#261124 17:06:33 server id 1  end_log_pos 256 CRC32 0x07 \tStart: binlog v 4, server v 10.11 created 261124 at startup\nROLLBACK/*!*/;\n";
    let procedure = "create procedure s.p()\nBEGIN\n  select 1;\nEND";
    for (text, expect) in [
        (torn("COMMIT") + end, 1),
        (torn("# at 384") + next + end, 1),
        (torn("# at 384") + file + end, 1),
        (torn("#261124 17:06:33 server id 1  end_log_pos 650") + end, 0),
        (query(procedure), 0),
        (query("BEGIN"), 1),
        (next.to_owned() + next, 0),
    ] {
        let changes = read(text.as_bytes(), &Keys::default(), &History::default()).unwrap();
        assert_eq!(
            (changes.unfinished, changes.is_ours_alone()),
            (expect, changes.rows.is_empty() && expect == 0 && text.starts_with(next)),
            "{text}"
        );
    }
}

#[test]
fn lines_without_end_are_cut_and_nothing_is_too_hostile() {
    let long = format!("### INSERT INTO `s`.`t`\n### SET\n###   @1='{}'\n###   @x=1\n### SET\n###   @=", "x".repeat(100_000));
    let changes = read(long.as_bytes(), &Keys::default(), &History::default()).unwrap();
    assert!(changes.rows.iter().all(|row| row.len() < 2 * LINE) && changes.rows.len() == 1);
    let noise: Vec<u8> = (0..200_000u32).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    assert!(read(noise.as_slice(), &Keys::default(), &History::default()).unwrap().rows.is_empty());
}
