"""Data steps of the two stages at 10,000, 100,000 and 1,000,000 questions, against plain loops.

    python benchmarks/data_steps.py [--questions 10000 100000 1000000] [--plain-up-to 100000]

The tables are generated (seed 0): answers in the style of GSM8K, about 290 characters long, one of
the weak model, one of the ICL side and ten samples for each question; nine answers in ten are bare
whole numbers, the others have units, thousands separators, currency or decimals, or are missing.

Each step is the script of its rule, from files to files, in a process of its own; its peak memory
is that of the process (resident set). The loops work row by row with the functions for one text
(`tests/support/plain_steps.py`), on tables in memory and without writing; what they
return must equal what the scripts wrote. Writes benchmarks/data_steps.csv and data_steps.svg.
"""

import argparse
import json
import runpy
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from measuring import ROOT, measure_process

sys.path.append(str(ROOT / "tests/support"))  # plain_steps

SAMPLES_OF_A_QUESTION = 10
KEY, STOPS = "####", ["Question", "Answer"]
READING = {"answer_key": KEY, "stop": STOPS, "quirks": {}, "judge": {"name": "string"}}
#: Step -> (script, inputs, outputs, parameters).
STEPS = {
    "labels, weak": (
        "extract_labels",
        {"generations": "weak_generations"},
        {"labels": "weak"},
        {"request": "weak-1", **READING},
    ),
    "labels, ICL": (
        "extract_labels",
        {"generations": "icl_generations"},
        {"labels": "icl"},
        {"request": "icl-1", **READING},
    ),
    "agreement": (
        "agreement_filter",
        {"weak": "weak", "icl": "icl", "questions": "questions"},
        {"kept": "kept", "summary": "kept.json"},
        {
            "settings": {"keep_empty": False, "pad_to": None, "pad_seed": 42},
            "judge": READING["judge"],
        },
    ),
    "samples and vote": (
        "majority_vote",
        {"generations": "sample_generations", "questions": "questions"},
        {"samples": "samples", "votes": "votes"},
        {"request": "samples", **READING},
    ),
    "pairs": (
        "pairs",
        {"weak_labels": "weak", "samples": "samples", "votes": "votes", "questions": "questions"},
        {"rows": "pairs", "export": "pairs.json"},
        {"settings": {}, "prompt": "question_answer", "judge": READING["judge"]},
    ),
}


