"""The sections on what each step changed: scores before and after it, and whether it did what it should."""

from itertools import pairwise

from smolmake.report.artifacts import (
    POSTTRAINING,
    Checkpoint,
    ReportArtefact,
    is_extension,
    is_pretraining,
    of_kind,
    read_checkpoints,
    read_metrics,
    read_mixtures,
    stage_name,
)
from smolmake.report.blocks import Block, Cell, Section, Table, two_lines, unique, verdict
from smolmake.report.charts.bars import change_mark
from smolmake.report.expectations import (
    Claim,
    change_verdict,
    domain_claims,
    heldout_falls,
    last_of,
    loss_falls,
    score_change,
    score_claims,
)
from smolmake.report.sections.evaluation import Key, interval, score_keys, title_of
from smolmake.report.text import listed, plural, signed


def steps_of(checkpoints: list[Checkpoint]) -> list[tuple[Checkpoint, Checkpoint]]:
    """Each post-training step as (checkpoint before, checkpoint after)."""
    base = last_of(checkpoints, lambda g: is_pretraining(g) or is_extension(g))
    chain = [c for c in (base, *(last_of(checkpoints, group.__eq__) for group in POSTTRAINING)) if c]
    return list(pairwise(chain))


def effect_section(artefacts: list[ReportArtefact]) -> Section | None:
    """Every score before and after each post-training step."""
    checkpoints = read_checkpoints(artefacts)
    steps, keys = steps_of(checkpoints), score_keys(checkpoints)
    main = [k for k in keys if k[0] in ("chat", "preferences") or k[0].startswith("needle")]
    blocks: list[Block] = []
    for chosen, id_, folded in (
        (main, "tab-effect", ""),
        ([k for k in keys if k not in main], "tab-side", "Effect on all other tasks"),
    ):
        rows = effect_rows(steps, chosen)
        files = unique([c.file for pair in steps for c in pair])
        columns = ["Measure", "Before", "After", "Change", "95% interval", "", "Verdict"]
        if rows:
            blocks.append(Table(id_, effect_caption(rows), columns, rows, files, folded=folded))
    lead = f"Post-training took {plural(len(steps), 'step')}: {listed([stage_name(c.group) for _, c in steps])}."
    return Section("effect", "Effect of each post-training step", [lead], blocks) if blocks else None


def effect_caption(rows: list[list[Cell]]) -> str:
    """How to read the table, and how often chance alone would give a verdict."""
    count = sum(len(row) > 1 for row in rows)
    return (
        "Scores before and after each step, in percent with 95% intervals; the change in points with "
        "the interval of a bootstrap over the items, the same before and after (Newcombe's where they differ). "
        "Better or worse only if that "
        f"interval leaves out zero: if no step had any effect, about {max(1, round(0.05 * count))} of the "
        f"{count} comparisons would do so all the same."
    )


def claims_section(artefacts: list[ReportArtefact]) -> Section | None:
    """What each step should have done, and whether it did."""
    claims = all_claims(artefacts, read_checkpoints(artefacts))
    if not claims:
        return None
    counts = {word: sum(c.verdict == word for c in claims) for word in ("holds", "does not hold", "within noise")}
    lead = (
        f"{plural(len(claims), 'claim')} about what the steps should do: {counts['holds']} hold, "
        f"{counts['does not hold']} do not hold, {counts['within noise']} cannot be told from noise."
    )
    return Section("claims", "Did each step do its work?", [lead], [claims_table(claims)])


def effect_rows(steps: list[tuple[Checkpoint, Checkpoint]], keys: list[Key]) -> list[list[Cell]]:
    """For each step a heading, and a row for each score measured before and after it."""
    rows: list[list[Cell]] = []
    pairs = [(a, b, [k for k in keys if k in a.scores and k in b.scores]) for a, b in steps]
    ranges = {(b.name, k): score_change(a.scores[k], b.scores[k]) for a, b, found in pairs for k in found}
    reach = max((abs(bound) for bounds in ranges.values() for bound in bounds), default=1.0)
    for before, after, found in pairs:
        if found:
            rows.append([f"{stage_name(after.group)}: {before.label} → {after.label}"])
        for key in found:
            a, b = before.scores[key], after.scores[key]
            low, high = ranges[after.name, key]
            word = change_verdict(low, high)
            rows.append(
                [
                    title_of(key),
                    two_lines(f"{100 * a.value:.1f}", interval(a)),
                    two_lines(f"{100 * b.value:.1f}", interval(b)),
                    signed(100 * (b.value - a.value), 1),
                    f"{signed(100 * low, 1)} to {signed(100 * high, 1)}",
                    change_mark(b.value - a.value, low, high, reach, word),
                    verdict(word),
                ]
            )
    return rows


def all_claims(artefacts: list[ReportArtefact], checkpoints: list[Checkpoint]) -> list[Claim]:
    """Everything the run claims of its steps."""
    claims: list[Claim | None] = []
    previous = ""
    for group in dict.fromkeys(a.group for a in of_kind(artefacts, "segment") if is_pretraining(a.group)):
        parts = [a for a in of_kind(artefacts, "segment") if a.group == group]
        lines = sorted((m for a in parts for m in read_metrics(a)), key=lambda m: m.step)
        before = next((c for c in reversed(checkpoints) if c.group == previous), None)
        after = next((c for c in reversed(checkpoints) if c.group == group), None)
        if before and after:
            claims.append(heldout_falls(group, before, after))
        else:
            claims.append(loss_falls(group, lines, tuple(a.file("metrics.jsonl") for a in parts)))
        previous = group
    mixtures: dict[str, tuple[dict[str, float], str]] = {}
    for mixture, file in read_mixtures(artefacts):
        shares: dict[str, float] = {}
        for entry in mixture["sources"].values():
            shares[entry["domain"]] = shares.get(entry["domain"], 0.0) + entry["share"]
        mixtures[mixture["stage"]] = (shares, file)
    claims += [*domain_claims(checkpoints, mixtures), *score_claims(checkpoints)]
    return [c for c in claims if c]


def claims_table(claims: list[Claim]) -> Table:
    """One row a claim; losses and shares each in their own unit."""
    rows: list[list[Cell]] = []
    for c in claims:
        scale, digits = (100.0, 1) if c.unit == "share" else (1.0, 3)
        mark = "%" if c.unit == "share" else ""
        rows.append(
            [
                c.text,
                f"{scale * c.before:.{digits}f}{mark}",
                f"{scale * c.after:.{digits}f}{mark}",
                f"{signed(scale * c.low, digits)} to {signed(scale * c.high, digits)}",
                verdict(c.verdict),
            ]
        )
    return Table(
        "tab-claims",
        "What each step should have done, and whether it did. The interval is the 95% interval "
        "of the change, paired over the same items or documents where both sides have them. A claim that "
        "something is kept holds unless "
        "it was measurably lost.",
        ["Claim", "Before", "After", "Change, 95%", "Verdict"],
        rows,
        unique([f for c in claims for f in c.files]),
    )
