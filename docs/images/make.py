"""Writes the screenshots of the documentation: trains experiment 1.2 in quick form and photographs its report with Chromium.

Run it in the repository: python docs/images/make.py [REPORT.html]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCALE = 2  # pixels per CSS pixel, for displays of high density
MARGIN = 16
MIN_SHARE = 0.6  # of the height of a screenshot remains
GAP = 24  # an empty strip of this height separates two rows of content
COLORS = 128
MAX_BYTES = 200_000
# Image: the section of the report ("" for the first screen), the width of the window, and the maximum height.
SHOTS: dict[str, tuple[str, int, int]] = {
    "report": ("", 1280, 880),
    "report-first-screen": ("", 1280, 1080),
    "report-curves": ("curves", 1080, 900),
    "report-gradients": ("gradients", 1080, 1400),
    "report-published": ("published", 1080, 700),
    "report-mistakes": ("mistakes", 1080, 900),
}
FIRST_SCREEN = "footer, main > section:nth-of-type(n + 2) { display: none !important }"
ONE_SECTION = (
    "header.top, footer, .toc, main > :not(#NAME) { display: none !important } .columns { display: block !important } "
    "body { padding-top: 0 !important } section { border-top: 0 !important }"
)


def main() -> None:
    """Photograph the given report, or that of a new quick run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = Path(sys.argv[1]) if len(sys.argv) > 1 else quick_report(folder)
        text = page.read_text(encoding="utf-8")
        for image, (section, width, height) in SHOTS.items():
            if section and f'id="{section}"' not in text:
                sys.exit(f"{page}: has no section {section!r}")
            style = ONE_SECTION.replace("NAME", section) if section else FIRST_SCREEN
            copy, target = folder / f"{image}.html", IMAGES / f"{image}.png"
            copy.write_text(text.replace("</head>", f"<style>{style}</style></head>", 1), encoding="utf-8")
            photograph(copy, folder / "shot.png", width, height)
            size = shrink(folder / "shot.png", target)
            print(f"{target}: {size / 1000:.0f} kB")


def quick_report(folder: Path) -> Path:
    """Train experiment 1.2 in quick form in an empty store."""
    command = [sys.executable, "-m", "fathomlab", "run", "1_2", "--quick", "--runs", str(folder / "runs")]
    subprocess.run(command, check=True)
    return next((folder / "runs" / "experiments").glob("*/report.html"))


def photograph(page: Path, target: Path, width: int, height: int) -> None:
    """Take a screenshot of a page in the light theme."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None) or sys.exit("Chromium is not installed.")
    options = ["--headless=new", "--disable-gpu", "--hide-scrollbars", f"--force-device-scale-factor={SCALE}"]
    options += ["--no-sandbox"] * (os.name == "posix" and os.geteuid() == 0)
    command = [browser, *options, f"--window-size={width},{height}", f"--screenshot={target}", page.as_uri()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=120)


def shrink(source: Path, target: Path) -> int:
    """Cut off the empty border and the last, partial row of content, reduce the colors, and write a PNG file; its bytes."""
    image = Image.open(source).convert("RGB")
    pixels = np.asarray(image)
    used = (pixels != pixels[-1, 0]).any(axis=2)
    gap = GAP * SCALE
    empty = np.convolve(~used.any(axis=1), np.ones(gap), "valid") > gap - 0.5  # rows that begin a gap
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    gaps = np.flatnonzero(empty)
    bottom = int(rows[-1]) + 1
    if len(gaps) and MIN_SHARE * image.height < gaps[-1] < bottom:
        bottom = int(gaps[-1])
    margin = MARGIN * SCALE
    box = (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(image.width, int(columns[-1]) + margin),
        min(image.height, bottom + margin),
    )
    image.crop(box).quantize(COLORS, dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{target}: {size:,} bytes, at most {MAX_BYTES:,}")
    return size


if __name__ == "__main__":
    main()
