"""Copy an experiment's table, metrics and costs into docs/results, and tables into documents.

    python docs/update.py [EXPERIMENT ...]

The name `published` stands for the checks of the released data (docs/released_data.md). A document
shows the text of FILE between `<!-- begin FILE -->` and `<!-- end -->`. The tables of published
figures are written again from resources/published_results.csv. If the target `paper` was run for an
experiment, the same tables with its figures go to docs/results/EXPERIMENT/. If the comparison page
was made for it alone, its table of models goes to docs/results/EXPERIMENT_models.csv and .md, and
its diagnostics to EXPERIMENT_diagnostics.csv.
"""

import re
import sys
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", flags=re.S)

#: Experiment -> its figures that documents show, from docs/images.
FIGURES = {"study": ("iterations", "stage2"), "methods": ("selection",)}
#: Given instead of an experiment: the checks of the released data (`snakemake published`).
CHECKED = "published"


def insert_files(text: str, folder: Path) -> str:
    """Fill each marked block of `text` from the file that it names, relative to `folder`."""

    def fill(match: re.Match) -> str:
        content = (folder / match[2]).read_text(encoding="utf-8").rstrip()
        if not match[2].endswith(".md"):
            content = f"```text\n{content}\n```"
        return f"{match[1]}\n{content}\n\n{match[3]}"

    return BLOCK.sub(fill, text)


def published_tables() -> dict[str, str]:
    """The paper's tables with published figures only: name -> Markdown."""
    from weak_to_strong.paper.published_results import read_published
    from weak_to_strong.report.paper_tables import paper_tables
    from weak_to_strong.report.text_tables import markdown

    return {name: markdown(table) for name, table in paper_tables(read_published()).items()}


def own_tables(experiment: Path) -> dict[str, str]:
    """The same tables with an experiment's figures only; tables without any figure are left out.

    Args:
        experiment: folder of the experiment's results.

    Returns:
        name -> Markdown.
    """
    from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
    from weak_to_strong.paper.published_results import read_published
    from weak_to_strong.report.paper_reproduced import reproduced_figures
    from weak_to_strong.report.paper_tables import paper_tables
    from weak_to_strong.report.text_tables import markdown
    from weak_to_strong.tables.frames import read_csv
    from weak_to_strong.tables.schemas import METRICS

    no_figures = read_published().clear()
    reproduced = reproduced_figures(
        no_figures,
        {},
        metrics=read_csv(experiment / "report/metrics.csv", METRICS),
        diagnostics=read_csv(experiment / "report/diagnostics.csv", DIAGNOSTICS),
        contamination={
            file.parent.name: pl.read_csv(file)
            for file in sorted(experiment.glob("data/*/contamination.csv"))
        },
    )
    tables = paper_tables(no_figures, reproduced)
    return {name: markdown(table) for name, table in tables.items() if table.rows}


def models_table(models: pl.DataFrame) -> str:
    """The models of one experiment in Markdown, the most accurate first.

    Accuracies and differences are in %, and in points, with 95% intervals.

    Args:
        models: compared_models.COMPARED_MODELS.
    """
    from weak_to_strong.report.display_text import count_text, p_text, percent
    from weak_to_strong.report.names import NodeName, node_label

    def share(row: dict, name: str, *, signed: bool = False) -> str:
        if row[name] is None:
            return "-"
        ends = [row.get(f"{name}_{end}") for end in ("low", "high")]
        text = percent(row[name], signed=signed)
        if None in ends:
            return text
        return f"{text} [{', '.join(percent(end, signed=signed) for end in ends)}]"

    def difference(row: dict, name: str) -> list[str]:
        p = row[f"{name}_p_holm"]
        return [share(row, f"{name}_difference", signed=True), "-" if p is None else p_text(p)]

    def name(row: dict) -> str:
        label = node_label(NodeName(row["method"], row["iteration"] or 0))
        return f"{label} ({row['stage']})" if row["stage"] == "control" else label

    heads = ["model", "%", "points to full weak", "p", "points to Hybrid-FT", "p"]
    heads += ["gap recovered %", "label precision %", "label coverage %"]
    heads += ["generated tokens", "trained tokens"]
    lines = [heads, ["---"] * len(heads)]
    for row in models.sort("accuracy", descending=True, maintain_order=True).iter_rows(named=True):
        shares = [share(row, column) for column in ("pgr", "label_precision", "label_coverage")]
        tokens = [count_text(row[f"{kind}_tokens"]) or "-" for kind in ("generated", "trained")]
        compared = [*difference(row, "full_weak"), *difference(row, "hybrid_ft")]
        lines.append([name(row), share(row, "accuracy"), *compared, *shares, *tokens])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write_tables(tables: dict[str, str], folder: Path) -> None:
    """Write each Markdown table to `folder`/<name>.md."""
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def main(experiments: list[str]) -> None:
    """Copy the results of the experiments, then fill the marked blocks of all documents."""
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
        for figure in FIGURES.get(name, ()):
            drawn = folder / f"report/plots/{figure}.svg"
            (ROOT / f"docs/images/{name}_{figure}.svg").write_bytes(drawn.read_bytes())
        compared = ROOT / f"results/compare/{name}/models.csv"
        if compared.is_file():
            from weak_to_strong.report.compared_models import COMPARED_MODELS
            from weak_to_strong.tables.frames import read_csv

            table = models_table(read_csv(compared, COMPARED_MODELS))
            write_tables({f"{name}_models": table}, ROOT / "docs/results")
            (ROOT / f"docs/results/{name}_models.csv").write_bytes(compared.read_bytes())
            diagnostics = (folder / "report/diagnostics.csv").read_bytes()
            (ROOT / f"docs/results/{name}_diagnostics.csv").write_bytes(diagnostics)
        if (folder / "paper").is_dir():
            write_tables(own_tables(folder), ROOT / "docs/results" / name)
    write_tables(published_tables(), ROOT / "docs/results/published")
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = document.read_text(encoding="utf-8")
        document.write_text(insert_files(text, ROOT), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
