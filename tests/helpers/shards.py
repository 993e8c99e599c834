"""Token shards in memory, and their sequences."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolmake.data.token_shards import Part, Shards, Tokens


def shards_of(tokens: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> Shards:
    """Shards of one part."""
    return Shards([Path()], [len(tokens)], [len(offsets) - 1], 0, tokens.dtype, {0: Part(tokens, offsets)})


def cut(shards: Shards, number: int, length: int) -> tuple[Tokens, Tokens]:
    """Sequence `number`: tokens [length + 1] and the number of the document that each token is in."""
    tokens = np.empty(length + 1, dtype=np.int64)
    documents, borders = shards.sequence(number, tokens)
    return tokens, np.repeat(documents, borders[1:] - borders[:-1])


def made_of(lengths: list[int], parts: int) -> Shards:
    """Shards in memory with tokens 1, 2, 3, ... whose documents lie in some parts."""
    cuts = [len(lengths) * number // parts for number in range(parts + 1)]
    sizes = [sum(lengths[low:high]) for low, high in pairwise(cuts)]
    opened, first = {}, 1
    for number, (low, high) in enumerate(pairwise(cuts)):
        offsets = np.concatenate([[0], np.cumsum(lengths[low:high])]).astype(np.int64)
        opened[number] = Part(np.arange(first, first + sizes[number], dtype=np.uint16), offsets)
        first += sizes[number]
    return Shards([Path()] * parts, sizes, [high - low for low, high in pairwise(cuts)], 0, np.dtype("<u2"), opened)
