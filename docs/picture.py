"""Take the picture of the report that README.md shows: docs/images/report.png.

    python docs/picture.py [REPORT] [PICTURE]

REPORT is the page of a finished experiment (default: results/demo/report/index.html). Chromium
opens it without a window (Debian: `apt-get install chromium`). The picture has 64 colours, which
keeps the file small.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
#: Width and height in pixels: the findings and the first rows of the results.
SIZE = (1120, 1860)


def take_picture(report: Path, picture: Path) -> None:
    """Write the upper part of a report page to a PNG file.

    Raises:
        FileNotFoundError: the report or Chromium is missing.
        subprocess.CalledProcessError: Chromium failed.
    """
    browser = shutil.which("chromium")
    if browser is None:
        raise FileNotFoundError(
            "Chromium is missing: install it (Debian: apt-get install chromium)"
        )
    if not report.is_file():
        raise FileNotFoundError(f"{report} is missing: make the report first (make demo)")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        screenshot = Path(folder) / "screenshot.png"
        flags = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            "--disable-background-networking",
            f"--user-data-dir={folder}/profile",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={screenshot}",
        ]
        subprocess.run(
            [browser, *flags, report.resolve().as_uri()], check=True, capture_output=True
        )
        with Image.open(screenshot) as image:
            image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


def main(arguments: list[str]) -> None:
    """Take the picture; a missing report or browser ends the program with one line."""
    defaults = [ROOT / "results/demo/report/index.html", ROOT / "docs/images/report.png"]
    paths = [Path(argument) for argument in arguments]
    report, picture = paths + defaults[len(paths) :]
    try:
        take_picture(report, picture)
    except FileNotFoundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
