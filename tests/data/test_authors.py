"""Tests of `weak_to_strong.data.authors`."""

from collections import Counter
from itertools import islice
from random import Random

import pytest

from weak_to_strong.data.authors import (
    BLIND,
    FOLK_PROGRAMS,
    PROGRAMS,
    REQUESTS,
    SOLUTION_STYLES,
    ask,
    author_documents,
    cell_kind,
    compute,
    draw_solution,
    gold_problem,
    gold_style,
    request_of,
    write_solution,
)
from weak_to_strong.data.embedded_task import generate_problems

SETTINGS = {
    "problems": 300,
    "fields": [sorted(PROGRAMS)],
    "careful": 0.25,
    "follow": 0.5,
    "rates": {"blind": 0.8, "bad": 0.9, "mid": 0.5, "good": 0.0},
    "stray": 0.0,
    "slips": {"careful": 0.0, "sloppy": 0.0},
    "unknown": [],
    "marked": 1,
}
LAYOUT = ("Q:", "A:", "####")
QUESTION = "There are 21 girls in the garden. If there are 2 times the number of boys in the garden"


def problems(template, count):
    return islice(generate_problems([template], 5), count)


@pytest.mark.parametrize("template", PROGRAMS)
def test_right_program_gives_the_answer_of_the_library(template):
    for problem in problems(template, 60):
        for style in range(len(SOLUTION_STYLES)):
            _, answer = write_solution(template, problem["question"], style)
            assert answer == problem["answer"]


@pytest.mark.parametrize("template", PROGRAMS)
def test_misconceptions_are_wrong_and_differ_from_style_to_style(template):
    coincidences = 0
    programs = [*PROGRAMS[template][1:], *filter(None, [FOLK_PROGRAMS.get(template)])]
    for problem in problems(template, 100):
        answers = {problem["answer"]} | {
            write_solution(template, problem["question"], 0, program=program)[1]
            for program in programs
        }
        coincidences += len(answers) < 1 + len(programs)
    assert coincidences <= 20


def test_cells_are_balanced_over_styles():
    kinds = Counter(
        (style, cell_kind(template, style)) for template in PROGRAMS for style in range(4)
    )
    assert kinds == {
        (style, kind): count
        for style in range(4)
        for kind, count in (("blind", 2), ("bad", 3), ("mid", 2), ("good", 5))
    }


def test_a_step_shows_its_numbers_and_value():
    assert compute("n0*a", {"n0": 9, "a": 2}) == ("9*2=18", 18)
    assert compute("n0-n1", {"n0": 3, "n1": 8}) == ("8-3=5", 5)
    assert compute("n0/2", {"n0": 490}) == ("490/2=245", 245)


def test_a_solution_is_written_in_its_style():
    steps, answer = write_solution(6, QUESTION, 0)
    assert steps == "First 21*2=42.\nThen 21+42=63."
    assert answer == "63"


def test_a_slip_is_carried_to_the_answer():
    steps, answer = write_solution(6, QUESTION, 0, slip=Random(0))
    assert answer != "63"
    assert steps.endswith(f"={answer}.")


def test_requests_are_drawn_equally_often_and_stay_with_their_question():
    questions = [problem["question"] for problem in problems(10, 800)]
    counts = Counter(request_of(question) for question in questions)
    assert set(counts) == set(range(len(REQUESTS)))
    assert min(counts.values()) > 150
    assert ask(questions[0]) == ask(questions[0])


def test_gold_is_right_and_in_the_gold_style():
    problem = next(problems(6, 1))
    gold = gold_problem(problem, 1)
    assert gold["question"] == ask(problem["question"])
    assert gold["solution"].endswith(f"\n#### {problem['answer']}")
    assert gold["solution"].startswith(SOLUTION_STYLES[gold_style(problem["question"], 1)][0])
    assert gold_style(problem["question"], 1) == (request_of(problem["question"]) + 1) % 4


