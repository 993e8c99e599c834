"""Take the pictures of README.md from a finished report, with a headless chromium.

Usage: python tools/take_pictures.py [--recipe toy] [--out docs/images]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, MARGIN = 1280, 40  # pixels
TALLEST = 6000


@dataclass(frozen=True)
class Picture:
    """A section of the report up to its first figure, or the page's top; cut off below `height` pixels."""

    file: str
    section: str | None
    height: int


PICTURES = (
    Picture("report-top.png", None, 470),
    Picture("graph.png", "graph", 1200),
    Picture("report-evaluation.png", "evaluation", 1200),
)


def find_browser() -> str:
    for name in BROWSERS:
        if place := shutil.which(name):
            return place
    remedy = "apt install chromium (Debian and Ubuntu), brew install chromium (macOS)"
    sys.exit(f"error: chromium is not installed: {remedy}")


def only(page: str, section: str | None) -> str:
    """The page with all hidden but one section, and that up to its first figure."""
    if section is None:
        return page
    style = f"nav, main > :not(#{section}) {{ display: none !important }} #{section} {{ margin: 0 }}"
    style += f" #{section} > figure ~ * {{ display: none !important }}"
    style += " .page { grid-template-columns: minmax(0, 1200px) }"
    return page.replace("</head>", f"<style>{style}</style></head>", 1)


def render(browser: str, page: str, height: int, folder: Path) -> Image.Image:
    """A picture of the page's first `height` pixels."""
    source, target = folder / "page.html", folder / "page.png"
    source.write_text(page, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={WIDTH},{height}",
        f"--screenshot={target}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # chromium's sandbox refuses to run as root
        source.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode or not target.is_file():
        sys.exit(f"error: {browser} made no picture:\n{done.stderr[-2000:]}")
    with Image.open(target) as image:
        return image.convert("RGB")


def trim(image: Image.Image) -> Image.Image:
    """The picture without the empty part below its content."""
    background = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, background).getbbox()
    return image if box is None else image.crop((0, 0, image.width, min(image.height, box[3] + MARGIN)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="toy", help="whose report under results/latest")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures")
    arguments = parser.parse_args()
    report = Path("results/latest") / arguments.recipe / "report.html"
    if not report.is_file():
        sys.exit(f"error: there is no {report}: run `smolmake run {arguments.recipe}` first")
    page, browser = report.read_text(encoding="utf-8"), find_browser()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        if picture.section and f'<section id="{picture.section}">' not in page:
            sys.exit(f"error: {report} has no section `{picture.section}`")
        with tempfile.TemporaryDirectory(prefix="smolmake-pictures-") as folder:
            tall = TALLEST if picture.section else picture.height
            image = trim(render(browser, only(page, picture.section), tall, Path(folder)))
        image = image.crop((0, 0, image.width, min(image.height, picture.height)))
        image.quantize(128).save(arguments.out / picture.file, optimize=True)
        print(arguments.out / picture.file)


if __name__ == "__main__":
    main()
