"""The report: findings follow the numbers, hostile text stays text, nothing leaves the page."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser

import polars as pl
import pytest
import report_examples as examples
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.evaluation.metrics import metrics_table
from weak_to_strong.evaluation.scoring import VERDICTS, answer_lengths, count_filters
from weak_to_strong.jobs.costs import COSTS, LEDGER
from weak_to_strong.report.display_text import (
    MAX_SHOWN_CHARACTERS,
    MINUS,
    duration,
    p_text,
    percent,
    show_controls,
)
from weak_to_strong.report.findings import findings
from weak_to_strong.report.names import natural_key
from weak_to_strong.report.page import ReportInputs, build_report
from weak_to_strong.report.plots import FIGURES
from weak_to_strong.report.results_table import results_table
from weak_to_strong.report.sample_answers import pick_questions
from weak_to_strong.report.sections import (
    VERDICT_ORDER,
    contamination_tables,
    costs_table,
    diagnostics_tables,
)
from weak_to_strong.tables.files import write_json
from weak_to_strong.tables.frames import read_csv, write_table
from weak_to_strong.tables.schemas import METRICS

HOSTILE = "</pre><script>alert(1)</script>\u202e\x07<img src=http://example.org/x onerror=alert(1)>"


def inputs(**changes):
    test = examples.problems()
    nodes, scores, generations = examples.answers(test)
    example = ReportInputs(
        experiment="example",
        metrics=examples.metrics(),
        diagnostics=examples.diagnostics(),
        costs=pl.DataFrame(
            [("train", 3, 75.0, 60.0, None, 1234.5, None, *[None] * 3, 5000, *[None] * 3, 66.6)],
            schema=COSTS,
            orient="row",
        ),
        plots={"accuracy": "<svg xmlns='http://www.w3.org/2000/svg'/>"},
        scores=scores,
        generations=generations,
        problems={"sums": test},
        nodes=nodes,
        config={"experiment": "example", "iterations": 2},
        versions={"python": "3.11.0"},
    )
    return replace(example, **changes)


class Page(HTMLParser):
    """Elements of a page: (tag, attributes), texts by tag, and tags left open."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


