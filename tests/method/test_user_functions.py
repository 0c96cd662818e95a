"""A user's function: found without being run, run, and ended in one line."""

import re
from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.method.preferences import pairs_by_function
from weak_to_strong.method.rewards import GROUPED_ANSWERS, score_answers
from weak_to_strong.method.selections import pool_answers, select_by_function
from weak_to_strong.method.user_functions import check_function, load_function
from weak_to_strong.tables.schemas import SELECTED

POOLED = pool_answers(
    [
        pl.DataFrame(
            [
                ("a", 0, "so 1", "1"),
                ("a", 1, "it is 1", "1"),
                ("a", 2, "no", ""),
                ("b", 0, "2", "2"),
            ],
            schema=["id", "sample", "response", "prediction"],
            orient="row",
        )
    ]
)
QUESTIONS = pl.DataFrame({"id": ["a", "b"], "question": ["One?", "Two?"]})


@pytest.fixture
def write(tmp_path):
    def write_file(body: str, name: str = "choose") -> str:
        lines = "\n".join(f"    {line}" for line in body.split("\n"))
        file = tmp_path / "mine.py"
        file.write_text(f"import polars as pl\n\n\ndef {name}(answers, seed):\n{lines}\n")
        return f"{file}:choose"

    return write_file


def select(reference: str, seed: int = 0) -> pl.DataFrame:
    return select_by_function(reference, POOLED, QUESTIONS, seed)


def test_rows_of_a_function_have_answer_and_share(write):
    reference = write(
        'rows = answers.filter(pl.col("question") == "One?").select("id", "response")\n'
        'return pl.concat([rows.head(1), pl.DataFrame({"id": ["b"], "response": [f"new {seed}"]})])'
    )
    selected = select(reference, 7)
    assert selected.schema == SELECTED
    assert selected.rows() == [("a", "so 1", "1", pytest.approx(2 / 3)), ("b", "new 7", "", 0.0)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", r"mine.py:choose: failed at line 5 with ZeroDivisionError: division by"),
        ('raise KeyError("a\\nb")', "failed at line 5 with KeyError"),
        ("return None", "choose: returned NoneType; return a polars table with the columns id"),
        (
            "return answers.select('id')",
            r"returned the columns id \(String\); return a polars table",
        ),
        ("return answers.head(0)", "choose: returned no rows; keep some question"),
        (
            'return pl.DataFrame({"id": ["a", "z"], "response": ["x", "y"]})',
            "row 1 has id 'z', no question of train_2",
        ),
        (
            'return pl.DataFrame({"id": ["a", "b"], "response": ["x", " "]})',
            "row 1 with id 'b' has no response",
        ),
        (
            'return pl.DataFrame({"id": ["a"], "response": [[1]]})',
            r"returned the columns id \(String\), response \(List\(Int64\)\); return",
        ),
        (
            'return pl.DataFrame({"id": ["a", None], "response": ["x", "y"]})',
            "row 1 has id None, no question of train_2",
        ),
    ],
)
def test_a_bad_function_ends_in_one_line(write, body, message):
    with pytest.raises(ValueError, match=message) as raised:
        select(write(body))
    assert "\n" not in str(raised.value)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A folder with the functions of docs/methods.md; each block begins with its file's name."""
    text = (Path(__file__).parents[2] / "docs/methods.md").read_text(encoding="utf-8")
    for name, code in re.findall(r"```python\n# (\S+)\n(.*?)```", text, flags=re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)


def test_the_functions_of_the_page_work(page):
    assert set(select("mine.py:longest")["response"]) == {"it is 1", "2"}
    pairs = pairs_by_function("mine_pairs.py:shorter", [POOLED.drop("source")], QUESTIONS, 0)
    assert pairs.select("id", "chosen", "rejected").rows() == [("a", " so 1", " it is 1")]
    group = POOLED.select(
        pl.lit(0).alias("group"), "sample", "id", pl.lit("ask").alias("prompt"), "response",
        "prediction", pl.lit(None, pl.String).alias("answer"),
    )  # fmt: skip
    rewards = score_answers("mine_reward.py:voted_and_short", group.cast(dict(GROUPED_ANSWERS)))
    assert rewards == pytest.approx([0.996, 0.993, -0.002, -0.001])


def test_a_relative_path_names_its_line_too(tmp_path, write, monkeypatch):
    write("return 1 / 0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"mine\.py:choose: failed at line 5 with Zero"):
        select("mine.py:choose")


def test_a_function_is_found_without_running_its_file(tmp_path, write):
    check_function(write("return answers"))
    with pytest.raises(ValueError, match=r"defines no function 'choose'; it has pick"):
        check_function(write("return answers", "pick"))
    with pytest.raises(ValueError, match=r"no\.py: cannot be read \(No such file"):
        check_function(f"{tmp_path / 'no.py'}:choose")
    broken = tmp_path / "broken.py"
    broken.write_text("def choose(:\n")
    with pytest.raises(ValueError, match=r"broken\.py: is no Python") as raised:
        check_function(f"{broken}:choose")
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_imported(tmp_path):
    file = tmp_path / "needs.py"
    file.write_text("import no_such_package\n\n\ndef choose(answers, seed):\n    return answers\n")
    with pytest.raises(ValueError, match="failed at line 1 with ModuleNotFoundError"):
        load_function(f"{file}:choose")
