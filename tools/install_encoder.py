"""Put the encoder of token shards beside the packages of this Python, where it is no package that others see.

Usage: python tools/install_encoder.py

It is a newer `tokenizers` than transformers allows, so it stands in a folder of its own among the packages:
`from tokenizers_next import tokenizers` imports it, `import tokenizers` still the other one. `make setup` and
envs/data.post-deploy.sh run this. Only a wheel with a hash of constraints-encoder.txt is taken.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

PINS = Path(__file__).resolve().parent.parent / "constraints-encoder.txt"


def main() -> None:
    place = Path(sysconfig.get_path("purelib")) / "tokenizers_next"
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
    only = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--upgrade", "--target", str(place)]
    sys.exit(subprocess.run([*pip, *only, "--requirement", str(PINS)]).returncode)


if __name__ == "__main__":
    main()
