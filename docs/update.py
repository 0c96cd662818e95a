"""Copy an experiment's printed table into docs/results, and the tables into README.md.

    python docs/update.py [EXPERIMENT ...]

Between `<!-- begin FILE -->` and `<!-- end -->` README.md shows the text of FILE.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", flags=re.S)


def insert_files(text: str, folder: Path) -> str:
    """`text` with each marked block filled from its file under `folder`."""

    def fill(match: re.Match) -> str:
        content = (folder / match[2]).read_text(encoding="utf-8").rstrip()
        return f"{match[1]}\n```text\n{content}\n```\n\n{match[3]}"

    return BLOCK.sub(fill, text)


def main(experiments: list[str]) -> None:
    (ROOT / "docs/results").mkdir(exist_ok=True)
    for name in experiments:
        for kind, source in (("txt", "table.txt"), ("csv", "metrics.csv")):
            content = (ROOT / f"results/{name}/report/{source}").read_bytes()
            (ROOT / f"docs/results/{name}.{kind}").write_bytes(content)
    readme = ROOT / "README.md"
    readme.write_text(insert_files(readme.read_text(encoding="utf-8"), ROOT), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
