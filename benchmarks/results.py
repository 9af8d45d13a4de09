"""RESULTS.md: the figures as tables, by part, with the machine that they are from, and a picture of the main ones.

Belongs here: presentation. Does not: measuring.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.figures import Figure

PICTURE = "results.png"
HEAD = """\
# Results

Written by `make bench`; do not edit. All figures are of one run, one engine after the other. Ways
that are compared take turns, each in a process of its own; the median counts, the single
measurements stand beside it. Memory is the most that the measured process had resident, of a
backfill what all its processes had to themselves; not that of the PostgreSQL server. The history is
made up (`benchmarks/history.py`), in the sizes of the user's; the days of *Ingest* are real.
"""


def write_results(folder: Path, figures: Sequence[Figure], machine: Sequence[str]) -> None:
    """Writes RESULTS.md and its picture into a folder."""
    _draw(figures, folder / PICTURE)
    parts = "".join(_table(part, figures) for part in dict.fromkeys(figure.part for figure in figures))
    words = f"{HEAD}\nMachine: {'; '.join(machine)}.\n\n![Times beside what they are compared with]({PICTURE})\n{parts}"
    (folder / "RESULTS.md").write_text(words, encoding="utf-8")


def _table(part: str, figures: Sequence[Figure]) -> str:
    lines = [
        f"\n## {part}\n",
        "| what | engine | value | at most | single | peak memory |",
        "|---|---|--:|---|---|--:|",
    ]
    for figure in figures:
        if figure.part == part:
            limit = "" if figure.at_most is None else f"{figure.at_most:g}: {'yes' if figure.is_reached else '**no**'}"
            single = " ".join(f"{value:.2f}" for value in figure.raw) if len(figure.raw) > 1 else ""
            memory = "" if figure.peak_mb is None else f"{figure.peak_mb:,.0f} MB"
            value = f"{figure.value:,.2f} {figure.unit}"
            lines.append(f"| {figure.what} | {figure.engine} | {value} | {limit} | {single} | {memory} |")
    return "\n".join(lines) + "\n"


def _draw(figures: Sequence[Figure], path: Path) -> None:
    """A panel for each part: seconds by what was measured, a colour for each engine, limits as marks."""
    timed = [figure for figure in figures if figure.unit == "s"]
    parts = list(dict.fromkeys(figure.part for figure in timed))
    rows = {part: list(dict.fromkeys(figure.what for figure in timed if figure.part == part)) for part in parts}
    heights = [len(rows[part]) + 1 for part in parts]
    drawing, panels = plt.subplots(
        len(parts), 1, figsize=(12, 0.42 * sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for panel, part in zip(panels[:, 0], parts, strict=True):
        for offset, (engine, colour) in enumerate((("sqlite", "#4c78a8"), ("postgresql", "#f58518"))):
            of_engine = {figure.what: figure for figure in timed if figure.part == part and figure.engine == engine}
            places = [rows[part].index(what) + (offset - 0.5) * 0.4 for what in of_engine]
            panel.barh(places, [figure.value for figure in of_engine.values()], 0.38, color=colour, label=engine)
            for place, figure in zip(places, of_engine.values(), strict=True):
                panel.text(figure.value, place, f" {figure.value:,.3g}", va="center", fontsize=7)
                if figure.at_most is not None:
                    panel.plot([figure.at_most] * 2, [place - 0.2, place + 0.2], color="black", linewidth=2)
        panel.set_yticks(range(len(rows[part])), rows[part], fontsize=8)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_title(
            f"{part}: seconds (logarithmic); black marks are what they should not exceed", fontsize=9, loc="left"
        )
        panel.legend(fontsize=7)
    drawing.savefig(path, dpi=80)
    plt.close(drawing)
