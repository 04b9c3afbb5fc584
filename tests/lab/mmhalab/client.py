#!/usr/bin/python3
"""A client of the pair, run as its own process in the client's network namespace. Two kinds:

  writer: one connection, numbered rows, reconnects on any error; writes down each acknowledged number.
  probe:  a new connection and a query every few milliseconds, each independent of the ones before.

One line per result on standard output (times are CLOCK_MONOTONIC, seconds). Knows nothing about which node should serve.
"""

import argparse
import queue
import sys
import threading
import time

import pymysql


def connect(options):
    return pymysql.connect(host=options.host, user=options.user, password=options.password, database=options.database, autocommit=True,
                           connect_timeout=options.limit, read_timeout=options.limit, write_timeout=options.limit)


def close_hard(connection):
    """Without a goodbye: a server that does not answer must not hold up the client."""
    try:
        connection._force_close()
    except Exception:
        pass


def first_row(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def said(error):
    return " ".join(str(error).split())[:120]


def write_rows(options):
    """`a NUMBER SENT ACKNOWLEDGED SERVER` or `e NUMBER TIME ERROR`; a number whose fate is unknown is never used again."""
    number, connection, server = options.first, None, "?"
    while True:
        sent = time.monotonic()
        try:
            if connection is None:
                connection = connect(options)
                server = first_row(connection, "SELECT @@hostname")[0]
                sent = time.monotonic()
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO numbered (writer, n) VALUES (%s, %s)", (options.label, number))
            print("a", number, f"{sent:.6f}", f"{time.monotonic():.6f}", server, flush=True)
        except Exception as error:
            print("e", number, f"{time.monotonic():.6f}", said(error), flush=True)
            if connection is not None:
                close_hard(connection)
            connection = None
        number += 1
        time.sleep(options.every)


def probe(options):
    """`a 0 START END SERVER` or `e 0 TIME ERROR`, from a pool, so that a lost packet of one does not hide the recovery from the next."""
    slots, lock = queue.SimpleQueue(), threading.Lock()

    def one():
        start, connection = time.monotonic(), None
        try:
            connection = connect(options)
            line = ("a", 0, f"{start:.6f}", first_row(connection, "SELECT @@hostname")[0])
            line = (*line[:3], f"{time.monotonic():.6f}", line[3])
        except Exception as error:
            line = ("e", 0, f"{time.monotonic():.6f}", said(error))
        if connection is not None:
            close_hard(connection)
        with lock:
            print(*line, flush=True)

    def work():
        while True:
            slots.get()
            one()

    for _ in range(48):
        threading.Thread(target=work, daemon=True).start()
    while True:
        if slots.qsize() < 2:
            slots.put(None)
        time.sleep(options.every)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("writer", "probe"))
    parser.add_argument("--host", required=True)
    parser.add_argument("--user", default="app")
    parser.add_argument("--password", default="app-password")
    parser.add_argument("--database", default="shop")
    parser.add_argument("--label", default="vip")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.005)
    parser.add_argument("--limit", type=float, default=0.4)
    options = parser.parse_args()
    (write_rows if options.kind == "writer" else probe)(options)


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
