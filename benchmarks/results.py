"""Writes RESULTS.md: the figures as tables, by part, with the machine, and a picture of the main ones."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.figures import Figure

PICTURE = "results.png"
COLOURS = {"sqlite": "#4c78a8", "postgresql": "#f58518"}
LINEAR_UNTIL = 30
"""A panel is logarithmic if its longest bar is more than this many times its shortest."""
LISTED_ONLY = ("Each check alone",)
"""Parts that are only in the tables, not in the picture."""
HEAD = """\
# Results

Written by `make bench`; do not edit. All figures are of one run, one engine after the other. Ways
that are compared take turns, each in a process of its own; the median counts, the single
measurements stand beside it. Memory is the most that the measured process had resident, of a
backfill what all its processes had to themselves; not that of the PostgreSQL server. The history is
made up (`benchmarks/history.py`), in the sizes of the user's, with half of the farms for *Growth* and
*Months side by side*; the days of *Ingest* are real. Dagster's daemon looks for backfills every 30
seconds, so that it calls them complete at multiples of that; runs of the gap sensor are counted too.
"""


def write_results(folder: Path, figures: Sequence[Figure], machine: Sequence[str]) -> None:
    """Writes RESULTS.md and its picture into a folder."""
    _draw(figures, folder / PICTURE)
    limited = [figure for figure in figures if figure.at_most is not None]
    missed = [f"{figure.part}: {figure.what}, {figure.engine}" for figure in limited if not figure.is_reached]
    reached = f"Of {len(limited)} figures with a limit {len(limited) - len(missed)} keep it"
    reached += f", all but: {'; '.join(missed)}." if missed else "."
    parts = "".join(_table(part, figures) for part in dict.fromkeys(figure.part for figure in figures))
    machines = f"Machine: {'; '.join(machine)}."
    words = f"{HEAD}\n{machines}\n\n{reached}\n\n![Times beside what they are compared with]({PICTURE})\n{parts}"
    (folder / "RESULTS.md").write_text(words, encoding="utf-8")


def _table(part: str, figures: Sequence[Figure]) -> str:
    """The figures of a part; those of both engines are below each other."""
    lines = [
        f"\n## {part}\n",
        "| what | engine | value | at most | single | peak memory |",
        "|---|---|--:|---|---|--:|",
    ]
    of_part = [figure for figure in figures if figure.part == part]
    whats = list(dict.fromkeys(figure.what for figure in of_part))
    for figure in sorted(of_part, key=lambda figure: whats.index(figure.what)):
        limit = "" if figure.at_most is None else f"{figure.at_most:g}: {'yes' if figure.is_reached else '**no**'}"
        single = " ".join(f"{value:.2f}" for value in figure.raw) if len(figure.raw) > 1 else ""
        memory = "" if figure.peak_mb is None else f"{figure.peak_mb:,.0f} MB"
        value = f"{figure.value:,.2f} {figure.unit}"
        lines.append(f"| {figure.what} | {figure.engine} | {value} | {limit} | {single} | {memory} |")
    return "\n".join(lines) + "\n"


def _draw(figures: Sequence[Figure], path: Path) -> None:
    """Lines for the growth of time; then a panel of bars for each part, with a colour per engine and marked limits."""
    grown = [figure for figure in figures if figure.grows]
    timed = [figure for figure in figures if figure.unit == "s" and not figure.grows and figure.part not in LISTED_ONLY]
    rows = {figure.part: list[str]() for figure in timed}
    for figure in timed:
        if figure.what not in rows[figure.part]:
            rows[figure.part].append(figure.what)
    heights = [8, *(len(whats) + 1.5 for whats in rows.values())]
    drawing = plt.figure(figsize=(12, 0.36 * sum(heights)), layout="constrained")
    grid = drawing.add_gridspec(len(heights), 2, height_ratios=heights)
    for column, what in enumerate(dict.fromkeys(figure.grows.by for figure in grown if figure.grows)):
        _draw_lines(drawing.add_subplot(grid[0, column]), what, grown)
    for row, (part, whats) in enumerate(rows.items(), 1):
        _draw_bars(drawing.add_subplot(grid[row, :]), part, whats, timed)
    drawing.savefig(path, dpi=80)
    plt.close(drawing)


def _draw_lines(panel: Axes, of: str, figures: Sequence[Figure]) -> None:
    """Seconds by years or by miner models, beside a line that grows in proportion."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for figure in figures:
        if figure.grows and figure.grows.by == of:
            lines.setdefault((figure.engine, figure.grows.work), []).append((figure.grows.size, figure.value))
    for (engine, what), points in lines.items():
        counts, seconds = zip(*points, strict=True)
        style = "-" if what == "converging" else "--"
        panel.plot(counts, seconds, style, marker="o", color=COLOURS[engine], label=f"{what}, {engine}")
        linear = [seconds[0] * count / counts[0] for count in counts]
        panel.plot(counts, linear, ":", color="grey", linewidth=1)
    panel.set_xticks(sorted({count for points in lines.values() for count, _ in points}))
    panel.set_ylim(bottom=0)
    panel.set_title(f"Seconds by {of}; dotted: in proportion", fontsize=9, loc="left")
    panel.legend(fontsize=7)


def _draw_bars(panel: Axes, part: str, whats: Sequence[str], figures: Sequence[Figure]) -> None:
    for offset, (engine, colour) in enumerate(COLOURS.items()):
        of_engine = {figure.what: figure for figure in figures if figure.part == part and figure.engine == engine}
        places = [whats.index(what) + (offset - 0.5) * 0.4 for what in of_engine]
        panel.barh(places, [figure.value for figure in of_engine.values()], 0.38, color=colour, label=engine)
        for place, figure in zip(places, of_engine.values(), strict=True):
            panel.text(figure.value, place, f" {figure.value:,.3g}", va="center", fontsize=7)
            if figure.at_most is not None:
                panel.plot([figure.at_most] * 2, [place - 0.2, place + 0.2], color="black", linewidth=2)
    panel.set_yticks(range(len(whats)), whats, fontsize=8)
    panel.invert_yaxis()
    values = [figure.value for figure in figures if figure.part == part]
    is_wide = max(values) > LINEAR_UNTIL * min(values)
    panel.set_xscale("log" if is_wide else "linear")
    panel.set_title(f"{part}: seconds{' (logarithmic)' if is_wide else ''}; black: at most", fontsize=9, loc="left")
    panel.legend(fontsize=7)
