"""The page of a comparison, as text and in a real browser: what it shows and never does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import report_examples as examples
from browser import open_page
from finished_experiments import MODELS, compare, write_experiment

from weak_to_strong.evaluation.stats import mcnemar_exact
from weak_to_strong.report.compared_models import COMPARED_MODELS
from weak_to_strong.report.display_text import p_text
from weak_to_strong.report.tokens_figure import tokens_figure
from weak_to_strong.tables.frames import read_csv

HOSTILE = (
    "</div></pre></script><script>document.title='ran'</script>"
    "<img src=http://127.0.0.1:9/x onerror=\"document.title='ran'\">\u202e\x07&lt;b&gt;"
)


class Tags(HTMLParser):
    """Elements of a page as (tag, attributes)."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def make_page(tmp_path, monkeypatch, run_rule):
    """Write experiments by name -> options, and return the page that compares them."""
    monkeypatch.chdir(tmp_path)

    def make(**experiments) -> str:
        for name, options in experiments.items():
            write_experiment(Path("results") / name, **options)
        return compare(run_rule, tmp_path, *experiments)

    return make


def small(name):
    """Options of an experiment whose questions are others than those of the usual one."""
    return {"test": examples.problems(10, question=[f"{name} {n}" for n in range(10)])}


def test_it_loads_nothing_and_its_policy_allows_its_own_script_only(make_page):
    html = make_page(one={}, other={"draw": 1})
    assert "default-src 'none'" in html
    assert "unsafe" not in html
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in html
    for _, attributes in Tags(html).tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes


def test_hostile_text_stays_text(make_page):
    html = make_page(
        one={
            "respond": lambda *_: HOSTILE,
            "test": examples.problems(
                5,
                id=[f"{n}{HOSTILE}" for n in range(5)],
                question=[HOSTILE] * 5,
                answer=[HOSTILE] * 5,
            ),
        }
    )
    assert [tag for tag, _ in Tags(html).tags].count("script") == 1
    assert "img" not in {tag for tag, _ in Tags(html).tags}
    assert not set("\u202e\x07") & set(html)


def test_the_table_beside_the_page_has_its_numbers(make_page, tmp_path):
    html = make_page(one={}, other={"draw": 1})
    table = read_csv(tmp_path / "page/models.csv", COMPARED_MODELS)
    assert table.height == html.count("<tr data-model=") == 14
    row = table.row(4, named=True)
    assert f">{100 * row['accuracy']:.1f}<small>" in html
    assert f"alone {escape(p_text(row['full_weak_p']))}</small>" in html


def test_the_same_experiments_give_the_same_page(make_page, run_rule, tmp_path):
    html = make_page(one={}, other={"draw": 1})
    assert compare(run_rule, tmp_path, "one", "other") == html


def test_different_test_questions_are_told_in_one_line(make_page):
    assert "not-compared" not in make_page(one={}, other={"draw": 1})
    html = make_page(third={}, fourth=small("new"))
    (line,) = re.findall(r'<p id="not-compared">.*', html)
    assert "40 questions of third: sums; 10 questions of fourth: sums" in line


def test_what_is_left_out_is_told(make_page):
    html = make_page(one={})
    assert re.search(
        r"verdicts on all 40 questions, and the texts of (\d+) of the \1 questions", html
    )
    assert "are left out" not in html


def test_one_experiment_with_one_model_has_a_page(make_page):
    assert "Comparison of 1 experiment<" in make_page(one={"models": MODELS[1:2]})