class TestPage:
    def test_the_page_is_well_formed_and_loads_nothing_from_outside(self):
        page = Page(build_report(inputs()))
        assert page.open == []
        links = [
            value
            for _, attrs in page.elements
            for name, value in attrs.items()
            if name in ("src", "href", "action", "srcset", "data")
        ]
        assert links
        assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in links)
        anchors = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
        assert {link[1:] for link in links if link.startswith("#")} <= anchors

    def test_its_policy_allows_its_own_style_and_script_only(self):
        page = Page(build_report(inputs()))
        policy = page.all("meta")[1]["content"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            assert len(page.all(tag)) == 1
            digest = hashlib.sha256("".join(page.texts[tag]).encode()).digest()
            assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
        # A browser ignores such attributes under this policy, and reports nothing to the reader.
        assert not any("style" in attrs or "onclick" in attrs for _, attrs in page.elements)

    def test_hostile_text_stays_text(self):
        test = examples.problems(5, question=[HOSTILE] * 5, answer=[HOSTILE] * 5)
        nodes, scores, generations = examples.answers(test, HOSTILE)
        html = build_report(
            inputs(
                experiment=HOSTILE,
                problems={"sums": test},
                nodes=nodes,
                scores=scores,
                generations=generations,
                config={HOSTILE: HOSTILE},
                contamination={"sums": pl.DataFrame({"kind": [HOSTILE], "count": [1]})},
                metrics=examples.metrics(models=[(HOSTILE, "stage1", 0, 0.3)]),
            )
        )
        page = Page(html)
        assert len(page.all("script")) == 1
        assert {attrs["src"][:5] for attrs in page.all("img")} == {"data:"}
        assert not set("\u202e\x07") & set(html)
        assert any("\\u202e\\u0007" in text for text in page.texts["pre"])

    def test_images_cannot_run_scripts(self):
        # A plot is an <img> with an encoded SVG. A browser runs no script in an <img>.
        html = build_report(inputs(plots={"accuracy": "<svg><script>alert(1)</script></svg>"}))
        assert "alert(1)" not in html

    def test_the_same_tables_give_the_same_page(self):
        assert build_report(inputs()) == build_report(inputs())

    def test_a_run_with_metrics_only_still_has_a_page(self):
        bare = ReportInputs(
            "bare", examples.metrics(), pl.DataFrame(schema=DIAGNOSTICS), pl.DataFrame(schema=COSTS)
        )
        assert "No answers to show" in build_report(bare)

    def test_a_weak_model_behind_an_endpoint_is_told(self):
        """What answered is not pinned, and was not trained on gold."""
        trained = "floor: trained on gold train_1"
        assert trained in build_report(inputs())
        endpoint = {"url": "https://host/v1", "model": "m-1", "api": "chat", "body": {}}
        models = {"tiny": {"endpoint": endpoint}, "large": {"path": "large"}}
        page = build_report(inputs(config={"models": models}))
        assert "m-1 at https://host/v1, as it answered during the run; nothing pins" in page
        assert "floor: answers at an endpoint as it is, not trained" in page
        assert trained not in page
        assert "A weak model behind an endpoint is not trained" in page

    def test_no_metrics_are_an_error(self):
        with pytest.raises(ValueError, match=r"metrics\.csv has no rows"):
            build_report(inputs(metrics=pl.DataFrame(schema=METRICS)))

    def test_several_seeds_are_shown_one_by_one(self):
        parts = [examples.metrics(seed=seed) for seed in (0, 1, -1)]
        html = build_report(inputs(metrics=pl.concat(parts)))
        assert "means over 2 seeds" in html
        assert "McNemar p against full weak fine-tuning, by seed" in html
        assert "seed -1" not in html


class TestFindings:
    def findings_text(self, models=examples.MODELS, **changes):
        metrics = examples.metrics(models)
        if changes:
            metrics = metrics.with_columns(**changes)
        return "\n".join(findings(metrics, "test"))

    def test_a_clear_gain_is_stated_with_its_interval_and_corrected_p(self):
        text = self.findings_text()
        # The example's p of 0.0004 is the smallest of nine.
        gain = "DPO, 50.0%, +20.0 points (95% interval +16.0 to +24.0, p 0.004)"
        assert f"{gain} against full weak fine-tuning." in text
        assert "DPO recovers 71.4% of the gap" in text

    def test_an_interval_that_holds_0_is_no_finding(self):
        text = self.findings_text(
            [("full_weak", "baseline", 0, 0.30), ("weak_ft", "stage1", 1, 0.32)]
        )
        doubt = "p 0.60) against full weak fine-tuning: no reliable difference"
        assert f"{doubt} (detectable: 7.0 points)." in text
        assert "reliably better" not in text

    def test_a_negative_result_is_stated_as_such(self):
        text = self.findings_text(
            [("full_weak", "baseline", 0, 0.30), ("weak_ft", "stage1", 1, 0.20)]
        )
        assert "No other method was more accurate than full weak fine-tuning" in text
        assert "for 1): reliably worse: Weak-FT, iteration 1." in text

    def test_mcnemars_p_decides_and_not_the_interval(self):
        p = pl.when(pl.col("metric").str.starts_with("mcnemar")).then(0.02).otherwise("value")
        models = [("full_weak", "baseline", 0, 0.30), ("weak_ft", "stage1", 1, 0.40)]
        assert "reliably better: Weak-FT" in self.findings_text(models, value=p)
        models.append(("icl_ft", "stage1", 1, 0.41))
        assert "reliably better: Weak-FT, iteration 1; ICL-FT" in self.findings_text(
            models, value=p
        )
        models.append(("hybrid_ft", "stage1", 1, 0.42))  # 3 x 0.02 is no longer below 0.05
        text = self.findings_text(models, value=p)
        assert "Holm's correction for 3): no reliable difference" in text
        assert "reliably better" not in text

    def test_over_seeds_test_and_interval_decide(self):
        metrics = pl.concat([examples.metrics(seed=seed) for seed in (0, 1, -1)])
        text = "\n".join(findings(metrics, "test"))
        how = "correction for 9, and interval over seeds and questions): reliably better: Weak in-c"
        assert how in text
        assert "Hybrid-FT, iteration 2 (48.0%) improves on Hybrid-FT, iteration 1, +5.0" in text
        over_all = pl.col("seed") == -1
        is_p = pl.col("metric") == "sign_flip_p_vs_full_weak"
        for column, condition, changed in (("value", is_p, 0.02), ("ci_low", ~is_p, -0.01)):
            new = pl.when(over_all & condition).then(changed).otherwise(column).alias(column)
            text = "\n".join(findings(metrics.with_columns(new), "test"))
            assert "seeds and questions): no reliable difference: Weak in-context" in text

    def test_over_seeds_without_a_test_the_interval_decides(self):
        metrics = pl.concat([examples.metrics(seed=seed) for seed in (0, 1, -1)])
        tested = pl.col("metric").str.starts_with("sign_flip")
        text = "\n".join(findings(metrics.filter(~tested), "test"))
        assert "by intervals, not corrected for their number): reliably better: Weak in-c" in text

    def test_a_model_is_compared_with_its_predecessor(self):
        text = self.findings_text()
        # One of the example's five comparisons is clear. Its p of 0.001 is corrected to 0.005.
        gain = "+5.0 points (95% interval +1.0 to +9.0, p 0.005)"
        assert f"Hybrid-FT, iteration 2 (48.0%) improves on Hybrid-FT, iteration 1, {gain}." in text
        span = f"+2.0 points (95% interval {MINUS}2.0 to +6.0, p 1.00)"
        assert f"DPO (50.0%) improves on Hybrid-FT, iteration 2, {span}: no reliable" in text
        assert "ORPO (46.0%) improves on ICL-FT, iteration 2, +1.0 points" in text

    def test_stage_two_may_fall_below_stage_one(self):
        text = self.findings_text([("hybrid_ft", "stage1", 2, 0.5), ("dpo", "stage2", 0, 0.3)])
        span = f"{MINUS}20.0 points (95% interval {MINUS}24.0 to {MINUS}16.0, p 0.001)"
        assert f"DPO (30.0%) falls below Hybrid-FT, iteration 2, {span}." in text

    def test_a_ceiling_below_the_floor_leaves_no_gap(self):
        text = self.findings_text(
            [
                ("weak", "baseline", 0, 0.5),
                ("weak_ft", "stage1", 1, 0.4),
                ("ceiling", "baseline", 0, 0.4),
            ]
        )
        assert "leaves nothing to recover (floor 50.0%, ceiling 40.0%)" in text
        assert "recovers" not in text

    def test_scorers_that_rank_differently_are_told(self):
        better = pl.when(pl.col("scorer") == "math", pl.col("method") == "orpo").then(0.9)
        text = self.findings_text(value=better.otherwise("value"))
        assert "The math scorer ranks another model first: ORPO, 90.0%" in text

    def test_an_undefined_metric_is_left_out(self):
        undefined = pl.when(pl.col("metric") == "pgr").then(float("nan")).otherwise("value")
        text = self.findings_text(value=undefined)
        assert "recovers" not in text
        assert "nan" not in text

    def test_seeds_without_a_summary_are_not_mixed(self):
        metrics = pl.concat([examples.metrics(seed=seed) for seed in (0, 1)])
        assert findings(metrics, "test") == [
            "No model was evaluated, or several seeds have no summary row."
        ]


class TestChecks:
    BROKEN = ("hybrid_ft@broken_filter", "stage1", 1, 0.9)

    def metrics(self):
        models = [*examples.MODELS, *examples.CONTROLS, self.BROKEN]
        return examples.metrics(models)

    def test_a_control_is_compared_with_its_method_and_never_the_best(self):
        text = "\n".join(findings(self.metrics(), "test"))
        without = "\n".join(findings(examples.metrics(), "test"))
        best = next(line for line in without.splitlines() if line.startswith("Most accurate"))
        assert best in text  # neither is the correction for the number of comparisons another one
        lower = f"{MINUS}13.0 points (95% interval {MINUS}17.0 to {MINUS}9.0, p 0.002)"
        assert f"Control: Random ICL answers against ICL-FT, iteration 1, {lower}." in text
        assert "Control: DPO, shuffled sides against DPO" in text
        assert "no reliable difference (detectable: 7.0 points)" in text

    def test_the_page_names_controls_and_warns_of_broken_stages(self):
        html = build_report(inputs(metrics=self.metrics()))
        page = Page(html)
        tags = [text.strip() for text in page.texts["span"]]
        assert (tags.count("control"), tags.count("broken")) == (2, 1)
        assert "Warning: a stage is broken on purpose in broken_filter." in html
        assert "Warning" not in build_report(inputs())
        assert html.index("ICL-FT<") < html.index("Random ICL answers<") < html.index("Hybrid-FT<")
        assert "Compared with" in html

    def test_the_text_table_has_them_beside_what_they_check(self):
        lines = results_table(self.metrics()).splitlines()
        assert "WARNING" in lines[1]
        names = [re.split(r" {2,}", line.strip())[0] for line in lines]
        assert names[names.index("icl_ft 1") + 1] == "random_icl"
        assert names[names.index("dpo") + 1] == "dpo_shuffled"
        (row,) = [line for line in lines if line.strip().startswith("random_icl (control)")]
        assert re.split(r" {2,}", row.strip()) == [
            *("random_icl (control)", "31.0", "icl_ft 1", "44.0", "-13.0 [-17.0, -9.0]"),
            *("0.001", "7.0"),
        ]
        assert "WARNING" not in results_table(examples.metrics())


class TestAnswers:
    def answers(self, html):
        return re.findall(r'<details data-method="([^"]*)" data-paper="([^"]*)"', html)

    def test_greedy_answers_of_at_most_60_questions(self):
        html = build_report(inputs())
        assert html.count('<article class="question"') == 60
        answers = self.answers(html)
        assert len(answers) == 120
        assert {method for method, _ in answers} == {"weak-0", "hybrid_ft-2"}
        assert {verdict for _, verdict in answers} == {"right", "wrong"}

    def test_the_draw_depends_on_ids_only_and_is_shared_among_tasks(self):
        test = examples.problems()
        turned = {"a": test, "b": test.reverse()}
        chosen = pick_questions(turned, 20)
        assert [task for task, _ in chosen] == ["a"] * 10 + ["b"] * 10
        assert chosen == pick_questions({"a": test.reverse(), "b": test}, 20)
        assert len({name for _, name in chosen}) > 10

    def test_ids_are_in_the_order_of_the_numbers_in_them(self):
        ids = ["0", "٣", "7", "007", "9", "10", "9" * 5000, "1" + "0" * 5000, "a2", "a10", "b1"]
        assert sorted(ids, key=natural_key) == ids

    def test_long_responses_are_cut_and_say_so(self):
        test = examples.problems(1)
        nodes, scores, generations = examples.answers(test, "x" * (MAX_SHOWN_CHARACTERS + 7))
        html = build_report(
            inputs(problems={"sums": test}, nodes=nodes, scores=scores, generations=generations)
        )
        assert "[... 7 more characters]" in html
        assert "x" * (MAX_SHOWN_CHARACTERS + 1) not in html


class TestTables:
    def test_diagnostics_tell_counts_from_shares(self):
        tables = {table.label: table for table in diagnostics_tables(examples.diagnostics())}
        rows = {
            name: dict(zip(table.columns, table.rows[0], strict=True))
            for name, table in tables.items()
        }
        precision = {"text": "82.0", "range": "79.0 to 85.0 of 390"}
        assert rows["Agreement filter"]["precision"] == precision
        assert rows["Preference pairs"]["questions"] == "140"
        assert rows["Label accuracy"]["Side"] == "weak side"

    def test_contamination_leaves_out_what_found_nothing(self):
        frame = pl.DataFrame({"kind": ["exact", "ngram"], "count": [0, 2], "ids": [None, "1 2"]})
        (table,) = contamination_tables({"sums": frame})
        assert table.rows == [["ngram", "2", "1 2"]]


def test_tables_show_every_verdict_of_the_scorers():
    assert sorted(VERDICT_ORDER) == sorted(VERDICTS)


class TestNumbers:
    @pytest.mark.parametrize(
        ("share", "text"), [(0.5, "50.0"), (-0.034, "\u22123.4"), (-0.0001, "0.0"), (1, "100.0")]
    )
    def test_percent(self, share, text):
        assert percent(share) == text

    def test_signs(self):
        assert [percent(x, signed=True) for x in (0.1, 0.0, -0.1)] == ["+10.0", "0.0", "\u221210.0"]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(4.21, "4.2 s"), (59.96, "1 min 00 s"), (3599.6, "1 h 00 min"), (7620, "2 h 07 min")],
    )
    def test_duration(self, seconds, text):
        assert duration(seconds) == text

    def test_p(self):
        assert [p_text(p) for p in (1e-9, 0.0123, 0.5, 1.0)] == ["<0.001", "0.012", "0.50", "1.00"]

    @given(st.text())
    def test_no_control_character_is_left(self, text):
        shown = show_controls(text)
        assert all(char.isprintable() or char in "\n\t" or ord(char) > 0x9F for char in shown)
        assert not set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\ufeff") & set(shown)

    def test_no_invisible_character_is_left(self):
        """Format characters, except the visible signs that stand before a number or a word."""
        visible = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
        hidden = [
            char
            for char in map(chr, range(sys.maxunicode + 1))
            if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
            and not visible.match(char)
            and not "\U00013430" <= char <= "\U0001343f"  # they arrange hieroglyphs
            and char not in "\t\n"
        ]
        assert len(hidden) > 2000
        assert [char for char in hidden if show_controls(char) == char] == []
        tags = "".join(map(chr, range(0xE0000, 0xE0080)))
        assert show_controls(tags).startswith("\\U000e0000\\U000e0001")
        assert show_controls(tags).isascii()


