"""A pair of servers joined by hand, as one does for an agent that does not know what a server is: asynchronous, both ways, by file and position.

Refuses to repair replication that has stopped with an error: such a pair is thrown away.
"""

from mmhalab.lab import together
from mmhalab.sh import LabError, ensure, wait_for

SERVER = """[mysqld]
bind-address = 0.0.0.0
skip-name-resolve
server-id = {number}
log_bin = mysql-bin
relay-log = mysql-relay-bin
binlog_do_db = shop
max_connections = 500
max_connect_errors = 100000000
slave_net_timeout = 10
expire_logs_days = 10
"""
ACCOUNTS = """SET sql_log_bin = 0;
CREATE USER replication@'%' IDENTIFIED BY 'slave'; GRANT REPLICATION SLAVE ON *.* TO replication@'%';
CREATE USER app@'%' IDENTIFIED BY 'app-password'; GRANT ALL ON shop.* TO app@'%';
CREATE DATABASE shop;
CREATE TABLE shop.numbered (writer VARCHAR(20), n INT, at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3), PRIMARY KEY (writer, n)) ENGINE=InnoDB"""


def join(boxes):
    """Two fresh boxes become a pair that replicates both ways and has the application's account and table."""
    together(*(lambda box=box, number=number: _prepare(box, number) for number, box in enumerate(boxes, 1)))
    places = [box.sql("SHOW MASTER STATUS").split("\t")[:2] for box in boxes]
    for box, peer, (file, position) in zip(boxes, reversed(boxes), reversed(places)):
        box.sql(f"CHANGE MASTER TO MASTER_HOST='{peer.address}', MASTER_USER='replication', MASTER_PASSWORD='slave', MASTER_LOG_FILE='{file}', "
                f"MASTER_LOG_POS={position}, MASTER_CONNECT_RETRY=2; START SLAVE")
    wait_for(lambda: not trouble(boxes), 30, "replication both ways")


def _prepare(box, number):
    (box.root / "etc/mysql/mariadb.conf.d/zz-bench.cnf").write_text(SERVER.format(number=number))
    box.sh(["systemctl", "restart", "mariadb"], 120)
    box.wait_sql()
    box.sql(ACCOUNTS)


def trouble(boxes):
    """What is missing for: both directions run and nothing is left to apply; '' if nothing."""
    for box in boxes:
        shown = box.sh([box.client, "-uroot", "-e", "SHOW SLAVE STATUS\\G"], 20)
        rows = {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in shown.splitlines()) if colon}
        if rows.get("Last_SQL_Errno", "0") != "0":
            return f"replication to {box.name} has stopped: {rows.get('Last_SQL_Error')}"
        if (rows.get("Slave_IO_Running"), rows.get("Slave_SQL_Running")) != ("Yes", "Yes") or rows.get("Seconds_Behind_Master") != "0":
            return f"replication to {box.name}: receiver {rows.get('Slave_IO_Running')}, applier {rows.get('Slave_SQL_Running')}"
    return ""


def nudge(boxes):
    """Receivers that wait for a dead connection begin anew; without this each case would last slave_net_timeout longer."""
    for box in boxes:
        box.sql("STOP SLAVE; START SLAVE")


def settle(boxes, bound=30):
    try:
        wait_for(lambda: not trouble(boxes), bound, "replication both ways", every=0.2)
    except LabError:
        ensure(False, trouble(boxes) or "replication is slow")