class TestFigure:
    def test_no_tokens_have_a_place_of_their_own(self):
        models = [
            {"tokens": tokens, "accuracy": 0.5, "low": None, "high": None}
            for tokens in (0, 100, 1000, 99_000)
        ]
        figure = tokens_figure(models)
        places = [point["x"] for point in figure["points"]]
        assert places == sorted(places)
        assert figure["zero"] == places[0] < figure["x_ticks"][0][0]
        assert [text for _, text in figure["x_ticks"]] == ["100", "1k", "10k", "100k"]
        few = tokens_figure([{**models[1], "tokens": 15_000_000}])
        assert [text for _, text in few["x_ticks"]] == ["10M", "20M", "50M", "100M"]
        assert tokens_figure(models[1:])["zero"] is None

    @pytest.mark.parametrize("tokens", [[], [0], [10]])
    def test_few_models_are_drawn_too(self, tokens):
        models = [{"tokens": n, "accuracy": 1.0, "low": 0.9, "high": 1.0} for n in tokens]
        figure = tokens_figure(models)
        assert len(figure["points"]) == len(tokens)
        assert all(60 <= point["x"] <= 745 for point in figure["points"])


# --- in a browser ----------------------------------------------------------------------------

CHOOSE = """(() => {{
  const select = document.querySelector('select[name="{name}"]');
  select.value = {value};
  select.dispatchEvent(new Event("change", {{ bubbles: true }}));
}})()"""
VISIBLE = '[...document.querySelectorAll("#rows tr")].filter((row) => !row.hidden)'
#: Articles of questions, each as [id, text of A, text of B].
QUESTIONS = """[...document.querySelectorAll("#lists article")].map((article) => [
  article.querySelector("h3").textContent,
  ...[...article.querySelectorAll(".sides pre")].map((pre) => pre.textContent)])"""


def choose(page, name, value):
    page.run(CHOOSE.format(name=name, value=json.dumps(value)))


def option(page, text):
    """The value of the option for a model, by the beginning of its text."""
    return page.run(
        f"[...document.querySelectorAll('select[name=first] option')]"
        f".find((option) => option.textContent.startsWith({json.dumps(text)})).value"
    )


@pytest.mark.slow
def test_the_table_sorts_and_filters_together_with_the_figure(make_page, tmp_path):
    html = make_page(one={}, other={"draw": 1})
    with open_page(html, tmp_path) as page:
        assert page.run(f"{VISIBLE}.length") == 14
        keys = f"{VISIBLE}.map((row) => row.cells[7].dataset.key)"
        for order in (-1, 1):
            page.run("document.querySelectorAll('#models thead button')[7].click()")
            shown = [float(key) for key in page.run(keys)]
            assert shown == sorted(shown, key=lambda value: order * value)
        page.run("document.querySelectorAll('#models thead button')[9].click()")
        differences = page.run(f"{VISIBLE}.map((row) => row.cells[9].dataset.key)")
        assert "" in differences
        assert differences.index("") == len([key for key in differences if key])  # empty ones last
        choose(page, "method", "hybrid_ft")
        choose(page, "experiment", "other")
        assert page.run(f"{VISIBLE}.map((row) => row.cells[0].textContent)") == ["other"] * 2
        assert page.run("document.getElementById('shown').textContent") == "2 of 14 models shown"
        points = "[...document.querySelectorAll('.point')]"
        drawn = f"{points}.filter((point) => point.getBoundingClientRect().width)"
        assert page.run(f"{drawn}.length") == 2
        page.run(f"{drawn}[0].dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))")
        page.run(f"{drawn}[0].focus()")
        assert page.run("document.querySelector('tr.chosen').dataset.experiment") == "other"
        name = page.run("document.querySelector('figure output').textContent")
        assert re.match(
            r"other, Hybrid-FT, iteration 1 \(sums: tiny → small\): [\d.]+%, 52,000 tok", name
        )


