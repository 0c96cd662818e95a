"""Other forms of the embedded task: each answer is checked against the problem's own result."""

import json
import re
from collections import Counter
from fractions import Fraction

import polars as pl
import pytest

from weak_to_strong.data.embedded_forms import FORMS, is_square_free, restate
from weak_to_strong.data.readers import generate_embedded
from weak_to_strong.evaluation.judges import Case, judge_many
from weak_to_strong.method.olympicarena_prompts import olympicarena_prompt, option_letters
from weak_to_strong.method.prompts import sft_target

TEMPLATES = [6, 10, 16, 20, 31, 43, 48, 50, 58, 62, 72, 95]
#: How an answer of the `math` form is written, by what is asked, with `#` for numbers.
WRITTEN = {
    "": "#",
    "Divided by #: ": r"\frac{#}{#}",
    "In percent of #: ": r"#\%",
    "In dollars: ": r"\$#",
    "As an angle: ": r"#^\circ",
    "The square root of it: ": r"\sqrt{#}",
}
SIZES = {"train_1": 300, "train_2": 200, "validation": 100, "test": 200}


def rows_of(form):
    return pl.concat(generate_embedded(TEMPLATES, 5, SIZES, form).values())


@pytest.fixture(scope="module")
def plain():
    return rows_of("gsm8k")


def rows_and_bases(form, base):
    return list(zip(rows_of(form).to_dicts(), rows_of(base).to_dicts(), strict=True))


@pytest.fixture(scope="module", params=["math", "authors_math"])
def math(request):
    """Rows of a form with MATH's answers, each with the row of the form that it restates."""
    return rows_and_bases(
        request.param, {"math": "gsm8k", "authors_math": "authors"}[request.param]
    )


@pytest.fixture(scope="module")
def arena():
    return rows_and_bases("olympicarena", "gsm8k")


@pytest.mark.parametrize("form", FORMS)
def test_no_question_stands_twice_and_a_seed_makes_them_again(form):
    rows = rows_of(form)
    assert rows["question"].n_unique() == rows.height
    assert rows.equals(rows_of(form))
    other_seed = pl.concat(generate_embedded(TEMPLATES, 6, SIZES, form).values())
    assert not rows["question"].equals(other_seed["question"])


@pytest.mark.parametrize("form", FORMS)
def test_a_row_does_not_depend_on_the_rows_before_it(form):
    small = generate_embedded(TEMPLATES, 5, {"test": 40}, form)["test"]
    assert small.equals(generate_embedded(TEMPLATES, 5, SIZES, form)["test"].head(40))


def test_without_a_form_nothing_changes(plain):
    assert plain.equals(pl.concat(generate_embedded(TEMPLATES, 5, SIZES).values()))


@pytest.mark.parametrize("form", ["math", "authors_math", "olympicarena"])
def test_the_word_problem_and_its_steps_stay(form):
    for row, base in rows_and_bases(form, "authors" if form == "authors_math" else "gsm8k"):
        assert base["question"] in row["question"]
        assert row["solution"] == base["solution"].rpartition("\n#### ")[0]


def value_of(answer):
    """The number in an answer of the `math` form, its square where it is a root."""
    if match := re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", answer):
        assert Fraction(*map(int, match.groups())).denominator == int(match[2])
        return Fraction(*map(int, match.groups()))
    match = re.fullmatch(r"(\\sqrt\{|\\\$)?(\d+)(\\%|\^\\circ|\})?", answer)
    return int(match[2])


def test_math_answers_follow_from_the_result(math):
    forms = Counter()
    for row, base in math:
        asked = row["question"].removesuffix(base["question"])
        result = int(base["answer"])
        if divided := re.fullmatch(r"Divided by (\d+): ", asked):
            assert value_of(row["answer"]) == Fraction(result, int(divided[1]))
        else:
            assert value_of(row["answer"]) == result
        mark = re.sub(r"\d+", "#", row["answer"])
        assert mark == WRITTEN[re.sub(r"\d+", "#", asked)]
        forms[mark] += 1
        assert sft_target(row["solution"], row["answer"], "The answer is:").endswith(
            f" The answer is: {row['answer']}"
        )
    assert len(forms) == 6
    assert min(forms.values()) >= 20


