"""The gradient noise scale and the loss by source: what they say is right, and saying it changes no bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.timeouts import WAIT
from helpers.torchrun import torchrun
from helpers.trainers import trainer
from helpers.training import BATCH, curve, segment
from torch import Tensor, nn

from smolmake.errors import UserError
from smolmake.monitoring.metrics import read_metrics
from smolmake.recipe.runtime import DeviceLayout
from smolmake.train.diagnostics.gradient_noise import NoiseScale, estimates
from smolmake.train.parallel import ParallelContext

pytestmark = pytest.mark.usefixtures("handlers")

ALONE = ParallelContext(torch.device("cpu"))


class Regression(nn.Module):
    """Linear regression on x ~ N(0, 1)^d, y = N(0, noise^2): at weights w the gradient's mean is w and the trace of its
    covariance (d + 1) |w|^2 + d noise^2."""

    def __init__(self, d: int, noise: float) -> None:
        super().__init__()
        self.weight, self.noise = nn.Parameter(torch.linspace(-3, 3, d)), noise

    def expected(self) -> tuple[float, float]:
        d, square = len(self.weight), float(self.weight.detach().square().sum())
        return square, (d + 1) * square + d * self.noise**2


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4], [5, 2, 5, 4]])
def test_the_estimates_are_those_of_a_known_covariance(sizes: list[int]) -> None:
    model, draw = Regression(6, 2.0), torch.Generator().manual_seed(0)
    measure = NoiseScale(model, 16, 4, ALONE)
    sums = torch.zeros(2)
    for _ in range(1500):
        x, e = torch.randn(16, 6, generator=draw), torch.randn(16, generator=draw) * model.noise
        parts = [[part, torch.zeros(len(part), 1)] for part in x.split(sizes)]
        measure.begin(16, 16, parts)
        for number, (part, error) in enumerate(zip(x.split(sizes), e.split(sizes), strict=True), 1):
            (0.5 * (part @ model.weight - error).square().sum() / 16).backward()
            measure.micro_batch(number, part, parts[number - 1][1])
        assert model.weight.grad is not None
        found = measure.end(float(model.weight.grad.norm()))
        sums += torch.tensor([found["gradient_square"], found["gradient_variance"]])
        model.weight.grad = None
    square, variance = model.expected()
    assert float(sums[0]) / 1500 == pytest.approx(square, rel=0.05)
    assert float(sums[1]) / 1500 == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(
    ("world", "layout", "told"),
    [
        (1, {}, "two micro-batches"),
        (4, {"strategy": "zero1"}, "zero1"),
        (4, {"context_parallel": 2}, "share a sequence"),
    ],
)
def test_a_layout_on_which_it_cannot_be_measured_is_refused(world: int, layout: dict[str, Any], told: str) -> None:
    parallel = ParallelContext(torch.device("cpu"), 0, world, DeviceLayout(**layout))
    with pytest.raises(UserError, match=told):
        NoiseScale(nn.Linear(1, 1), 16, 16 if world == 1 else 2, parallel)


def test_the_loss_by_source_is_that_of_its_rows(place: Path, tmp_path: Path) -> None:  # noqa: F811
    run = trainer(place, tmp_path / "run", steps=5, source_loss_every=2, micro_batch=3)
    first = {name: parameter.clone() for name, parameter in run.model.state_dict().items()}
    run.train()
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "source_loss" in line] == [0, 2, 4]
    run.model.load_state_dict(first)
    inputs, labels, documents = (torch.from_numpy(part) for part in run.reader.batch(0))
    expected: dict[str, list[float]] = {}
    for row in range(BATCH):
        source, _ = run.reader.place(0, row)
        with torch.no_grad():
            logits = run.model(inputs[row : row + 1], documents[row : row + 1])[0]
        sums = expected.setdefault(source.source, [0.0, 0.0])
        sums[0] += float(nn.functional.cross_entropy(logits, labels[row], ignore_index=-100, reduction="sum"))
        sums[1] += int((labels[row] != -100).sum())
    assert lines[0]["source_loss"] == pytest.approx({name: total / n for name, (total, n) in expected.items()})


def row_gradients(run: Any) -> tuple[list[Tensor], list[int]]:
    """Of each row of step 0, the flat gradient of its summed loss and its number of labels."""
    inputs, labels, documents = (torch.from_numpy(part) for part in run.reader.batch(0))
    found, counts = [], []
    for row in range(BATCH):
        run.model.zero_grad()
        cut = slice(row, row + 1)
        run.model.loss(inputs[cut], labels[cut], documents[cut]).backward()
        found.append(torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None]))
        counts.append(int((labels[cut] != -100).sum()))
    run.model.zero_grad()
    return found, counts


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "small"), [("ddp", [[0], [2]]), ("fsdp", [[0, 2], [1, 3]])])
def test_over_processes_it_measures_the_same_and_changes_no_bit(
    place: Path,  # noqa: F811
    tmp_path: Path,
    strategy: str,
    small: list[list[int]],
) -> None:
    gradients, counts = row_gradients(trainer(place, tmp_path / "alone"))
    squares = [float((sum(gradients[i] for i in rows) / sum(counts[i] for i in rows)).square().sum()) for rows in small]
    whole = float((sum(gradients) / sum(counts)).square().sum())
    expected = estimates(sum(squares) / 2, 1 / len(small[0]), whole, BATCH)
    folders = []
    for every in (0, 2):
        measures = {"noise_scale_every": every, "source_loss_every": every, "micro_batch": 1}
        job = segment(0, 6, name=f"{strategy}-{every}", layout={"strategy": strategy}, **measures)
        process = torchrun(2, "segment.py", job, place)
        _, errors = process.communicate(timeout=WAIT)
        assert process.returncode == 0, errors
        folders.append(place / job["folder"])
    line = read_metrics(folders[1] / "metrics.jsonl")[0]
    assert (line["gradient_square"], line["gradient_variance"]) == pytest.approx(expected, rel=1e-3)
    assert sum(line["source_loss"].values()) > 0 and line["source_loss"].keys() == {"count", "rhyme"}
    assert curve(folders[0]) == curve(folders[1])
    assert len({(folder / "checkpoint/model.safetensors").read_bytes() for folder in folders}) == 1
