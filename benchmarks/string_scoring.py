"""The paper's scoring of up to 10,000,000 answers, whole columns against a plain loop.

    python benchmarks/string_scoring.py [--answers 100000 1000000 10000000] [--loop-up-to 100000]

Both normalise each extracted answer and each gold answer and compare the strings; the loop does it
answer by answer (`normalise_answer`), and its verdicts must be the same. Answers are generated
(seed 0), ten to a question, in two mixes: `numbers`, in the style of GSM8K, nine in ten bare whole
numbers, the others with units, separators, currency or decimals; `latex`, fractions, roots, degrees
and intervals, most of them distinct, which is the worst case: columns are fast because texts that
are the same are rewritten once. Above `--loop-up-to` answers the loop's time is scaled up.

Each run is a process of its own, from a Parquet file to the number of right answers; its peak
memory is that of the process (resident set). Writes benchmarks/string_scoring.csv and .svg.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import ROOT, measure_process

MIXES = ("numbers", "latex")
SAMPLES = 10
PIECE = 1_000_000


def make_answers(mix: str, count: int, path: Path) -> None:
    """Parquet of `answer` and `gold`, a tenth of them with a gold answer of their own."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    largest = {"numbers": 50_000, "latex": 5_000_000}[mix]
    pieces = []
    for start in range(0, count, PIECE):
        size = min(PIECE, count - start)
        gold = np.repeat(rng.integers(1, largest, size // SAMPLES + 1), SAMPLES)[:size]
        wrong = rng.random(size) < 0.4
        table = pl.DataFrame(
            {
                "number": np.where(wrong, gold + rng.integers(1, 100, size), gold),
                "right": gold,
                "form": rng.choice(4, size, p=[0.25] * 4)
                if mix == "latex"
                else rng.choice(5, size, p=[0.9, 0.03, 0.03, 0.02, 0.02]),
            }
        )
        pieces.append(
            table.select(
                answer=_written(mix, pl.col("number"), pl.col("form")),
                gold=_written(mix, pl.col("right"), pl.col("form")),
            )
        )
    pl.concat(pieces).write_parquet(path)


def _written(mix, number, form):
    """A number as an answer of a mix, in one of its forms."""
    import polars as pl

    text, rest = number.cast(pl.String), (number % 89 + 2).cast(pl.String)
    thousands = text.str.replace(r"^(\d+)(\d{3})$", "${1},${2}")
    forms = {
        "numbers": (
            text,
            pl.format("{} dollars", text),
            pl.format("${}", thousands),
            thousands,
            pl.format("{}.00", text),
        ),
        "latex": (
            pl.format(r"$\frac{{{}}}{{{}}}$", text, rest),
            pl.format(r"x = {}\sqrt{}", rest, text),
            pl.format(r"\text{{the angle is }}{}.{}^\circ", text, rest),
            pl.format(r"\left[ -{}, {} \right)", rest, text),
        ),
    }[mix]
    written = forms[0]
    for code, text in enumerate(forms[1:], 1):
        written = pl.when(form == code).then(text).otherwise(written)
    return written


def score_columns(path: Path) -> dict:
    """Numbers of right and of distinct answers, as the workflow finds them."""
    import polars as pl

    from weak_to_strong.evaluation.scoring import paper_verdict
    from weak_to_strong.method.answers import normalise_column

    table = pl.read_parquet(path)
    normalised = pl.DataFrame([normalise_column(table[name]) for name in ("answer", "gold")])
    verdict = paper_verdict(pl.col("answer"), pl.col("gold"))
    right = normalised.select((verdict == "right").sum()).item()
    return {"right": right, "distinct": table["answer"].n_unique()}


def score_loop(path: Path) -> dict:
    """The number of right answers, found answer by answer."""
    import polars as pl

    from weak_to_strong.method.answers import normalise_answer

    right = 0
    for answer, gold in pl.read_parquet(path).iter_rows():
        prediction = normalise_answer(answer)
        right += bool(prediction) and prediction == normalise_answer(gold)
    return {"right": right}


def measure(how: str, path: Path) -> dict:
    """Cost and result of a run in a process of its own, see `measure_process`."""
    cost, output = measure_process([sys.executable, __file__, "--do", how, str(path)])
    return {**cost, **json.loads(output)}


def draw(table, path: Path) -> None:
    """CPU seconds over answers on logarithmic axes, one line for each mix and way."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "string_scoring"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, ((mix,), rows) in enumerate(table.group_by("mix", maintain_order=True)):
        colour = f"C{number}"
        axes.plot(rows["answers"], rows["cpu_seconds"], marker="o", color=colour, label=mix)
        axes.plot(
            rows["answers"],
            rows["loop_cpu_seconds"],
            "--",
            marker="s",
            color=colour,
            label=f"{mix}, loop (scaled above {rows['loop_answers'].max():,})",
        )
    axes.set(xscale="log", yscale="log", xlabel="answers", ylabel="CPU seconds")
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--answers", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--loop-up-to", type=int, default=100_000)
    parser.add_argument("--do", nargs=2, metavar=("HOW", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, metavar=("MIX", "N", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        how, path = options.do
        print(json.dumps({"columns": score_columns, "loop": score_loop}[how](Path(path))))
        return
    if options.make:
        mix, answers, path = options.make
        make_answers(mix, int(answers), Path(path))
        return

    import polars as pl

    rows = []
    for mix in MIXES:
        loop = loop_answers = None
        for answers in sorted(options.answers):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "answers"
                # Not here: a child's peak memory counts that of its parent.
                making = [sys.executable, __file__, "--make", mix, str(answers), str(path)]
                subprocess.run(making, check=True)
                row = {"mix": mix, "answers": answers, **measure("columns", path)}
                if loop is None or answers <= options.loop_up_to:
                    loop, loop_answers = measure("loop", path), answers
                    if loop["right"] != row["right"]:
                        raise SystemExit(
                            f"{mix}: {row['right']} right, {loop['right']} in the loop"
                        )
            scaled = loop["cpu_seconds"] * answers / loop_answers
            row |= {"loop_answers": loop_answers, "loop_cpu_seconds": scaled}
            row["ratio"] = scaled / row["cpu_seconds"]
            print(json.dumps(row), flush=True)
            rows.append(row)
    table = pl.DataFrame(rows)
    table.write_csv(ROOT / "benchmarks/string_scoring.csv", float_precision=2)
    draw(table, ROOT / "benchmarks/string_scoring.svg")


if __name__ == "__main__":
    main()
