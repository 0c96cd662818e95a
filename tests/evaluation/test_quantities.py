"""Numbers as people write them: one rule for each kind, and never right for another number."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.evaluation.answer_text import mark_unit, strip_words, tidy, unbox
from weak_to_strong.evaluation.quantities import read_quantity, written_verdict

RIGHT = [
    *[("12.5%", "12.5"), ("50%", "50"), ("50%", "0.5"), ("28 percent", r"28\%"), ("28 pct", "28")],
    *[("1.5e3", "1500"), ("1e-05", "0.00001"), ("5.0e-1", "0.5"), ("1.5E3", "1500")],
    *[(r"1.5 \times 10^{3}", "1500"), ("1.5*10^3", "1500"), (r"10^{-3}", "0.001")],
    *[("10 000", "10000"), ("10'000", "10000"), (r"10\,000", "10000"), ("1{,}000", "1000")],
    *[("1,00,000", "100000"), ("1.234,56", "1234.56"), ("1 234,56", "1234.56")],
    *[("3,14", "3.14"), ("0,111", "0.111"), ("1000,99", "1000.99")],
    *[("€5", "5"), ("£1,250", "1250"), ("$1,234.00", "1234"), ("5 USD", "$5"), ("-$5", "-5")],
    *[
        ("\uff11\uff12\uff13", "123"),
        ("\uff11\uff0c\uff12\uff13\uff14", "1234"),
        ("73。", "73"),
        ("73**", "73"),
        ("**73**", "73"),
    ],
    *[("18 eggs", "18"), ("12 apples", "12"), ("5 dollars", "5"), ("42 miles per hour", "42")],
    *[("5 cm", "5"), ("42 minutes", "42"), ("18 eggs", "18.0 eggs"), ("10kg", "10")],
    *[("100 cm", "1 m"), ("2 hours", "120 minutes"), ("50 cents", "$0.50"), ("42 mph", "42 mi/h")],
    *[("5 square feet", "5 ft^2"), (r"9.8\text{ m/s}^2", "9.8 m/s²"), ("20°C", "20")],
    *[("2 1/4", "2.25"), (r"2\frac14", r"\frac94"), ("4 4/9%", "40/9"), ("2½", "2.5")],
    *[
        ("5 million", "5,000,000"),
        ("eighteen eggs", "18"),
        ("twenty-five", "25"),
        ("2 dozen", "24"),
    ],
    *[
        ("a dozen", "12"),
        ("a hundred eggs", "100"),
        ("5 (five)", "5"),
        ("five (5)", "5"),
        ("= 5", "5"),
    ],
    *[("2 and a half", "2.5"), ("two and a half hours", "2.5"), ("1*10**3", "1000")],
    *[("The answer is 18.", "18"), ("x = 18", "18"), ("She has 18 eggs left", "18")],
    *[("about 18", "18"), ("0.3333", "1/3"), ("0.0833333333333333", r"\frac{1}{12}")],
    *[
        ("1.5\u00d710\u00b3", "1500"),
        ("1.6\u00d710\u207b\u00b9\u2079", "1.6e-19"),
        ("10_000", "10000"),
        ("*73*", "73"),
    ],
    *[
        ("5 ft 3 in", "63 inches"),
        ("5 ft 3 in", "63 in"),
        ("5 ft 3 in", "63"),
        ("5 hours and 30 minutes", "330 minutes"),
    ],
    *[("5 ft 3 in", "5 feet, 3 inches"), ("2 hours 30 minutes", "2.5 hours")],
    *[("2 hours and 30 minutes", "2.5"), ("2 hours and 30 minutes", "150")],
    *[("1.5k", "1500"), ("$1.5K", "1,500 dollars"), ("$2M", "2 million dollars"), ("No. 5", "5")],
    *[("4,5 m", "4.5"), ("16 386,17 €", "16386.17")],
    *[("5 tenths", "0.5"), ("three hundredths", "0.03"), ("5‰", "0.005"), ("3 tens", "30")],
    *[("2 lakh", "200000"), ("$3.5bn", "3500000000"), ("$2m", "2 million dollars")],
    *[("3 and 1/2", "3.5"), ("7\u20442", "3.5"), ("18.-", "18"), ("fifth", "5th")],
    *[("\u0663\u066b\u0665", "3.5"), ("1\u066c234", "1234"), ("18\u5143", "18"), ("R$ 5", "5")],
    *[("5 kV", "5000 V"), ("5 \u00b5m", "5 um"), (r"5 \Omega", "5 ohm"), ("5 mol", "5 moles")],
    *[
        ("18 US dollars", "$18"),
        ("$18 every day", "18"),
        ("x: 18", "18"),
        ("18 \u2103", "18"),
        ("18\u339d", "18 cm"),
        ("30\u00ba", "30"),
    ],
    *[("\u2705 18", "18"), ("\u300c18\u300d", "18"), ("<b>18</b>", "18")],
    *[(r"\textcolor{red}{18}", "18"), (r"\underline{18}", "18"), (r"{\bf 18}", "18")],
    *[(r"\mathbf{\boxed{18}}", "18"), ("12-15", "from 12 to 15"), ("$12-$15", "$12 to $15")],
    *[("12:30", "12:30 pm"), ("(0.6,2.6667]", r"(\frac{3}{5},\frac{8}{3}]"), ("$5, $6", "5,6")],
]
WRONG = [
    *[
        (r"9.1 \times 10^{-31}", r"1.6 \times 10^{-19}"),
        ("1.0000001", r"\frac{10000002}{10000000}"),
    ],
    *[("18 eggs", "19"), ("5 cm", "5 kg"), ("5 dollars", "€5"), ("12.5%", "1.25"), ("0.33", "1/3")],
    *[("1.5e3", "15000"), ("10 000", "1000"), ("12:00", "1:00"), ("5 million", "6"), ("-5", "5")],
    *[("(1e-7,2)", "(2e-7,2)"), ("1e-7, 3", "3, 2e-7")],
    *[("5 ft 3 in", "5"), ("5 ft 3 in", "3"), ("5 ft 3 in", "5.3"), ("5 ft 3 in", "5.3 ft")],
    *[("5 ft 3 in", "5 ft"), ("2 hours 30 minutes", "2.3 hours")],
    *[("1 hour 5 minutes", "65 seconds"), ("1.5k", "1.5"), ("$2M", "2"), ("No. 5", "6")],
    *[("16 386,17 €", "$16,386.17"), ("3 hours 5 minutes", "5 ft 3 in")],
    *[("5 tenths", "5"), ("2 lakh", "2"), ("5 mV", "5 MV"), ("$5", "R$5"), ("5‰", "5")],
    *[("12-15", "12-16"), ("January 15", "February 15"), ("2024-01-15", "2008")],
    *[("0.3334", "1/3"), ("4 4/9", "4"), ("1e-400", "1e-401"), ("28", "0.28")],
]
#: What is read otherwise, or not at all.
NOT_READ = [
    *[("12,34", "1234"), ("5 or more", "5"), ("at least 5", "5"), ("5m", "5"), ("3ab", "3")],
    *[("5 apples and 3 pears", "5"), ("5!", "5"), ("3 x", "3"), ("AZYUK2A", "2"), ("1.2.3", "1")],
    *[("x=5", "y=5"), ("1, 2", "12"), ("32, 349", "32349"), ("not 5", "5"), ("1e999999", "1")],
    *[("5 ft 13 in", "73 in"), ("300K", "300000")],
    *[("5 ft and 3 m", "5 ft"), ("5 cm 3 cm", "8 cm"), ("2kx", "2000"), ("No. 5 or 6", "5")],
    *[("can't be 5", "5"), ("hardly 5", "5"), ("5 i", "5"), ("5...", "5")],
    *[("x - 5", "-5"), ("52_8", "52"), ("1/0", "1"), ("11 7/6", "73/6")],
]


def verdict(one: str, other: str) -> str | None:
    return written_verdict(tidy(one), tidy(other))


@pytest.mark.parametrize(("one", "other"), RIGHT)
def test_right(one, other):
    assert verdict(one, other) == verdict(other, one) == "right"


@pytest.mark.parametrize(("one", "other"), WRONG)
def test_wrong(one, other):
    assert verdict(one, other) == verdict(other, one) == "wrong"


@pytest.mark.parametrize(("one", "other"), NOT_READ)
def test_not_read(one, other):
    assert verdict(one, other) is None
    assert verdict(other, one) is None


def test_unknown_words_that_differ_are_undecided():
    assert verdict("18 eggs", "18 apples") == "undecided"
    assert verdict("1:00", "13:00") == "undecided"
    assert verdict("Room 5", "Gate 5") == "undecided"


@given(st.fractions(), st.sampled_from(["{} eggs", "${}$", "x = {}", "{} cm", "The answer is {}."]))
def test_writing_keeps_the_value(value, writing):
    text = f"{value.numerator}/{value.denominator}"
    assert read_quantity(writing.format(text)).value == value


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_other_numbers_are_never_right(one, other):
    for writing in ("{:,}", "{} eggs", "{:.6e}", "$ {:,}.00", "{} percent"):
        read = read_quantity(tidy(writing.format(one)))
        if "e}" not in writing:
            assert read.value == one
        if read.value != other and read.value != Fraction(other) * 100:
            assert verdict(writing.format(one), str(other)) != "right"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"Therefore $x \geq 5$ is the solution.", r"x \geq 5"),
        (r"We get \[ 9 \]", r"\[ 9 \]"),
        (r"Altogether \[ 9 \]", "9"),
        ("The answer is: Monday", "Monday"),
        ("So the answer is $\\frac13$", "$\\frac13$"),
        (r"$2\sqrt{3}$ cm", r"2\sqrt{3}\text{ cm}"),
        ("It is not $5$", "It is not $5$"),
        ("$12$ and $13$", "$12$ and $13$"),
        ("no solution", "no solution"),
    ],
)
def test_words_around_an_answer(text, answer):
    assert strip_words(text) == answer


def test_bare_units_are_marked():
    assert mark_unit(r"2\sqrt{3} cm") == r"2\sqrt{3}\text{ cm}"
    assert mark_unit("5x+3 d") == "5x+3 d"
    assert mark_unit(r"\frac{1}{2} or") == r"\frac{1}{2} or"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", ["}", "^", "9", "(", ""])
def test_long_repetition_ends(end):
    """Nested patterns would need years here."""
    for unit in ("a", "a ", "five ", "1,", "1 ", "$", "*", "^{2", "is ", "the answer is "):
        text = unit * (190 // len(unit))
        for start in ("", "5 ", "5", "$5 ", "x = "):
            read_quantity(tidy(start + text + end))
            strip_words(start + text + end)
            mark_unit(start + text + end)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (r"so $x = \boxed{5}$.", "5"),
        (r"the roots are: \[ \boxed{[-4, 0]} \]", "[-4, 0]"),
        (r"x \in \boxed{(2,12)}", "(2,12)"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1}\boxed{2}", "1, 2"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$\boxed{(2, 2)} \quad \text{and} \quad \boxed{(6, 2)}$", "(2, 2), (6, 2)"),
        (r"$y_1 = \boxed{3}$ and $y_2 = \boxed{4}$", "3, 4"),
        (r"\boxed{1} pen and \boxed{2} cups", "1, 2"),
        (r"\boxed{7}. So it is \boxed{7}.", "7"),
        (r"it is not \boxed{5}", None),
        (r"x \neq \boxed{5}", None),
        (r"-\boxed{5}", None),
        (r"x = \pm \boxed{5}", None),
        (r"\boxed{5}\sqrt{2}", None),
        (r"\boxed{5} or 6", None),
        (r"\boxed{1} but that is no sum, so \boxed{2}", None),
        (r"\boxed{1} and then after a long while there is also \boxed{2}", None),
        (r"\boxed{5", None),
    ],
)
def test_boxes_in_a_sentence(text, left):
    assert unbox(text) == (text if left is None else left)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (r"\\frac{1}{2}", r"\frac{1}{2}"),
        (r"so:\n\n\\[x\\]", r"so:  \[x\]"),
        (r"\begin{matrix}1\\ab\end{matrix}", r"\begin{matrix}1\\ab\end{matrix}"),
        (r"a \\ b", r"a \\ b"),
        (r"\neq 3", r"\neq 3"),
    ],
)
def test_doubled_backslashes(text, left):
    """As in a text that was written into JSON twice."""
    assert tidy(text) == left
