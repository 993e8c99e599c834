"""What the segments of a recipe are made from, and how they run."""

import json

import pytest

from smolmake.graph.pretrain import micro_batch, segment_run
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.recipe.pretraining import Guard, ModelShape, Optimizer
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.recipe.schedule import BatchPiece, SchedulePiece

MODEL = ModelShape(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
)
PIECE = SchedulePiece(shape="linear", start=0, start_lr=0.0, end=20, end_lr=1e-3)
SPEC = SegmentSpec(
    start=4, end=20, stage_start=0, schedule=(PIECE,), global_batch_size=8, sequence_length=32, rope_theta=1e4,
    optimizer=Optimizer(), fresh_optimizer=False, precision="fp32", z_loss=0.0, guard=Guard(), model=MODEL, seed=1,
)  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "muon", "ademamix"])
def test_a_spec_comes_back_from_json_and_names_only_what_its_optimizer_reads(name: str) -> None:
    spec = SPEC.model_copy(update={"optimizer": Optimizer(name=name)})  # type: ignore[arg-type]
    values = json.loads(json.dumps(spec.values()))
    assert SegmentSpec.model_validate(values) == spec
    own = {"muon": {"momentum"}, "ademamix": {"beta3", "alpha", "alpha_warmup_steps"}, "adamw": set[str]()}
    assert values["optimizer"].keys() & set.union(*own.values()) == own[name]
    assert "batches" not in values and "roll_back" not in values["guard"]


def test_tokens_are_counted_over_a_warm_up_of_the_batch() -> None:
    assert SPEC.batch_size(5) == 8
    assert (SPEC.tokens_before(6), SPEC.tokens_until(6)) == (6 * 8 * 32, 2 * 8 * 32)
    pieces = (BatchPiece(start=4, size=2, sequences_before=8), BatchPiece(start=6, size=4, sequences_before=12))
    warming = SPEC.model_copy(update={"batches": pieces})
    assert [warming.batch_size(step) for step in (4, 5, 6, 19)] == [2, 2, 4, 4]
    assert (warming.tokens_before(7), warming.tokens_until(7)) == (16 * 32, 8 * 32)


def test_longer_sequences_make_smaller_micro_batches() -> None:
    assert [micro_batch(8, 32, length) for length in (32, 64, 256, 1024)] == [8, 4, 1, 1]


def test_a_segment_runs_by_the_recipes_settings_and_its_layouts_launcher() -> None:
    run = segment_run(
        Runtime(threads=3, micro_batch=5, trackers=["tensorboard"]), Layout(gpus_per_node=8), milestones=[2]
    )
    assert (run.threads, run.micro_batch, run.trackers, run.milestones) == (3, 5, ("tensorboard",), (2,))
    assert run.launcher == "python -m smolmake.cluster.torchrun 8"
