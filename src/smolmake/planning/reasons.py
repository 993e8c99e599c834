"""Why a step would run, in the user's terms: recipe keys, functions, files, or because it was never made."""

from __future__ import annotations

from typing import Any

from smolmake.execution.step import Step, Steps, flatten, look_up
from smolmake.planning.history import History

NEW, UNFINISHED = "missing", "begun and not finished: it goes on"
# Parts of a spec that stand for the content of files: the place in the spec, and what it is called.
CONTENTS = {
    "files.content": "the files of the source",
    "tasks.content": "the files of the tasks",
    "data.content": "the data of the tasks",
    "prompts.content": "the prompts",
    "template": "the text of the chat template",
    "content": "the files of the tokenizer",
    "digest": "the digest of what was adopted",
    "python": "the version of Python",
}


class Reasons:
    """The reasons of the steps that would run: each step's own, and the causes that reach it through its inputs."""

    def __init__(self, steps: Steps, history: History, recipe: str, repeated: dict[str, tuple[str, ...]]) -> None:
        self.steps, self.history, self.recipe, self.repeated = steps, history, recipe, repeated
        self._own: dict[str, tuple[str, ...]] = {}
        self._causes: dict[str, tuple[str, ...]] = {}

    def own(self, step: Step) -> tuple[str, ...]:
        """What changed in the step itself; empty if only its inputs did."""
        if step.key not in self._own:
            self._own[step.key] = tuple(self._compare(step))
        return self._own[step.key]

    def causes(self, step: Step, running: set[str]) -> tuple[str, ...]:
        """The step's own reasons, or those of the steps that it waits for. `running`: keys of all that would run."""
        if step.key not in self._causes:
            found = dict.fromkeys(self.own(step))
            for other in step.inputs.values():
                if other.key in running:
                    found |= dict.fromkeys(cause for cause in self.causes(other, running) if cause != UNFINISHED)
            self._causes[step.key] = tuple(cause for cause in found if cause != NEW) or tuple(found) or (NEW,)
        return self._causes[step.key]

    def _compare(self, step: Step) -> list[str]:
        if step.key in self.repeated:
            return list(self.repeated[step.key])
        if self.history.begun(step):
            return [UNFINISHED]
        earlier = self.history.earlier(step, self.recipe)
        if earlier is None:
            return self._asked_for(step) or [NEW]
        changes = []
        before, now = earlier["spec"], step.spec.values()
        if before != now:
            changes += recipe_changes(earlier["recipe_values"], self.steps.recipe_values(step))
            changes += content_changes(before, now) or ([] if changes else spec_changes(before, now))
        changes += code_changes(earlier["code"], self.steps.code_of(step.kind))
        changes += version_changes(earlier.get("versions", {}), step.versions, step.kind)
        if not changes and earlier["inputs"] == {role: other.key for role, other in step.inputs.items()}:
            return [NEW]  # an equal result once, now lost
        return changes

    def _asked_for(self, step: Step) -> list[str]:
        """For a step that there never was: which keys the recipe has changed since its last whole run."""
        last = self.history.last_recipe(self.recipe)
        if last is None:
            return []
        before: dict[str, Any] = {}
        for key in step.recipe_keys:
            flatten(look_up(last, key), key, before)
        return recipe_changes(before, self.steps.recipe_values(step))


def recipe_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Recipe keys whose values differ: `pretraining.schedule.lr 0.001 → 0.002`."""
    return [
        f"{key} {_told(before.get(key))} → {_told(now.get(key))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def content_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Files behind the recipe that differ although no key does."""
    old, new = _leaves(before), _leaves(now)
    found = []
    for place in sorted({*old, *new}):
        if old.get(place) == new.get(place):
            continue
        name = next((told for end, told in CONTENTS.items() if place == end or place.endswith(f".{end}")), None)
        if name is not None and old.get(place) is not None and new.get(place) is not None:
            found.append(f"{name} changed" + (f" ({place.split('.')[1]})" if place.count(".") > 1 else ""))
        elif place.startswith("packages."):
            found.append(f"{place.removeprefix('packages.')} {_told(old.get(place))} → {_told(new.get(place))}")
        elif place.startswith(("code.", "reads.")):
            found.append(f"{place.partition('.')[2]} {_what(old, new, place)}")
    return list(dict.fromkeys(found))


def spec_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The last resort: the parts of the spec itself that differ."""
    old, new = _leaves(before), _leaves(now)
    return [
        f"{place} {_told(old.get(place))} → {_told(new.get(place))}"
        for place in sorted({*old, *new})
        if old.get(place) != new.get(place)
    ]


def version_changes(before: dict[str, str], now: dict[str, str], kind: str) -> list[str]:
    """Versions of libraries that count and differ, or which libraries count of a kind."""
    if set(before) != set(now):
        return [f"library_versions.{kind} {_told(sorted(before) or None)} → {_told(sorted(now) or None)}"]
    return [f"{library} {before[library]} → {now[library]}" for library in now if before[library] != now[library]]


def code_changes(before: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> list[str]:
    """Definitions that differ: `recipe/schedule.py: within() changed`. One that only moved to another file does not."""
    had, has = [{(name, text) for names in files.values() for name, text in names.items()} for files in (before, now)]
    found = []
    for file in sorted({*before, *now} - {""}):
        old, new = before.get(file, {}), now.get(file, {})
        for name in sorted({*old, *new}):
            if old.get(name) == new.get(name):
                continue
            moved = (name, new[name]) in had if name not in old else name not in new and (name, old[name]) in has
            if not moved:
                found.append(f"{file}: {name} {_what(old, new, name)}")
    together = "which of its definitions its code uses where, or their order, changed"
    return found or ([together] if before.get("") != now.get("") else [])


def _what(old: dict[str, Any], new: dict[str, Any], name: str) -> str:
    return "changed" if name in old and name in new else "is new" if name in new else "is gone"


def _leaves(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in spec.items():
        flatten(value, key, found)
    return found


def _told(value: Any) -> str:
    text = "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
