"""The samples as Markdown tables. Refuses to print a figure that was not measured: what is missing is empty."""

from collections import defaultdict

from .cases import ROWS
from .variants import VARIANTS

NEVER = "none"
LAGGING = 0.5  # seconds by which writes must be later than reads for a word
NOTICED = 0.05  # seconds with two holders from which on they are worth a word


def grouped(found):
    """{(row, agent): [samples]} of the outages."""
    groups = defaultdict(list)
    for sample in found["outages"]:
        groups[sample["row"], sample["agent"]].append(sample)
    return groups


def measured(found, part="outages"):
    """The variants that have samples, in the order of the table."""
    names = {sample["agent"] for sample in found[part]}
    return [variant for variant in VARIANTS if variant.name in names]


def shown(value):
    """Seconds, as precise as they deserve."""
    return "0" if value == 0 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def spread(values):
    """min / median / max, or the one value."""
    values = sorted(values)
    if values[-1] == 0:
        return "0"
    middle = values[len(values) // 2] if len(values) % 2 else (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    return f"**{shown(middle)}**" if len(values) == 1 else f"{shown(values[0])} / **{shown(middle)}** / {shown(values[-1])}"


def median(samples, key="outage"):
    values = sorted(sample[key] for sample in samples)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def times(samples, key, is_open):
    """Outages that ended, and how often one did not within the time it was watched."""
    ended = [s[key] for s in samples if not s[is_open]]
    lasted = [s for s in samples if s[is_open]]
    parts = [spread(ended)] if ended else []
    if lasted:
        count = f" in {len(lasted)} of {len(samples)}" if len(samples) > 1 else ""
        parts.append(f"{NEVER}{count} (watched {shown(min(s['watched'] for s in lasted))})")
    return "; ".join(parts)


def unsafe(samples):
    """Whether most runs had two holders (a moment at a handover does not count) or rows missing."""
    return median(samples, "two") >= NOTICED or sorted(sample["lost"] or 0 for sample in samples)[len(samples) // 2] > 0


def lost(samples):
    counts = [sample["lost"] for sample in samples]
    if len(set(counts)) == 1:
        return str(counts[0]) if counts[0] is not None else "?"
    return ", ".join("?" if count is None else str(count) for count in counts)


def remarks(samples):
    """Whether a person had to act."""
    return " †" if any("by hand" in sample.get("notes", ()) for sample in samples) else ""


def detail(found):
    """One table a row of the chart: every agent."""
    groups, lines = grouped(found), []
    for row, title in ROWS.items():
        agents = [variant for variant in measured(found) if (row, variant.name) in groups]
        if not agents:
            continue
        lines += [f"### {full_title(row)}", "", "| agent | runs | client outage | write outage | two holders | acknowledged rows missing | served by |",
                  "| --- | --- | --- | --- | --- | --- | --- |"]
        for variant in agents:
            samples = groups[row, variant.name]
            servers = ", ".join(sorted({sample["server"] or "nobody" for sample in samples}))
            lines.append(f"| {variant.title}{remarks(samples)} | {len(samples)} | {times(samples, 'outage', 'open')} | "
                         f"{times(samples, 'write_outage', 'write_open')} | {spread([s['two'] for s in samples])} | {lost(samples)} | {servers} |")
        lines.append("")
    return lines


def full_title(row):
    """A continuation names what it continues."""
    titles = list(ROWS.items())
    at = list(ROWS).index(row)
    return titles[at][1] if not titles[at][1].startswith("…") else f"{titles[at - 1][1]} {titles[at][1]}"


def summary(found):
    """One table: median client outage, and what should not have happened."""
    groups, agents = grouped(found), measured(found)
    if not agents:
        return []
    lines = ["| median client outage, s | " + " | ".join(variant.title for variant in agents) + " |", "| --- " * (len(agents) + 1) + "|"]
    for row, title in ROWS.items():
        cells = [cell(groups.get((row, variant.name))) for variant in agents]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def cell(samples):
    if not samples:
        return ""
    ended = [sample for sample in samples if not sample["open"]]
    parts = [(shown(median(ended)) if len(ended) * 2 > len(samples) else NEVER) + remarks(samples)]
    written = [sample for sample in samples if not sample["write_open"]]
    if ended and written and median(written, "write_outage") > median(ended) + LAGGING:
        parts.append(f"writes {shown(median(written, 'write_outage'))}")
    two = median(samples, "two")
    if two >= NOTICED:
        parts.append(f"**two holders {shown(two)}**")
    missing = sorted(sample["lost"] or 0 for sample in samples)
    if missing[-1]:
        parts.append(f"**{missing[len(missing) // 2] or missing[-1]} rows missing**")
    return "<br>".join(parts)


COSTS = (
    ("memory (RSS of all processes), MB", lambda s: f"{s['rss'] / 1024:.1f}"), ("… shared pages counted once (PSS), MB", lambda s: f"{s['pss'] / 1024:.1f}"),
    ("CPU at rest, % of a core", lambda s: f"{s['cpu']:.2f}"), ("wakeups per second", lambda s: f"{s['wakeups']:.0f}"),
    ("processes", lambda s: str(s["processes"])), ("threads", lambda s: str(s["threads"])),
    ("heartbeats sent per second (UDP, VRRP)", lambda s: f"{s['datagrams']:.1f}"), ("… bytes per second", lambda s: f"{s['datagrams_bytes']:.0f}"),
    ("pings and ARP packets sent per second", lambda s: f"{s['other'] + s['arp']:.1f}"),
    ("TCP bytes sent per second, replication at rest included", lambda s: f"{s['tcp_bytes']:.0f}"),
    ("running programs on disk, MB", lambda s: f"{s['program'] / 1e6:.2f}"),
    ("start of the program to ready, s", lambda s: "" if s["ready"] is None else f"{s['ready']:.3f}"),
)


def costs(found):
    """One table: what each agent takes at rest, holder / standby."""
    agents = measured(found, "costs")
    if not agents:
        return []
    lines = ["| at rest, holder / standby | " + " | ".join(variant.title for variant in agents) + " |", "| --- " * (len(agents) + 1) + "|"]
    for title, show in COSTS:
        cells = []
        for variant in agents:
            pair = [show(sample) for node in ("holder", "standby") for sample in found["costs"] if (sample["agent"], sample["node"]) == (variant.name, node)]
            cells.append(pair[0] if len(set(pair)) == 1 else " / ".join(pair))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def busy(found):
    lines = []
    for variant in measured(found, "busy"):
        for sample in (s for s in found["busy"] if s["agent"] == variant.name):
            late = "; ".join(f"{name} {value}" for name, value in (sample["overruns"] or {}).items())
            lines.append(f"- {variant.title}: {sample['minutes']:.1f} minutes, the address moved {sample['moves']} times, {sample['rows']} rows "
                         f"acknowledged, longest gap {shown(sample['outage'])} s (writes {shown(sample['write_outage'])} s)"
                         + (f"; {late}" if late else ""))
    return lines