def test_it_reads_what_the_metrics_module_writes():
    test = examples.problems(20)
    nodes, scores, _ = examples.answers(test)
    metrics = metrics_table(scores, nodes, "example", [1], bootstrap_draws=100)
    page = build_report(
        inputs(metrics=metrics, problems={"sums": test}, nodes=nodes, scores=scores)
    )
    assert "Hybrid-FT, iteration 2, 50.0%" in page
    for draw in FIGURES.values():
        assert draw(metrics, inputs().diagnostics).axes


def test_costs_show_prices_where_there_are_some():
    assert "Price" not in costs_table(inputs().costs).columns
    table = costs_table(inputs().costs.with_columns(price=1234.5))
    assert dict(zip(table.columns, table.rows[0], strict=True))["Price"] == "1,234.50"
    assert dict(zip(table.columns, table.total, strict=True))["Price"] == "1,234.50"


def test_costs_show_gpus_where_these_were_measured():
    without = costs_table(inputs().costs)
    assert without.rows == [
        ["train", "3", "1 min 15 s", "1 min 00 s", "1,234", *[None] * 4, "5,000", "67"]
    ]
    assert not any("GPU" in heading for heading in without.columns)
    measured = inputs().costs.with_columns(gpu_seconds=150.0, peak_gpu_memory_mb=70_000.0)
    table = costs_table(measured)
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert (cells["GPU time"], cells["Peak GPU memory (MB)"]) == ("2 min 30 s", "70,000")
    total = dict(zip(table.columns, table.total, strict=True))
    assert (total["Rule"], total["GPU time"]) == ("all rules", "2 min 30 s")


