"""Commands that fail or hang, and functions that are called at the same time."""

import time
from importlib.metadata import version

import pytest

from weak_to_strong.cluster.machine_facts import ask_command, call_all, installed_versions


def test_the_output_of_a_command():
    assert ask_command(["sh", "-c", "echo seen; echo unseen >&2"]) == "seen\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-command"], "no-such-command cannot be called"),
        (["sh", "-c", "echo first >&2; echo why >&2; exit 3"], r"sh failed \(why\)"),
        (["sh", "-c", "exit 3"], r"sh failed \(status 3\)"),
    ],
)
def test_a_fault_is_one_line(command, message):
    with pytest.raises(ValueError, match=message) as error:
        ask_command(command)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & sleep 60", "trap '' TERM; sleep 60"])
def test_a_command_that_hangs_is_given_up(script):
    """Also where a child of it keeps its output open."""
    began = time.monotonic()
    with pytest.raises(ValueError, match="sh gave no answer in 0 s"):
        ask_command(["sh", "-c", script], 0.3)
    assert time.monotonic() - began < 10


def test_secrets_are_neither_given_nor_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_aSecretOfThisTest")
    assert ask_command(["sh", "-c", 'echo "${HF_TOKEN:-none}"']) == "none\n"
    with pytest.raises(ValueError, match="hidden") as error:
        ask_command(["sh", "-c", "echo hf_aSecretOfThisTest >&2; exit 1"])
    assert "aSecret" not in str(error.value)


def test_versions_of_packages():
    assert installed_versions()["polars"] == version("polars")


def test_functions_run_together_and_none_holds_up_the_others():
    def fail():
        raise ValueError("why")

    calls = {
        "quick": lambda: 7,
        "failing": fail,
        "hanging": lambda: time.sleep(60),
        "hanging too": lambda: time.sleep(60),
    }
    began = time.monotonic()
    results = call_all(calls, 0.5)
    assert time.monotonic() - began < 10
    assert list(results) == list(calls)
    assert results["quick"] == 7
    assert str(results["failing"]) == "why"
    assert isinstance(results["hanging"], TimeoutError)
    assert isinstance(results["hanging too"], TimeoutError)
