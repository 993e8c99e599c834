"""Why a step would run, in the user's terms: recipe keys, functions, files, or because it was never made."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from smolmake.execution.step import Step, Steps, flat, look_up
from smolmake.planning.history import History

NEW, UNFINISHED = "missing", "begun and not finished: it goes on"
OWN_NAME = object()
# Parts of a spec that stand for the content of files: the place in the spec, and what it is called.
CONTENTS = {
    "files.content": "the files of the source",
    "tasks.content": "the files of the tasks",
    "data.content": "the data of the tasks",
    "prompts.content": "the prompts",
    "template": "the text of the chat template",
    "content": "the files of the tokenizer",
    "digest": "the digest of what was adopted",
}


class Reasons:
    """The reasons of the steps that would run: each step's own, and the causes that reach it through its inputs."""

    def __init__(self, steps: Steps, history: History, recipe: str, repeated: dict[str, tuple[str, ...]]) -> None:
        self.steps, self.history, self.recipe, self.repeated = steps, history, recipe, repeated
        self._own: dict[str, tuple[str, ...]] = {}
        self._causes: dict[str, tuple[str, ...]] = {}
        self._asked: dict[tuple[str, ...], list[str]] = {}

    @cached_property
    def called_before(self) -> str:
        """The recipe's name at its last whole run."""
        return self.history.called_before(self.recipe, self.steps.values)

    @cached_property
    def _last(self) -> dict[str, Any]:
        return flat(self.history.last_recipe(self.called_before) or {})

    @cached_property
    def names(self) -> dict[str, str]:
        """The sections that the recipe has renamed since."""
        return renamed_sections(self._last, flat(self.steps.values))

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
        earlier = self.history.earlier(step, self.recipe, self.called_before)
        if earlier is None:
            return self._asked_for(step) or [NEW]
        changes = []
        before, now = earlier["spec"], step.spec.values()
        others = list(dict.fromkeys(self._input_changes(earlier["inputs"], step)))
        if before != now or others:
            changes += recipe_changes(earlier["recipe_values"], self.steps.recipe_values(step))
        if before != now:
            changes += content_changes(before, now) or ([] if changes else spec_changes(before, now))
        changes += code_changes(earlier["code"], self.steps.code_of(step.kind))
        changes += version_changes(earlier.get("versions", {}), step.versions, step.kind)
        changes = changes or others
        if not changes and _ids(earlier["inputs"]) == _ids({role: other.key for role, other in step.inputs.items()}):
            return [NEW]  # an equal result once, now lost
        return changes

    def _input_changes(self, earlier: dict[str, str], step: Step) -> Iterator[str]:
        """Why a step reads other steps than before (role -> kind/name-id), as far as these are finished.

        What is still to be made has reasons of its own.
        """
        before = {_role(role, key): key for role, key in earlier.items()}
        now = {_role(role, other.key): other for role, other in step.inputs.items()}
        gone = [key for role, key in before.items() if role not in now]
        for key in gone:
            made_from = self.history.made_from(key).get("recipe_values", {})
            places = {_renamed(place, self.names) for place in made_from}
            today = {place: look_up(self.steps.values, place) for place in places}
            yield from recipe_changes(made_from, today) or [f"{key.rpartition('-')[0]} is read no more"]
        for role, other in now.items():
            if other.key not in self.history.finished:
                continue
            if role in before and _id(before[role]) != other.id:
                yield f"{other.key} is read instead of {before[role]}"
            elif role not in before and other.id not in map(_id, gone):  # else it is the same by another name
                yield from self._asked_for(other) or [f"{other.label} is read too"]

    def _asked_for(self, step: Step) -> list[str]:
        """For a step that there never was: which keys the recipe has changed since its last whole run."""
        keys = step.recipe_keys
        if keys not in self._asked:
            last = {key: value for key, value in self._last.items() if _is_within(_renamed(key, self.names), keys)}
            names = {old: new for old, new in self.names.items() if _is_within(new, keys)}
            now = self.steps.recipe_values(step)
            self._asked[keys] = [*_told_names(names), *_differences(last, now, self.names)] if self._last else []
        return self._asked[keys]


def recipe_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Recipe keys whose values differ: `pretraining.schedule.lr 0.001 → 0.002`, and sections with another name."""
    names = renamed_sections(before, now)
    return [*_told_names(names), *_differences(before, now, names)]


def _told_names(names: dict[str, str]) -> Iterator[str]:
    return (f"{old} is called {new.rpartition('.')[2]} now" for old, new in names.items())


def _differences(before: dict[str, Any], now: dict[str, Any], names: dict[str, str]) -> Iterator[str]:
    """The keys whose values differ, sections by today's names; that a section says its own name makes no difference."""
    inside = {_renamed(key, names): (key, value) for key, value in before.items()}
    for key in sorted({*inside, *now}):
        old, value = inside.get(key, (key, None))
        if value != now.get(key) and not (old != key and value in old.split(".") and now.get(key) in key.split(".")):
            yield f"{key} {_told(value)} → {_told(now.get(key))}"


def renamed_sections(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Sections that are called otherwise and say the same, such as a stage or a source: old key -> new key."""
    old, new = _sections(before), _sections(now)
    gone, come = (
        {key: said for key, said in one.items() if key not in other} for one, other in ((old, new), (new, old))
    )
    found: dict[str, str] = {}
    for key, said in gone.items():
        parent = key.rpartition(".")[0]
        alike = [other for other in come if other.rpartition(".")[0] == parent and come[other] == said]
        if parent in new and (free := [other for other in alike if other not in found.values()]):
            found[key] = free[0]
    return found


def _sections(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What every section says, by its key; where it says its own name, that it does so."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        parts = key.split(".")
        for count in range(1, len(parts)):
            said = OWN_NAME if value == parts[count - 1] else value
            found.setdefault(".".join(parts[:count]), {})[".".join(parts[count:])] = said
    return found


def _is_within(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _renamed(key: str, names: dict[str, str]) -> str:
    """A key with the names that its sections have today."""
    for old, new in names.items():
        if key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def _ids(inputs: dict[str, str]) -> dict[str, str]:
    """The ids of inputs by role: another name of one changes nothing."""
    return {role: _id(key) for role, key in inputs.items()}


def _role(role: str, key: str) -> str:
    """A role without the id of what is read, which a report's roles have."""
    return role.removesuffix(f"-{_id(key)}")


def _id(key: str) -> str:
    return key.rpartition("-")[2]


def content_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Files behind the recipe that differ although no key does."""
    old, new = flat(before), flat(now)
    found = []
    for place in sorted({*old, *new}):
        if old.get(place) == new.get(place):
            continue
        name = next((told for end, told in CONTENTS.items() if place == end or place.endswith(f".{end}")), None)
        if name is not None and old.get(place) is not None and new.get(place) is not None:
            found.append(f"{name} changed" + (f" ({place.split('.')[1]})" if place.count(".") > 1 else ""))
        elif place.startswith("packages.") or place == "python":
            found.append(f"{place.removeprefix('packages.')} {_told(old.get(place))} → {_told(new.get(place))}")
        elif place.startswith(("code.", "reads.")):
            found.append(f"{place.partition('.')[2]} {_what(old, new, place)}")
    return list(dict.fromkeys(found))


def spec_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The last resort: the parts of the spec itself that differ."""
    old, new = flat(before), flat(now)
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


def _told(value: Any) -> str:
    text = "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
