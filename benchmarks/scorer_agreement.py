"""The math scorer and plain math-verify against hand-labelled pairs.

    python benchmarks/scorer_agreement.py

The pairs are those of tests/evaluation/labelled_pairs.tsv: a gold answer, a predicted one, and
whether a reader finds them the same. Plain math-verify reads each answer with `parse`, in `$` where
it has none, and compares with `verify`. Writes docs/results/scorers.md.
"""

import csv
import logging
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from weak_to_strong.evaluation.scoring import math_verify_many  # noqa: E402

PAIRS = ROOT / "tests/evaluation/labelled_pairs.tsv"
RESULT = ROOT / "docs/results/scorers.md"


def read_pairs() -> list[dict]:
    """Rows of task, gold, prediction and label."""
    with PAIRS.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def plain_verdict(row: dict) -> str:
    """ "right" or "wrong" of math-verify's own functions."""
    from math_verify import parse, verify

    gold, prediction = (
        parse(text if "$" in text else f"${text}$") for text in (row["gold"], row["prediction"])
    )
    return "right" if verify(gold, prediction) else "wrong"


def summarise(rows: list[dict], name: str) -> list[str]:
    """Cells of one scorer: as labelled, wrongly right, wrongly wrong, undecided."""
    pairs = [(row[name], row["label"]) for row in rows]
    counts = [
        sum(verdict == label for verdict, label in pairs),
        pairs.count(("right", "wrong")),
        pairs.count(("wrong", "right")),
        sum(verdict not in ("right", "wrong") for verdict, _ in pairs),
    ]
    return list(map(str, counts))


def main() -> None:
    """Compare all pairs and write the table."""
    warnings.simplefilter("ignore")
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    rows = read_pairs()
    verdicts = math_verify_many((row["prediction"], row["gold"]) for row in rows)
    for row, verdict in zip(rows, verdicts, strict=True):
        row |= {"ours": verdict, "plain": plain_verdict(row)}
    heads = ["as labelled", "falsely right", "falsely wrong", "undecided"]
    titles = ["Task", "Pairs", *(f"{who}: {head}" for who in ("ours", "plain") for head in heads)]
    groups = {
        task: [row for row in rows if row["task"] == task]
        for task in dict.fromkeys(row["task"] for row in rows)
    }
    lines = [titles, ["---"] * len(titles)]
    for task, group in {**groups, "all": rows}.items():
        cells = [task, str(len(group)), *summarise(group, "ours"), *summarise(group, "plain")]
        lines.append(cells)
    apart = [row for row in rows if row["ours"] != row["label"]]
    names = ["Task", "Gold", "Prediction", "Label", "Ours", "Plain"]
    misses = [names, ["---"] * len(names)]
    for row in apart:
        answers = [f"`{row[name]}`".replace("|", "\\|") for name in ("gold", "prediction")]
        misses.append([row["task"], *answers, row["label"], row["ours"], row["plain"]])
    text = (
        "# The math scorer against hand-labelled pairs\n\n"
        "`python benchmarks/scorer_agreement.py` writes this file from "
        '`tests/evaluation/labelled_pairs.tsv`. "Ours" is the `math` scorer of the report, '
        '"plain" is math-verify alone.\nOne author wrote the pairs, their labels and the scorer\'s '
        "rules, at the same time. One label was changed after the scorer's verdict was seen. The "
        "pairs show what the scorer reads. They do not measure it on other answers.\n\n"
        + "".join(f"| {' | '.join(line)} |\n" for line in lines)
        + "\nPairs on which ours differs from the label:\n\n"
        + "".join(f"| {' | '.join(line)} |\n" for line in misses)
    )
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
