#!/usr/bin/python3
"""Watches from the outside which network namespaces hold an address (or any of several: ADDRESS,ADDRESS), by asking their kernels every few
milliseconds.

Prints `TIME NAME,NAME` (CLOCK_MONOTONIC; empty list = `-`) at the start and at every change. Changes nothing; a namespace that
goes away (power loss) holds nothing.
"""

import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from mmhalab import sandbox  # noqa: E402

RTM_NEWADDR, RTM_GETADDR, NLMSG_DONE, NLM_F_DUMP_REQUEST, IFA_LOCAL = 20, 22, 3, 0x301, 2
ASK = struct.pack("=IHHII", 24, RTM_GETADDR, NLM_F_DUMP_REQUEST, 1, 0) + struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0)


def addresses(sock):
    """Every IPv4 address of the socket's namespace, as bytes."""
    sock.send(ASK)
    while True:
        data = sock.recv(65536)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind != RTM_NEWADDR:
                return
            offset = 24
            while offset < length:
                size, attribute = struct.unpack_from("=HH", data, offset)
                if attribute == IFA_LOCAL:
                    yield data[offset + 4:offset + 8]
                offset += (size + 3) & ~3
            data = data[(length + 3) & ~3:]


class Watched:
    def __init__(self, name):
        self.name, self.inode, self.sock = name, None, None

    def holds(self, wanted):
        path = f"/run/netns/{self.name}"
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            self._drop()
            return False
        if inode != self.inode:
            self._drop()
            try:
                sandbox.enter_netns(path)
            except OSError:
                return False  # being made or taken away right now
            self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self.sock.settimeout(2)
            self.inode = inode
        return not wanted.isdisjoint(list(addresses(self.sock)))

    def _drop(self):
        if self.sock:
            self.sock.close()
        self.sock = self.inode = None


def main(wanted, names, every=0.005):
    wanted = set(map(socket.inet_aton, wanted.split(",")))
    watched = [Watched(name) for name in names]
    last = None
    while True:
        now = time.monotonic()
        holders = [w for w in watched if w.holds(wanted)]
        if len(holders) > 1:  # the address may have moved between two answers: both count only if the first still has it
            holders = [w for w in holders if w.holds(wanted)]
        shown = ",".join(w.name for w in holders) or "-"
        if shown != last:
            print(f"{now:.6f}", shown, flush=True)
            last = shown
        time.sleep(every)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