@pytest.mark.slow
def test_two_models_are_shown_where_one_alone_is_right(make_page, tmp_path):
    html = make_page(one={}, other={"draw": 1})
    right = {}
    for name in ("one", "other"):
        scores = pl.read_parquet(tmp_path / f"results/{name}/scores/sums.parquet")
        for (request,), rows in scores.group_by("request"):
            right[name, request] = set(rows.filter(paper="right")["id"])
    first = right["one", "sums/tiny/small/seed-0/full_weak-0#greedy"]
    second = right["other", "sums/tiny/small/seed-0/hybrid_ft-2#greedy"]
    with open_page(html, tmp_path) as page:
        choose(page, "first", option(page, "one: Full weak fine-tuning"))
        choose(page, "second", option(page, "other: Hybrid-FT, iteration 2"))
        text = page.run("document.getElementById('result').textContent")
        b, c = len(first - second), len(second - first)
        assert text == (
            f"Of 40 questions both are right on {len(first & second)}, only A on {b}, only B on "
            f"{c}, none on {40 - len(first | second)}. McNemar p {p_text(mcnemar_exact(b, c))}, "
            "not corrected: you chose the pair."
        )
        assert 1 < b < 20 > c > 1
        page.wait(f"document.querySelectorAll('#lists article').length === {b + c}")
        shown = page.run(QUESTIONS)
        assert [name for name, *_ in shown] == [
            *sorted(first - second, key=int),
            *sorted(second - first, key=int),
        ]
        for name, *texts in shown:
            assert texts == [
                f"sums/tiny/small/seed-0/{node}#greedy {name in side}"
                for node, side in (("full_weak-0", first), ("hybrid_ft-2", second))
            ]


@pytest.mark.slow
def test_more_than_twenty_questions_come_on_request(make_page, tmp_path):
    models = [("full_weak", "baseline", 0, 1.0, None), ("hybrid_ft", "stage1", 1, 0.0, None)]
    with open_page(make_page(one={"models": models}), tmp_path) as page:
        page.wait("document.querySelectorAll('#lists article').length === 20")
        page.wait("document.querySelector('button.more').textContent === 'Show more (20)'")
        page.run("document.querySelector('button.more').click()")
        page.wait("document.querySelectorAll('#lists article').length === 40")
        page.wait("document.querySelector('button.more').hidden")


@pytest.mark.slow
def test_models_with_different_questions_are_not_compared(make_page, tmp_path):
    with open_page(make_page(one={}, other=small("new")), tmp_path) as page:
        page.wait("document.querySelectorAll('#lists article').length > 0")
        choose(page, "second", option(page, "other: Hybrid-FT, iteration 2"))
        line = "These two models answered different test questions: they are not compared."
        assert page.run("document.getElementById('result').textContent") == line
        assert page.run("document.querySelectorAll('#lists article').length") == 0


@pytest.mark.slow
def test_nothing_that_a_model_wrote_runs_or_loads(make_page, tmp_path):
    test = examples.problems(
        5, id=[f"{n}{HOSTILE}" for n in range(5)], question=[HOSTILE] * 5, answer=[HOSTILE] * 5
    )
    models = [("full_weak", "baseline", 0, 1.0, None), ("hybrid_ft", "stage1", 1, 0.0, None)]
    html = make_page(one={"test": test, "models": models, "respond": lambda *_: HOSTILE})
    with open_page(html, tmp_path) as page:
        page.wait("document.querySelectorAll('#lists article').length === 5")
        assert page.run("document.title") == "Comparison of one"
        assert page.run("document.querySelectorAll('script').length") == 1
        assert page.run("document.querySelectorAll('#lists img, #lists b').length") == 0
        shown = HOSTILE.replace("\u202e", "\\u202e").replace("\x07", "\\u0007")
        assert page.run(QUESTIONS)[0][1:] == [shown, shown]
        assert page.asked == [(tmp_path / "index.html").as_uri()]


@pytest.mark.slow
def test_twenty_experiments_with_1300_questions_open_quickly(make_page, tmp_path):
    """A page as large as its limit: what is left out is said, and the rest works."""

    def respond_as(experiment):
        def respond(request, name, right):
            names = [f"{experiment}{request}{name}{part}" for part in range(4)]
            return " ".join(hashlib.sha256(part.encode()).hexdigest() for part in names)

        return respond

    test = examples.problems(1300)
    options = {"test": test, "models": MODELS[1:5]}
    html = make_page(
        **{f"e{n}": {**options, "draw": n, "respond": respond_as(n)} for n in range(20)}
    )
    assert 4e6 < len(html) < 12e6
    assert "are left out, drawn by a hash" in html
    with open_page(html, tmp_path) as page:
        page.wait("document.querySelectorAll('#lists article').length >= 20")
        assert page.seconds() < 5
