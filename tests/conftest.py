"""What all tests share: running a rule's script, and the profiles of Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from rule_scripts import rule_job, script_main

pytest_plugins = ("slow_tests",)

# A loaded machine must not fail a test, so examples have no deadline.
settings.register_profile("all", deadline=None)
# For `make test-unit`; `make test` draws the usual number of examples.
settings.register_profile("unit", deadline=None, max_examples=20)
settings.load_profile("all")


@pytest.fixture
def run_rule(tmp_path: Path) -> Callable[..., Any]:
    """A function that runs the script of a rule: `run_rule(rule, inputs, outputs, **params)`.

    Inputs and outputs are paths, or lists of paths, by name; relative ones are below `tmp_path`.
    """

    def run(
        rule: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], /, **params: object
    ) -> Any:
        return script_main(rule)(rule_job(rule, inputs, outputs, params, folder=tmp_path))

    return run
