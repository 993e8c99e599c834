"""The decoder is SmolLM3: logits, loss and gradients equal transformers', and checkpoints go both ways bit for bit."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from helpers.models import SHAPE, config, decoder, save_model, write_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM

from smolmake.model.config import ModelConfig
from smolmake.model.conversion import from_transformers, load_model, to_transformers
from smolmake.model.decoder import Decoder

VARIANTS = [
    {"tie_word_embeddings": tied, "num_key_value_heads": heads, "no_rope_layer_interval": interval}
    for tied, heads, interval in itertools.product([True, False], [1, 2, 4], [0, 2, 4])
]


def theirs_of(ours: Decoder) -> SmolLM3ForCausalLM:
    theirs = SmolLM3ForCausalLM(SmolLM3Config(**to_transformers(ours.config, 0)))
    theirs.load_state_dict(ours.state_dict())
    return theirs


def tokens(rows: int = 3, length: int = 40, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, SHAPE["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(value) for value in v.values()))
def test_logits_and_gradients_are_those_of_transformers(variant: dict[str, object]) -> None:
    ours = decoder(**variant)
    theirs = theirs_of(ours)
    inputs = tokens()
    torch.testing.assert_close(ours(inputs), theirs(inputs).logits, rtol=1e-5, atol=1e-5)
    labels = inputs.clone()
    labels[:, 10:14] = -100
    loss = theirs(inputs, labels=labels).loss
    loss.backward()
    targets = labels[:, 1:]
    our_loss = ours.loss(inputs[:, :-1], targets) / (targets != -100).sum()
    our_loss.backward()
    torch.testing.assert_close(our_loss, loss, rtol=1e-5, atol=1e-6)
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, their_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


def test_every_part_of_the_model_matters() -> None:
    # A test against transformers says little of a parameter without influence.
    model = decoder()
    model.loss(tokens()[:, :-1], tokens()[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_goes_both_ways_bit_for_bit(tied: bool, tmp_path: Path) -> None:
    ours = decoder(tie_word_embeddings=tied)
    write_tokenizer(tmp_path / "tokenizer", ["some text"])
    save_model(ours, tmp_path / "ours", tmp_path / "tokenizer", 0)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    assert type(theirs) is SmolLM3ForCausalLM and theirs.config.eos_token_id == 0
    for name, tensor in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor), name
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")("text")["input_ids"]
    theirs.save_pretrained(tmp_path / "theirs")
    back = load_model(tmp_path / "theirs")
    assert back.config == ours.config
    for name, tensor in ours.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert torch.equal(back(tokens()), ours(tokens()))


def test_two_saves_are_byte_equal(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer", ["some text"])
    for name in ("a", "b"):
        save_model(decoder(), tmp_path / name, tmp_path / "tokenizer", 0)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_theta_and_length_are_raised_on_the_way(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer", ["some text"])
    save_model(decoder(), tmp_path / "a", tmp_path / "tokenizer", 0)
    raised = load_model(tmp_path / "a", rope_theta=1e6, max_positions=128)
    assert (raised.config.rope_theta, raised.config.max_position_embeddings) == (1e6, 128)
    assert not torch.equal(raised(tokens()), decoder()(tokens()))
    save_model(raised, tmp_path / "b", tmp_path / "tokenizer", 0)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "b", dtype=torch.float32)
    assert theirs.config.max_position_embeddings == 128
    torch.testing.assert_close(theirs(tokens()).logits, raised(tokens()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{"model_type": "gpt2"}, {"attention_bias": True}, {"mlp_bias": True}, {"no_rope_layers": [1, 1, 1, 1]}],
    ids=lambda change: next(iter(change)),
)
def test_what_the_decoder_does_not_do_is_refused(change: dict[str, object]) -> None:
    values = to_transformers(config(), 0)
    assert ModelConfig(**from_transformers(json.loads(json.dumps(values)))) == config()
    with pytest.raises(ValueError, match="config.json"):
        from_transformers(values | change)


def test_a_lost_parameter_is_not_filled_in(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_tokenizer(tmp_path / "tokenizer", ["some text"])
    save_model(decoder(), tmp_path / "a", tmp_path / "tokenizer", 0)
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "a" / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"layers\.1\.mlp\.up_proj"):
        load_model(tmp_path / "a")


@pytest.mark.parametrize("interval", [0, 2, 4])
def test_packed_documents_give_the_loss_of_each_alone(interval: int) -> None:
    # RoPE is relative, so a document may stand anywhere in the sequence.
    model = decoder(no_rope_layer_interval=interval)
    lengths = (7, 1, 20, 12)
    documents = [tokens(1, length, seed)[0] for seed, length in enumerate(lengths)]
    packed = torch.cat(documents)[None]
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    labels = torch.where(numbers[:, 1:] == numbers[:, :-1], packed[:, 1:], -100)
    together = model.loss(packed[:, :-1], labels, numbers[:, :-1])
    alone = sum(model.loss(part[None, :-1], part[None, 1:]) for part in documents if len(part) > 1)
    assert isinstance(alone, torch.Tensor)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    unmasked = model.loss(packed[:, :-1], labels)
    assert abs(float(unmasked - together)) > 1e-3


def test_no_token_sees_a_later_one_or_another_document() -> None:
    model = decoder()
    inputs, numbers = tokens(1, 30), torch.tensor([[0] * 10 + [1] * 20])
    before = model(inputs, numbers)
    changed = inputs.clone()
    changed[0, 15] = (changed[0, 15] + 1) % SHAPE["vocab_size"]
    after = model(changed, numbers)
    assert torch.equal(after[0, :15], before[0, :15]) and not torch.equal(after[0, 15:], before[0, 15:])
    changed[0, 3] = (changed[0, 3] + 1) % SHAPE["vocab_size"]
    assert torch.equal(model(changed, numbers)[0, 10:], after[0, 10:])
