"""A run and its job on a SLURM cluster import nothing from the working folder.

SLURM's commands are stand-ins: `sbatch` runs the command of the job at once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

pytestmark = pytest.mark.slow

#: Modules that Snakemake, the job's script and a training import.
NAMES = ("json", "polars", "tokenize", "weak_to_strong")
COMMANDS = {
    # The last argument is `--wrap=COMMAND`.
    "sbatch": """\
case "$*" in *--export=ALL*) ;; *) exit 1;; esac
for last; do :; done
printf '%s\\n' "${last#--wrap=}" > "$JOBS/command"
if sh "$JOBS/command" > "$JOBS/output" 2>&1; then state=COMPLETED; else state=FAILED; fi
echo "1|$state" > "$JOBS/state"
echo 1""",
    "squeue": 'cat "$JOBS/state"',
    "srun": 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"',
    "scontrol": "echo MinJobAge = 300",
    **dict.fromkeys(("sinfo", "sacct", "sacctmgr", "scancel"), "exit 0"),
}


@pytest.fixture
def slurm(tmp_path):
    """A folder of stand-ins for SLURM's commands, with what they note of jobs."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, script in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_training_on_a_cluster_does_not_import_from_the_working_folder(fresh_project, slurm):
    shutil.copy(ROOT / "slurm", fresh_project.path("slurm"), follow_symlinks=False)
    for name in NAMES:
        text = f"raise SystemExit('imported {name} of the folder')"
        fresh_project.path(f"{name}.py").write_text(text)
    target = "results/test/models/dice/random_weak/none/seed-0/weak-0/manifest.json"
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [
            *("snakemake", target, "--profile", "slurm", "--configfile", "config/test.yaml"),
            *("--retries", "0", "--slurm-init-seconds-before-status-checks", "1"),
        ],
        cwd=fresh_project.folder,
        env={**os.environ, "JOBS": str(slurm), "PATH": f"{slurm}:{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    output = (slurm / "output").read_text()
    assert "of the folder" not in done.stderr + output
    assert done.returncode == 0, done.stderr[-6000:] + output[-6000:]
    assert " -m snakemake " in (slurm / "command").read_text()
    assert fresh_project.path(target).exists()
