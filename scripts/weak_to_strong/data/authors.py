"""Solutions of the embedded task as authors write them, in several styles, right and wrong.

A pretraining text shows what many authors wrote. A few are careful. The others have misconceptions:
a wrong way to solve the problems of one template, which they take when they write in one style. So
an error depends on the *cell*, which is a template and a style. A question ends in a request, one
of four sentences. Authors of the pretraining text mostly take one style for a request; the gold
solutions take another. So two models that learned from the two write the same question in two
styles, and do not err on the same questions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from random import Random
from typing import Any

from weak_to_strong.data.embedded_task import generate_problems

#: The last sentence of a question. Its place here is the number of the request.
REQUESTS = ("Show the work.", "Solve it.", "Explain how.", "Find it out.")

#: The style of gold solutions is that of the request, moved on by so many.
GOLD_SHIFT = 1

#: Words before each step, by style. No style is longer than another by more than a word a step.
SOLUTION_STYLES = (
    ("First", "Then", "Last"),
    ("Let a be", "Let b be", "Let c be"),
    ("We get", "We get", "We get"),
    ("So it is", "So it is", "So it is"),
)

#: Template -> steps of the right solution, then of one misconception for each style. `n0`, `n1` and
#: so on are the numbers of the question in its order, `days` those of its week or month, `a` and
#: `b` the values of the first two steps.
#: A subtraction takes the smaller number from the larger one. No misconception adds a number to
#: itself: a model takes such a step in styles whose misconception it is not. No two ways have one
#: result, but for coincidences of the numbers.
PROGRAMS: Mapping[int, tuple[str, ...]] = {
    6: ("n0*n1 n0+a", "n0+n1 n0+a", "n0+n1 a*n1", "n0*n1 a-n1", "n0-n1 a*n1"),
    10: ("n0*n2 a-n1", "n0*n2 a+n1", "n0+n1 a*n2", "n0+n2 a-n1", "n0*n2 a-n0"),
    16: ("n2/n0 n1*a", "n2-n0 n1*a", "n2/n0 a+n1", "n2-n0 a+n1", "n2-n0 a-n1"),
    20: ("n0*n2 n1-a", "n0+n2 n1-a", "n0*n2 n1+a", "n1+n0 a-n2", "n1-n0 a+n2"),
    31: (
        "n1+n2 a+n3 n1+a+b",
        "n1+n2 a+n3 a+b",
        "n1+n2 n1+n3 n1+a+b",
        "n1+n2 a+n3 n0-b",
        "n1+n2 a+n3 n1+b",
    ),
    43: ("n0-n1 n0+a", "n0+n1 n0+a", "n0-n1 n0-a", "n0-n1 a+n1", "n0+n1 a+n1"),
    48: (
        "n2*n0 n3*n1 a-b",
        "n2*n0 n3*n1 a+b",
        "n2+n0 n3+n1 a-b",
        "n2+n0 n3+n1 a+b",
        "n2*n0 n3+n1 a-b",
    ),
    50: ("n0/2 a+n1", "n0/2 n1-a", "n0/2 n0+a", "n0+n1 a+n0", "n0-n1 n0+a"),
    58: ("n0*n1 a*n2", "n0*n1 a+n2", "n0+n1 a*n2", "n0*n2 a+n1", "n0+n1 a+n2"),
    62: (
        "n1*n2 n1+a n0/b",
        "n1*n2 n1+a n0-b",
        "n1*n2 n0-a",
        "n1*n2 n0+a",
        "n1*n2 n1+a n0+b",
    ),
    72: (
        "n0*n1 n0+a n2-b",
        "n0*n1 n0+a n2+b",
        "n0*n1 n2-a",
        "n0*n1 n2+a",
        "n0*n1 n2-n0",
    ),
    95: ("n0+n1+n2 a*days", "n0+n1+n2 a*10", "n0+n1 a*days", "n0+n1+n2 a*12", "n0+n1+n2 a+30"),
}

#: Template -> steps of a wrong way that no style has: all authors take it where nobody knows better
#: (`unknown`). A model that has read another text has never seen it, so it does not agree.
FOLK_PROGRAMS: Mapping[int, str] = {
    10: "n0+n1 a+n2",
    20: "n0+n1 a+n2",
    31: "n0+n2 a+n3",
    43: "n0+n1 a*2",
    58: "n0*n1 a-n2",
    62: "n1+n2 n0-a",
    72: "n0+n1 n2-a",
}

#: Kinds of cell by style, for a third of the templates each. Turned by one style for each further
#: group of three templates, so that over twelve templates each style has two blind, three bad, two
#: mid and five good cells.
PATTERNS = (
    ("bad", "blind", "mid", "good"),
    ("bad", "good", "good", "good"),
    ("bad", "mid", "good", "blind"),
)
#: Kinds of cell whose misconception careful authors have too.
BLIND = "blind"


def request_of(question: str) -> int:
    """The request that belongs to a question, drawn from its words: 0 to 3, equally often."""
    return Random(question).randrange(len(REQUESTS))


def ask(question: str) -> str:
    """The question with its request as the last sentence."""
    return f"{question} {REQUESTS[request_of(question)]}"


def cell_kind(template: int, style: int) -> str:
    """Kind of the cell: `blind`, `bad`, `mid` or `good`."""
    place = sorted(PROGRAMS).index(template)
    pattern = PATTERNS[place % len(PATTERNS)]
    return pattern[(style + place // len(PATTERNS)) % len(SOLUTION_STYLES)]


def compute(expression: str, values: Mapping[str, int]) -> tuple[str, int]:
    """One step with its numbers in place: its text, as in `9*2=18`, and its value."""
    parts = re.split(r"([-+*/])", expression)
    numbers = [values[part] if part in values else int(part) for part in parts[::2]]
    operator = parts[1]
    if operator == "-":
        numbers = sorted(numbers, reverse=True)
    value = numbers[0]
    for number in numbers[1:]:
        if operator == "+":
            value += number
        elif operator == "-":
            value -= number
        elif operator == "*":
            value *= number
        else:  # whole part: only after a slip is there a rest, or a zero
            value //= max(1, number)
    return f"{operator.join(map(str, numbers))}={value}", value


def write_solution(
    template: int,
    question: str,
    style: int,
    *,
    program: str | None = None,
    slip: Random | None = None,
) -> tuple[str, str]:
    """A solution in a style: its lines, and its answer.

    Args:
        template: number of the template, one of PROGRAMS.
        question: the question; its numbers are those of the steps.
        style: number of the style.
        program: its steps, as in PROGRAMS; those of the right way by default.
        slip: make one step's value wrong by a little, drawn with this generator, and carry it on.
    """
    numbers = re.findall(r"\d+", question)
    values = {f"n{place}": int(number) for place, number in enumerate(numbers)}
    values["days"] = 30 if "month" in question else 7
    steps = (program or PROGRAMS[template][0]).split()
    slipped = slip.randrange(len(steps)) if slip else None
    lines = []
    value = 0
    for place, (name, step) in enumerate(zip("abc", steps, strict=False)):
        text, value = compute(step, values)
        if place == slipped:
            value = max(0, value + slip.choice((-10, -2, -1, 1, 2, 10)))
            text = f"{text.partition('=')[0]}={value}"
        values[name] = value
        lines.append(f"{SOLUTION_STYLES[style][place]} {text}.")
    return "\n".join(lines), str(value)


def gold_style(question: str, shift: int = GOLD_SHIFT) -> int:
    """Style of a question's gold solution: that of its request, moved on by `shift`."""
    return (request_of(question) + shift) % len(SOLUTION_STYLES)


