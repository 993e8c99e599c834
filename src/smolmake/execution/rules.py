"""What the rules say of how steps of a kind are computed, and the identity of all code of a kind: script and rule.

A rule's shell line counts, and of its other keys what that line refers to, such as `{params.command}`; a rule has what
it does not say itself from the rule that it inherits. `threads`, `resources`, `log` and what the line does not name
decide no result. Comments and formatting do not count, nor where a rule stands. The rules are read as text: the package
does not import Snakemake.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.code_memory import Definitions
from smolmake.execution.fingerprint import code_definitions
from smolmake.execution.kinds import KINDS
from smolmake.files import digest, file_stamp

SNAKEFILES = ("Snakefile", "workflow/Snakefile")  # where Snakemake looks for the first one
NEUTRAL_KEYS = ("threads", "resources", "log", "rule", "wildcards")  # what a line may name without a say in the result
OTHER_PROGRAMS = ("run", "script", "notebook", "wrapper", "cwl")  # instead of a shell line
WITH_ARGUMENTS = ("params", "input", "output")
MERGED = "params"  # the only key whose entries an inheriting rule replaces one by one
COMMAND = "WORKFLOW . command ("  # gives what computes a step: its kind's script with its job
PLAIN_COMMAND = f"of_step ( lambda step : {COMMAND} step ,"
PLAIN_LINE = re.compile(r"'\{params\.command\} --workers \{threads\}(?: +&?>[^|;&]*(?: 2>&1)?)?'")
NAMED = re.compile(r"(?<!\{)\{(\w+)(?:[.\[]['\"]?(\w+))?")  # what a shell line refers to
INCLUDE = re.compile(r"^include:\s*[\"']([^\"'{}]+)[\"']", re.MULTILINE)
PROGRAM = re.compile(r"[\w./{}-]+\.(?:py|ipynb|sh|R|jl|pl)\b|(?<=-m )[\w.]+")
OPEN, CLOSED = tuple("([{"), tuple(")]}")
_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Entry:
    """What a rule says under a key, or of one entry of a key: `shell`, `params.command`."""

    text: str
    rule: str
    file: str
    line: int


@dataclass
class Rule:
    """A rule as it is written, `base` being the rule that it inherits."""

    name: str
    base: str | None
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True)
class _Line:
    """A logical line: its depth, its tokens, and its place in the file."""

    depth: int
    tokens: list[str]
    number: int

    @property
    def key(self) -> str | None:
        return self.tokens[0] if len(self.tokens) > 1 and self.tokens[1] == ":" else None


def step_code(kind: str, script: Path) -> Definitions:
    """All code of a kind: what its script reaches, and what its rule says. Under "" the fingerprint of all together.

    Raises:
        UserError: if the rule runs something else than the kind's script, or there is none.
    """
    code, root = code_definitions(script), script.parents[2]
    entries = rule_entries(kind, root)
    together = digest([code[""][""], {name: entry.text for name, entry in entries.items()}])
    found = {"": {"": together}} | {file: names for file, names in code.items() if file}
    for name, entry in entries.items():
        told = hashlib.sha256(entry.text.encode()).hexdigest()[:12]
        found.setdefault(entry.file, {})[f"{name} of rule {entry.rule}" if entry.rule else name] = told
    return found


def rule_entries(kind: str, root: Path) -> dict[str, Entry]:
    """What counts of a kind's rule in a tree.

    Raises:
        UserError: as `step_code`.
    """
    files = _included(root)
    rules, settings = _read(root, files, tuple(tuple(file_stamp((root / file).stat())) for file in files))
    if kind not in rules:
        raise UserError(
            f"no rule computes steps of the kind {kind}", file=root / files[0] if files else root, key=f"rule {kind}",
            remedy=f"bring `use rule step as {kind} with` back, or include the file that has it by a plain path",
        )  # fmt: skip
    chain = [rules[kind]]
    while (base := chain[-1].base) in rules and rules[base] not in chain:
        chain.append(rules[base])
    said: dict[str, Entry] = {}
    for rule in reversed(chain):
        replaced = {_key(name) for name in rule.entries} - {MERGED}
        said = {name: entry for name, entry in said.items() if _key(name) not in replaced} | rule.entries
    counting = _counting(said)
    _check_program(kind, said, counting, root)
    return settings | counting


def runs_plainly(kind: str, root: Path) -> bool:
    """Whether a kind's rule runs the script with its job and adds nothing that could be seen in a result."""
    said = {name: entry.text for name, entry in rule_entries(kind, root).items()}
    line, command = said.pop("shell"), said.pop("params.command", "")
    return not said and PLAIN_LINE.fullmatch(line) is not None and command.startswith(PLAIN_COMMAND)


def _key(name: str) -> str:
    return name.partition(".")[0]


def _counting(said: dict[str, Entry]) -> dict[str, Entry]:
    """The shell line and what it refers to."""
    found = {"shell": said["shell"]} if "shell" in said else {}
    for key, argument in NAMED.findall(found["shell"].text) if found else ():
        if (own := f"{key}.{argument}") in said:
            found[own] = said[own]
        elif key not in NEUTRAL_KEYS:
            found |= {name: entry for name, entry in said.items() if _key(name) == key}
    return found


