"""The chart: client outages as bars on a logarithmic scale, one group of bars a row, as SVG written by hand.

Colours follow the reader's light or dark setting. A bar is the median; a whisker goes from the shortest to the longest run; a hatched bar
that runs off the scale is an outage that did not end while it was watched; a red dot marks two holders or missing rows.
"""

import math
from xml.sax.saxutils import escape

from . import table
from .cases import ROWS

LEFT, WIDTH, RIGHT, BAR, GAP, TOP = 250, 560, 70, 9, 12, 108
LOW, HIGH = 0.01, 100.0
LIGHT = ("#b45309", "#f59e0b", "#1e3a8a", "#3b82f6", "#93c5fd", "#047857", "#34d399")
DARK = ("#d97706", "#fbbf24", "#6366f1", "#60a5fa", "#bfdbfe", "#10b981", "#6ee7b7")
STYLE = """text{{font:12px system-ui,sans-serif;fill:#1f2937}} .small{{font-size:10px}} .title{{font-size:15px;font-weight:600}}
.paper{{fill:#ffffff}} .grid{{stroke:#d1d5db}} .whisker{{stroke:#111827}} .bad{{fill:#dc2626}} .open{{fill:url(#hatch)}} .line{{stroke:#dc2626}}
{light}
@media (prefers-color-scheme: dark){{text{{fill:#e5e7eb}} .paper{{fill:#0d1117}} .grid{{stroke:#374151}} .whisker{{stroke:#f9fafb}}
{dark}}}"""


def x(seconds):
    """Where a time is on the scale; what is shorter than its beginning is at its beginning."""
    share = math.log10(min(max(seconds, LOW), HIGH) / LOW) / math.log10(HIGH / LOW)
    return LEFT + share * WIDTH


def chart(found):
    """The whole picture as text."""
    groups, agents = table.grouped(found), table.measured(found)
    body, y = [], TOP
    for row in ROWS:
        bars = [(at, groups[row, variant.name]) for at, variant in enumerate(agents) if (row, variant.name) in groups]
        if not bars:
            continue
        height = max(len(bars) * BAR, 24)
        body.append(label(ROWS[row], y + height / 2))
        for place, (at, samples) in enumerate(bars):
            body += bar(at, samples, y + place * BAR)
        y += height + GAP
    classes = [table.VARIANTS.index(variant) for variant in agents]
    return "\n".join([*head(y + 30, classes), *grid(y), *legend(agents), *body, "</svg>"]) + "\n"


def head(height, classes):
    width = LEFT + WIDTH + RIGHT
    colours = [" ".join(f".a{at}{{fill:{palette[index]}}}" for at, index in enumerate(classes)) for palette in (LIGHT, DARK)]
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
            "<title>Client outage by fault and agent</title>", f"<style>{STYLE.format(light=colours[0], dark=colours[1])}</style>",
            '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<line x1="0" y1="0" x2="0" y2="5" class="line" stroke-width="3"/></pattern></defs>',
            f'<rect class="paper" width="{width}" height="{height}"/>',
            '<text x="10" y="22" class="title">Client outage, seconds (logarithmic; shorter is better)</text>']


def grid(bottom):
    lines = []
    for power in range(-2, 3):
        at = x(10.0 ** power)
        lines.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{bottom}"/>')
        lines.append(f'<text class="small" x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{10.0 ** power:g} s</text>')
    return lines


def legend(agents):
    parts = []
    for at, variant in enumerate(agents):
        left, top = 10 + at % 3 * 290, 34 + at // 3 * 16
        parts.append(f'<rect class="a{at}" x="{left}" y="{top}" width="10" height="10"/>')
        parts.append(f'<text class="small" x="{left + 15}" y="{top + 9}">{escape(variant.title)}</text>')
    parts.append('<circle class="bad" cx="15" cy="87" r="3.5"/><text class="small" x="25" y="91">two holders of the address, or acknowledged rows missing</text>')
    parts.append('<rect class="open" x="390" y="82" width="24" height="10"/><text class="small" x="420" y="91">no end while it was watched</text>')
    return parts


def label(text, middle):
    """Long names take two lines."""
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 33:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    start = middle + 4 - (len(lines) - 1) * 7
    return "".join(f'<text x="{LEFT - 10}" y="{start + at * 14:.1f}" text-anchor="end">{escape(line)}</text>' for at, line in enumerate(lines))


def bar(at, samples, top):
    """One agent's bar in one row."""
    ended = [sample["outage"] for sample in samples if not sample["open"]]
    middle, parts = top + (BAR - 1) / 2, []
    if len(ended) * 2 <= len(samples):
        end = LEFT + WIDTH
        parts.append(f'<rect class="open" x="{LEFT}" y="{top}" width="{WIDTH}" height="{BAR - 1}"/>')
        parts.append(f'<rect class="a{at}" x="{LEFT}" y="{top}" width="6" height="{BAR - 1}"/>')
        text = "none"
    else:
        value = table.median([sample for sample in samples if not sample["open"]])
        end = max(x(value), LEFT + 2)
        parts.append(f'<rect class="a{at}" x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" height="{BAR - 1}"/>')
        if max(ended) > min(ended):
            parts.append(f'<line class="whisker" x1="{x(min(ended)):.1f}" y1="{middle}" x2="{x(max(ended)):.1f}" y2="{middle}"/>')
            end = max(end, x(max(ended)))
        text = table.shown(value)
    parts.append(f'<text class="small" x="{end + 4:.1f}" y="{middle + 3.5}">{text}</text>')
    if table.unsafe(samples):
        parts.append(f'<circle class="bad" cx="{end + 38:.1f}" cy="{middle}" r="3.5"/>')
    return parts
