"""What a run's TensorBoard files show, as TensorBoard itself reads them."""

from __future__ import annotations

from pathlib import Path


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each figure in a folder of event files, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    shown = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    for name in events.Tags()["tensors"]:
        if not name.endswith("/text_summary"):
            shown[name] = [
                (event.step, float(make_ndarray(event.tensor_proto)))
                for event in events.Tensors(name)
            ]
    return shown
