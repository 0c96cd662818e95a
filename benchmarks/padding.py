"""How much padding goes through a model in training, and what sorting updates by length saves.

    python benchmarks/padding.py [--rows 320] [--turns 3]

Rows are those of the embedded tasks; micro-batches of four rows, updates of sixteen. `padding` is
the share of padding tokens in one pass in three orders: shuffled, shuffled and sorted within each
update (what training does, see `length_sorting.py`), and transformers' "group_by_length", which
sorts within 50 updates and so changes their rows. Then the embedded strong model is trained on the
same rows in the first two orders, one thread, in turns: ratios of tokens per CPU second, and the
largest difference of losses. Writes benchmarks/padding.csv.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from random import Random

import polars as pl
from measuring import ROOT
from training import MODEL, SETTINGS, TIMER, job_of, make_rows, run

from weak_to_strong.models.base_models import describe_base_model
from weak_to_strong.tables.files import read_json, write_json
from weak_to_strong.training.length_sorting import padding_share, sort_updates

MICRO_BATCH, UPDATE = 4, 16
ORDERS = ("shuffled", "sorted updates", "group_by_length")
TRAIN = """
import json, sys
from weak_to_strong.training import length_sorting
from weak_to_strong.training.libraries import quieten_libraries
from weak_to_strong.training.train import train
from weak_to_strong.training.training_run import TrainingJob, resolve
quieten_libraries()
{timer}
spec, order = json.loads(sys.argv[1]), sys.argv[2]
if order == "shuffled":
    length_sorting.sort_updates = lambda rows, *_: iter(rows)
timer, job = Timer(), TrainingJob(**spec)
train(resolve(job), [timer])
losses = [entry["loss"] for entry in json.load(open(job.history))]
print(json.dumps([timer.cpu_seconds, losses]))
"""


def lengths_of(rows: Path, trainer: str) -> list[int]:
    """Tokens of each row; of its longer side."""
    from transformers import AutoTokenizer

    from weak_to_strong.training.rows import encode_rows

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    columns = ("completion",) if trainer == "sft" else ("chosen", "rejected")
    return [row.longest for row in encode_rows(pl.read_parquet(rows), tokenizer, 512, columns)]


def padding(lengths: list[int]) -> dict[str, float]:
    """Share of padding in each order, mean of ten shuffled passes."""
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    shares: dict[str, list[float]] = {order: [] for order in ORDERS}
    for seed in range(10):
        order = list(range(len(lengths)))
        Random(seed).shuffle(order)
        generator = torch.Generator().manual_seed(seed)
        orders = (
            order,
            sort_updates(order, lengths, UPDATE),
            get_length_grouped_indices(lengths, UPDATE, generator=generator),
        )
        for name, indices in zip(ORDERS, orders, strict=True):
            shares[name].append(padding_share(indices, lengths, MICRO_BATCH))
    return {name: statistics.mean(values) for name, values in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, init = folder / "base.json", folder / "init.json"
        write_json(describe_base_model("strong", {"path": str(MODEL)}), base)
        write_json({**read_json(base), "kind": "full", "base": "strong"}, init)
        files = make_rows(folder, options.rows)
        for trainer in ("sft", "dpo"):
            shares = padding(lengths_of(files[trainer], trainer))
            settings = SETTINGS | {
                "per_device_batch_size": MICRO_BATCH,
                "global_batch_size": UPDATE,
                **({"beta": 0.1} if trainer == "dpo" else {}),
            }
            program = TRAIN.format(timer=TIMER)
            for turn in range(options.turns):
                seconds, losses = {}, {}
                for order in ORDERS[:2]:
                    place = f"{trainer}-{turn}-{order.replace(' ', '-')}"
                    job = job_of(folder, place, trainer, settings, files[trainer], base, init)
                    seconds[order], losses[order] = run(program, json.dumps(job), order)
                pairs = zip(losses[ORDERS[0]], losses[ORDERS[1]], strict=True)
                results.append(
                    {
                        "trainer": trainer,
                        "turn": turn,
                        "rows": options.rows,
                        "micro_batch": MICRO_BATCH,
                        "update": UPDATE,
                        **{f"padding_{order.replace(' ', '_')}": shares[order] for order in ORDERS},
                        "shuffled_cpu_seconds": seconds[ORDERS[0]],
                        "sorted_cpu_seconds": seconds[ORDERS[1]],
                        "speed_ratio": seconds[ORDERS[0]] / seconds[ORDERS[1]],
                        "largest_difference_of_losses": f"{max(abs(a - b) for a, b in pairs):.1e}",
                    }
                )
                print(results[-1], flush=True)
    pl.DataFrame(results).write_csv(ROOT / "benchmarks/padding.csv", float_precision=6)


if __name__ == "__main__":
    main()
