"""Characters in place of those that could make a control token of what a row says: see `data.chat`."""

from __future__ import annotations

import re

# Noncharacters stand for |, for other characters that a control token begins with, and for the first of a real one.
PIPE, FIRSTS, OTHERS, NAMES = "\ufdd0", "<[{(#@$%&*/\\~^=", range(0xFDD1, 0xFDE0), range(0xFDE0, 0xFDEF)
NAME_OF_OTHERS = "\ufdef"
SHOWN = {ord(PIPE): "|"} | dict(zip(OTHERS, FIRSTS, strict=True))
NONCHARACTERS = re.compile("[\ufdd0-\ufdef]")


def shown(hidden: str) -> str:
    """A text with its own characters again: see `ChatFormat.hidden`."""
    return hidden.translate(SHOWN)