def test_the_rule_writes_page_and_costs(tmp_path, run_rule):
    """The entry script, with the files it gets in a run."""
    example = inputs()
    example.metrics.write_csv(tmp_path / "metrics.csv")
    example.diagnostics.write_csv(tmp_path / "diagnostics.csv")
    (tmp_path / "accuracy.svg").write_text(example.plots["accuracy"])
    pl.DataFrame({"kind": ["exact"], "count": [0]}).write_csv(tmp_path / "contamination.csv")
    for name, frame in (
        ("problems", example.problems["sums"]),
        ("scores", example.scores),
        ("generations", example.generations),
    ):
        write_table(frame, frame.schema, tmp_path / f"{name}.parquet")
    cost = {"wall_seconds": 2.5, "cpu_seconds": 2.0, "peak_memory_mb": 80.5}
    for rule in ("splits", "report"):
        write_json({"rule": rule, "outputs": {}, "cost": cost}, tmp_path / f"logs/{rule}.json")
    asked = {"rule": "ask_endpoint", "outputs": {}}
    asked["cost"] = {**cost, "prompt_tokens": 10**6, "response_tokens": 10**6}
    write_json(asked, tmp_path / "logs/ask_endpoint/evaluation/t/teacher.json")
    counts = count_filters(example.generations, "####", ["Question"], "paper")
    files = {name: f"{name}.parquet" for name in ("generations", "scores", "problems")}
    source = {**files, "made_from": [], "labels": None}
    lengths = answer_lengths(example.generations, example.scores)
    summary = {"filters": counts.to_dicts(), "lengths": lengths.to_dicts()}
    write_json(summary, tmp_path / "scores.json")
    run_rule(
        "report",
        {
            "metrics": "metrics.csv",
            "diagnostics": "diagnostics.csv",
            "plots": ["accuracy.svg"],
            "scores": ["scores.parquet"],
            "generations": ["generations.parquet"],
            "problems": ["problems.parquet"],
            "contamination": ["contamination.csv"],
            "agreement": ["scores.json"],
        },
        {
            "html": "index.html",
            "costs": "costs.csv",
            "ledger": "ledger.csv",
            "models": "models.csv",
        },
        experiment="example",
        tasks=["sums"],
        evaluated=["sums"],
        nodes=example.nodes,
        sources={"sums/weak-0#greedy": source},
        config=example.config,
        prices={"evaluation/t/teacher": {"input": 1, "output": 2}},
        logs=str(tmp_path / "logs"),
    )
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "no duplicated and no shared questions" in html
    assert "Answers found, sums" in html
    assert "Last number" in html
    assert "Lengths of answers, sums" in html
    assert "Cut at the budget (%)" in html
    assert str(tmp_path) not in html
    # The report itself is left out: its record would be that of an earlier run.
    assert pl.read_csv(tmp_path / "costs.csv")["rule"].to_list() == ["ask_endpoint", "splits"]
    ledger = pl.read_csv(tmp_path / "ledger.csv", schema=LEDGER)
    assert ledger.select("job", "wall_seconds", "price").rows() == [
        ("ask_endpoint/evaluation/t/teacher", 2.5, 3.0),
        ("splits", 2.5, None),
    ]
    models = read_csv(tmp_path / "models.csv", EVALUATED_MODELS)
    assert models.select("method", "problems").rows() == [("weak", "problems.parquet")]


