"""Figures: the same bytes twice, all methods shown, and "not run" instead of a failure."""

from __future__ import annotations

import polars as pl
import pytest
import report_examples as examples

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.report.plot_style import save_figure
from weak_to_strong.report.plots import (
    FIGURES,
    accuracy_figure,
    calibration_bins,
    calibration_figure,
    filter_figure,
    iterations_figure,
    pass_at_k_figure,
    selection_figure,
    stage2_figure,
    vote_curve,
)
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS


def texts(figure):
    """Every visible text of a figure."""
    from matplotlib.text import Text

    return {text.get_text() for text in figure.findobj(Text) if text.get_visible()}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_bytes_twice(name, tmp_path):
    saved = []
    for turn in "ab":
        svg, png = tmp_path / f"{turn}.svg", tmp_path / f"{turn}.png"
        save_figure(FIGURES[name](examples.metrics(), examples.diagnostics()), svg, png)
        saved.append((svg.read_bytes(), png.read_bytes()))
    assert saved[0] == saved[1]
    assert b"<dc:date>" not in saved[0][0]


@pytest.mark.parametrize("name", FIGURES)
def test_missing_data_is_shown_as_not_run(name):
    wall_time = pl.DataFrame([examples.metric(0.3, "wall_time")], schema=METRICS)
    for metrics in (wall_time, pl.DataFrame(schema=METRICS)):
        assert "not run" in texts(FIGURES[name](metrics, pl.DataFrame(schema=DIAGNOSTICS)))


def test_accuracy_tells_controls_and_broken_stages_from_methods():
    broken = ("hybrid_ft@broken_filter", "stage1", 1, 0.2)
    metrics = examples.metrics([*examples.MODELS, *examples.CONTROLS, broken])
    shown = texts(accuracy_figure(metrics, examples.diagnostics()))
    assert {"Random ICL answers (control)", "DPO, shuffled sides (control)", "DPO"} <= shown
    assert "Hybrid-FT [broken_filter], iteration 1 (broken)" in shown


def test_stage2_shows_m_plus_and_what_starts_from_it():
    metrics = examples.metrics([*examples.MODELS, *examples.CONTROLS])
    axes = stage2_figure(metrics, examples.diagnostics()).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()][::-1]
    assert shown == [
        "Weak model",
        "ICL-FT, iteration 2",
        "Hybrid-FT, iteration 2",
        "DPO",
        "ORPO",
        "Strong ceiling",
    ]


def test_accuracy_names_every_model_of_each_chain():
    other_chain = examples.metrics().with_columns(weak=pl.col("weak").replace("tiny", "other"))
    added = examples.metrics([("dpo_strong_pairs", "stage2", 0, 0.4)])
    metrics = pl.concat([examples.metrics(), other_chain, added]).unique(maintain_order=True)
    figure = accuracy_figure(metrics, examples.diagnostics())
    labels = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert len(labels) == 2
    # Floors belong to their own weak model, the ceiling to both chains.
    assert all("Strong ceiling" in chain and "Weak model" in chain for chain in labels)
    assert sum("dpo_strong_pairs" in chain for chain in labels) == 1


def test_iterations_joins_the_iterations_of_a_method():
    axes = iterations_figure(examples.metrics(), examples.diagnostics()).axes[0]
    lines = [line for line in axes.get_lines() if line.get_color() == "#009E73"]
    assert [list(line.get_ydata()) for line in lines if line.get_marker() == "D"] == [[43, 48]]


def test_filter_shows_precision_and_number_kept():
    figure = filter_figure(examples.metrics(), examples.diagnostics())
    precision = [
        [round(y, 6) for y in line.get_ydata()]
        for line in figure.axes[0].get_lines()
        if line.get_marker() == "D"
    ]
    assert precision == [[82, 84]]
    assert {"390", "480"} <= texts(figure)


def test_pass_at_k_keeps_the_last_iteration_of_a_method():
    figure = pass_at_k_figure(examples.metrics(), examples.diagnostics())
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert "Hybrid-FT, iteration 2" in names
    assert "Hybrid-FT, iteration 1" not in names


def test_calibration_bins_join_accuracy_and_confidence():
    bins = calibration_bins(examples.diagnostics())
    assert bins.select("bin", "confidence", "accuracy", "n").rows() == [
        ("0.6-0.8", pytest.approx(0.7), 0.5, 80),
        ("0.8-1.0", pytest.approx(0.9), 0.85, 80),
    ]


def test_calibration_bins_of_other_widths():
    narrow = pl.col("name").str.replace("0.6-0.8", "0.625-0.750", literal=True)
    bins = calibration_bins(examples.diagnostics().with_columns(narrow))
    assert bins["bin"].to_list() == ["0.625-0.750", "0.8-1.0"]


def test_the_curve_of_the_votes_begins_with_the_largest_share():
    curve = vote_curve(examples.diagnostics())
    assert curve.select("share", "coverage", "precision", "n").rows() == [
        (1.0, 0.4, 0.95, 400),
        (0.6, 0.9, 0.7, 900),
    ]


def test_the_figures_tell_the_curve_of_a_selection_from_that_of_the_votes():
    diagnostics = examples.diagnostics()
    votes = diagnostics.filter(pl.col("diagnostic").is_in(["selection", "calibration"]))
    of_selection = votes.with_columns(method=pl.lit("sure"))
    kept = [
        examples.diagnostic("kept", name, value, 900, method="sure")
        for name, value in (("kept", 0.9), ("precision", 0.7))
    ]
    more = pl.concat([diagnostics, of_selection, pl.DataFrame(kept, schema=diagnostics.schema)])
    assert set(vote_curve(more)["method"]) == {"majority", "sure"}
    (axes,) = selection_figure(examples.metrics(), more).axes
    (before,) = selection_figure(examples.metrics(), diagnostics).axes
    assert len(axes.get_lines()) == len(before.get_lines()) + 1
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["least share of the votes", "agreement 1", "agreement 2", "sure"]
    points, as_before = (
        [collection.get_offsets().tolist() for collection in figure.axes[0].collections]
        for figure in (
            calibration_figure(examples.metrics(), more),
            calibration_figure(examples.metrics(), diagnostics),
        )
    )
    assert points == as_before


def test_selections_are_a_curve_and_a_point_for_each_filter():
    (axes,) = selection_figure(examples.metrics(), examples.diagnostics()).axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["least share of the votes", "agreement 1", "agreement 2"]
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [40, 90]
    assert [points.get_offsets().tolist() for points in axes.collections] == [
        [[pytest.approx(39), pytest.approx(82)]],
        [[pytest.approx(48), pytest.approx(84)]],
    ]


def test_read_csv_restores_a_table_and_turns_nan_into_null(tmp_path):
    path = tmp_path / "metrics.csv"
    frame = examples.metrics().with_columns(ci_low=pl.lit(float("nan")))
    frame.write_csv(path)
    read = read_csv(path, METRICS)
    assert read.equals(frame.with_columns(ci_low=pl.lit(None, pl.Float64)))


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", None])
def test_read_csv_names_the_file_it_cannot_use(text, tmp_path):
    path = tmp_path / "metrics.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv: (no column|not a readable)"):
        read_csv(path, METRICS)
