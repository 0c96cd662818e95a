"""A truncated or bit-flipped file of each kind: named when it is read, and made again when deleted.

The file's time stays as it was, as with a failing disk, so that Snakemake sees nothing.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from faulty import CHAIN, WEAK_SIDE

pytestmark = pytest.mark.slow

ADAPTER = "model/adapter_model.safetensors"
PARQUET = {
    "split": ("data/dice/train_1", f"models/{WEAK_SIDE}/weak-0/rows.parquet"),
    "questions": ("data/dice/train_2", f"filter/{CHAIN}/kept-1.parquet"),
    "withheld gold": ("data/dice/train_2_gold", "report/diagnostics.csv"),
    "generations": (f"generations/{WEAK_SIDE}/weak-1", f"labels/{WEAK_SIDE}/weak-1.parquet"),
    "labels": (f"labels/{WEAK_SIDE}/weak-1", f"filter/{CHAIN}/kept-1.parquet"),
    "demonstrations": (f"labels/{CHAIN}/demonstrations", f"generations/{CHAIN}/icl-1.parquet"),
    "kept questions": (f"filter/{CHAIN}/kept-1", f"models/{CHAIN}/hybrid_ft-1/rows.parquet"),
    "training rows": (
        f"models/{CHAIN}/hybrid_ft-1/rows",
        f"models/{CHAIN}/hybrid_ft-1/history.json",
    ),
    "samples": (f"generations/{CHAIN}/samples", f"votes/{CHAIN}/votes.parquet"),
    "votes": (f"votes/{CHAIN}/votes", f"models/{CHAIN}/dpo-0/rows.parquet"),
    "pairs": (f"models/{CHAIN}/dpo-0/rows", f"models/{CHAIN}/dpo-0/history.json"),
    "answers": ("generations/evaluation/dice/random_strong", "scores/dice.parquet"),
    "scores": ("scores/dice", "report/metrics.csv"),
}
#: What a run makes again in seconds: behind the others are trainings.
QUICK = {"split", "generations", "scores"}


def damage(path: Path, how: str) -> None:
    """Cut off the end of a file, or flip one bit in its middle; keep its modification time."""
    status, content = path.stat(), path.read_bytes()
    half = len(content) // 2
    if how == "truncated":
        changed = content[: -(len(content) // 10 + 1)]
    else:
        changed = content[:half] + bytes([content[half] ^ 4]) + content[half + 1 :]
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def refuse(project, target: str, file: Path) -> str:
    """Run a target whose rule reads a damaged file; return the line that names the file."""
    output = project.fail("--force", f"results/test/{target}")
    assert not project.result(target).exists()
    assert list(project.path("results").rglob("*.part")) == []
    name = str(file.relative_to(project.folder))
    lines = [line for line in output.splitlines() if line.startswith("[") and f"] {name}: " in line]
    assert len(lines) == 1, output[-4000:]
    return lines[0]


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("kind", PARQUET)
def test_a_damaged_table_is_named_and_can_be_made_again(finished, undisturbed, kind, how):
    name, target = PARQUET[kind]
    file = finished.result(f"{name}.parquet")
    damage(file, how)
    assert refuse(finished, target, file).endswith("delete the file and run again")
    if kind in QUICK and how == "flipped":
        file.unlink()
        finished.finish(f"results/test/{target}")
        for artefact in (f"{name}.parquet", target):
            assert (
                finished.result(artefact).read_bytes() == undisturbed.result(artefact).read_bytes()
            )


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize(
    ("node", "target"),
    [
        (f"{WEAK_SIDE}/weak-0", f"generations/{WEAK_SIDE}/weak-1.parquet"),
        (f"{CHAIN}/hybrid_ft-2", f"models/{CHAIN}/dpo-0/history.json"),
    ],
)
def test_damaged_trained_weights_are_named_with_the_fix(finished, node, target, how):
    shutil.rmtree(finished.path("results/store/requests"))
    file = finished.result(f"models/{node}/{ADAPTER}")
    damage(file, how)
    remedy = f"delete results/test/models/{node}/manifest.json and run again to train it anew"
    assert refuse(finished, target, file).endswith(remedy)


def test_truncated_weights_of_the_user_end_a_run(finished):
    """Truncated weights end a run before any job. A changed bit may be intended: everything that
    depends on the weights is made again."""
    file = finished.path("models/weak/model.safetensors")
    intact = file.read_bytes()
    damage(file, "truncated")
    assert "model.safetensors is no complete safetensors file" in finished.fail()
    file.write_bytes(intact)
    damage(file, "flipped")
    output = finished.finish("--dry-run")
    assert "Base model random_weak" in output
    assert f"Train weak (iteration 0) of {WEAK_SIDE}" in output


def test_a_damaged_adapter_is_trained_again(finished, undisturbed):
    folder = f"models/{WEAK_SIDE}/weak-0"
    damage(finished.result(f"{folder}/{ADAPTER}"), "flipped")
    finished.result(f"{folder}/manifest.json").unlink()
    finished.finish(f"results/test/{folder}/manifest.json")
    for name in (ADAPTER, "manifest.json"):
        made = finished.result(f"{folder}/{name}").read_bytes()
        assert made == undisturbed.result(f"{folder}/{name}").read_bytes()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("bases/random_weak.json", f"models/{WEAK_SIDE}/weak-0/history.json"),
        (f"models/{WEAK_SIDE}/weak-0/manifest.json", f"generations/{WEAK_SIDE}/weak-1.parquet"),
    ],
)
def test_a_truncated_json_file_is_named(finished, name, target):
    file = finished.result(name)
    damage(file, "truncated")
    assert refuse(finished, target, file).endswith("delete the file and run again")


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_download_is_named_and_can_be_fetched_again(finished, how):
    [file] = finished.result("data/dice/sources").iterdir()
    damage(file, how)
    line = refuse(finished, "data/dice/contamination.csv", file)
    assert line.endswith("delete the file and run again")
    file.unlink()
    finished.finish("results/test/data/dice/contamination.csv")


def test_a_truncated_file_of_the_user_is_named(finished):
    file = finished.path("data/train_1.jsonl")
    damage(file, "truncated")
    line = refuse(finished, "data/dice/train_1.parquet", file)
    assert re.search(r"cannot read it \(line \d+: ", line)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("report/metrics.csv", "report/plots/accuracy.svg"),
        ("scores/dice.json", "report/index.html"),
    ],
)
def test_damaged_text_is_named_and_can_be_made_again(finished, undisturbed, name, target, how):
    """A digit is changed. Only the record of the job shows this."""
    file = finished.result(name)
    damage(file, how)
    assert refuse(finished, target, file).endswith("delete the file and run again")
    file.unlink()
    finished.finish(f"results/test/{target}")
    assert file.read_bytes() == undisturbed.result(name).read_bytes()


def test_a_flipped_bit_in_text_is_named_by_verify(finished):
    names = ["report/metrics.csv", "report/metrics.json", "scores/dice.json", "report/table.txt"]
    finished.finish("verify")
    for name in names:
        damage(finished.result(name), "flipped")
    output = finished.fail("verify")
    for name in names:
        assert f"{name}: differs from what its job made" in output


def test_torn_and_flipped_shards_and_checkpoints_are_made_again(finished, undisturbed):
    """The store can be rebuilt, so damage in it costs only time."""
    from weak_to_strong.training.checkpoints import SEAL

    text = f"generations/{WEAK_SIDE}/weak-1.parquet"
    shards = sorted(finished.path("results/store/requests").rglob("shard-*.parquet"))
    for number, shard in enumerate(shards):
        damage(shard, ("truncated", "flipped")[number % 2])
    model = f"models/{WEAK_SIDE}/weak-0"
    finished.result(f"{model}/manifest.json").unlink()
    run = finished.start(f"results/test/{model}/manifest.json")
    store = finished.path("results/store/training")
    while not (seals := list(store.glob(f"*/checkpoint-*/{SEAL}"))):
        assert run.process.poll() is None, run.text()
    run.process.kill()
    run.wait()
    for seal in seals:
        damage(max(seal.parent.glob("*.safetensors")), "flipped")
    finished.result(text).unlink()
    output = finished.finish(f"results/test/{text}", f"results/test/{model}/manifest.json")
    assert "generated again, for " in output
    for name in (text, f"{model}/{ADAPTER}"):
        made = finished.result(name).read_bytes()
        assert made == undisturbed.result(name).read_bytes()
