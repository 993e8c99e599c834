"""What a rule says of how its steps are computed is part of their identity; what decides no result is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smolmake.errors import UserError
from smolmake.execution.fingerprint import code_definitions
from smolmake.execution.kinds import KINDS, script_of
from smolmake.execution.rules import rule_entries, runs_plainly, step_code
from smolmake.planning.reasons import code_changes

Change = Callable[[Path], None]
STEP, DATA, TRAIN = (f"workflow/rules/{name}.smk" for name in ("step", "data", "pretrain"))
LINE = '"{params.command} --workers {threads} > {log:q} 2>&1"'
ALL, NOTHING = tuple(KINDS), ()
MIXING = '    message:\n        "mixing {wildcards.step}"\n'
COMMAND = "of_step(lambda step: WORKFLOW.command(step, own_gpus(step, gpus())))"


def replace(file: str, old: str, new: str) -> Change:
    def change(tree: Path) -> None:
        text = (tree / file).read_text()
        assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
        (tree / file).write_text(text.replace(old, new))

    return change


def mixture(*lines: str) -> Change:
    """More lines in the rule of mixtures."""
    return replace(DATA, MIXING, MIXING + "".join(f"    {line}\n" for line in lines))


def own_rule(*lines: str) -> Change:
    """A rule of its own for mixtures, which inherits nothing."""

    def change(tree: Path) -> None:
        replace(DATA, "use rule step as mixture with:\n", "rule mixture:\n")(tree)
        mixture(*lines)(tree)

    return change


def move(tree: Path) -> None:
    """The rule of mixtures in a file of its own."""
    before, begin, rest = (tree / DATA).read_text().partition("use rule step as mixture")
    rule, end, after = rest.partition("use rule step as epochs")
    (tree / DATA).write_text(f'{before}include: "own.smk"\n\n\n{end}{after}')
    (tree / "workflow/rules/own.smk").write_text(begin + rule)


CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "nothing": (lambda tree: None, NOTHING),
    "a comment": (replace(STEP, LINE, f"# A comment.\n        {LINE}  # and another"), NOTHING),
    "other quotes": (replace(STEP, LINE, LINE.replace('"', "'")), NOTHING),
    "a line in two parts": (replace(STEP, LINE, LINE.replace(" --workers", '"\n        " --workers')), NOTHING),
    "no comma at the end": (replace(STEP, f"{COMMAND},", COMMAND), NOTHING),
    "laid out otherwise": (replace(STEP, COMMAND, COMMAND.replace("(step, ", "(\n            step,\n")), NOTHING),
    "threads": (replace(STEP, "threads: of_step(lambda step: step.run.threads)", "threads: 4"), NOTHING),
    "resources": (replace(STEP, "        gpus=of_step", "        disk_mb=4,\n        gpus=of_step"), NOTHING),
    "a message": (replace(DATA, '"mixing {wildcards.step}"', '"mixing"'), NOTHING),
    "a log": (replace(DATA, '"logs/mixture/{step}.log"', '"logs/mixtures/{step}.log"'), NOTHING),
    "a priority": (mixture("priority: 3"), NOTHING),
    "a parameter that nobody reads": (mixture("params:", "    more=3,"), NOTHING),
    "another file": (move, NOTHING),
    "an unused rule": (replace(STEP, "rule step:", 'rule other:\n    shell:\n        "rm"\n\n\nrule step:'), NOTHING),
    "what it inherits, in its own words": (
        own_rule(f"params: command={COMMAND}", f"shell: {LINE}", "threads: 2"), NOTHING,
    ),
    "an option for all": (replace(STEP, LINE, LINE.replace(" >", " --fast >")), ALL),
    "a variable for all": (replace(STEP, COMMAND, f'"FAST=1 " + {COMMAND}'), ALL),
    "a prefix for all": (replace("workflow/Snakefile", 'min_version("9.14")', 'shell.prefix("FAST=1; ")'), ALL),
    "another command of one rule": (mixture("params:", f"    command='FAST=1 ' + {COMMAND},"), ("mixture",)),
    "another line of one rule": (
        own_rule(f"params: command={COMMAND}", "shell:", '    "FAST=1 {params.command} > {log:q}"'), ("mixture",),
    ),
    "the script by its name": (
        own_rule("shell:", '    "python workflow/scripts/mixture.py .smolmake/jobs/{wildcards.step}"'), ("mixture",),
    ),
}  # fmt: skip


def said(tree: Path) -> dict[str, dict[str, str]]:
    """What counts of the rule of each kind."""
    return {kind: {name: entry.text for name, entry in rule_entries(kind, tree).items()} for kind in KINDS}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_a_rule_reaches_the_steps_of_its_kind(tree: Path, name: str) -> None:
    change, kinds = CASES[name]
    script, before = script_of("mixture", tree), said(tree)
    code = step_code("mixture", script)
    change(tree)
    after, now = said(tree), step_code("mixture", script)
    assert tuple(kind for kind in KINDS if before[kind] != after[kind]) == kinds
    assert tuple(kind for kind in KINDS if not runs_plainly(kind, tree)) == kinds
    assert (code[""] != now[""]) == bool(kinds)
    if kinds:
        told = code_changes(code, now)
        assert told and all(line.startswith("workflow/") for line in told)
        assert name == "a prefix for all" or any(" of rule " in line for line in told)


def test_what_of_a_rule_is_read_by_its_line_counts(tree: Path) -> None:
    def more(value: str) -> Change:
        return own_rule(f"params: command={COMMAND}, more={value}, other=1", 'shell: "{params.command} {params.more}"')

    more("3")(tree)
    entries = rule_entries("mixture", tree)
    assert set(entries) == {"shell", "params.command", "params.more"} and entries["params.more"].text == "3"
    replace(DATA, "more=3", "more=4")(tree)
    assert rule_entries("mixture", tree)["params.more"].text == "4"


WRONG: dict[str, tuple[Change, str, str]] = {
    "another kind's script": (
        own_rule('shell: "python workflow/scripts/epochs.py .smolmake/jobs/{wildcards.step}"'),
        "rule mixture: shell", "workflow/scripts/epochs.py",
    ),
    "a script of one's own": (
        mixture("params:", "    command='python tools/mine.py'"), "rule mixture: params.command", "tools/mine.py",
    ),
    "a program around it": (
        replace(STEP, LINE, LINE.replace("{params", "bash tools/around.sh {params")), "rule step: shell",
        "tools/around.sh",
    ),
    "a module": (
        own_rule('shell: "python -m mine {log}"'), "rule mixture: shell", "mine",
    ),
    "another program": (own_rule('shell: "true {log}"'), "rule mixture: shell", "true"),
    "Snakemake's own script": (own_rule('script: "../scripts/mixture.py"'), "rule mixture: script", "mixture.py"),
    "Python in the rule": (own_rule("run:", "    print(1)"), "rule mixture: run", "print"),
    "no program": (own_rule(), "rule mixture: shell", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_runs_another_program_is_refused(tree: Path, name: str) -> None:
    change, key, value = WRONG[name]
    change(tree)
    with pytest.raises(UserError, match="does not run the script of its kind") as caught:
        step_code("mixture", script_of("mixture", tree))
    error = caught.value
    assert error.key == key and value in str(error.value or "")
    assert "workflow" in str(error.file) and "workflow/scripts/mixture.py" in error.remedy


def test_a_rule_that_is_not_there_and_a_file_that_is_none_are_told(tree: Path) -> None:
    replace(DATA, "use rule step as mixture with:", "use rule step as mixtures with:")(tree)
    with pytest.raises(UserError, match="no rule computes steps of the kind mixture"):
        rule_entries("mixture", tree)
    (tree / TRAIN).write_text('rule a:\n    shell: """\n')
    with pytest.raises(UserError, match="cannot be read") as caught:
        rule_entries("epochs", tree)
    assert caught.value.file == tree / TRAIN


def test_the_script_counts_beside_the_rule(tree: Path) -> None:
    script = script_of("mixture", tree)
    alone = code_definitions(script)
    assert {file: names for file, names in step_code("mixture", script).items() if file not in ("", STEP)} == {
        file: names for file, names in alone.items() if file
    }
    assert step_code("mixture", script)[""] != alone[""]
