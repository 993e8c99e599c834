"""The sections on what the model can do: scores and losses over checkpoints, samples."""

from smolmake.report.artifacts import ReportArtefact, load, read_overlap
from smolmake.report.blocks import Block, Chart, Details, Fact, Item, ReportSection, Table, two_lines, upright
from smolmake.report.charts.lines import Mark, Series, Span, checkpoint_chart
from smolmake.report.charts.svg import SMALL, Axis, text_width, value_axis
from smolmake.report.checkpoints import Checkpoint, Key, Score, own_checkpoints
from smolmake.report.expectations import change_verdict, loss_change, pooled
from smolmake.report.sections.needles import depth_tables
from smolmake.report.sections.worth import worth_table
from smolmake.report.text import percent, plural, signed, whole

LINES = ("c1", "c4", "c3", "c5", "c2", "c6")
FORMULATIONS = {
    "CF": "cloze formulation, of the given answers the likeliest counts",
    "MCF": "multiple choice, of the letters before the answers the likeliest counts",
    "hybrid": "choices shown with letters, of their texts the likeliest counts",
    "FG": "free generation, the model writes the answer",
}


def title_of(key: Key) -> str:
    """A score in words: needle_long, acc -> Needle long; its suite stands behind it."""
    words = key.task.replace("_", " ").capitalize()
    if key.length is not None:
        words += f", {key.length:,} tokens"
    elif key.metric not in ("acc", "accuracy", ""):
        words += f", {key.metric.replace('_', ' ')}"
    words += f", {key.filter}" if key.filter not in ("none", "") else ""
    return f"{words} ({key.suite})" if key.suite else words


def score_keys(checkpoints: list[Checkpoint]) -> list[Key]:
    """The scores of tasks' own metrics, in the order in which they first appear."""
    return list(dict.fromkeys(key for c in checkpoints for key, score in c.scores.items() if not score.beside))


def checkpoint_spans(checkpoints: list[Checkpoint]) -> list[Span]:
    """Where each stage lies on the axis of checkpoints."""
    spans: list[Span] = []
    for k, c in enumerate(checkpoints):
        label = c.label
        if spans and spans[-1].label == label:
            spans[-1] = Span(spans[-1].start, k + 0.5, label)
        else:
            spans.append(Span(k - 0.5, k + 0.5, label))
    return spans


def evaluation_section(artefacts: list[ReportArtefact], checkpoints: list[Checkpoint]) -> ReportSection | None:
    """Scores and held-out losses of every checkpoint."""
    if not checkpoints:
        return None
    blocks = [*score_figures(checkpoints, read_overlap(artefacts).files), *heldout_figures(checkpoints)]
    blocks += depth_tables(artefacts)
    keys = score_keys(checkpoints)
    blocks += worth_table(checkpoints, {key: title_of(key) for key in keys})
    measures = f"{plural(len(keys), 'measure')} and on held-out text" if keys else "held-out text"
    lead = (
        f"{plural(len(checkpoints), 'checkpoint')} evaluated on {measures}. "
        "Intervals are 95%: Wilson's for shares, Student's t for other means, else a bootstrap over items or "
        "documents. Several items or answers of one question count as one draw. Behind chance stands where 95% of "
        "guessers score." + conversion_told(checkpoints)
    )
    return ReportSection("evaluation", "Evaluation over checkpoints", lead, blocks)


def conversion_told(checkpoints: list[Checkpoint]) -> str:
    """How far the logits that transformers computes are from the trainer's, in a sentence."""
    apart = [c.logits_apart for c in checkpoints if c.logits_apart is not None]
    if not apart:
        return ""
    return (
        f" Of {plural(len(apart), 'checkpoint')} transformers computes the logits that the trainer computed, on a fixed"
        f" text: they differ by {max(apart):.1g} of their standard deviation at most."
    )


