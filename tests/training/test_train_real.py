"""Real TRL runs on a tiny random model: losses, masks, adapters, resumption, published files."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from planted import MARK, SECRETS, files_with
from tracked import scalars
from training_runs import Stop, stop_after, write_base

from weak_to_strong.jobs.errors import ProcessDied
from weak_to_strong.jobs.trackers import TrackedRun, report_figures
from weak_to_strong.models.manifests import hash_files
from weak_to_strong.tables.files import hash_file, read_json, write_json
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import PAIRS, SFT_ROWS, WEIGHTED_ROWS
from weak_to_strong.training import launching, length_sorting
from weak_to_strong.training import train as training
from weak_to_strong.training.checkpoints import SEAL
from weak_to_strong.training.launching import run_training
from weak_to_strong.training.length_sorting import padding_share
from weak_to_strong.training.loading import load_model, load_weights
from weak_to_strong.training.rows import encode_rows
from weak_to_strong.training.settings import complete_settings
from weak_to_strong.training.trainers import build_trainer, training_arguments
from weak_to_strong.training.training_run import TrainingJob, resolve

pytestmark = pytest.mark.slow

WORDS = [
    "<s>",
    "</s>",
    "<pad>",
    "Question:",
    "Answer:",
    "one",
    "two",
    "three",
    "plus",
    "is",
    "####",
]
LORA = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "v_proj", "down_proj"]}
SETTINGS = {
    "learning_rate": 3e-2,
    "epochs": 3,
    "global_batch_size": 4,
    "per_device_batch_size": 2,
    "scheduler": "cosine",
    "warmup_ratio": 0.1,
    "max_length": 16,
    "adapter": "lora",
    "lora": LORA,
    "dtype": "float32",
    "seed": 1,
}
#: Dropout would fall on other rows where these are sorted.
STEADY = {**LORA, "dropout": 0.0}
PREFERENCE = {**SETTINGS, "lora": None, "beta": 0.1}
SHIPPED = Path(__file__).parents[2] / "config/deepspeed"
#: Most by which losses and weights may differ between one process and two, which add up in another
#: order.
TOLERANCE = 1e-5
#: Two processes take some twenty seconds (more at first use, when DeepSpeed compiles a helper); by
#: default each shipped file runs once.
FURTHER = pytest.mark.skipif(
    os.environ.get("W2S_TEST_DISTRIBUTED") != "1", reason="set W2S_TEST_DISTRIBUTED=1"
)

#: Changes of a model's tensors, and what is said of each.
UNFIT = [
    (lambda weights: weights.pop("model.norm.weight"), r"lacks 1 tensors .*norm"),
    (lambda weights: weights.update(extra=weights["model.norm.weight"].clone()), r"has 1 tensors"),
    (
        lambda weights: weights.update(
            {"model.norm.weight": weights["model.norm.weight"][1:].clone()}
        ),
        r"1 tensors of another shape .*norm",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a base model, its manifest and both kinds of rows."""
    folder = tmp_path_factory.mktemp("world")
    write_base(folder, WORDS)
    numbers = WORDS[5:8]
    rows = [
        {
            "id": f"{left}-{right}",
            "prompt": f"Question: {left} plus {right}\nAnswer:",
            "completion": f" {left} plus {right} is {left} #### {right}",
        }
        for left in numbers
        for right in numbers
    ]
    sft = pl.DataFrame(rows)
    write_table(sft, SFT_ROWS, folder / "sft.parquet")
    pairs = sft.select(
        "id",
        "prompt",
        chosen="completion",
        rejected=pl.lit(" two ####"),
        weak_side=pl.lit("chosen"),
        confidence=pl.lit(0.7),
    )
    write_table(pairs, PAIRS, folder / "pairs.parquet")
    return folder


@pytest.fixture(scope="module")
def make_job(world):
    def make(name: str, trainer: str, init: TrainingJob | None = None, **change) -> TrainingJob:
        folder = world / name
        common = SETTINGS if trainer == "sft" else PREFERENCE
        return TrainingJob(
            trainer=trainer,
            settings={**common, **change},
            rows=str(world / ("sft.parquet" if trainer == "sft" else "pairs.parquet")),
            base=str(world / "base.json"),
            init=init and init.manifest,
            work=str(folder / "work"),
            model=str(folder / "model"),
            manifest=str(folder / "manifest.json"),
            history=str(folder / "history.json"),
        )

    return make


@pytest.fixture(scope="module")
def sft(make_job):
    """A finished supervised run with an adapter, whose checkpoints were every 2 updates."""
    job = make_job("sft", "sft", save_steps=2)
    train(job)
    return job


@pytest.fixture(scope="module")
def dpo(make_job, sft):
    """A finished DPO run from that adapter, its reference computed in each epoch."""
    job = make_job("dpo", "dpo", sft, precompute_ref=False)
    train(job)
    return job


@pytest.fixture(scope="module")
def steady(make_job):
    """A supervised run without dropout, which DPO continues."""
    job = make_job("steady", "sft", lora=STEADY)
    train(job)
    return job


@pytest.fixture(scope="module")
def qlora(make_job):
    """A finished supervised run of an adapter over a base in 4 bits."""
    job = make_job("qlora", "sft", quantization="nf4", save_steps=2)
    train(job)
    return job


@pytest.fixture(scope="module")
def qlora_dpo(make_job, qlora):
    """A finished DPO run from that adapter, over the same."""
    job = make_job("qlora-dpo", "dpo", qlora, quantization="nf4")
    train(job)
    return job


