"""Memory by part: what an H200 measured, and what a misfit is told."""

import dataclasses
from typing import Any

import pytest
import torch
from helpers.models import decoder
from helpers.training import ROOT
from hypothesis import given
from hypothesis import strategies as st

from smolmake.hardware.fit import fit
from smolmake.hardware.gpus import GIB, gpu_kind
from smolmake.hardware.memory import (
    MOMENTS,
    MemoryLayout,
    OptimizerName,
    layer_activations,
    memory_use,
    moment_bytes,
    training_state_bytes,
)
from smolmake.model.counts import Shape, count_parameters
from smolmake.planning.estimate import recipe_shape
from smolmake.recipe.pretraining import Optimizer
from smolmake.train.optimizer import make_optimizer, optimizer_tensors

SMOLLM3, LLAMA = recipe_shape("smollm3", ROOT), recipe_shape("baseline-1b", ROOT)
N = count_parameters(SMOLLM3).total
SMALL = Shape(
    vocab_size=300, hidden_size=64, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
)  # fmt: skip


def layout(**changes: Any) -> MemoryLayout:
    return MemoryLayout(**{"micro_batch": 1, "sequence_length": 4096, **changes})


# torch.cuda.max_memory_allocated in GiB of a whole step: benchmarks/memory.py on one H200, torch 2.11, 2026-11-22.
MEASURED = [
    (LLAMA, {"micro_batch": 4, "loss_chunks": 1}, 66.93),
    (LLAMA, {"micro_batch": 1, "loss_chunks": 1}, 32.32),
    (SMOLLM3, {"micro_batch": 2, "loss_chunks": 1}, 94.94),
    (SMOLLM3, {"micro_batch": 1, "loss_chunks": 1}, 73.28),
    (SMOLLM3, {"micro_batch": 4, "checkpointing": "full", "loss_chunks": 1}, 77.48),
    (SMOLLM3, {"micro_batch": 4, "checkpointing": "full"}, 57.47),
    (LLAMA, {"micro_batch": 4, "checkpointing": "full", "loss_chunks": 1}, 45.39),
    (LLAMA, {"micro_batch": 4, "checkpointing": "full"}, 25.39),
    (SMOLLM3, {"micro_batch": 2}, 85.19),
    (LLAMA, {"micro_batch": 1, "precision": "fp32", "loss_chunks": 1}, 68.90),
]


@pytest.mark.parametrize(("shape", "changes", "gib"), MEASURED)
def test_the_peak_is_what_an_h200_measured(shape: Shape, changes: dict[str, Any], gib: float) -> None:
    assert memory_use(shape, layout(**changes)).total / GIB == pytest.approx(gib, rel=0.01)


def test_a_layer_keeps_what_autograd_was_seen_to_keep_on_an_h200() -> None:
    # Distinct saved storages of one block at T 2,048, bytes a token, less weights and the table of rotations.
    assert layer_activations(SMOLLM3, layout(sequence_length=2048)) == 2048 * (115_784 - 1024)
    assert layer_activations(LLAMA, layout(sequence_length=2048)) == 2048 * (92_808 - 512)


