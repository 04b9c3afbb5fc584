"""The document: what was measured, on what, and the tables and the chart; and its place in the README.

Refuses to touch the README outside the two marks.
"""

from pathlib import Path

from mmhalab.sh import LabError

from . import chart, results, table

CHART, DOCUMENT = "outage.svg", "table.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
READING = """Two Debian 12 boxes with MariaDB on one machine, their own network, one client: a new connection and a query every 5 ms, each independent of the
ones before, and a writer of numbered rows. *Outage* is the longest time between two answers (*write outage*: two acknowledgements); figures
below 0.1 s are mostly the scheduler. *Two holders* asks both kernels every 5 ms who has the address; what goes wrong for as long as a fault
lasts lasted as long as it was watched (the silence the agent waits for × 1.2 + 5 s). *Rows missing*: acknowledged, and absent on the server that the client talks to
then; after a way home, once replication had its time to deliver. "none": no end within 15 s (after a node's silence: and the silence
the agent waits for × 1.5).
A way home after "none" counts from the repair. Several runs are shown as shortest / **median** / longest. †: the pair did not come back
to rest by itself in every run, and a person acted: both agents started anew, or `mmha rejoin --merge` for a node in quarantine. Heartbeat
and keepalived work over a pair joined by hand (asynchronous, by file and position), mmha over the pair its own bootstrap makes
(semi-synchronous; without the flap brake, since every case breaks the same pair). All run under systemd as packaged, but Heartbeat has a
unit that survives its own restart: the packaged one stops it for good after a partition. The server is restarted by systemd 5 s after its
death, as packaged, under every agent. "Standby 3 s behind" is STOP SLAVE there; whether an agent
starts it again in that time is its own affair. keepalived has a check script with `SELECT 1`, once a second, 0.9 s at most."""


def document(found):
    return "\n".join([
        "# Measured beside the others", "", when_and_where(found), "", READING, "", f"![client outages]({CHART})", "", *part("## In short", table.summary(found)),
        *part("## What it costs", table.costs(found)), *part("## A busy machine", table.busy(found)),
        *part("## Every case", table.detail(found))])


def part(title, lines):
    return [title, "", *lines, ""] if lines else []


def when_and_where(found):
    dates = sorted({sample["date"] for part in results.PARTS for sample in found[part]})
    spec = found["machine"]
    built = {sample["version"] for part in results.PARTS for sample in found[part]}
    versions = ", ".join([*(f"{name} {version}" for name, version in sorted(found["versions"].items())), *sorted(built)])
    counts = [len(samples) for samples in table.grouped(found).values()] or [0]
    runs = f"{min(counts)} to {max(counts)} runs" if min(counts) != max(counts) else f"{max(counts)} runs" if max(counts) != 1 else "single runs"
    days = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
    return (f"Measured on {days} ({runs} of each case) on {spec['cores']} cores ({spec['processor']}), {spec['memory']} of memory, Linux {spec['kernel']}; {versions}. "
            "`tests/bench/run` measures it again.")


def write(found, directory):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CHART).write_text(chart.chart(found))
    (directory / DOCUMENT).write_text(document(found))
    return directory / DOCUMENT


def publish(found, top):
    """Into the repository: samples, document and chart in tests/bench/results, the short table in the README."""
    place = top / "tests/bench/results"
    write(found, place)
    results.save(found, place)
    readme = top / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise LabError(f"README.md has no place for the table: {BEGIN} and {END} are missing")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    short = ["## Measured beside the others", "", when_and_where(found), "Median of the client's outage (and of writes, where they were out for longer); in bold what must not happen; †: it took a person to bring the pair back.", "",
             f"![client outages]({place.relative_to(top)}/{CHART})", "", *table.summary(found), "", *table.costs(found), "", *table.busy(found), "",
             f"How it was measured, and every figure: [{DOCUMENT}]({place.relative_to(top)}/{DOCUMENT})."]
    readme.write_text(f"{before}{BEGIN}\n" + "\n".join(short) + f"\n{END}{after}")
