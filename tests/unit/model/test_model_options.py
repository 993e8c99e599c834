"""Families, rotary scalings, precisions, recomputation and the head give what transformers and plain PyTorch give."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.models import SHAPE, config, decoder, save_model, write_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from smolmake.model import head
from smolmake.model.attention import attend, block_mask, document_mask, make_mask
from smolmake.model.conversion import load_model, to_transformers
from smolmake.model.counts import count_parameters
from smolmake.model.decoder import Decoder
from smolmake.model.head import head_loss
from smolmake.model.init import initialise
from smolmake.model.kernels import cast_both, pack
from smolmake.model.linear import Float8Product, scale_of
from smolmake.model.rope import rope_table, yarn

LLAMA = {"family": "llama", "no_rope_layer_interval": 0}
QWEN = {"family": "qwen3", "no_rope_layer_interval": 0}
YARN = {"rope_scaling": yarn(4.0, 16)}
LLAMA3 = {
    "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
}  # fmt: skip


def tokens(rows: int = 2, length: int = 40, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, SHAPE["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", [LLAMA, QWEN, YARN, LLAMA | LLAMA3], ids=["llama", "qwen3", "yarn", "llama3"])
def test_other_families_equal_transformers_and_go_both_ways(shape: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    ours = decoder(tie_word_embeddings=tied, **shape)
    write_tokenizer(tmp_path / "tokenizer", ["some text"])
    save_model(ours, tmp_path / "ours", tmp_path / "tokenizer", 0)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    assert type(theirs).__name__ == to_transformers(ours.config, 0)["architectures"][0]
    assert sum(p.numel() for p in theirs.parameters()) == count_parameters(ours.config.shape).total
    inputs = tokens()
    torch.testing.assert_close(ours(inputs), theirs(inputs).logits, rtol=1e-5, atol=1e-5)
    loss = theirs(inputs, labels=inputs).loss
    loss.backward()
    (ours.loss(inputs[:, :-1], inputs[:, 1:]) / inputs[:, 1:].numel()).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    theirs.save_pretrained(tmp_path / "theirs")
    back = load_model(tmp_path / "theirs")
    assert back.config.family == ours.config.family
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in ours.state_dict().items())
    assert torch.equal(back(inputs), ours(inputs))


def test_yarn_reaches_further_and_leaves_fast_frequencies() -> None:
    plain, further = (rope_table(shape, torch.arange(64))[0] for shape in (config(), config(**YARN)))
    theirs = AutoConfig.for_model(**to_transformers(config(**YARN), 0))
    assert theirs.rope_parameters["rope_type"] == "yarn"
    factor = 0.1 * torch.log(torch.tensor(4.0)) + 1
    torch.testing.assert_close(further[:, 0] / factor, plain[:, 0])
    assert not torch.allclose(further[:, 3] / factor, plain[:, 3])


def test_nope_layers_are_smollm3s_alone() -> None:
    with pytest.raises(ValueError, match="no_rope_layer_interval"):
        config(family="llama")


def test_plain_initial_values_do_not_scale_output_projections() -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256}
    plain, scaled = (Decoder(config(**sizes, scale_output_projections=scaling)) for scaling in (False, True))
    initialise(plain, 0)
    initialise(scaled, 0)
    for name, parameter in plain.named_parameters():
        ratio = 8**0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        torch.testing.assert_close(parameter, scaled.get_parameter(name) * ratio, msg=name)


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("size", [1, 10, 2**30])
def test_the_head_equals_cross_entropy_in_any_chunks(z_loss: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(head.CHUNK, "cpu", size * 97)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(37, 16, generator=generator, requires_grad=True)
    weight = torch.randn(97, 16, generator=generator, requires_grad=True)
    labels = torch.randint(0, 97, (37,), generator=generator)
    labels[::5] = -100
    logits = x @ weight.t()
    expected = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    expected = expected + z_loss * torch.logsumexp(logits, -1)[labels != -100].square().sum()
    reference = torch.autograd.grad(3 * expected, (x, weight))
    found = head_loss(x, weight, labels, z_loss)
    torch.testing.assert_close(found, expected)
    for mine, other in zip(torch.autograd.grad(3 * found, (x, weight)), reference, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(head_loss(x, weight, labels, z_loss), expected)


@pytest.mark.parametrize("what", ["selective", "full"])
def test_recomputation_changes_no_bit(what: str) -> None:
    results = []
    for recompute in ("none", what):
        model = decoder()
        model.set_activation_checkpointing(recompute)
        loss = model.loss(tokens()[:, :-1], tokens()[:, 1:])
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_bf16_is_near_and_leaves_weights_and_gradients_in_fp32() -> None:
    exact, rounded = decoder(), Decoder(config(), "bf16")
    rounded.load_state_dict(exact.state_dict())
    losses = [model.loss(tokens()[:, :-1], tokens()[:, 1:]) for model in (exact, rounded)]
    assert losses[0] != losses[1] and float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=5e-3)
    for loss in losses:
        loss.backward()
    for name, parameter in rounded.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        error = (parameter.grad - exact.get_parameter(name).grad).norm() / exact.get_parameter(name).grad.norm()
        assert error < 0.05, name


def test_float8_products_are_within_their_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 32, generator=generator).bfloat16().requires_grad_()
    weights = [torch.randn(size, 32, generator=generator).requires_grad_() for size in (48, 16)]
    found = Float8Product.apply(x, *weights)
    exact = [F.linear(x.float(), weight) for weight in weights]
    gradients = [torch.randn(part.shape, generator=generator) for part in exact]
    mine = torch.autograd.grad(found, (x, *weights), [g.bfloat16() for g in gradients])
    theirs = torch.autograd.grad(exact, (x, *weights), gradients)
    for a, b in zip((*found, *mine), (*exact, *theirs), strict=True):
        assert (a.float() - b).norm() / b.norm() < 0.06


def test_a_float8_cast_and_its_transpose_hold_the_same() -> None:
    x = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    scale = scale_of(x, torch.float8_e4m3fn)
    rows, columns = cast_both(x, scale, torch.float8_e4m3fn)
    assert torch.equal(rows.float().t(), columns.float())
    assert rows.float().abs().max() == 448
    assert ((rows.float() * scale - x).abs() <= x.abs() / 16 + scale / 512).all()


DOCUMENTS = (torch.rand(2, 512, generator=torch.Generator().manual_seed(0)) < 1 / 60).cumsum(1)


def test_the_block_mask_is_the_document_mask_and_lists_no_block_in_vain() -> None:
    mask = block_mask(DOCUMENTS)
    index = torch.arange(2 * 512)
    whole = mask.mask_mod(torch.tensor(0), torch.tensor(0), index[:, None], index[None, :])
    for row in range(2):
        cut = slice(512 * row, 512 * (row + 1))
        assert torch.equal(whole[cut, cut], document_mask(DOCUMENTS)[row, 0])
    assert not whole[512:, :512].any()
    needed = whole.view(8, 128, 8, 128).any(-1).any(1)
    assert torch.equal(mask.to_dense()[0, 0].bool(), needed)
    full = whole.view(8, 128, 8, 128).all(-1).all(1)
    assert torch.equal(mask.full_kv_num_blocks[0, 0].long(), full.sum(-1)) or not full.any()


def test_attention_by_blocks_is_attention_by_mask() -> None:
    parts = [torch.randn(2, 512, heads, 32, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2)]
    torch.testing.assert_close(
        attend(*parts, block_mask(DOCUMENTS)), attend(*parts, make_mask(DOCUMENTS, False)), rtol=1e-4, atol=1e-5
    )


def test_packed_documents_begin_where_their_numbers_change() -> None:
    packed = pack(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 2]]))
    assert packed.longest == 4 and len(packed.starts) == 64
    assert packed.starts.tolist() == [0, 2, 4, 7] + [8] * 60
