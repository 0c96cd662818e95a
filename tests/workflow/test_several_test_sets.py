"""A second test set for a finished study: nothing is trained again, and each set stands alone."""

from __future__ import annotations

import polars as pl
import pytest
from project import changed, jobs

pytestmark = pytest.mark.slow


def test_a_second_test_set_trains_nothing_and_leaves_the_first_as_it_is(project_copy):
    report = project_copy.result("report")
    before = pl.read_csv(report / "metrics.csv")
    models = project_copy.result("models")
    times = {path: path.stat().st_mtime_ns for path in models.rglob("*") if path.is_file()}
    sets = {"first": {"path": "data/test.jsonl"}, "second": {"path": "data/validation.jsonl"}}
    project_copy.write_config(changed(project_copy.config, "tasks.dice.splits.test", sets))
    started = jobs(project_copy.run())
    assert not any(message.startswith(("Train ", "Labels ", "SFT set ")) for message in started)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for name in sets:
        assert f"Score task dice/{name}" in started
        assert project_copy.result(f"data/dice/test-{name}.parquet").is_file()
        assert project_copy.result(
            f"generations/evaluation/dice/random_strong/{name}.parquet"
        ).is_file()

    metrics = pl.read_csv(report / "metrics.csv")
    first = metrics.filter(pl.col("split") == "test-first").drop("split")
    assert first.equals(before.filter(pl.col("split") == "test").drop("split"))
    second = metrics.filter(pl.col("split") == "test-second")
    assert second.height == first.height
    table = (report / "table.txt").read_text()
    page = (report / "index.html").read_text()
    for name in sets:
        assert f"dice: weak random_weak, strong random_strong, test-{name}\n" in table
        assert f"random_weak → random_strong, test-{name}</h3>" in page
    overlap = pl.read_csv(project_copy.result("data/dice/contamination.csv"))
    assert {"test-first", "test-second"} <= set(overlap["split"])
    assert "Nothing to be done" in project_copy.run("--dry-run")

    # A further test set makes its own texts and scores only.
    config = changed(
        project_copy.config, "tasks.dice.splits.test", {**sets, "third": sets["second"]}
    )
    project_copy.write_config(config)
    planned = project_copy.planned()
    rounds = {message for message in planned if message.startswith("Generation round evaluation")}
    assert {message.rpartition("/")[2] for message in rounds} == {"third"}
    assert {message for message in planned if message.startswith("Score ")} == {
        "Score task dice/third"
    }
