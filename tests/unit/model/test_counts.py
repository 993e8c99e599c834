"""Parameters and FLOPs are counted as published, and initial values are a function of seed and name alone."""

import math

import pytest
import torch
from helpers.models import config, decoder

from smolmake.model.config import ModelConfig
from smolmake.model.counts import count_parameters, flops_per_token
from smolmake.model.decoder import Decoder
from smolmake.model.init import initialise, name_seed

REST = {"rms_norm_eps": 1e-6, "initializer_range": 0.02, "rope_theta": 5e4, "max_position_embeddings": 4096}
SMOLLM3_3B = ModelConfig(
    vocab_size=128_256, hidden_size=2048, intermediate_size=11_008, num_hidden_layers=36, num_attention_heads=16,
    num_key_value_heads=4, no_rope_layer_interval=4, tie_word_embeddings=True, **REST,
)  # fmt: skip
BASELINE_1B = ModelConfig(
    vocab_size=128_000, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
    num_key_value_heads=32, no_rope_layer_interval=0, tie_word_embeddings=True, **REST,
)  # fmt: skip


def test_smollm3_3b_has_its_published_number_of_parameters() -> None:
    assert count_parameters(SMOLLM3_3B.shape).total == 3_075_098_624


def test_the_playbooks_baseline_has_about_1_34_billion() -> None:
    assert count_parameters(BASELINE_1B.shape).total == pytest.approx(1.34e9, rel=0.01)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_count_is_the_sum_over_parameters(tied: bool, heads: int) -> None:
    shape = config(tie_word_embeddings=tied, num_key_value_heads=heads)
    assert count_parameters(shape.shape).total == sum(parameter.numel() for parameter in Decoder(shape).parameters())


def test_flops_are_six_per_parameter_and_twelve_per_attention_pair() -> None:
    assert flops_per_token(SMOLLM3_3B.shape, 4096) == 6 * 3_075_098_624 + 12 * 36 * 2048 * 4096
    # An untied input table is looked up, not multiplied.
    tied, untied = (config(tie_word_embeddings=tied) for tied in (True, False))
    assert flops_per_token(tied.shape, 128) == flops_per_token(untied.shape, 128)


def test_every_fourth_layer_has_no_position() -> None:
    assert [layer for layer in range(36) if not SMOLLM3_3B.uses_rope(layer)] == list(range(3, 36, 4))
    assert all(BASELINE_1B.uses_rope(layer) for layer in range(16))


def test_initial_values_do_not_depend_on_the_order_of_creation() -> None:
    whole = Decoder(config(num_hidden_layers=4))
    torch.manual_seed(123)
    torch.randn(1000)
    other = Decoder(config(num_hidden_layers=4))
    initialise(whole, 7)
    initialise(other, 7)
    shorter = Decoder(config(num_hidden_layers=2))
    shorter.config = whole.config  # the same scale of output projections
    initialise(shorter, 7)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name
    for name, parameter in shorter.named_parameters():
        assert torch.equal(parameter, whole.get_parameter(name)), name


def test_seeds_and_names_give_different_values() -> None:
    first, second = Decoder(config()), Decoder(config())
    initialise(first, 0)
    initialise(second, 1)
    matrices = [p for p in [*first.parameters(), *second.parameters()] if p.dim() > 1]
    firsts = [float(matrix.flatten()[0]) for matrix in matrices]
    assert len(set(firsts)) == len(firsts)
    assert len({name_seed(seed, name) for seed in range(50) for name in ("a", "b")}) == 100


def test_output_projections_are_scaled_by_depth() -> None:
    wide = Decoder(config(hidden_size=256, intermediate_size=512, num_hidden_layers=8, initializer_range=0.05))
    initialise(wide, 0)
    for name, parameter in wide.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
            continue
        scaled = name.endswith(("o_proj.weight", "down_proj.weight"))
        expected = 0.05 / math.sqrt(2 * 8) if scaled else 0.05
        assert float(parameter.std()) == pytest.approx(expected, rel=0.03), name
        assert abs(float(parameter.mean())) < expected * 0.05, name


def test_the_first_loss_is_about_that_of_guessing() -> None:
    model = decoder(initializer_range=0.02)
    tokens = torch.randint(0, 97, (4, 60), generator=torch.Generator().manual_seed(0))
    assert float(model.loss(tokens[:, :-1], tokens[:, 1:])) / (4 * 59) == pytest.approx(math.log(97), rel=0.02)
