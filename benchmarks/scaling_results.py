"""The table and the figure of results of benchmarks/scaling.py.

    python benchmarks/scaling_results.py benchmarks/results/2026-11-22-h200-x4.json [--figure FILE.svg]

The file is {machine, date, rows}, as benchmarks/scaling.py writes it. Efficiency is tokens a second and GPU over those
of the same case on one GPU in the same file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from smolmake.report.charts.svg import Axis, Frame, axes, circle, curve, element, picture, text  # noqa: E402

Row = dict[str, Any]
COLOURS = {"ddp": "c1", "zero1": "c3", "zero2": "c2", "zero3": "c5", "fsdp": "c4", "hsdp": "c6"}
PANEL, HEIGHT, LABEL, GAP = 300.0, 210.0, 84.0, 14.5
STYLE = """
svg .line { fill: none; stroke: var(--c); stroke-width: 2; }
svg .dot { fill: var(--c); stroke: var(--paper); stroke-width: 1; }
svg .axis { stroke: var(--ink2); stroke-width: 1; opacity: 0.55; }
svg .title { fill: var(--ink); font-size: 13.5px; font-weight: 650; }
""" + "\n".join(f".{colour} {{ --c: var(--{colour}); }}" for colour in COLOURS.values())


def with_efficiency(rows: list[Row]) -> list[Row]:
    """The rows that were measured, each with its `efficiency` where one GPU has the same case."""
    alone = {row["case"]: row["tokens_per_second"] for row in rows if row["gpus"] == 1 and "tokens_per_second" in row}
    measured = [row for row in rows if "tokens_per_second" in row]
    return [
        row | ({"efficiency": row["tokens_per_second"] / alone[row["case"]]} if row["case"] in alone else {})
        for row in measured
    ]


def strategy(row: Row) -> str:
    name = str(row["strategy"]) if row["gpus"] > 1 else ""
    return name + (f", context {row['context']}" if row.get("context", 1) > 1 else "")


def table(rows: list[Row]) -> str:
    """The results as Markdown: what was measured, then preflights, then what failed."""
    head = ("case", "GPUs", "strategy", "tokens/s a GPU", "of one GPU", "MFU", "masked MFU", "peak GiB",
            "communication (alone)", "save: s, GB/s, s lost", "pairs/s a GPU")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in with_efficiency(rows):
        shares = row.get("shares") or {}
        cells = [
            row["case"], str(row["gpus"]), strategy(row), f"{row['tokens_per_second']:,}",
            *(f"{row[key]:.1%}" if row.get(key) and (key != "efficiency" or row["gpus"] > 1) else ""
              for key in ("efficiency", "mfu", "mfu_masked")),
            "" if row.get("peak_gib") is None else str(row["peak_gib"]),
            f"{shares['communication']:.1%} ({shares['communication alone']:.1%})" if "communication" in shares else "",
            f"{row['save_s']}, {row['save_gb_s']}, {row['save_lost_s']}" if "save_s" in row else "",
            "" if row.get("pairs_per_second") is None else f"{row['pairs_per_second']:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for row in rows:
        if "checks" in row:
            found = "; ".join(f"{check}: {what}" for check, what in row["checks"].items())
            lines.append(f"\n{'passed' if row['passed'] else 'FAILED'}: {row['gpus']} GPUs, {strategy(row)}: {found}")
        if "error" in row:
            lines.append(f"\nnot measured: {row['case']} on {row['gpus']}: {row['error'][:300]}")
    return "\n".join(lines)


def figure(results: dict[str, Any]) -> Markup:
    """Efficiency by number of GPUs, a panel a case and a line a strategy."""
    rows = [row for row in with_efficiency(results["rows"]) if "efficiency" in row and row["gpus"] > 1]
    if not rows:
        raise SystemExit("error: no case was measured both on one GPU and on several")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    lowest = min(row["efficiency"] for row in rows)
    low = math.floor(min(lowest, 0.9) * 20) / 20
    high = max(1.0, math.ceil(max(row["efficiency"] for row in rows) * 50) / 50)
    step = 0.02 if high - low <= 0.12 else 0.05 if high - low <= 0.3 else 0.2
    y = Axis(low, high, [(low + k * step, f"{low + k * step:.0%}") for k in range(round((high - low) / step) + 1)])
    columns = min(3, len(cases))
    width, lines = columns * PANEL + 16, math.ceil(len(cases) / columns)
    head = [
        element("style", _style()),
        element("rect", width="100%", height="100%", rx=8, class_="paper"),
        text(16, 28, "Tokens a second and GPU, of one GPU's", "heading"),
        text(16, 49, f"{results['machine']}, {results['date']}", "summary"),
    ]
    panels = [
        _panel([r for r in rows if r["case"] == case], case, y, k % columns * PANEL, 66 + k // columns * (HEIGHT + 76))
        for k, case in enumerate(cases)
    ]
    said = "; ".join(f"{r['case']}, {r['gpus']} GPUs, {strategy(r)}: {r['efficiency']:.1%}" for r in rows)
    return picture(width, 66 + lines * (HEIGHT + 76), "Efficiency by number of GPUs and strategy", said, *head, *panels)


def _panel(rows: list[Row], case: str, y: Axis, left: float, top: float) -> Markup:
    counts = sorted({1, *(row["gpus"] for row in rows)})
    x = Axis(0, math.log2(counts[-1]), [(math.log2(n), str(n)) for n in counts])
    frame = Frame(left + 52, top + 26, PANEL - 52 - LABEL, HEIGHT, x, y)
    parts = [text(left + 16, top + 8, case, "title"), axes(frame)]
    parts.append(text(frame.left + frame.width / 2, frame.bottom + 36, "GPUs", "tick", "middle"))
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["gpus"]):
        lines.setdefault(strategy(row), []).append(row)
    at = -math.inf
    for name, found in sorted(lines.items(), key=lambda item: -item[1][-1]["efficiency"]):
        colour = COLOURS.get(str(found[0]["strategy"]).partition("-")[0], "c1")
        points = [(0.0, 1.0), *((math.log2(row["gpus"]), row["efficiency"]) for row in found)]
        parts.append(curve(frame, points, colour))
        for row, point in zip(found, points[1:], strict=True):
            tip = f"{name}, {row['gpus']} GPUs: {row['efficiency']:.1%}, {row['tokens_per_second']:,} tokens/s a GPU"
            parts.append(circle(frame.px(point[0]), frame.py(point[1]), 3, f"dot {colour}", tip))
        at = max(at + GAP, frame.py(points[-1][1]) + 4)
        parts.append(text(frame.px(points[-1][0]) + 8, at, f"{name} {found[-1]['efficiency']:.1%}"))
    return Markup("").join(parts)


def _style() -> Markup:
    folder = files("smolmake.report")
    named = "\n".join((folder / name).read_text() for name in ("palette.css.j2", "graph.css.j2"))
    return Markup(named + STYLE)  # noqa: S704 (our own style sheets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--figure", type=Path, help="an SVG file to draw")
    arguments = parser.parse_args()
    results = json.loads(arguments.file.read_text())
    print(table(results["rows"]))
    if arguments.figure:
        arguments.figure.write_text(figure(results) + "\n")


if __name__ == "__main__":
    main()