def _check_program(kind: str, said: dict[str, Entry], counting: dict[str, Entry], root: Path) -> None:
    """Raise UserError unless a rule starts the script of its kind, and nothing else."""
    script = KINDS[kind].script
    wrong = [(name, said[name].text) for name in OTHER_PROGRAMS if name in said]
    for name, entry in counting.items():
        wrong += [(name, program) for program in PROGRAM.findall(entry.text) if program != script]
    if not wrong and any(COMMAND in entry.text or script in entry.text for entry in counting.values()):
        return
    key, value = wrong[0] if wrong else ("shell", said["shell"].text if "shell" in said else None)
    at = said.get(key)
    raise UserError(
        f"the rule {kind} does not run the script of its kind alone: what it computes would not be what its path says",
        file=f"{root / at.file}:{at.line}" if at else root / "workflow",
        key=f"rule {at.rule if at else kind}: {key}", value=value,
        remedy=f"let its shell line run {{params.command}}, which is {script} with the step's job, and put what is to"
        " be computed into that script",
    )  # fmt: skip


def _included(root: Path) -> tuple[str, ...]:
    """The files of the workflow, relative to its root: the Snakefiles and what they include by a plain path."""
    found = dict.fromkeys(name for name in SNAKEFILES if (root / name).is_file())
    waiting = list(found)
    for name in waiting:  # which grows meanwhile
        for path in INCLUDE.findall((root / name).read_text("utf-8")):
            included = os.path.normpath(os.path.join(os.path.dirname(name), path))
            if included not in found and (root / included).is_file():
                found[included] = None
                waiting.append(included)
    return tuple(found)


@cache
def _read(root: Path, files: tuple[str, ...], stamps: tuple[object, ...]) -> tuple[dict[str, Rule], dict[str, Entry]]:
    """The rules of these files by name, and what is set for the shell of all; `stamps` say which state is meant."""
    rules, settings = dict[str, Rule](), dict[str, Entry]()
    for file in files:
        lines = list(_lines(root / file))
        for at, line in enumerate(lines):
            if line.tokens[:2] == ["shell", "."]:
                settings[f"shell.{line.tokens[2]}"] = Entry(_text(line.tokens[3:]), "", file, line.number)
            elif (rule := _rule_of(line)) is not None:
                rules[rule.name] = rule
                _fill(rule, line.depth, lines[at + 1 :], file)
    return rules, settings


def _rule_of(line: _Line) -> Rule | None:
    """The rule that a line begins, without what it says."""
    match line.tokens:
        case ["rule" | "checkpoint", name, ":"]:
            return Rule(name, None)
        case ["use", "rule", base, "as", name, "with", ":"]:
            return Rule(name, base)
    return None


def _fill(rule: Rule, depth: int, lines: list[_Line], file: str) -> None:
    """Give a rule what the lines after its own say, as far as they are deeper."""
    key, start, tokens, inner = "", 0, list[str](), depth
    for line in [*lines, _Line(depth, [], 0)]:
        inner = inner if inner > depth else line.depth
        if line.depth <= depth or (line.depth == inner and line.key):
            if key:
                for name, text in _entries(key, tokens):
                    rule.entries[name] = Entry(text, rule.name, file, start)
            if line.depth <= depth:
                return
            key, start, tokens = line.tokens[0], line.number, line.tokens[2:]
        else:
            tokens += line.tokens


def _entries(key: str, tokens: list[str]) -> Iterator[tuple[str, str]]:
    """What stands under a key, as one, or for each of its arguments."""
    if key not in WITH_ARGUMENTS:
        yield key, _text(tokens)
        return
    depth, argument, number = 0, list[str](), 0
    for word in [*tokens, ","]:
        depth += (word in OPEN) - (word in CLOSED)
        if word != "," or depth:
            argument.append(word)
        elif argument:
            named = len(argument) > 2 and argument[1] == "="
            yield f"{key}.{argument[0] if named else number}", _text(argument[2:] if named else argument)
            argument, number = [], number + 1


def _text(tokens: list[str]) -> str:
    """Tokens as one text that is the same however they were laid out: texts side by side are one."""
    told, literal = list[str](), ""
    for word in [*tokens, ""]:
        if re.match(r"[rRuU]?['\"]", word):
            literal += str(ast.literal_eval(word))
        else:
            told += [repr(literal), word] if literal else [word]
            literal = ""
    return re.sub(r" ,(?= [)\]}]|$)", "", " ".join(told).strip())


def _lines(file: Path) -> Iterator[_Line]:
    """The logical lines of a file.

    Raises:
        UserError: if it cannot be read as one of Snakemake.
    """
    depth, tokens, number = 0, list[str](), 0
    try:
        with file.open(encoding="utf-8") as text:
            for token in tokenize.generate_tokens(text.readline):
                if token.type in (tokenize.INDENT, tokenize.DEDENT):
                    depth += 1 if token.type == tokenize.INDENT else -1
                elif token.type == tokenize.NEWLINE:
                    yield _Line(depth, tokens, number)
                    tokens = []
                elif token.type not in _SKIPPED:
                    number = number if tokens else token.start[0]
                    tokens.append(token.string)
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError) as error:
        raise UserError(
            "this file of the workflow cannot be read", file=file, value=error,
            remedy="snakemake --lint says what is wrong with it",
        ) from None  # fmt: skip
