"""Limits of time, memory and size for chat templates, which are programs of strangers."""

import time

import pytest

from weak_to_strong.models import chat_renderer
from weak_to_strong.models.chat_renderer import render_chats

pytestmark = pytest.mark.slow

CHAT = ([{"role": "user", "content": "2+2?"}], True)
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def render(monkeypatch):
    """Renders a chat with a template."""
    monkeypatch.setattr(chat_renderer, "CALL_SECONDS", 1)
    return lambda template, *chats, **variables: render_chats(template, variables, chats or [CHAT])


def test_the_texts_come_in_the_order_of_the_chats(render):
    chats = [([{"role": "user", "content": str(number)}], number % 2 == 0) for number in range(600)]
    template = "{{ sign }}{{ messages[0].content }}{{ add_generation_prompt }}"
    texts = render(template, *chats, sign="#")
    assert texts == [f"#{number}{number % 2 == 0}" for number in range(600)]


def test_the_day_of_the_run_does_not_change_a_text(render):
    assert render("{{ strftime_now('%d %b %Y') }}") == ["26 Jul 2024"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOP, "takes more than 1 s of CPU time for 1 chats"),
        ("{{ (10**8)**(10**8) }}", "takes more than 1 s of CPU time"),
        ("{{ 'a' * 10**11 }}", "needs more than 1024 MiB of memory"),
        ("{{ 'a' * 10**6 }}", "makes 1000000 characters of a chat, the most are 100008"),
        ("{{ range(10**9) | list }}", "Range too big"),
        ("{{ ''.__class__.__mro__ }}", "refuses a chat"),
        ("{% include '/etc/passwd' %}", "refuses a chat"),
        ("{{ '\\ud800' }}", "refuses a chat"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
    ],
)
def test_a_hostile_template_ends_in_one_line(render, template, reason):
    began = time.monotonic()
    with pytest.raises(ValueError, match=reason) as error:
        render(template)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 120


def test_after_a_hostile_template_the_next_one_is_rendered(render):
    for template in ("{{ messages[0].content.no() }}", LOOP):
        with pytest.raises(ValueError, match=r"refuses a chat|takes more than"):
            render(template)
        assert render("{{ messages[0].content }}") == ["2+2?"]


def test_the_child_ends_when_it_is_not_needed(render):
    render("a")
    child = chat_renderer._child
    chat_renderer.end_renderer()
    assert child.poll() is not None
    chat_renderer.end_renderer()
    assert render("b") == ["b"]