@pytest.fixture(scope="module")
def even_job(world, make_job):
    """Makes runs whose every update has the same four rows on one process and on two.

    Eight rows, no dropout. Completions differ in length, so that losses averaged over processes,
    and not over tokens, would show.
    """
    rows = pl.read_parquet(world / "sft.parquet").head(8)
    short = pl.int_range(pl.len()) % 3 == 0
    rows = rows.with_columns(
        completion=pl.when(short).then(pl.lit(" is one")).otherwise("completion")
    )
    write_table(rows, SFT_ROWS, world / "eight.parquet")

    def make(name: str, **change) -> TrainingJob:
        made = make_job(name, "sft", **{"epochs": 6, "lora": STEADY, **change})
        return replace(made, rows=str(world / "eight.parquet"))

    return make


def find_checkpoints(work: str) -> list[Path]:
    """Checkpoints that are sealed."""
    return list(Path(work).glob(f"*/checkpoint-*/{SEAL}"))


def train(job: TrainingJob, callbacks=()) -> None:
    """Train a job in this process."""
    training.train(resolve(job), callbacks)


class TestSupervision:
    """What each trainer's batches ask the model to learn."""

    @pytest.fixture
    def batch(self, world, tmp_path, make_job, sft):
        from transformers import AutoTokenizer

        def make(trainer: str):
            run = resolve(make_job("batch", trainer, None if trainer == "sft" else sft))
            tokenizer = AutoTokenizer.from_pretrained(run.base_view)
            columns = ("completion",) if trainer == "sft" else ("chosen", "rejected")
            table = world / ("sft.parquet" if trainer == "sft" else "pairs.parquet")
            rows = encode_rows(pl.read_parquet(table).head(1), tokenizer, 16, columns)
            arguments = training_arguments(trainer, run.settings, tmp_path)
            built = build_trainer(trainer, arguments, load_model(run), tokenizer, rows)
            return next(iter(built.get_train_dataloader()))

        return make

    # "Question: one plus one\nAnswer:" and " one plus one is one #### one", then the end token.
    PROMPT = [0, 3, 5, 8, 5, 4]  # noqa: RUF012
    CHOSEN = [5, 8, 5, 9, 5, 10, 5, 1]  # noqa: RUF012
    REJECTED = [6, 10, 1]  # noqa: RUF012

    def test_sft(self, batch):
        made = batch("sft")
        assert made["input_ids"].tolist() == [self.PROMPT + self.CHOSEN]
        assert made["labels"].tolist() == [[-100] * 6 + self.CHOSEN]

    def test_dpo(self, batch):
        made = batch("dpo")
        supervised = [
            ids[mask.bool()].tolist()
            for ids, mask in zip(made["input_ids"], made["completion_mask"], strict=True)
        ]
        assert supervised == [self.CHOSEN, self.REJECTED]
        assert made["input_ids"][:, :6].tolist() == [self.PROMPT] * 2

    def test_orpo(self, batch):
        made = batch("orpo")
        assert made["chosen_input_ids"].tolist() == [self.PROMPT + self.CHOSEN]
        assert made["chosen_labels"].tolist() == [[-100] * 6 + self.CHOSEN]
        assert made["rejected_labels"].tolist() == [[-100] * 6 + self.REJECTED]