def test_math_has_all_levels_and_names_the_template(math):
    levels = Counter(row["level"] for row, _ in math)
    assert sorted(levels) == ["1", "2", "3", "4", "5"]
    assert min(levels.values()) >= 5
    assert all(row["subject"] == base["subject"] for row, base in math)


def test_square_free_numbers():
    assert [number for number in range(21) if is_square_free(number)] == [
        *(2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19)
    ]


@pytest.mark.slow
def test_olympicarena_answers_follow_from_the_result(arena):
    asked = {
        "NV": lambda x: f"{x}",
        "SET": lambda x: rf"\{{{x}, 0\}}",
        "IN": lambda x: f"[0, {x}.0]",
        "EX": lambda x: f"x * {x}",
        "EQ": lambda x: f"{x} x = y",
        "TUP": lambda x: f"0, {x}",
        "MPV": lambda x: f"{x}, {x + x}",
        "MA": lambda x: f"-{x}, {x}",
    }
    cases = []
    for row, base in arena:
        result, kind = int(base["answer"]), row["answer_type"]
        if kind in ("SC", "MC"):
            lines = row["question"].split("\n")[-4:]
            options = {line[0]: float(line[3:]) for line in lines}
            assert list(options) == option_letters(row["question"]) == list("ABCD")
            right = [letter for letter, value in options.items() if value == result]
            assert len(right) == (1 if kind == "SC" else 2)
            assert row["answer"] == ", ".join(right)
        elif kind == "TF":
            shown = int(re.match(r"Is it (\d+)\?", row["question"])[1])
            assert row["answer"] == str(shown == result)
        else:
            case = (row["answer"], kind, row["unit"], row["parts"])
            cases += [
                (Case(asked[kind](result), *case), "right"),
                (Case(asked[kind](result + 1), *case), "wrong"),
            ]
    verdicts = judge_many(case for case, _ in cases)
    assert verdicts == [verdict for _, verdict in cases]


def test_olympicarena_rows_have_prompts_targets_and_every_type(arena):
    rows = [row for row, _ in arena]
    kinds = Counter(row["answer_type"] for row in rows)
    assert set(kinds) == {"NV", "SC", "MC", "TF", "SET", "IN", "EX", "EQ", "TUP", "MPV", "MA"}
    assert min(kinds.values()) >= 20
    assert len({row["subject"] for row in rows}) >= 3
    assert any(row["unit"] for row in rows)
    for row in rows:
        assert row["question"] in olympicarena_prompt(row)
        assert sft_target(row["solution"], row["answer"], r"\boxed").endswith(
            rf"$\boxed{{{row['answer']}}}$."
        )
        names = [part["name"] for part in json.loads(row["parts"] or "[]")]
        assert (len(names) == 2) == (row["answer_type"] in ("MPV", "MA"))


def test_choices_and_truth_values_are_balanced(arena):
    answers = {
        kind: Counter(row["answer"] for row, _ in arena if row["answer_type"] == kind)
        for kind in ("TF", "SC")
    }
    for kind, names in (("TF", ("True", "False")), ("SC", "ABCD")):
        total, share = answers[kind].total(), 1 / len(names)
        assert set(answers[kind]) == set(names)
        for name in names:
            assert abs(answers[kind][name] / total - share) < 0.15, (kind, answers[kind])


def test_a_result_that_is_no_whole_number_is_refused():
    problem = {"question": "q", "solution": "s\n#### 1/2", "answer": "1/2", "template": 3}
    with pytest.raises(ValueError, match=r"template 3 gave '1/2': leave it out"):
        restate(problem, "math", 0)
    with pytest.raises(ValueError, match="'aime' is not one of gsm8k, authors, math, "):
        restate(problem, "aime", 0)