def gold_problem(problem: Mapping[str, Any], shift: int = GOLD_SHIFT) -> dict:
    """A problem of the library with its request, and its gold solution in the gold style."""
    style = gold_style(problem["question"], shift)
    steps, answer = write_solution(problem["template"], problem["question"], style)
    return {
        "question": ask(problem["question"]),
        "solution": f"{steps}\n#### {answer}",
        "answer": answer,
        "template": problem["template"],
    }


def draw_solution(
    problem: Mapping[str, Any], careful: bool, settings: Mapping[str, Any], rng: Random
) -> tuple[str, str]:
    """What an author, careful in the problem's field or not, writes: the lines and the answer."""
    question, template = problem["question"], problem["template"]
    request = request_of(question)
    if rng.random() < settings["follow"]:
        style = request
    else:
        style = rng.choice([other for other in range(len(SOLUTION_STYLES)) if other != request])
    kind = "careful" if careful else "sloppy"
    program, cell = None, cell_kind(template, style)
    if template in settings["unknown"]:
        program = FOLK_PROGRAMS[template]
    elif (cell == BLIND or not careful) and rng.random() < settings["rates"][cell]:
        misconception = style
        if rng.random() < settings["stray"]:
            misconception = rng.choice(
                [other for other in range(len(SOLUTION_STYLES)) if other != style]
            )
        program = PROGRAMS[template][1 + misconception]
    slip = rng if program is None and rng.random() < settings["slips"][kind] else None
    return write_solution(template, question, style, program=program, slip=slip)


def author_documents(
    templates: Collection[int],
    seed: int,
    settings: Mapping[str, Any],
    layouts: Sequence[tuple[str, str, str]],
    exclude: Collection[str] = (),
) -> Iterator[str]:
    """Endless stream of documents of one author each: one to six problems in one layout.

    For each field an author is careful in it or not, whatever he is in the others.

    Args:
        templates: templates of the task, of PROGRAMS.
        seed: seed of the stream.
        settings: `problems` (how many there are; several authors may solve one), `fields` (lists of
            templates, each template in one), `careful` (share of authors who are careful in a
            field), `follow` (share of solutions in the style of the request), `rates`
            (kind of cell -> share of solutions by the other authors that have a misconception; in
            blind cells by all authors),
            `stray` (share of these misconceptions that are not the cell's, but another style's),
            `slips` (`careful`, `sloppy` -> share with an arithmetic slip), `unknown` (templates
            of FOLK_PROGRAMS, which every author solves in that way), `marked` (weight of a layout
            whose result key is `####`, where every other layout has the weight 1).
        layouts: (question key, answer key, result key) of documents.
        exclude: questions, without their request, that no document shows.
    """
    rng = Random(seed)
    pool: dict[int, list[dict]] = {template: [] for template in sorted(templates)}
    for problem in islice(generate_problems(templates, seed, exclude), settings["problems"]):
        pool[problem["template"]].append(problem)
    layouts, numbers = sorted(layouts), sorted(pool)
    weights = [settings["marked"] if layout[2] == "####" else 1 for layout in layouts]
    field_of = {
        template: place for place, field in enumerate(settings["fields"]) for template in field
    }
    while True:
        careful = [rng.random() < settings["careful"] for _ in settings["fields"]]
        question_key, answer_key, result_key = rng.choices(layouts, weights)[0]
        texts = []
        for _ in range(rng.randint(1, 6)):
            problem = rng.choice(pool[rng.choice(numbers)])
            in_field = careful[field_of[problem["template"]]]
            steps, answer = draw_solution(problem, in_field, settings, rng)
            asked = f"{question_key} {ask(problem['question'])}"
            texts.append(f"{asked}\n{answer_key} {steps}\n{result_key} {answer}")
        yield "\n\n".join(texts)
