"""Conversations and pairs as token ids that TRL trains: read, checked, encoded, cut and counted by source."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from smolmake.data.chat import GENERATION, ChatFormat
from smolmake.data.hidden_text import shown
from smolmake.data.tokenizer import TURN_END
from smolmake.errors import UserError
from smolmake.evaluate.shared_prefixes import common
from smolmake.graph.specs.posttrain import ConversationsSpec
from smolmake.posttrain.messages import bad_row
from smolmake.posttrain.pieces import Losses
from smolmake.posttrain.row_checks import RowChecks
from smolmake.posttrain.rows import Conversation, Pair, to_conversation, to_pair
from smolmake.posttrain.source_rows import SourceRow, refused_row, source_rows
from smolmake.posttrain.token_rows import RowCounts, TokenRow, TokenRows, TokenWriter, token_rows, told_counts

NO_TARGET, NEVER = -100, sys.maxsize


@dataclass(frozen=True)
class Preparation:
    """What conversations and pairs become rows by. `section` is the recipe's, `template` its name, for errors."""

    form: ChatFormat
    section: str
    template: str
    seed: int
    max_length: int
    cuts: bool = True  # to max_length; packing may join longer ones instead
    learn_all: bool = False


Encode = Callable[[Any], TokenRow]


def conversation_rows(
    datasets: dict[str, ConversationsSpec], generated: dict[str, Path], how: Preparation, folder: Path
) -> TokenRows:
    """`input_ids` and `labels` of all datasets' rows, shuffled."""
    if not how.learn_all and not GENERATION.search(how.form.template):
        raise UserError(
            "this chat template does not mark what the assistant says",
            key=f"{how.section}.chat_template", value=how.template,
            remedy="put {% generation %} and {% endgeneration %} around answers, or set `loss: all`",
        )  # fmt: skip

    def encode(row: Conversation) -> TokenRow:
        encoded = how.form.encode(row.messages, **row.settings)
        learned = [True] * len(encoded.ids) if how.learn_all else _learned(row, encoded.turns)
        if how.learn_all and not all(row.trained):
            raise bad_row("a message has the weight 0", None, "set `loss: assistant` to train with weights")
        labels = [number if learn else NO_TARGET for number, learn in zip(encoded.ids, learned, strict=True)]
        needs = learned.index(True) + 1 if True in learned else NEVER
        found = [] if _asked(how.form, row, encoded.text) else ["prompt"]
        if row.trained[-1] and not how.learn_all and not _ends_learned(encoded.ids, learned, how.form):
            found.append("end_of_turn")
        return TokenRow({"input_ids": encoded.ids, "labels": labels}, needs, [(row, encoded.text)], found)

    return token_rows(folder, lambda place: _write(datasets, generated, how, to_conversation, encode, place))


def _asked(form: ChatFormat, row: Conversation, text: str) -> bool:
    """Whether the text begins as the prompt with which the model is asked for the last answer."""
    return len(row.messages) == 1 or text.startswith(shown(form.prompt(row.messages[:-1], **row.settings)))


def _ends_learned(ids: list[int], learned: list[bool], form: ChatFormat) -> bool:
    """Whether the last token that ends a turn is one that the model learns to write."""
    end = form.tokenizer.convert_tokens_to_ids(TURN_END)
    return end in ids and learned[len(ids) - 1 - ids[::-1].index(end)]


def _learned(row: Conversation, turns: list[int]) -> list[bool]:
    """Whether each token is, by the turns that the template marks and the weights of the row's answers."""
    if all(row.trained):
        return [turn >= 0 for turn in turns]
    if len({turn for turn in turns if turn >= 0}) != len(row.trained):
        told = "the template does not mark each answer by itself, so that weights cannot be applied"
        raise bad_row(told, None, "put each message of the assistant into generation markers of its own")
    return [turn >= 0 and row.trained[turn] for turn in turns]


def pair_rows(
    datasets: dict[str, ConversationsSpec], generated: dict[str, Path], how: Preparation, folder: Path
) -> TokenRows:
    """`prompt_ids`, `chosen_ids` and `rejected_ids` of all datasets' pairs, shuffled."""

    def encode(row: Pair) -> TokenRow:
        begin = how.form.encode(row.prompt, prompt=True, **row.settings).ids
        sides = [[*row.prompt, side] for side in (row.chosen, row.rejected)]
        encoded = [how.form.encode(side, **row.settings) for side in sides]
        same = min(common(begin, side.ids) for side in encoded)
        chosen, rejected = (side.ids[same:] for side in encoded)
        rendered = [(Conversation(side, row.settings), each.text) for side, each in zip(sides, encoded, strict=True)]
        columns = {"prompt_ids": begin[:same], "chosen_ids": chosen, "rejected_ids": rejected}
        return TokenRow(columns, same + 1, rendered, ["prompt"] if same < len(begin) else [])

    return token_rows(folder, lambda place: _write(datasets, generated, how, to_pair, encode, place))


