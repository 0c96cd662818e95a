"""What all tests share: running a rule's script, and the profiles of Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from rule_scripts import rule_job, script_main
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ("slow_tests",)

# A loaded machine must not fail a test, so examples have no deadline.
settings.register_profile("all", deadline=None)
# For `make test-unit`; `make test` draws the usual number of examples.
settings.register_profile("unit", deadline=None, max_examples=20)
settings.load_profile("all")


#: Modules of tests/workflow that use its complete run, which takes minutes.
USERS_OF_THE_RUN = (
    "compare",
    "complete_run",
    "gold_isolation",
    "lost_records",
    "paper_steps",
    "published",
    "reruns",
    "selections_by_config",
    "several_test_sets",
    "trackers_and_progress",
    "upload",
)


class FileScheduling(LoadScopeScheduling):
    """With `pytest -n`, tests of one file share a process; so do all that use the complete run."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "complete run" if Path(file).stem[5:] in USERS_OF_THE_RUN else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FileScheduling:
    return FileScheduling(config, log)


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
