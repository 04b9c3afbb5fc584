"""The agents that are measured and their settings: the one place to add a variant.

A variant is a name for --agents, a title for the table, the seconds of silence after which it acts, and settings: for mmha lines of
mmha.toml by section, which replace the lines of the same keys that `mmha init` wrote.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    name: str
    title: str
    kind: str
    silence: float  # seconds until it takes a silent peer for dead; how long to watch follows from it
    settings: dict


VARIANTS = (
    Variant("heartbeat-stock", "Heartbeat 3.0.6, deadtime 30 s", "heartbeat", 30,
            {"keepalive": "2", "warntime": "10", "deadtime": "30", "initdead": "120"}),
    Variant("heartbeat-fast", "Heartbeat 3.0.6, deadtime 1 s", "heartbeat", 1,
            {"keepalive": "200ms", "warntime": "500ms", "deadtime": "1", "initdead": "5"}),
    Variant("keepalived-1s", "keepalived 2.2.7, 1 s adverts", "keepalived", 3.6, {"version": 2, "advert": "1", "votes": 2}),
    Variant("keepalived-0.1s", "keepalived 2.2.7, 0.1 s adverts", "keepalived", 0.35, {"version": 3, "advert": "0.1", "votes": 1}),
    Variant("keepalived-0.03s", "keepalived 2.2.7, 0.03 s adverts", "keepalived", 0.11, {"version": 3, "advert": "0.03", "votes": 1}),
    Variant("mmha", "mmha, default (deadtime 2 s)", "mmha", 2, {}),
    # What etc/fast.toml says.
    Variant("mmha-fast", "mmha, fast.toml (deadtime 0.1 s)", "mmha", 0.1,
            {"heartbeat": ('keepalive = "19ms"', 'deadtime = "100ms"', 'gate = "70ms"'), "mysql": ('hang = "300ms"',)}),
)
