"""What all tests share: running a rule's script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rule_scripts import rule_job, script_main

pytest_plugins = ("slow_tests",)


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