def _write(
    datasets: dict[str, ConversationsSpec],
    generated: dict[str, Path],
    how: Preparation,
    make: Callable[[dict[str, Any], bool], Any],
    encode: Encode,
    place: Path,
) -> None:
    """Write the rows of all sources one after another, the order in which they are trained, and their counts."""
    counts: dict[str, RowCounts] = {name: RowCounts() for name in sorted(datasets)}
    needs: list[int] = []
    with TokenWriter(place) as writer:
        for name, counted in counts.items():
            key, dataset = f"{how.section}.data.{name}", datasets[name]
            rows = list(_good_rows(key, dataset, generated.get(name), make, counted))
            if make is to_conversation or dataset.fraction < 1:  # whole sets of pairs keep their order
                random.Random(f"{how.seed}:{name}").shuffle(rows)
            rows = rows[: int(len(rows) * dataset.fraction)]
            counted.used, losses, checks = len(rows), Losses(), RowChecks()
            for row in rows:
                try:
                    encoded = encode(row.made)
                except (UserError, jinja2.TemplateError) as error:
                    counted.used -= 1
                    _skip(counted, row.number, refused_row(error, row, key, how.template, dataset.on_error))
                    continue
                assert row.made is not None
                checks.look(row.number, row.made)
                for check in encoded.found:
                    checks.add(check, row.number)
                for conversation, text in encoded.rendered:
                    losses.add(row.number, conversation, text)
                needs.append(encoded.needs)
                if encoded.needs > how.max_length:
                    counted.without_targets += 1
                else:
                    _count(counted, encoded.columns, how)
                    writer.add(len(needs) - 1, encoded.columns)
            counted.lost, counted.checks = dict(losses.rows), checks.facts()
            losses.check(dataset.may_lose, key, rows[0].file if rows else None, how.template)
            print(f"{key}: {told_counts(counted)}", file=sys.stderr, flush=True)
    if not writer.numbers:
        raise _nothing(how, needs)
    order = list(range(len(needs)))
    random.Random(how.seed).shuffle(order)
    writer.finish(order, counts)


def _good_rows(
    key: str,
    dataset: ConversationsSpec,
    generated: Path | None,
    make: Callable[[dict[str, Any], bool], Any],
    counted: RowCounts,
) -> Iterator[SourceRow[Any]]:
    for row in source_rows(key, dataset.files, generated, make, dataset.on_error):
        counted.rows += 1
        if row.wrong is not None:
            _skip(counted, row.number, row.wrong)
        else:
            yield row


def _skip(counted: RowCounts, number: int, error: UserError) -> None:
    counted.skipped += 1
    counted.first_skipped = counted.first_skipped or f"row {number}: {error.what}"


def _count(counted: RowCounts, columns: dict[str, list[int]], how: Preparation) -> None:
    """Cut a conversation to `max_length` in place, and count it; TRL cuts pairs by the same rule when it reads them."""
    counted.trained += 1
    if "labels" in columns:
        long = how.cuts and len(columns["input_ids"]) > how.max_length
        if long:
            columns |= {name: numbers[: how.max_length] for name, numbers in columns.items()}
        counted.tokens += len(columns["input_ids"])
        counted.targets += sum(label != NO_TARGET for label in columns["labels"])
    else:
        begin = len(columns["prompt_ids"])
        sizes = [begin + len(columns[side]) for side in ("chosen_ids", "rejected_ids")]
        long = max(sizes) > how.max_length
        cut = [min(size, how.max_length) for size in sizes]
        counted.tokens += sum(cut)
        counted.targets += sum(cut) - 2 * begin
        counted.chosen_longer += sizes[0] > sizes[1]
    counted.truncated += long


def _nothing(how: Preparation, needed: list[int]) -> UserError:
    key = f"{how.section}.max_length" if needed else f"{how.section}.data"
    shortest = min(needed, default=NEVER)
    if shortest == NEVER:
        remedy = "give rows in which the assistant answers"
    else:
        remedy = f"the first target of a row is at {shortest:,} tokens or later, of half of them at "
        remedy += f"{sorted(needed)[len(needed) // 2]:,}: set max_length to more than that"
    return UserError(
        "no row has a target, so that nothing can be trained", key=key, value=how.max_length, remedy=remedy
    )