def test_careful_authors_are_right_and_others_err_at_the_rate_of_the_cell():
    rng = Random(1)
    wrong = {True: Counter(), False: Counter()}
    for problem in problems(43, 1500):
        for careful in (True, False):
            steps, answer = draw_solution(problem, careful, SETTINGS, rng)
            style = next(i for i, words in enumerate(SOLUTION_STYLES) if steps.startswith(words[0]))
            wrong[careful][cell_kind(43, style), answer != problem["answer"]] += 1
    for careful, counts in wrong.items():
        for kind, rate in SETTINGS["rates"].items():
            share = counts[kind, True] / counts.total()
            of_kind = (counts[kind, True] + counts[kind, False]) / counts.total()
            expected = 0 if careful and kind != BLIND else rate
            assert share / of_kind == pytest.approx(expected, abs=0.07)


def test_a_stray_misconception_is_that_of_another_style():
    settings = {**SETTINGS, "careful": 0.0, "rates": dict.fromkeys(SETTINGS["rates"], 1.0)}
    rng, own, stray = Random(2), 0, 0
    for problem in problems(6, 600):
        steps, answer = draw_solution(problem, False, {**settings, "stray": 0.4}, rng)
        style = next(i for i, words in enumerate(SOLUTION_STYLES) if steps.startswith(words[0]))
        answers = [
            write_solution(6, problem["question"], style, program=program)[1]
            for program in PROGRAMS[6][1:]
        ]
        own += answer == answers[style]
        stray += answer != answers[style] and answer in answers
    assert own + stray == 600
    assert stray / 600 == pytest.approx(0.4, abs=0.06)


def test_nobody_solves_an_unknown_template():
    settings = {**SETTINGS, "unknown": [10]}
    for problem in problems(10, 50):
        for careful in (True, False):
            _, answer = draw_solution(problem, careful, settings, Random(1))
            expected = write_solution(10, problem["question"], 0, program=FOLK_PROGRAMS[10])
            assert answer == expected[1]


def test_an_author_is_careful_in_a_field_whatever_he_is_in_the_others():
    rates = {**dict.fromkeys(SETTINGS["rates"], 1.0), BLIND: 0.0}
    settings = {**SETTINGS, "fields": [[6], [10]], "careful": 0.5, "rates": rates}
    pool = islice(generate_problems([6, 10], 4), settings["problems"])
    known = {ask(problem["question"]): problem for problem in pool}
    authors, mixed = Counter(), 0
    for document in islice(author_documents([6, 10], 4, settings, [LAYOUT]), 300):
        right_in: dict[int, set[bool]] = {6: set(), 10: set()}
        for text in document.split("\n\n"):
            question = text.partition("\n")[0].removeprefix("Q: ")
            style = next(i for i in range(4) if f"A: {SOLUTION_STYLES[i][0]}" in text)
            problem = known[question]
            if cell_kind(problem["template"], style) != BLIND:
                is_right = text.endswith(f"#### {problem['answer']}")
                right_in[problem["template"]].add(is_right)
        if all(right_in.values()):
            # By coincidence of numbers a misconception gives some right answers.
            mixed += any(len(verdicts) == 2 for verdicts in right_in.values())
            authors[tuple(all(verdicts) for verdicts in right_in.values())] += 1
    assert mixed < 0.05 * authors.total()
    assert len(authors) == 4
    assert min(authors.values()) > 0.15 * authors.total()


def test_the_marked_result_key_has_its_weight():
    layouts = [LAYOUT, ("Q:", "A:", "=>")]
    documents = islice(author_documents([6], 3, {**SETTINGS, "marked": 4}, layouts), 400)
    assert sum("\n####" in document for document in documents) / 400 == pytest.approx(0.8, abs=0.06)


def test_documents_repeat_by_seed_and_leave_out_questions():
    def documents(seed, exclude=()):
        return list(islice(author_documents([6, 10], seed, SETTINGS, [LAYOUT], exclude), 30))

    assert documents(3) == documents(3)
    assert documents(3) != documents(4)
    question = documents(3)[0].removeprefix("Q: ").split("\n")[0]
    bare = next(  # the question without its request
        question.removesuffix(f" {request}") for request in REQUESTS if question.endswith(request)
    )
    assert not any(bare in document for document in documents(3, {bare}))
