"""Token shards in memory."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from smolmake.data.token_shards import Part, Shards


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
