#!/usr/bin/python3
"""An attacker on the LAN, as its own process. `capture INTERFACE SECONDS FILE` records heartbeats at the switch; `send FILE KIND TARGET SOURCE
RATE SECONDS` sends them, changed or not, with a forged sender. Has no key: what it sends may never be believed.
"""

import os
import random
import socket
import struct
import sys
import time

PORT = 694
KINDS = ("replayed", "forged", "truncated", "oversized", "noise")
COUNTER_AT = 4 + 1 + 1 + 1 + 8 + 8  # behind magic, version, sender, key, cluster and session


def capture(interface, seconds, path):
    """Each heartbeat on its own line, in hex, behind its sender."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((interface, 0))
    sock.settimeout(0.1)
    end = time.monotonic() + seconds
    with open(path, "w") as out:
        while time.monotonic() < end:
            try:
                frame = sock.recv(4096)
            except TimeoutError:
                continue
            if frame[12:14] != b"\x08\x00" or frame[23] != 17:
                continue
            start = 14 + (frame[14] & 15) * 4
            if struct.unpack_from("!H", frame, start + 2)[0] == PORT:
                length = struct.unpack_from("!H", frame, start + 4)[0]
                print(socket.inet_ntoa(frame[26:30]), frame[start + 8:start + length].hex(), file=out, flush=True)


def spoil(kind, heartbeat):
    """What is sent instead of one recorded heartbeat."""
    if kind == "replayed":
        return heartbeat
    if kind == "forged":  # newer than anything heard, so that only its signature betrays it
        counter = struct.pack("!Q", random.getrandbits(60) | 1 << 60)
        return heartbeat[:COUNTER_AT] + counter + heartbeat[COUNTER_AT + 8:]
    if kind == "truncated":
        return heartbeat[:random.randrange(len(heartbeat))]
    if kind == "oversized":
        return heartbeat + os.urandom(4000)
    return os.urandom(random.randrange(1, 1400))


def packets(sock, data, source, target):
    """One datagram as IP packets (raw sockets do not fragment)."""
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(data), 0) + data
    ident, most = random.getrandbits(16), 1480
    for at in range(0, len(udp), most):
        part = udp[at:at + most]
        more = 0x2000 if at + most < len(udp) else 0
        yield struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), ident, more | at // 8, 64, 17, 0,
                          socket.inet_aton(source), socket.inet_aton(target)) + part


def send(path, kinds, target, source, rate, seconds):
    """Prints how many datagrams left."""
    recorded = [bytes.fromhex(line.split()[1]) for line in open(path) if line.split()[0] == source]
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    ready = [list(packets(sock, spoil(kinds[n % len(kinds)], recorded[n % len(recorded)]), source, target)) for n in range(2000)]
    start, sent = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        due = int(passed * rate)
        if due <= sent:
            time.sleep(0.0005)
        for _ in range(min(due - sent, 100)):
            for packet in ready[sent % len(ready)]:
                try:
                    sock.sendto(packet, (target, 0))
                except OSError:
                    pass  # its own queue is full
            sent += 1
    print(sent, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "capture":
        capture(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    else:
        kinds = KINDS if sys.argv[3] == "all" else (sys.argv[3],)
        send(sys.argv[2], kinds, sys.argv[4], sys.argv[5], float(sys.argv[6]), float(sys.argv[7]))
