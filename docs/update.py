"""Copy an experiment's table, metrics and costs into docs/results, and tables into documents.

    python docs/update.py [EXPERIMENT ...]

`published` stands for the checks of the released data (docs/released_data.md). Between
`<!-- begin FILE -->` and `<!-- end -->` a document shows the text of FILE. The tables of published
figures are written anew from resources/published_results.csv. An experiment for which the target
`paper` was run has its own figures in the same tables, in docs/results/EXPERIMENT/.
"""

import re
import sys
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", flags=re.S)

#: In place of an experiment: the checks of the released data (`snakemake published`).
CHECKED = "published"


def insert_files(text: str, folder: Path) -> str:
    """`text` with each marked block filled from its file under `folder`."""

    def fill(match: re.Match) -> str:
        content = (folder / match[2]).read_text(encoding="utf-8").rstrip()
        if not match[2].endswith(".md"):
            content = f"```text\n{content}\n```"
        return f"{match[1]}\n{content}\n\n{match[3]}"

    return BLOCK.sub(fill, text)


def published_tables() -> dict[str, str]:
    """The paper's tables in Markdown, published figures alone, by name."""
    from weak_to_strong.paper.published_results import read_published
    from weak_to_strong.report.paper_tables import paper_tables
    from weak_to_strong.report.text_tables import markdown

    return {name: markdown(table) for name, table in paper_tables(read_published()).items()}


def own_tables(experiment: Path) -> dict[str, str]:
    """The same tables with an experiment's figures alone, by name; those without any left out.

    Args:
        experiment: folder of its results.
    """
    from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
    from weak_to_strong.paper.published_results import read_published
    from weak_to_strong.report.paper_reproduced import reproduced_figures
    from weak_to_strong.report.paper_tables import paper_tables
    from weak_to_strong.report.text_tables import markdown
    from weak_to_strong.tables.frames import read_csv
    from weak_to_strong.tables.schemas import METRICS

    none = read_published().clear()
    reproduced = reproduced_figures(
        none,
        {},
        metrics=read_csv(experiment / "report/metrics.csv", METRICS),
        diagnostics=read_csv(experiment / "report/diagnostics.csv", DIAGNOSTICS),
        contamination={
            file.parent.name: pl.read_csv(file)
            for file in sorted(experiment.glob("data/*/contamination.csv"))
        },
    )
    tables = paper_tables(none, reproduced)
    return {name: markdown(table) for name, table in tables.items() if table.rows}


def write_tables(tables: dict[str, str], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def main(experiments: list[str]) -> None:
    (ROOT / "docs/results").mkdir(exist_ok=True)
    for name in experiments:
        folder = ROOT / "results" / name
        copies = {
            folder / "report/table.txt": f"{name}.txt",
            folder / "report/metrics.csv": f"{name}.csv",
            folder / "report/costs.csv": f"{name}_costs.csv",
        }
        if name == CHECKED:
            copies = {
                folder / "summary.txt": "published_check.txt",
                folder / "check.csv": "published_check.csv",
            }
        for source, copy in copies.items():
            (ROOT / "docs/results" / copy).write_bytes(source.read_bytes())
        if (folder / "paper").is_dir():
            write_tables(own_tables(folder), ROOT / "docs/results" / name)
    write_tables(published_tables(), ROOT / "docs/results/published")
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = document.read_text(encoding="utf-8")
        document.write_text(insert_files(text, ROOT), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
