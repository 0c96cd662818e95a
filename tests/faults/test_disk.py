"""A full disk or a read-only folder gives one line and no partial file; the next run continues."""

import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty import WEAK_SIDE

pytestmark = pytest.mark.slow

TABLE = "results/test/data/dice/train_1.parquet"
TRAINING = f"results/test/models/{WEAK_SIDE}/weak-0/manifest.json"


@contextmanager
def tmpfs(folder: Path, options: str):
    """Mount a file system in memory on `folder`; skip the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def lines_of_scripts(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("[") and "run again" in line]


def test_a_disk_that_fills_during_a_training_is_told_and_the_next_run_continues(fresh, undisturbed):
    """The disk has room for the tables, but not for the model's checkpoint."""
    results = fresh.path("results")
    with tmpfs(results, "size=1m"):
        rows = TRAINING.replace("manifest.json", "rows.parquet")
        fresh.finish(rows, "results/test/bases/random_weak.json")
        fresh.finish("results/test/data/dice/contamination.csv")
        taken = sum(file.stat().st_blocks * 512 for file in results.rglob("*") if file.is_file())
        filler = results / "filler"
        filler.write_bytes(bytes(2**20 - taken - 160_000))
        output = fresh.fail(TRAINING)
        [line] = lines_of_scripts(output)
        assert "the disk is full: make room, then run again" in line
        assert not fresh.path(TRAINING).exists()
        assert list(results.rglob("*.part")) == []
        filler.unlink()
        remount(results, "size=64m")
        fresh.finish(TRAINING)
        after, expected = fresh.hashes(), undisturbed.hashes()
        assert after == {name: expected[name] for name in after}


def test_a_full_disk_at_the_start_ends_the_run_before_any_job(fresh):
    with tmpfs(fresh.path("results"), "size=64k"):
        fresh.path("results/filler").write_bytes(bytes(2**16))
        output = fresh.fail(TABLE)
        assert "results/test: cannot be written to (No space left on device)" in output
        assert "Execute " not in output


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=64k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_an_unwritable_snakemake_folder_is_named(fresh, options, reason):
    with tmpfs(fresh.path(".snakemake"), options):
        if options != "ro":
            fresh.path(".snakemake/filler").write_bytes(bytes(2**16))
        output = fresh.fail("--dry-run", TABLE)
        assert f".snakemake: cannot be written to ({reason})" in output
    assert TABLE in fresh.finish("--dry-run", TABLE)


@pytest.mark.parametrize("place", ["/dev/shm", "/tmp"])
def test_a_full_place_for_short_lived_files_is_named_before_any_job(fresh, tmp_path, place):
    """In a mount namespace of its own: the machine's other programs keep their room."""
    mounted = tmp_path / "temporary" if place == "/tmp" else Path(place)
    mounted.mkdir(exist_ok=True)
    fill = f"mount -t tmpfs -o size=64k tmpfs '{mounted}' && head -c 64k /dev/zero >'{mounted}/f'"
    alone = ("unshare", "--mount", "bash", "-c", f'{fill} && exec "$0" "$@"')
    done = subprocess.run([*alone, "true"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    output = fresh.fail(TABLE, prefix=alone, TMPDIR=str(mounted if place == "/tmp" else tmp_path))
    assert f"{mounted}: cannot be written to (No space left on device); make room" in output
    assert "Execute " not in output


def test_a_file_larger_than_allowed_is_told_in_one_line(fresh):
    """`ulimit -f` stands for a full disk where mounting is not allowed."""
    fresh.finish(TRAINING.replace("manifest.json", "rows.parquet"))
    limited = ("bash", "-c", 'ulimit -f 16; exec "$0" "$@"')
    run = fresh.start(TRAINING, prefix=limited)
    assert run.wait() != 0
    assert "Traceback" not in run.text(), run.text()[-4000:]
    [line] = lines_of_scripts(run.text())
    assert "larger than is allowed: raise the limit (ulimit -f), then run again" in line
    fresh.finish(TRAINING)


def test_a_read_only_results_folder_ends_the_run_before_any_job(fresh):
    results = fresh.path("results")
    with tmpfs(results, "size=64m"):
        remount(results, "ro")
        output = fresh.fail(TABLE)
        assert "results/test: cannot be written to (Read-only file system)" in output
        assert "Execute " not in output
        remount(results, "rw")
        fresh.finish(TABLE)