def test_each_test_set_has_its_results_panels_and_answers():
    first, second = examples.problems(8), examples.problems(8)
    second = second.with_columns(question=pl.lit("Another test set asks this."))
    nodes, scores, generations = examples.answers(first)
    both = {request: {**facts, "test_set": "old"} for request, facts in nodes.items()}
    both |= {f"{request}@new": {**facts, "test_set": "new"} for request, facts in nodes.items()}
    again = [frame.with_columns(pl.col("request") + "@new") for frame in (scores, generations)]
    scores, generations = pl.concat([scores, again[0]]), pl.concat([generations, again[1]])
    metrics = metrics_table(scores, both, "example", [1], bootstrap_draws=100)
    counts = count_filters(generations, "####", ["Question"], "paper")
    of_new = pl.col("request").str.ends_with("@new")
    page = build_report(
        inputs(
            metrics=metrics,
            problems={"sums/old": first, "sums/new": second},
            nodes=both,
            scores=scores,
            generations=generations,
            filters={
                "sums/old": counts.filter(~of_new).to_dicts(),
                "sums/new": counts.filter(of_new).to_dicts(),
            },
        )
    )
    for name in ("test-old", "test-new"):
        assert f"<h3>sums: tiny → small, {name}</h3>" in page
        assert f"Greedy accuracy on {name} with" in page
    assert "<dd>test-old, test-new</dd>" in page
    assert page.count('data-task="sums/new"') == 8
    for name in ("sums/old", "sums/new"):
        assert f"Scorer agreement, {name}" in page
        assert f"Answers found, {name}" in page
    panels = {name: len(draw(metrics, inputs().diagnostics).axes) for name, draw in FIGURES.items()}
    one = metrics.filter(~pl.col("split").str.starts_with("test-new"))
    alone = {name: len(draw(one, inputs().diagnostics).axes) for name, draw in FIGURES.items()}
    apart = {"accuracy", "iterations", "stage2", "pass_at_k"}
    assert panels == {name: count * (1 + (name in apart)) for name, count in alone.items()}