def score_figures(checkpoints: list[Checkpoint], overlap_files: list[str]) -> list[Block]:
    """One small chart a task, and the table of all scores."""
    keys, used = score_keys(checkpoints), [c for c in checkpoints if c.scores]
    if not keys:
        return []
    percents = Axis(0, 1, [(t, percent(t, 0)) for t in (0, 0.25, 0.5, 0.75, 1)])
    pictures = []
    for key in keys:
        having = [c for c in checkpoints if key in c.scores]
        scores = [c.scores[key] for c in having]
        last, title = scores[-1], title_of(key)
        form = "{}: {}% ({})" if last.share else "{}: {} ({})"
        told = [form.format(c.name, *s.words) for c, s in zip(having, scores, strict=True)]
        marks = [Mark(k, s.value, s.low, s.high, told[k]) for k, s in enumerate(scores)]
        y = percents if last.share else value_axis([bound for s in scores for bound in (s.low, s.high)], 4)
        guessers = f" ({100 * last.chance_low:.0f}–{percent(last.chance_high, 0)})"
        chance = f"chance {percent(last.chance, 0)}{guessers}" if last.chance else ""
        shots = plural(last.shots, "shot") if last.shots else ""
        repeats = f"mean of {last.repeats} answers" if last.repeats > 1 else ""
        parts = [last.formulation, shots, repeats, f"n = {last.n}", chance]
        subtitle = " · ".join(part for part in parts if part)
        spans = checkpoint_spans(having)
        series = [Series(title, [m for m, c in zip(marks, having, strict=True) if not c.compared])]
        series += [Series(c.name, [m]) for m, c in zip(marks, having, strict=True) if c.compared]
        pictures.append(checkpoint_chart(title, subtitle, [s for s in series if s.marks], spans, y, last.chance))
    keys = list(dict.fromkeys(key for c in checkpoints for key in c.scores))
    rows = [[*c.cells, *(two_lines(*c.scores[key].words) if key in c.scores else "" for key in keys)] for c in used]
    files = [file for c in used for file in c.score_files]
    latest = {key: next(c.scores[key] for c in reversed(used) if key in c.scores) for key in keys}
    rows.append(["Items asked", "", *(whole(latest[key].n) for key in keys)])
    known = any(score.items_searched is not None for score in latest.values())
    if known:
        rows.append(["Items found in the data", "", *(found_in_data(latest[key]) for key in keys)])
    if any(score.items_found and score.clean_words for score in latest.values()):
        clean = [score.clean_words if score.items_found else None for score in latest.values()]
        rows.append(["Last score on the others", "", *(two_lines(*words) if words else "–" for words in clean)])
    shown = (
        "Scores over the checkpoints at which they were measured, with 95% intervals; the dashed line is chance, "
        "where it is not zero, and n the number of items." + formulations(used)
    )
    listed = (
        "Every score with its 95% interval below it, in percent where it is a share; task, metric and filter as the "
        "harness names them; besides, of tasks with choices, the bits per byte of the right answer (lower is better), "
        "its share of the probability of all choices, and the accuracy by the likelihood per token. Then the "
        "items that were asked, and how many of a task's items the data held before decontamination, as far as they "
        "are long enough to be found, with the last score on the items that it did not hold. Tasks that are made to a "
        "length are not looked for: they have no items before they are asked."
    )
    columns, table_files = ["Checkpoint", "Tokens", *map(title_of, keys)], files + (overlap_files if known else [])
    table = Table("tab-scores", listed, *upright(columns, rows, "Measure"), table_files, folded="All scores")
    return [Chart("fig-tasks", shown, pictures, files), table, *answers_table(used)]


def found_in_data(score: Score) -> str:
    """How many of a score's items the data held."""
    return "not looked for" if score.items_searched is None else f"{score.items_found} of {score.items_searched}"


def answers_table(checkpoints: list[Checkpoint]) -> list[Table]:
    """What a score cannot tell: thoughts, answers that were cut, and questions that did not fit or merged."""
    rows, columns = [], ["Checkpoint", "Task", "Thoughts", "Unclosed", "Cut", "Too long", "Merged"]
    for c in checkpoints:
        tasks: dict[tuple[str, str], Score] = {}  # all metrics of a task say the same of it
        for score in c.scores.values():
            tasks.setdefault((score.suite, score.task), score)
        for score in tasks.values():
            shares = [score.thoughts or 0.0, score.unclosed, score.cut]
            if any(shares) or score.truncated or score.merged:
                told = [percent(share) for share in shares] if score.thoughts is not None else ["–"] * 3
                name = f"{score.task} ({score.suite})" if score.suite else score.task
                rows.append([c.name, name, *told, whole(score.truncated), whole(len(score.merged))])
    caption = (
        "Answers with a thought, which is left out before scoring; with a thought that never ended, which leaves no "
        "answer; and that the limit of tokens cut. Then items that were too long for the model, whose beginning was "
        "left out, and items of which a choice merges with its question's last token, scored by what it adds."
    )
    files = [file for c in checkpoints for file in c.score_files]
    return [Table("tab-answers", caption, columns, rows, files, folded="How tasks were answered")] if rows else []


def formulations(checkpoints: list[Checkpoint]) -> str:
    """What the formulations that occur stand for, in a sentence."""
    used = {score.formulation for c in checkpoints for score in c.scores.values()}
    said = [f"{short}: {long}" for short, long in FORMULATIONS.items() if short in used]
    return f" {'; '.join(said)}." if said else ""


def groups_of(sources: list[str]) -> list[list[str]]:
    """Sources of a domain in groups whose names have room above one chart, with a colour each."""
    groups: list[list[str]] = []
    for source in sources:
        names = [*groups[-1], source] if groups else []
        if names and len(names) <= len(LINES) and text_width("  ".join(names), 12.5) <= SMALL:
            groups[-1].append(source)
        else:
            groups.append([source])
    return groups