class TestTrackers:
    """A tracker gets the figures of a training, and has no effect on it."""

    @pytest.fixture
    def tracked_job(self, make_job, tmp_path):
        def make(name: str) -> TrainingJob:
            run = TrackedRun(("tensorboard",), "t/w/s/seed-0/sft-0", "study", str(tmp_path))
            return replace(make_job(name, "sft", save_steps=2), tracked=run)

        return make

    def test_tensorboard_shows_each_update_and_the_model_stays_the_same(
        self, tracked_job, sft, tmp_path, monkeypatch
    ):
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        job = tracked_job("tracked")
        assert Path(resolve(job).work).name == Path(resolve(sft).work).name
        train(job)
        assert read_json(job.manifest)["files"] == read_json(sft.manifest)["files"]
        assert read_json(job.history) == read_json(sft.history)
        shown = scalars(tmp_path / "tensorboard/t/w/s/seed-0/sft-0")["train/loss"]
        expected = [(entry["step"], entry["loss"]) for entry in read_json(sft.history)]
        assert [step for step, _ in shown] == [step for step, _ in expected]
        assert [loss for _, loss in shown] == pytest.approx([loss for _, loss in expected])
        assert files_with(MARK, tmp_path) == []

    @pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
    def test_other_trackers_work_offline_where_they_are_installed(
        self, make_job, sft, tmp_path, monkeypatch, caplog, tracker
    ):
        """They have the figures of the training and of a finished job, all below the run's folder.

        Only MLflow is read back: what the two others write is their own.
        """
        if find_spec(tracker) is None:
            pytest.skip(f"the package {tracker} is not installed")
        for name in ("WANDB", "MLFLOW", "TRACKIO"):
            for variable in [key for key in os.environ if key.startswith(f"{name}_")]:
                monkeypatch.delenv(variable)
        monkeypatch.setattr(os, "environ", os.environ.copy())
        run = TrackedRun((tracker,), "t/w/s/seed-0/sft-0", "study", str(tmp_path / "trackers"))
        job = replace(make_job(tracker, "sft", save_steps=2), tracked=run)
        (tmp_path / "job").write_bytes(pickle.dumps(job))
        script = (
            "import pickle, sys\n"
            "from weak_to_strong.training.launching import run_training\n"
            "run_training(pickle.load(open(sys.argv[1], 'rb')))"
        )
        # A process of its own, as a job is: TRL is imported in it.
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "job")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        report_figures(run, {"evaluation/accuracy": 0.5})
        assert "gets no more figures" not in caplog.text + done.stderr
        assert read_json(job.manifest)["files"] == read_json(sft.manifest)["files"]
        written = [file.name for file in (tmp_path / "trackers").rglob("*") if file.is_file()]
        endings = {"wandb": ".wandb", "mlflow": "mlflow.db", "trackio": ".db"}
        assert [name for name in written if name.endswith(endings[tracker])]
        if tracker == "mlflow":
            found = importlib.import_module("mlflow").search_runs(experiment_names=["study"])
            last = read_json(sft.history)[-1]["loss"]
            assert found["metrics.loss"].dropna().to_list() == pytest.approx([last])
            assert found["metrics.evaluation/accuracy"].dropna().to_list() == [0.5]

    def test_a_resumed_training_is_one_curve(self, tracked_job, sft, tmp_path):
        job = tracked_job("tracked-resumed")
        with pytest.raises(Stop):
            train(job, [stop_after(5)])
        train(job)
        shown = scalars(tmp_path / "tensorboard/t/w/s/seed-0/sft-0")["train/loss"]
        assert [step for step, _ in shown] == [entry["step"] for entry in read_json(sft.history)]

    def test_a_disk_that_is_full_for_the_tracker_ends_no_training(
        self, tracked_job, sft, tmp_path, caplog, capfd
    ):
        """From the third update on, whatever TensorBoard writes meets a device without room."""
        from transformers import TrainerCallback

        class FillDisk(TrainerCallback):
            def on_step_begin(self, args, state, control, **_):
                if state.global_step == 2:
                    # The writer opens its file anew each time.
                    [file] = tmp_path.rglob("*.tfevents.*")
                    file.unlink()
                    file.symlink_to("/dev/full")

        job = tracked_job("tracked-full")
        with caplog.at_level("WARNING", "weak_to_strong"):
            train(job, [FillDisk()])
        assert read_json(job.manifest)["files"] == read_json(sft.manifest)["files"]
        [warning] = [record.getMessage() for record in caplog.records]
        assert "tensorboard failed" in warning
        assert "No space left on device" in warning
        assert "Traceback" not in capfd.readouterr().err


class TestModelFiles:
    """A training reads the files of the manifests and no others."""

    def test_other_weights_in_the_folder_are_not_read(self, make_job, world, sft):
        index = world / "base/model.safetensors.index.json"
        index.write_text('{"weight_map": {"w": "other.safetensors"}}')
        (world / "base/model_backup.safetensors").write_bytes(b"other weights")
        try:
            train(again := make_job("beside", "sft"))
        finally:
            index.unlink()
            (world / "base/model_backup.safetensors").unlink()
        assert read_json(again.manifest)["files"] == read_json(sft.manifest)["files"]

    def test_an_adapter_names_the_folder_of_its_base_and_not_the_view(self, world, sft):
        adapter = read_json(Path(sft.model) / "adapter_config.json")
        assert adapter["base_model_name_or_path"] == str(world / "base")

    @pytest.fixture
    def unfit(self, make_job, world, tmp_path):
        """Makes a supervised run whose base has changed tensors, as its manifest says too."""
        from safetensors.torch import load_file, save_file

        def make(change, **settings) -> TrainingJob:
            folder = Path(shutil.copytree(world / "base", tmp_path / "base"))
            change(weights := load_file(folder / "model.safetensors"))
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
            described = {**read_json(world / "base.json"), "path": str(folder)}
            write_json({**described, "files": hash_files(folder)}, tmp_path / "base.json")
            return replace(make_job("unfit", "sft", **settings), base=str(tmp_path / "base.json"))

        return make

    def test_a_model_whose_own_sampling_is_odd_can_be_saved(self, world, tmp_path):
        """Llama 2 proposes a temperature without sampling, which transformers does not save."""
        folder = Path(shutil.copytree(world / "base", tmp_path / "base"))
        proposal = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": [1, 2]}
        write_json(proposal, folder / "generation_config.json")
        settings = complete_settings("sft", {**SETTINGS, "adapter": "full", "lora": None})
        load_weights(settings, str(folder), "base").save_pretrained(tmp_path / "saved")
        saved = read_json(tmp_path / "saved/generation_config.json")
        assert saved["eos_token_id"] == [1, 2]
        assert "temperature" not in saved

    @pytest.mark.parametrize(("change", "message"), UNFIT)
    def test_weights_that_do_not_fit_are_refused_in_one_line(self, unfit, change, message):
        with pytest.raises(ValueError, match=message) as caught:
            train(unfit(change))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("change", "message"), UNFIT[1:])
    def test_weights_that_do_not_fit_are_refused_under_zero3(self, unfit, caplog, change, message):
        """There transformers loads the weights by code of its own."""
        caplog.set_level("INFO", "weak_to_strong")
        with pytest.raises(ProcessDied, match="status 1; its messages are above"):
            run_training(unfit(change, deepspeed=str(SHIPPED / "zero3.json")))
        (line,) = [text for text in caplog.messages if "fetch the model again" in text]
        assert re.search(message, line)
        assert "Traceback" not in caplog.text

    def test_the_work_folder_does_not_depend_on_where_the_model_is(self, make_job, world, tmp_path):
        folder = shutil.copytree(world / "base", tmp_path / "moved")
        described = {**read_json(world / "base.json"), "path": str(folder)}
        write_json(described, tmp_path / "base.json")
        resolved = resolve(make_job("place", "sft"))
        moved = resolve(replace(make_job("place", "sft"), base=str(tmp_path / "base.json")))
        assert moved.work == resolved.work
        assert moved.base_view != resolved.base_view

    def test_code_that_was_edited_since_the_start_writes_no_checkpoint(self, make_job):
        planned = resolve(make_job("edited", "sft", save_steps=1))
        with pytest.raises(ValueError, match="was edited while it started; run again"):
            training.train(replace(planned, code="digest of the code before the edit"))
        assert not Path(planned.work).exists()
        assert not Path(planned.manifest).exists()