def test_states_are_eighteen_bytes_a_parameter_and_zero_divides_them() -> None:
    def states(**changes: Any) -> list[int]:
        parts = memory_use(SMOLLM3, layout(shard_group=8, **changes)).moments["optimizer step"]
        return [parts[name] for name in ("weights", "master weights", "gradients", "optimizer")]

    assert states() == [2 * N, 4 * N, 4 * N, 8 * N]
    assert states(sharding="zero1") == [2 * N, N // 2, 4 * N, N]
    assert states(sharding="zero2") == [2 * N, N // 2, N // 2, N]
    assert states(sharding="zero3")[1:] == [N // 2, N // 2, N]
    table, layer = 128_256 * 2048, (377_487_360 + 2_434_793_472) // 36
    assert states(sharding="zero3")[0] == 2 * (table + 2 * layer)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", MOMENTS)
def test_training_state_is_what_the_optimizer_really_allocates(name: OptimizerName, tied: bool) -> None:
    model = decoder(tie_word_embeddings=tied)
    optimizer = make_optimizer(model, Optimizer(name=name))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moments = [t for key, t in optimizer_tensors(model, optimizer).items() if not key.startswith("step/")]
    counts = count_parameters(model.config.shape)
    assert sum(tensor.nbytes for tensor in moments) == moment_bytes(counts, name)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert training_state_bytes(counts, name) == weights + moment_bytes(counts, name)


def test_the_memory_of_a_step_depends_on_its_optimizer() -> None:
    def moments(name: str) -> int:
        return memory_use(SMOLLM3, layout(optimizer=name)).moments["optimizer step"]["optimizer"]

    assert (moments("adamw"), moments("ademamix")) == (8 * N, 12 * N)
    assert moments("muon") == 8 * N - 4 * (377_487_360 + 2_434_793_472)


def test_context_parallelism_divides_tokens_and_exchanges_heads() -> None:
    alone = memory_use(SMOLLM3, layout(sequence_length=65_536, checkpointing="full", loss_chunks=1))
    shared = memory_use(
        SMOLLM3, layout(sequence_length=65_536, checkpointing="full", loss_chunks=1, context_parallel=8)
    )
    at_loss = "at the loss"
    for part in ("activations", "logits"):
        assert shared.moments[at_loss][part] * 8 == alone.moments[at_loss][part]
    exchanged = 2 * 2 * (2048 + 2 * 2 * 512) * 65_536 // 8  # with four key heads for eight devices, each twice
    one, eighth = (use.moments["in a layer's backward"]["working"] for use in (alone, shared))
    table = 2 * 128_256 * 2048
    assert eighth - table - exchanged == (one - table) // 8


def test_smollm3s_own_micro_batch_needs_more_than_one_h100() -> None:
    """It trained with micro-batch 3 on pairs of H100 that split each layer (tensor parallel 2), without ZeRO."""
    found = fit(SMOLLM3, layout(micro_batch=3, loss_chunks=1), gpu_kind("h100").memory)
    assert not found.fits
    assert "116.5 GiB are needed (at the loss), 71.7 of 79.6 can be used; largest: activations 47.4" in found.reason
    assert "checkpointing full" in found.remedy


@pytest.mark.parametrize("changes", [{"micro_batch": 16}, {"micro_batch": 3, "shard_group": 8}, {"micro_batch": 8}])
def test_every_named_remedy_fits(changes: dict[str, Any]) -> None:
    memory = gpu_kind("h100").memory
    found = fit(SMOLLM3, layout(**changes), memory)
    assert not found.fits
    one_of, told = found.remedy.startswith("any one of: "), found.remedy.partition(": ")[2]
    named = [choice.split(" (")[0] for choice in told.split("; ")] if one_of else told.split(", ")
    pairs = [(key, int(value) if value.isdigit() else value) for key, value in (choice.split(" ") for choice in named)]
    for change in [{key: value} for key, value in pairs] if one_of else [dict(pairs)]:
        assert fit(SMOLLM3, layout(**{**changes, **change}), memory).fits, change


def test_no_layout_on_these_gpus_suffices() -> None:
    found = fit(SMOLLM3, layout(micro_batch=4), gpu_kind("a100-40gb").memory)
    assert not found.fits
    assert found.remedy.startswith("even micro_batch 1, checkpointing full needs 53.")
    assert fit(SMOLLM3, layout(), gpu_kind("h200").memory).fits


@given(
    st.integers(1, 8), st.sampled_from(["none", "selective", "full"]), st.sampled_from(["bf16", "float8", "fp32"]),
    st.sampled_from(["ddp", "zero1", "zero2", "zero3"]),
)  # fmt: skip
def test_more_of_anything_that_saves_memory_saves_it(
    micro_batch: int, checkpointing: str, precision: str, sharding: str
) -> None:
    """Not so from ddp to zero2 and zero3 on few GPUs: gathering needs memory of its own."""
    case = layout(
        micro_batch=micro_batch, checkpointing=checkpointing, precision=precision, sharding=sharding, shard_group=8
    )  # fmt: skip
    use = memory_use(SMOLLM3, case)
    assert all(size >= 0 for parts in use.moments.values() for size in parts.values())
    more = dataclasses.replace(case, micro_batch=micro_batch + 1)
    wider = dataclasses.replace(case, shard_group=16)
    assert use.total < memory_use(SMOLLM3, more).total
    assert use.total >= memory_use(SMOLLM3, wider).total
    assert use.total <= memory_use(SMOLLM3, dataclasses.replace(case, loss_chunks=1)).total
    kept = memory_use(SMOLLM3, dataclasses.replace(case, checkpointing="none"))
    assert use.moments["at the loss"]["activations"] <= kept.moments["at the loss"]["activations"]


# docs/benchmarks/index.md: the trainer's compiled step on an H200, in GiB.
TRAINED = [
    (SMOLLM3, {"micro_batch": 4}, 111.8),
    (LLAMA, {"micro_batch": 8}, 67.7),
    (SMOLLM3, {"micro_batch": 4, "precision": "float8"}, 102.0),
    (LLAMA, {"micro_batch": 8, "precision": "float8"}, 61.8),
    (SMOLLM3, {"sequence_length": 65_536, "checkpointing": "selective"}, 114.4),
    (SMOLLM3, {"sequence_length": 65_536, "checkpointing": "selective", "precision": "float8"}, 112.7),
    (SMOLLM3, {"sequence_length": 65_536, "checkpointing": "full"}, 65.8),
    (SMOLLM3, {"sequence_length": 65_536, "checkpointing": "full", "precision": "float8"}, 63.3),
]


@pytest.mark.parametrize(("shape", "changes", "measured"), TRAINED)
def test_the_trainers_compiled_step_is_near_the_prediction(
    shape: Shape, changes: dict[str, Any], measured: float
) -> None:
    """A compiled layer keeps less than the formulas count, and recomputing layers keep no bf16 weights.

    Where a part of a layer is recomputed the formulas are a little low; a plan leaves room beside them (headroom).
    """
    predicted = memory_use(shape, layout(**changes)).total / GIB
    least, most = {None: (1.0, 1.08), "selective": (0.985, 1.0), "full": (1.0, 1.12)}[changes.get("checkpointing")]
    assert least <= predicted / measured <= most


def test_float8_saves_what_it_was_measured_to_save() -> None:
    for (shape, changes, bf16), (_, _, float8) in ((TRAINED[0], TRAINED[2]), (TRAINED[1], TRAINED[3])):
        case = layout(**changes)
        saved = memory_use(shape, case).total - memory_use(shape, dataclasses.replace(case, precision="float8")).total
        assert saved / GIB == pytest.approx(bf16 - float8, abs=0.1)


def test_what_does_not_fit_is_refused_with_a_remedy() -> None:
    """The 3B at 65,536 tokens without recomputation, on one H200 and where there are four; with it, it was trained."""
    memory = gpu_kind("h200").memory
    case = layout(sequence_length=65_536, precision="float8")
    assert fit(SMOLLM3, dataclasses.replace(case, checkpointing="selective"), memory).fits
    found = fit(SMOLLM3, case, memory)
    assert not found.fits and found.remedy.startswith("any one of: checkpointing selective (")
    found = fit(SMOLLM3, dataclasses.replace(case, shard_group=4), memory)
    assert not found.fits and "; context_parallel 4 (" in found.remedy