def heldout_figures(checkpoints: list[Checkpoint]) -> list[Block]:
    """Bits per byte by domain, one line a source, and the table."""
    having = [c for c in checkpoints if c.heldout]
    if not having:
        return []
    domains: dict[str, dict[str, list[Mark]]] = {}
    for k, c in enumerate(having):
        for h in c.heldout:
            told = "{}, {}: {} ({})".format(c.name, h.source, *h.words)
            mark = Mark(k, h.bits_per_byte, h.low, h.high, told)
            domains.setdefault(h.domain, {}).setdefault(h.source, []).append(mark)
    pictures = []
    for domain, members in domains.items():
        groups = groups_of(list(members))
        for number, group in enumerate(groups, 1):
            series = [Series(name, members[name], colour) for name, colour in zip(group, LINES, strict=False)]
            y = value_axis([bound for s in series for m in s.marks for bound in (m.low, m.high)], 5)
            title = domain if len(groups) == 1 else f"{domain}, {number} of {len(groups)}"
            words = "bits per byte" if len(members) == 1 else ""
            pictures.append(checkpoint_chart(title, words, series, checkpoint_spans(having), y))
    sources = [source for members in domains.values() for source in members]
    rows = []
    for c in having:
        cells = {h.source: two_lines(*h.words) for h in c.heldout}
        rows.append([*c.cells, *(cells.get(source, "") for source in sources)])
    files = [c.file for c in having]
    shown = (
        "Loss on held-out documents in bits per byte, by domain, one line for each source, "
        "with 95% intervals. Lower is better; the axes differ." + heldout_rise(having)
    )
    listed, columns = "Bits per byte on held-out documents, with 95% intervals.", ["Checkpoint", "Tokens", *sources]
    table = Table("tab-heldout", listed, *upright(columns, rows, "Source"), files, folded="All held-out losses")
    return [Chart("fig-heldout", shown, pictures, files), table]


def heldout_rise(checkpoints: list[Checkpoint]) -> str:
    """A sentence where the held-out loss of the last checkpoint of post-training is measurably above the base's."""
    own = own_checkpoints(checkpoints)
    base, last = base_of(own), (own or checkpoints)[-1]
    if base is None or not last.stage.post_trains:
        return ""
    before, after = ({h.source: h for h in c.heldout if h.bits_per_byte > 0} for c in (base, last))
    shared = [source for source in before if source in after]
    if not shared:
        return ""
    pair = [before[s] for s in shared], [after[s] for s in shared]
    low, high = loss_change(*pair)
    if change_verdict(low, high, higher_is_better=False) != "worse":
        return ""
    first, second = (pooled(side)[0] for side in pair)
    return (
        f" After post-training it is worse: over all sources {first:.3f} at {base.name} and {second:.3f} at "
        f"{last.name}, a change of {signed(second - first, 3)} ({signed(low, 3)} to {signed(high, 3)})."
    )


def samples_section(artefacts: list[ReportArtefact]) -> ReportSection | None:
    """What the model wrote at each checkpoint, the last one first."""
    written = [(a, raw["samples"], f) for a, raw, f in load(artefacts, "evaluation", "samples.json") if raw["samples"]]
    if not written:
        return None
    groups = []
    for artefact, samples, _ in written[::-1]:
        labels = [" · ".join(str(s[k]) for k in ("kind", "mode") if s.get(k)) for s in samples]
        items = [Item(label, s["text"], s.get("prompt", "")) for label, s in zip(labels, samples, strict=True)]
        groups.append((f"{artefact.name}: {plural(len(items), 'sample')}", items))
    lead = "What the model wrote, as it came out, at each checkpoint, the last one first."
    files = [file for *_, file in written[::-1]]
    texts = Details("txt-samples", "Samples by checkpoint.", groups, files, first_open=True)
    return ReportSection("samples", "Samples", lead, [texts])


def extreme_scores(checkpoints: list[Checkpoint]) -> list[Fact]:
    """The scores of the last checkpoint farthest above chance and least above it."""
    last = next((c for c in reversed(checkpoints) if c.scores), None)
    scores = last.scores.values() if last is not None else ()
    shares = [s for s in scores if s.share and s.higher_is_better and not (s.tasks or s.beside)]
    if last is None or not shares:
        return []
    order = sorted(shares, key=lambda s: (s.chance - s.value) / (1 - s.chance or 1))
    chances = {s.key: f" (chance {percent(s.chance, 0)})" if s.chance else "" for s in order}
    words = [f"{title_of(s.key)} {percent(s.value, 0)}{chances[s.key]}" for s in [order[0], order[-1]][: len(order)]]
    heading = f"Best and weakest of {len(order)} measures" if len(order) > 1 else "Score"
    return [Fact(heading, ", ".join(words), f"checkpoint {last.name}", last.score_files)]


def base_of(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """The last checkpoint before post-training."""
    return next((c for c in reversed(checkpoints) if not c.stage.post_trains), None)


def final_loss(checkpoints: list[Checkpoint]) -> list[Fact]:
    """Bits per byte over all held-out documents after the last pretraining stage or extension."""
    last = base_of([c for c in checkpoints if c.heldout])
    if last is None:
        return []
    return [Fact("Held-out loss", f"{pooled(last.heldout)[0]:.3f}", "bits per byte, base model", [last.file])]
