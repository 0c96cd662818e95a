"""Word problems of one or two steps."""

import re
from itertools import islice

import pytest

from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.data.short_problems import SHORT

STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)$")
COMPUTE = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
}


@pytest.mark.parametrize("template", SHORT)
def test_steps_compute_the_answer_from_the_numbers_of_the_question(template):
    for problem in islice(generate_problems([template], seed=1), 300):
        *steps, last = problem["solution"].split("\n")
        assert last == f"#### {problem['answer']}"
        assert len(steps) == (1 if template < 104 else 2)
        known = {*re.findall(r"\d+", problem["question"])}
        for step in steps:
            left, operator, right, result = STEP.search(step).groups()
            assert COMPUTE[operator](int(left), int(right)) == int(result)
            assert {left, right} <= known
            known.add(result)
        assert result == problem["answer"]
        assert int(result) > 0


@pytest.mark.parametrize("template", SHORT)
def test_each_template_has_questions_enough(template):
    questions = {row["question"] for row in islice(generate_problems([template], seed=2), 3000)}
    assert len(questions) == 3000


def test_they_mix_with_the_templates_of_the_library():
    mixed = islice(generate_problems([43, 100], seed=0), 50)
    assert {problem["template"] for problem in mixed} == {43, 100}
