"""Draw the tables of the benchmarks that draw none themselves.

    python benchmarks/plot.py

ratios.svg has a dot for each measured ratio (how many times as fast as the peer) and a bar for
their median; growth.svg the time of a dry run over the number of jobs, and the memory of a round's
driver over its questions; estimates.svg what small trainings took over what the formulas say;
workflow.svg what the workflow itself takes - plans, SLURM jobs -, where the demo's time goes, and
which of its artefacts differ when it is run again.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

FOLDER = Path(__file__).parent


def ratios() -> Iterator[tuple[str, list[float]]]:
    """What was compared with what, and the ratios of all turns."""

    def table(name: str) -> pl.DataFrame:
        return pl.read_csv(FOLDER / f"{name}.csv")

    rounds = table("rounds")
    yield "one round / a process for each request", rounds["ratio"].to_list()
    yield "a round with two engines / with one", rounds["two_engines_ratio"].to_list()
    scoring = table("scoring")
    for (work,), rows in scoring.group_by("work", maintain_order=True):
        yield f"scoring, {work} / loop over math-verify", rows["ratio"].to_list()
    throughput = table("throughput")
    for (way,), rows in throughput.group_by("way", maintain_order=True):
        yield f"generation, {way} / vLLM's benchmark", rows["ratio"].to_list()
    works = table("training").group_by("trainer", "adapter", "micro_batch", maintain_order=True)
    for (trainer, adapter, micro_batch), rows in works:
        for part in ("loop", "process"):
            name = f"{trainer.upper()}, {adapter}, {micro_batch} of 16, {part} / plain TRL script"
            yield name, rows[f"{part}_ratio"].to_list()
    start = table("training_start")["ratio"].to_list()
    yield "training's start / with garbage collection", start
    for (trainer,), rows in table("padding").group_by("trainer", maintain_order=True):
        values = rows["speed_ratio"].to_list()
        yield f"{trainer.upper()}, rows of an update sorted / not sorted", values


def draw_ratios(path: Path) -> None:
    """Dots of all ratios on a logarithmic axis, one line for each comparison."""
    from matplotlib import pyplot as plt

    comparisons = list(ratios())
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(comparisons) + 1), layout="constrained")
    for place, (_, values) in enumerate(comparisons):
        median = pl.Series(values).median()
        axes.barh(place, median - 1, left=1, height=0.5, color="#9ecae1")
        axes.plot(values, [place] * len(values), "o", color="#08519c", ms=4)
    axes.axvline(1, color="black", lw=1)
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set(xscale="log", xlabel="times as fast", yticks=range(len(comparisons)))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticklabels([name for name, _ in comparisons], fontsize="small")
    axes.invert_yaxis()
    figure.savefig(path, metadata={"Date": None})


def draw_growth(path: Path) -> None:
    """Seconds of a dry run over the number of jobs, megabytes of a driver over its questions."""
    from matplotlib import pyplot as plt

    table = pl.read_csv(FOLDER / "dry_run_growth.csv")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    left.plot(table["jobs"], table["seconds"], marker="o", label="time")
    left.plot(table["jobs"], table["cpu_seconds"], marker="s", label="CPU time")
    left.set(xlabel="jobs", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    left.legend()
    table = pl.read_csv(FOLDER / "driver_memory.csv")
    right.plot(table["questions"], table["bytes_of_text"] / 1e6, marker="o", label="all texts")
    right.plot(table["questions"], table["peak_bytes"] / 1e6, marker="s", label="the driver's peak")
    right.set(xlabel="questions", ylabel="MB", xscale="log", ylim=(0, None))
    right.legend()
    figure.savefig(path, metadata={"Date": None})


def draw_estimates(path: Path) -> None:
    """Dots of measured over estimated, one line for each training."""
    from matplotlib import pyplot as plt

    table = pl.read_csv(FOLDER / "plan_check.csv")
    names = table.select(pl.format("{} model, {}", "model", "training")).to_series().to_list()
    places = range(len(names))
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(names) + 1), layout="constrained")
    for part, marker in (("flops", "o"), ("saved", "s"), ("memory", "^"), ("cpu_seconds", "x")):
        axes.plot(table[f"{part}_ratio"], places, marker, ms=5, label=part.replace("_", " "))
    axes.axvline(1, color="black", lw=1)
    axes.set(xlabel="measured over estimated", xlim=(0, None), yticks=places)
    axes.set_yticklabels(names, fontsize="small")
    axes.invert_yaxis()
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def draw_workflow(path: Path) -> None:
    """Plans, SLURM jobs, the demo by rule, and its artefacts in other runs."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
    plans, jobs, demo, runs = axes.flat
    table = pl.read_csv(FOLDER / "workflow_plans.csv")
    names = table.select(pl.format("{}: {} jobs", "experiment", "jobs")).to_series().to_list()
    parts = {"configuration": -0.25, "dry_run": 0.0, "no_op": 0.25}
    for part, shift in parts.items():
        seconds = table[f"{part}_seconds"].fill_null(0)
        places = [place + shift for place in range(len(names))]
        plans.barh(places, seconds, height=0.25, label=part.replace("_", " "))
    plans.set(xlabel="seconds", yticks=range(len(names)), title="Plans of the paper's experiments")
    table = pl.read_csv(FOLDER / "slurm_jobs.csv")
    labels = table.select(pl.format("{}, {}", "run", "rules")).to_series().to_list()
    jobs.barh(labels, table["allocated_seconds_a_job"], label="allocation")
    jobs.barh(labels, table["cpu_seconds_a_job"], height=0.4, label="CPU time")
    jobs.set(xlabel="seconds", title="A SLURM job around no work")
    table = pl.read_csv(FOLDER.parent / "docs/results/demo_costs.csv")
    long = pl.col("wall_seconds") >= 0.01 * pl.col("wall_seconds").sum()
    rest = table.filter(~long)["wall_seconds"].sum()
    bars = [*table.filter(long).select("rule", "wall_seconds").rows(), ("all others", rest)]
    demo.barh([rule for rule, _ in bars], [seconds for _, seconds in bars], label="all")
    starts = table["engine_start_seconds"].sum() or 0
    demo.barh(["generate"], [starts], height=0.4, label="starts of engines, summed over these")
    demo.set(xlabel="seconds, summed over jobs", title="The demo by rule")
    table = pl.read_csv(FOLDER / "determinism.csv")
    sums = table.group_by("variation", maintain_order=True).agg(pl.sum("files", "identical"))
    runs.barh(sums["variation"], sums["files"], color="#fdae6b", label="artefacts")
    runs.barh(sums["variation"], sums["identical"], label="the same to the last byte")
    runs.set(xlabel="files", title="The same study again")
    for panel in axes.flat:
        panel.invert_yaxis()
        panel.legend(fontsize="small", loc="upper right", bbox_to_anchor=(1, -0.2), ncols=3)
        panel.tick_params(axis="y", labelsize="small")
    plans.set_yticklabels(names)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    draw_ratios(FOLDER / "ratios.svg")
    draw_growth(FOLDER / "growth.svg")
    draw_estimates(FOLDER / "estimates.svg")
    draw_workflow(FOLDER / "workflow.svg")


if __name__ == "__main__":
    main()