class TestSupervisedRun:
    def test_learns(self, sft):
        history = read_json(sft.history)
        assert [entry["step"] for entry in history] == list(range(1, 10))
        assert history[-1]["loss"] < 0.8 * history[0]["loss"]

    def test_manifest(self, sft, world):
        manifest = read_json(sft.manifest)
        assert manifest["kind"] == "lora"
        assert manifest["base"] == "tiny"
        assert manifest["files"] == hash_files(Path(sft.model))
        assert set(manifest["files"]) == {"adapter_config.json", "adapter_model.safetensors"}
        assert manifest["training"]["rows_sha256"] == hash_file(sft.rows)
        facts = manifest["facts"]
        assert (facts["steps"], facts["examples"]) == (9, 9)
        assert (facts["tokens"], facts["supervised_tokens"]) == (3 * 9 * 14, 3 * 9 * 8)
        assert str(world) not in json.dumps(manifest["training"])

    def test_the_loss_of_weighted_rows(self, make_job, world):
        """Against a plain sum: the first update has all rows, in micro-batches of three."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        rows = pl.read_parquet(world / "sft.parquet").with_columns(
            weight=pl.Series([0.0, 0.5, 2.5] * 3),
            completion=pl.when(pl.int_range(pl.len()) % 2 == 0)
            .then(pl.lit(" is one"))
            .otherwise("completion"),
        )
        write_table(rows, WEIGHTED_ROWS, world / "weighted.parquet")
        keys = {"global_batch_size": 9, "per_device_batch_size": 3, "max_steps": 1}
        made = make_job("weighted", "sft", lora=STEADY, **keys)
        job = replace(made, rows=str(world / "weighted.parquet"))
        train(job)
        model = AutoModelForCausalLM.from_pretrained(world / "base")
        tokenizer = AutoTokenizer.from_pretrained(world / "base")
        total = count = 0
        for row in encode_rows(rows, tokenizer, 32, ("completion",)):
            ids, answer = torch.tensor([row.prompt + row.completions[0]]), row.supervised
            with torch.no_grad():
                log_probs = model(ids).logits.log_softmax(-1)[0, -answer - 1 : -1]
            total -= row.weight * float(log_probs.gather(1, ids[0, -answer:, None]).sum())
            count += answer
        (update,) = (entry for entry in read_json(job.history) if "loss" in entry)
        assert update["loss"] == pytest.approx(total / count, abs=1e-4)

    def test_steps_in_place_of_epochs(self, make_job):
        """4 steps of 4 rows are a pass over 9 rows and a part of the next."""
        job = make_job("steps", "sft", max_steps=4, epochs=9)
        train(job)
        facts = read_json(job.manifest)["facts"]
        assert (facts["steps"], facts["examples"]) == (4, 9)
        assert (facts["tokens"], facts["supervised_tokens"]) == (16 * 14, 16 * 8)

    def test_work_folder_is_removed(self, sft):
        assert list(Path(sft.work).iterdir()) == []

    def test_full_weights_bring_their_tokenizer(self, make_job):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        job = make_job("full", "sft", adapter="full", lora=None, epochs=1)
        train(job)
        assert AutoTokenizer.from_pretrained(job.model)("one")["input_ids"] == [0, 5]
        AutoModelForCausalLM.from_pretrained(job.model)
        assert read_json(job.manifest)["kind"] == "full"
        preference = make_job("full-dpo", "dpo", job, adapter="full", epochs=1)
        train(preference)
        assert read_json(preference.history)[0]["loss"] == pytest.approx(0.693147, abs=1e-5)


class TestPreferenceRun:
    def test_starts_at_the_supervised_model(self, dpo):
        first = read_json(dpo.history)[0]
        assert first["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)

    def test_prefers_the_chosen(self, dpo):
        last = read_json(dpo.history)[-1]
        assert last["rewards/margins"] > 0.1
        assert last["loss"] < 0.69

    def test_is_one_adapter_over_the_same_base(self, dpo, sft, world):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        assert set(read_json(dpo.manifest)["files"]) == set(read_json(sft.manifest)["files"])
        base = AutoModelForCausalLM.from_pretrained(world / "base")
        model = PeftModel.from_pretrained(base, dpo.model)
        assert list(model.peft_config) == ["default"]
        saved, former = (read_json(Path(job.model) / "adapter_config.json") for job in (dpo, sft))
        assert saved == former
        assert hash_files(Path(dpo.model)) != hash_files(Path(sft.model))

    def test_reference_computed_before_training_gives_the_same(self, make_job, sft, dpo):
        job = make_job("dpo-pre", "dpo", sft)  # of several epochs
        train(job)
        assert read_json(job.manifest)["training"]["precompute_ref"]
        assert not read_json(dpo.manifest)["training"]["precompute_ref"]
        for one, other in zip(read_json(job.history), read_json(dpo.history), strict=True):
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)

    def test_reference_computed_by_two_processes_gives_the_same(self, make_job, sft):
        jobs = [
            make_job(f"dpo-{name}", "dpo", sft, processes=2, precompute_ref=before)
            for name, before in (("spread", False), ("spread-pre", True))
        ]
        for job in jobs:
            run_training(job)
        one, other = (read_json(job.history) for job in jobs)
        assert [entry["loss"] for entry in other] == pytest.approx(
            [entry["loss"] for entry in one], abs=1e-4
        )
        assert list(Path(jobs[1].work).iterdir()) == []

    @pytest.mark.parametrize("likelihood", ["sequence", "completion"])
    def test_orpo_has_the_likelihood_that_is_asked_for(self, make_job, sft, likelihood):
        job = make_job(f"orpo-{likelihood}", "orpo", sft, likelihood=likelihood)
        train(job)
        of_answers = [
            entry["nll_loss"] == pytest.approx(-entry["logps/chosen"], abs=1e-4)
            for entry in read_json(job.history)
        ]
        assert all(of_answers) if likelihood == "completion" else not any(of_answers)

    def test_orpo_learns(self, make_job, sft):
        job = make_job("orpo", "orpo", sft)
        train(job)
        history = read_json(job.history)
        assert history[-1]["loss"] < history[0]["loss"]
        assert set(read_json(job.manifest)["files"]) == set(read_json(sft.manifest)["files"])

    def test_kto_learns_and_resumes_with_the_same_weights(self, make_job, sft):
        keys = {"global_batch_size": 4, "per_device_batch_size": 2}
        whole, cut = (make_job(f"kto-{name}", "kto", sft, **keys) for name in ("whole", "cut"))
        train(whole)
        history = read_json(whole.history)
        assert history[0]["loss"] == pytest.approx(0.5, abs=1e-5)
        assert history[-1]["loss"] < 0.5
        assert set(read_json(whole.manifest)["files"]) == set(read_json(sft.manifest)["files"])
        cut.settings["save_steps"] = 2
        with pytest.raises(Stop):
            train(cut, [stop_after(5)])
        train(cut)
        assert read_json(cut.manifest)["files"] == read_json(whole.manifest)["files"]
        assert read_json(cut.history) == history

    def test_kto_needs_two_pairs_at_once(self, make_job, sft):
        with pytest.raises(ValueError, match="per_device_batch_size: 1 must be at least 2 for kto"):
            train(make_job("kto-alone", "kto", sft, per_device_batch_size=1))


class TestResumption:
    def interrupt(self, job: TrainingJob, step: int) -> Path:
        """Stop a run before update `step` + 1; return its work folder."""
        with pytest.raises(Stop):
            train(job, [stop_after(step)])
        assert not Path(job.model).exists()
        (folder,) = Path(job.work).iterdir()
        return folder

    def test_supervised_with_a_torn_checkpoint(self, make_job, sft):
        job = make_job("resumed", "sft", save_steps=2)
        folder = self.interrupt(job, 7)
        weights = folder / "checkpoint-6" / "optimizer.pt"
        weights.write_bytes(weights.read_bytes()[:100])
        steps = []

        from transformers import TrainerCallback

        class Note(TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                steps.append(state.global_step)

        train(job, [Note()])
        assert steps == [5, 6, 7, 8, 9]
        assert read_json(job.manifest)["files"] == read_json(sft.manifest)["files"]
        assert read_json(job.history) == read_json(sft.history)
        assert read_json(job.manifest)["facts"] == read_json(sft.manifest)["facts"]

    def test_a_checkpoint_by_time(self, make_job, sft, monkeypatch, caplog):
        from weak_to_strong.training import callbacks

        job = make_job("by-time", "sft", save_minutes=1)
        clock = itertools.count(0, 20)  # 20 s pass between two looks at it, one look a step
        monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        monkeypatch.setattr("weak_to_strong.training.checkpoints.HASHED_BYTES", 2000)
        caplog.set_level("INFO", "weak_to_strong")
        folder = self.interrupt(job, 5)
        assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-3"]
        large = [path for path in folder.glob("checkpoint-3/*") if path.stat().st_size > 2000]
        train(job)
        assert "optimizer.pt" in (names := ", ".join(sorted(path.name for path in large)))
        assert f"above 1 GiB and checked by size only: {names}" in caplog.messages
        assert read_json(job.manifest) | {"path": ""} == read_json(sft.manifest) | {"path": ""}
        assert read_json(job.history) == read_json(sft.history)

    def test_full_weights(self, make_job):
        change = {"adapter": "full", "lora": None, "save_steps": 4}
        whole = make_job("full-whole", "sft", **change)
        train(whole)
        job = make_job("full-resumed", "sft", **change)
        self.interrupt(job, 6)
        train(job)
        assert read_json(job.manifest)["files"] == read_json(whole.manifest)["files"]
        assert read_json(job.history) == read_json(whole.history)

    def test_preference_adapter_without_a_reference(self, make_job, sft):
        whole = make_job("orpo-whole", "orpo", sft, save_steps=4)
        train(whole)
        job = make_job("orpo-resumed", "orpo", sft, save_steps=4)
        self.interrupt(job, 6)
        assert run_training(job) == 4  # the update that it went on from
        assert read_json(job.manifest)["files"] == read_json(whole.manifest)["files"]
        assert read_json(job.history) == read_json(whole.history)

    def test_a_lost_loss_ends_the_run_before_its_checkpoint(self, make_job):
        job = make_job("lost", "sft", save_steps=1, learning_rate=3e38, max_grad_norm=1e30)
        with pytest.raises(ValueError, match="learning_rate: the loss is nan at step"):
            train(job)
        (folder,) = Path(job.work).iterdir()
        for checkpoint in folder.glob("checkpoint-*"):
            states = read_json(checkpoint / "trainer_state.json")["log_history"]
            assert all(math.isfinite(entry["loss"]) for entry in states)

    def test_preference_adapter_and_its_reference(self, make_job, sft):
        whole = make_job("dpo-whole", "dpo", sft, save_steps=4)
        train(whole)
        job = make_job("dpo-resumed", "dpo", sft, save_steps=4)
        self.interrupt(job, 6)
        train(job)
        assert read_json(job.manifest)["files"] == read_json(whole.manifest)["files"]
        assert read_json(job.history) == read_json(whole.history)


class TestEqualTrainings:
    """A training that another job has done already, under another name or in another experiment."""

    @pytest.fixture
    def twin(self, sft, world, tmp_path):
        """The job of `sft` with other names for all that it publishes, and for its base."""
        write_json({**read_json(sft.base), "name": "renamed"}, tmp_path / "base.json")
        shutil.copytree(Path(sft.work).parent / "models", tmp_path / "models")
        names = {"work": "work", "model": "model", "manifest": "m.json", "history": "h.json"}
        places = {key: str(tmp_path / name) for key, name in names.items()}
        return replace(sft, base=str(tmp_path / "base.json"), **places)

    @pytest.fixture
    def trained(self, monkeypatch):
        """Models that are trained, in place of those that are copied."""
        trained = []
        real = launching.train
        monkeypatch.setattr(
            launching, "train", lambda training: [trained.append(training.model), real(training)]
        )
        return trained

    def test_its_model_is_copied(self, sft, twin, trained, caplog):
        caplog.set_level("INFO", "weak_to_strong")
        assert run_training(twin) == 9  # no update was left to make
        assert trained == []
        assert f"an equal training made {sft.model}; its model is copied" in caplog.messages
        assert hash_files(Path(twin.model)) == read_json(sft.manifest)["files"]
        assert read_json(twin.history) == read_json(sft.history)
        changed = {"base": "renamed", "path": twin.model}
        assert read_json(twin.manifest) == {**read_json(sft.manifest), **changed}

    @pytest.mark.parametrize("change", [{"learning_rate": 0.002}, {"seed": 8}])
    def test_another_training_is_none(self, twin, trained, change):
        other = replace(twin, settings={**twin.settings, **change})
        assert run_training(other) == 0
        assert trained == [twin.model]

    @pytest.mark.parametrize("damage", ["gone", "changed", "noted in half"])
    def test_a_model_that_is_not_there_any_more_is_trained(self, sft, twin, trained, damage):
        (note,) = Path(twin.work).parent.glob("models/*.json")
        if damage == "noted in half":
            note.write_text(note.read_text()[:50])
        else:
            copy = Path(twin.work).with_name("source")
            shutil.copytree(sft.model, copy)
            write_json({**read_json(note), "path": str(copy)}, note)
            weights = copy / "adapter_model.safetensors"
            content = weights.read_bytes()
            weights.unlink()
            if damage == "changed":
                weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert run_training(twin) == 0
        assert trained == [twin.model]
        assert read_json(twin.manifest)["files"] == read_json(sft.manifest)["files"]
        assert read_json(note)["path"] == twin.model


class TestMicroBatches:
    """Rows of an update are sorted by length, which changes no update."""

    @pytest.fixture
    def job(self, make_job, steady, tmp_path):
        def make(name: str, trainer: str) -> TrainingJob:
            lora, init = (STEADY, None) if trainer == "sft" else (None, steady)
            made = make_job(name, trainer, init, max_length=32, lora=lora)
            table = read_table(made.rows, SFT_ROWS if trainer == "sft" else PAIRS)
            side = "completion" if trainer == "sft" else "chosen"
            longer = pl.Series([" is" * (number * 5 % 8) for number in range(len(table))])
            rows = tmp_path / f"{name}.parquet"
            # Eight rows: whole updates only.
            table = table.with_columns(pl.col(side) + longer).head(8)
            write_table(table, SFT_ROWS if trainer == "sft" else PAIRS, rows)
            return replace(made, rows=str(rows))

        return make

    @pytest.mark.parametrize("trainer", ["sft", "dpo"])
    def test_losses_are_those_of_unsorted_rows(self, job, monkeypatch, trainer):
        is_sorted = job(f"sorted-{trainer}", trainer)
        order = []
        sort = length_sorting.sort_updates

        def note(rows, lengths, size):
            rows = list(rows)
            order.append((rows, done := list(sort(rows, lengths, size)), lengths))
            return iter(done)

        monkeypatch.setattr(length_sorting, "sort_updates", note)
        train(is_sorted)
        assert len(order) == 3  # passes
        for before, after, lengths in order:
            assert after != before
            assert padding_share(after, lengths, 2) < padding_share(before, lengths, 2)
        monkeypatch.setattr(length_sorting, "sort_updates", lambda rows, *_: iter(rows))
        plain = job(f"unsorted-{trainer}", trainer)
        train(plain)
        losses = [[entry["loss"] for entry in read_json(run.history)] for run in (is_sorted, plain)]
        assert len(losses[0]) == 6
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)

    def test_the_longest_rows_of_an_update_come_first(self, job, world, tmp_path):
        from transformers import AutoTokenizer

        made = job("loader", "sft")
        run = resolve(made)
        tokenizer = AutoTokenizer.from_pretrained(run.base_view)
        rows = encode_rows(pl.read_parquet(made.rows), tokenizer, 32, ("completion",))
        arguments = training_arguments("sft", run.settings, tmp_path)
        built = build_trainer("sft", arguments, load_model(run), tokenizer, rows)
        widths = [batch["input_ids"].shape[1] for batch in built.get_train_dataloader()]
        assert len(widths) == 4
        assert widths[0] >= widths[1]
        assert widths[2] >= widths[3]


def test_settings_reach_the_arguments(tmp_path):
    settings = complete_settings("sft", {**SETTINGS, "gradient_checkpointing": True})
    arguments = training_arguments("sft", settings, tmp_path)
    assert arguments.gradient_checkpointing
    assert not arguments.bf16
    assert arguments.gradient_accumulation_steps == 2
    assert arguments.get_warmup_steps(30) == 3


class TestQuantisedBase:
    """QLoRA: bitsandbytes on a CPU."""

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_four_bits_for_the_projections_and_float32_for_the_adapter(self, make_job, dtype):
        import torch
        from bitsandbytes.nn import Linear4bit

        model = load_model(resolve(make_job("nf4", "sft", quantization="nf4", dtype=dtype)))
        quantised = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, Linear4bit) and not hasattr(module, "base_layer")
        }
        assert len(quantised) == 2 * 7  # seven projections in each of two blocks
        for module in quantised.values():
            assert module.weight.dtype == torch.uint8
            assert module.weight.numel() * 2 == module.in_features * module.out_features
            assert (module.weight.quant_type, module.weight.quant_state.nested) == ("nf4", True)
            assert module.compute_dtype == getattr(torch, dtype)
        assert model.get_output_embeddings().weight.dtype == getattr(torch, dtype)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        assert len(trained) == 2 * 2 * len(LORA["target_modules"])
        assert {weight.dtype for weight in trained} == {torch.float32}

    def test_learns(self, qlora, sft):
        history = read_json(qlora.history)
        assert history[-1]["loss"] < 0.8 * history[0]["loss"]
        assert history[0]["loss"] != read_json(sft.history)[0]["loss"]

    def test_manifest(self, qlora, sft):
        manifest, plain = (read_json(job.manifest) for job in (qlora, sft))
        assert manifest["kind"] == "lora"
        assert manifest["training"]["quantization"] == "nf4"
        assert plain["training"]["quantization"] is None
        assert set(manifest["training"]["versions"]) - set(plain["training"]["versions"]) == {
            "bitsandbytes"
        }

    def test_base_is_untouched(self, qlora_dpo, world):
        assert hash_files(world / "base") == read_json(world / "base.json")["files"]

    def test_is_an_ordinary_adapter_of_the_base_as_it_is(self, qlora, qlora_dpo, sft, world):
        from peft import PeftModel
        from safetensors.torch import load_file
        from transformers import AutoModelForCausalLM

        shapes = []
        for job in (sft, qlora, qlora_dpo):
            tensors = load_file(Path(job.model) / "adapter_model.safetensors")
            shapes.append({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
        assert shapes[0] == shapes[1] == shapes[2]
        configs = [read_json(Path(job.model) / "adapter_config.json") for job in (sft, qlora)]
        assert configs[0] == configs[1]
        base = AutoModelForCausalLM.from_pretrained(world / "base")
        assert list(PeftModel.from_pretrained(base, qlora_dpo.model).peft_config) == ["default"]

    def test_dpo_continues_it(self, qlora, qlora_dpo):
        history = read_json(qlora_dpo.history)
        assert history[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert history[-1]["rewards/margins"] > 0.1
        assert hash_files(Path(qlora_dpo.model)) != hash_files(Path(qlora.model))

    def test_orpo_continues_it_and_dpo_on_the_base_as_it_is(self, make_job, qlora):
        for name, trainer, bits in (("orpo", "orpo", "nf4"), ("plain-dpo", "dpo", None)):
            job = make_job(f"qlora-{name}", trainer, qlora, quantization=bits)
            train(job)
            history = read_json(job.history)
            assert history[-1]["loss"] < history[0]["loss"]

    def test_checkpointed_activations_give_the_same(self, make_job, qlora):
        job = make_job("qlora-gc", "sft", quantization="nf4", gradient_checkpointing=True)
        train(job)
        for one, other in zip(read_json(job.history), read_json(qlora.history), strict=True):
            assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)

    def test_resumed_run_gives_the_same_weights(self, make_job, qlora):
        job = make_job("qlora-resumed", "sft", quantization="nf4", save_steps=2)
        with pytest.raises(Stop):
            train(job, [stop_after(5)])
        (folder,) = Path(job.work).iterdir()
        assert {path.name for path in folder.glob("checkpoint-*")} == {
            "checkpoint-2",
            "checkpoint-4",
        }
        train(job)
        assert read_json(job.manifest)["files"] == read_json(qlora.manifest)["files"]
        assert read_json(job.history) == read_json(qlora.history)


class TestDeepSpeed:
    """The shipped files on two processes, against one process without DeepSpeed."""

    FULL = {"adapter": "full", "lora": None}  # noqa: RUF012
    NF4 = {"quantization": "nf4"}  # noqa: RUF012

    def weights(self, job: TrainingJob) -> dict:
        from safetensors.torch import load_file

        (file,) = Path(job.model).glob("*.safetensors")
        return load_file(file)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("zero2", NF4),
            ("zero3", {}),
            ("zero3_offload", FULL),
            pytest.param("zero2", {}, marks=FURTHER),
            pytest.param("zero2", FULL, marks=FURTHER),
            pytest.param("zero3", FULL, marks=FURTHER),
            pytest.param("zero3_offload", {}, marks=FURTHER),
        ],
    )
    def test_two_processes_give_what_one_gives(self, even_job, name, change):
        kind = "-".join([name, *map(str, change.values())])
        alone = even_job(f"one-{kind}", **change)
        train(alone)
        spread = even_job(kind, processes=2, deepspeed=str(SHIPPED / f"{name}.json"), **change)
        run_training(spread)
        assert set(read_json(spread.manifest)["files"]) == set(read_json(alone.manifest)["files"])
        one, two = read_json(alone.history), read_json(spread.history)
        assert one[-1]["loss"] < 0.8 * one[0]["loss"]
        assert [entry["loss"] for entry in two] == pytest.approx(
            [entry["loss"] for entry in one], abs=TOLERANCE
        )
        expected, actual = self.weights(alone), self.weights(spread)
        assert expected.keys() == actual.keys()
        for key, tensor in expected.items():
            assert tensor.shape == actual[key].shape
            assert (tensor - actual[key]).abs().max() < TOLERANCE

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("zero3", {}),
            pytest.param("zero2", FULL, marks=FURTHER),
            pytest.param("zero3_offload", FULL, marks=FURTHER),
        ],
    )
    def test_a_killed_run_ends_with_the_same_weights(self, even_job, name, change):
        kind = "-".join([name, *map(str, change.values())])
        settings = {
            **change,
            "epochs": 30,
            "save_steps": 10,
            "processes": 2,
            "deepspeed": str(SHIPPED / f"{name}.json"),
        }
        whole = even_job(f"whole-{kind}", **settings)
        run_training(whole)
        job = even_job(f"killed-{kind}", **settings)
        code = "import json, sys; from weak_to_strong.training import launching; "
        code += "launching.run_training(launching.TrainingJob(**json.loads(sys.argv[1])))"
        script = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(asdict(job))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        while script.poll() is None and not find_checkpoints(job.work):
            time.sleep(0.005)
        script.kill()
        script.wait()
        assert not Path(job.manifest).exists(), "it had ended before the kill"
        resumed = run_training(job)
        assert 10 <= resumed < 60
        assert read_json(job.manifest)["files"] == read_json(whole.manifest)["files"]
        assert read_json(job.history) == read_json(whole.history)

    @FURTHER
    def test_orpo_with_checkpointed_activations(self, make_job, sft):
        """What config/paper asks for in Stage II."""
        alone = make_job("one-orpo", "orpo", sft, gradient_checkpointing=True)
        train(alone)
        file = str(SHIPPED / "zero3.json")
        spread = make_job(
            "zero3-orpo", "orpo", sft, processes=2, deepspeed=file, gradient_checkpointing=True
        )
        run_training(spread)
        one, two = read_json(alone.history), read_json(spread.history)
        assert two[0]["loss"] == pytest.approx(one[0]["loss"], abs=TOLERANCE)
        assert two[-1]["loss"] < two[0]["loss"]
        assert set(read_json(spread.manifest)["files"]) == set(read_json(alone.manifest)["files"])

    @FURTHER
    @pytest.mark.parametrize("name", ["zero2", "zero3", "zero3_offload"])
    def test_dpo_starts_at_its_reference(self, make_job, sft, name):
        file = str(SHIPPED / f"{name}.json")
        job = make_job(f"{name}-dpo", "dpo", sft, processes=2, deepspeed=file)
        run_training(job)
        history = read_json(job.history)
        assert history[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
        assert history[-1]["rewards/margins"] > 0.1
        assert set(read_json(job.manifest)["files"]) == set(read_json(sft.manifest)["files"])


def test_capped_attention_is_trained_with_its_cap(tmp_path):
    """As vLLM serves it; transformers' default leaves the cap out."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=2.0,
        query_pre_attn_scalar=1,
        attn_logit_softcapping=1.0,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    settings = complete_settings("sft", {**SETTINGS, "adapter": "full", "lora": None})
    tokens = torch.tensor([[3, 5, 8, 5, 4, 7]])
    logits = {
        name: model.eval()(tokens).logits
        for name, model in {
            "ours": load_weights(settings, str(tmp_path), "model"),
            **{
                kind: AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=kind)
                for kind in ("eager", "sdpa")
            },
        }.items()
    }
    assert torch.equal(logits["ours"], logits["eager"])
    assert not torch.allclose(logits["ours"], logits["sdpa"], atol=1e-3)


def test_import_is_light():
    """Importing the module must not load the libraries: the rule may end on bad input first."""
    import subprocess

    code = "import sys, weak_to_strong.training.launching; print('torch' in sys.modules)"
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