def make_tables(folder: Path, questions: int, chunk: int = 50_000) -> None:
    """Questions and generations of `questions` questions, in `folder`.

    Args:
        folder: where the tables go.
        questions: their number.
        chunk: number of questions whose answers are in memory at a time.
    """
    import numpy as np
    import polars as pl

    from weak_to_strong.tables.frames import write_table
    from weak_to_strong.tables.schemas import GENERATIONS, QUESTIONS

    rng = np.random.default_rng(0)
    names = pl.Series("id", np.arange(questions)).cast(pl.String)
    text = pl.format("A shop sells {} boxes of {} pens. " * 5, *["id", pl.lit("24")] * 5)
    table = (
        names.to_frame()
        .select("id", question=text)
        .with_columns(
            pl.lit(None, pl.String).alias(name)
            for name in QUESTIONS
            if name not in ("id", "question")
        )
    )
    write_table(table, QUESTIONS, folder / "questions")
    gold = rng.integers(1, 5000, questions)
    ease = rng.beta(1.5, 1.0, questions)
    for file, request, count, skill in (
        ("weak_generations", "weak-1", 1, 0.7),
        ("icl_generations", "icl-1", 1, 1.0),
        ("sample_generations", "samples", SAMPLES_OF_A_QUESTION, 1.4),
    ):
        parts = folder / f"{file}.parts"
        for start in range(0, questions, chunk):
            rows = np.repeat(np.arange(start, min(start + chunk, questions)), count)
            right = rng.random(len(rows)) < np.minimum(1, ease[rows] * skill)
            table = make_answers(rng, rows, gold[rows], right).with_columns(
                sample=np.tile(np.arange(count, dtype=np.int32), len(rows) // count),
                request=pl.lit(request),
                finish_reason=pl.lit("stop"),
                prompt_tokens=60,
                response_tokens=90,
            )
            write_table(table, GENERATIONS, parts / f"{start:09d}")
        whole = pl.scan_parquet(sorted(parts.iterdir()))
        write_table(whole, GENERATIONS, folder / file)
        for part in parts.iterdir():
            part.unlink()


def make_answers(rng, rows, gold, right):
    """Columns id, response: one answer for each of `rows`, which are row numbers of questions.

    Args:
        rng: numpy's random generator.
        rows, gold, right: arrays of the same length; `right` says which answers are gold's.
    """
    import numpy as np
    import polars as pl

    size = len(rows)
    near = rng.choice([-10, -1, 1, 10, 100], size)
    table = pl.DataFrame(
        {
            "row": rows,
            "number": np.where(right, gold, np.abs(gold + near)),
            "form": rng.choice(7, size, p=[0.9, 0.02, 0.02, 0.015, 0.015, 0.01, 0.02]),
            **{f"n{i}": rng.integers(1, 99, size) for i in range(6)},
        }
    )
    plain = pl.col("number").cast(pl.String)
    thousands = plain.str.replace(r"^(\d+)(\d{3})$", "${1},${2}")
    forms = {
        1: pl.format("#### {} dollars", plain),
        2: pl.format("#### ${}", plain),
        3: pl.format("#### {}.00", plain),
        4: pl.format("The answer is {}.", thousands),
        5: pl.format("#### {}", thousands),
        6: pl.lit("That is all that can be said."),
    }
    last = pl.format("#### {}", plain)
    for form, line in forms.items():
        last = pl.when(pl.col("form") == form).then(line).otherwise(last)
    line = "First there are {} boxes, and {} more come in the afternoon, so that makes them all.\n"
    response = pl.format(line * 3 + "{}", *[f"n{i}" for i in range(6)], last)
    return table.select(id=pl.col("row").cast(pl.String), response=response)


def run_step(folder: Path, step: str) -> None:
    """One step's script, as Snakemake runs it."""
    from snakemake.iocontainers import InputFiles, OutputFiles, Params

    script, inputs, outputs, params = STEPS[step]
    job = SimpleNamespace(
        input=InputFiles(fromdict={key: str(folder / name) for key, name in inputs.items()}),
        output=OutputFiles(fromdict={key: str(folder / name) for key, name in outputs.items()}),
        params=Params(fromdict=params),
        threads=2,
    )
    runpy.run_path(str(ROOT / f"scripts/{script}.py"))["main"](job)


def run_plain(folder: Path, step: str) -> None:
    """The same step row by row; raises AssertionError where its result is another one."""
    import polars as pl
    from plain_steps import plain_pairs, plain_vote

    from weak_to_strong.method.answers import predict
    from weak_to_strong.method.prompts import clean_response

    def read(name: str) -> pl.DataFrame:
        return pl.read_parquet(folder / name)

    def read_answers(name: str) -> pl.DataFrame:
        rows = []
        for key, sample, response in read(name).select("id", "sample", "response").iter_rows():
            text = clean_response(response, STOPS)
            rows.append((key, sample, text, predict(text, KEY)))
        schema = {"id": pl.String, "sample": pl.Int32, "response": pl.String}
        return pl.DataFrame(rows, schema={**schema, "prediction": pl.String}, orient="row")

    if step.startswith("labels"):
        side = STEPS[step][2]["labels"]
        assert read_answers(f"{side}_generations").drop("sample").equals(read(side))
    elif step == "agreement":
        icl = {name: (text, answer) for name, text, answer in read("icl").iter_rows()}
        kept = [
            (name, text, icl[name][0], answer)
            for name, text, answer in read("weak").iter_rows()
            if answer and answer == icl[name][1]
        ]
        assert kept == read("kept").rows()
    elif step == "samples and vote":
        samples = read_answers("sample_generations")
        assert samples.equals(read("samples"))
        assert plain_vote(samples).equals(read("votes"))
    else:
        made = [read(name) for name in ("weak", "samples", "votes", "questions")]
        assert plain_pairs(*made).equals(read("pairs"))


def measure(how: str, folder: Path, step: str) -> dict[str, float]:
    """Cost of a step in a process of its own, see `measure_process`."""
    cost, _ = measure_process([sys.executable, __file__, "--do", how, step, str(folder)])
    return cost


def draw(table, path: Path) -> None:
    """Seconds over questions for each step and for all, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "data_steps"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (step,), rows in table.group_by("step", maintain_order=True):
        style = {"linewidth": 2.5, "color": "black"} if step == "all" else {}
        axes.plot(rows["questions"], rows["seconds"], marker="o", label=step, **style)
    plain = table.filter(step="all").drop_nulls("plain_seconds")
    axes.plot(
        plain["questions"],
        plain["plain_seconds"],
        "--",
        marker="s",
        color="gray",
        label="all, loops",
    )
    axes.set(xscale="log", yscale="log", xlabel="questions", ylabel="seconds")
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--plain-up-to", type=int, default=100_000)
    parser.add_argument("--do", nargs=3, metavar=("HOW", "STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        how, step, folder = options.do
        if how == "tables":
            make_tables(Path(folder), int(step))
        else:
            {"step": run_step, "plain": run_plain}[how](Path(folder), step)
        return

    import polars as pl

    names = ["questions", "step", "seconds", "cpu_seconds", "peak_gb", "plain_seconds", "ratio"]
    kinds = dict.fromkeys(names, pl.Float64) | {"questions": pl.Int64, "step": pl.String}
    rows = []
    for questions in options.questions:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            measure("tables", folder, str(questions))
            for step in STEPS:
                row = {"questions": questions, "step": step, **measure("step", folder, step)}
                if questions <= options.plain_up_to:
                    row["plain_seconds"] = measure("plain", folder, step)["seconds"]
                    row["ratio"] = row["plain_seconds"] / row["seconds"]
                print(json.dumps(row), flush=True)
                rows.append(row)
            mine = [row for row in rows if row["questions"] == questions]
            total = {"questions": questions, "step": "all"}
            for key in ("seconds", "cpu_seconds", "plain_seconds"):
                if all(key in row for row in mine):
                    total[key] = sum(row[key] for row in mine)
            total["peak_gb"] = max(row["peak_gb"] for row in mine)
            if "plain_seconds" in total:
                total["ratio"] = total["plain_seconds"] / total["seconds"]
            rows.append(total)
        # After each size: a break loses only the rest.
        table = pl.DataFrame(rows, schema=kinds).sort("questions", maintain_order=True)
        table.write_csv(ROOT / "benchmarks/data_steps.csv", float_precision=2)
    draw(table, ROOT / "benchmarks/data_steps.svg")
    with pl.Config(tbl_rows=-1):
        print(table)


if __name__ == "__main__":
    main()
