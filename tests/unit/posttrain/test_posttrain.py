"""Post-training: conversations are checked before training, APO-zero is its closed form, a merge is a weighted mean."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import decoder, save_model, write_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig

from smolmake.data.chat import ChatFormat
from smolmake.errors import UserError
from smolmake.graph.specs.data import PathDataset
from smolmake.graph.specs.posttrain import ConversationsSpec
from smolmake.posttrain.chat_data import Preparation, conversation_rows, pair_rows
from smolmake.posttrain.hf_trainer import WHOLE, last_whole_checkpoint
from smolmake.posttrain.merge import merge_linear
from smolmake.posttrain.trainers import Alignment

USER, ASSISTANT = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}


def write_rows(path: Path, rows: list[dict[str, Any]], share: float = 1.0, **settings: Any) -> ConversationsSpec:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = PathDataset(path=str(path), format="auto", content="")
    return ConversationsSpec(files=files, fraction=share, **settings)


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory, root: Path) -> ChatFormat:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, ["What is 2 + 2? It is 4."])
    template = (root / "config" / "templates" / "smollm3-short.jinja").read_text()
    return ChatFormat(AutoTokenizer.from_pretrained(folder), template)


def preparation(form: ChatFormat, section: str = "sft", seed: int = 0, max_length: int = 512) -> Preparation:
    return Preparation(form, section, "smollm3-short.jinja", seed, max_length)


def answers(form: ChatFormat, rows: Any) -> list[str]:
    """The last answer of each row."""
    texts = [form.tokenizer.decode(row["input_ids"]) for row in rows.data]
    return [text.rpartition("assistant\n")[2].removesuffix("<|im_end|>\n") for text in texts]


@pytest.mark.parametrize(
    "messages",
    [None, [], "text", [USER], [USER, ASSISTANT, USER], [{"role": "assistant"}], [{"content": "4."}],
     [USER, {"role": "assistant", "content": None}], [USER, "4."], {"role": "assistant"}],
)  # fmt: skip
def test_a_row_that_is_no_conversation_is_refused(tmp_path: Path, form: ChatFormat, messages: Any) -> None:
    place = write_rows(tmp_path / "a.jsonl", [{"messages": [USER, ASSISTANT]}, {"messages": messages}])
    with pytest.raises(UserError, match="row 2: ") as caught:
        conversation_rows({"chats": place}, {}, preparation(form), tmp_path)
    assert caught.value.key == "sft.data.chats" and len(str(caught.value).splitlines()) <= 12
    skipped = place.model_copy(update={"on_error": "skip"})
    counts = conversation_rows({"chats": skipped}, {}, preparation(form), tmp_path).counts["chats"]
    assert (counts.rows, counts.skipped, counts.trained) == (2, 1, 1) and counts.first_skipped.startswith("row 2: ")


def test_a_dataset_without_the_column_is_refused(tmp_path: Path, form: ChatFormat) -> None:
    place = write_rows(tmp_path / "a.jsonl", [{"conversation": [USER, ASSISTANT]}], on_error="skip")
    with pytest.raises(UserError, match="`messages`") as caught:
        conversation_rows({"chats": place}, {}, preparation(form, "mid_training"), tmp_path)
    assert caught.value.key == "mid_training.data.chats" and "`conversation`" in caught.value.remedy
    assert "text: COLUMN" not in caught.value.remedy
    (tmp_path / "b.jsonl").write_text('{"messages": [{"role": "assistant", "content": "4."}]}\n{"text": "4."}\n')
    later = ConversationsSpec(files=PathDataset(path=str(tmp_path / "b.jsonl"), format="auto", content=""))
    with pytest.raises(UserError, match="`messages` is not in row 2"):
        conversation_rows({"chats": later}, {}, preparation(form), tmp_path)
    with pytest.raises(UserError, match="`chosen`"):
        pair_rows({"pairs": place}, {}, preparation(form, "apo"), tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONLINES", "lines.json", "array.json"])
def test_conversations_are_read_whatever_their_texts_hold(tmp_path: Path, form: ChatFormat, name: str) -> None:
    said = "one\u2028two\u2029three\x85four\x0cfive"
    line = json.dumps({"messages": [USER, {"role": "assistant", "content": said}]}, ensure_ascii=False)
    text = f"[{line},\n{line}]" if name == "array.json" else f"\ufeff{line}\n{line}\n\n \n"
    (tmp_path / name).write_bytes(text.encode())
    files = ConversationsSpec(files=PathDataset(path=str(tmp_path / name), format="auto", content=""))
    rows = conversation_rows({"chats": files}, {}, preparation(form), tmp_path / "step")
    assert answers(form, rows) == [said, said]


def test_shares_and_order_follow_the_seed(tmp_path: Path, form: ChatFormat) -> None:
    rows = [{"messages": [USER, {"role": "assistant", "content": str(number)}]} for number in range(100)]
    place, quarter, half = (write_rows(tmp_path / "a.jsonl", rows, share) for share in (1.0, 0.25, 0.5))
    orders = []
    for number, seed in enumerate((0, 0, 1)):
        rows = conversation_rows({"a": quarter, "b": place}, {}, preparation(form, seed=seed), tmp_path / str(number))
        orders.append(answers(form, rows))
        assert rows.counts["a"].rows == 100 and rows.counts["a"].used == rows.counts["a"].trained == 25
    assert orders[0] == orders[1] != orders[2]
    assert len(orders[0]) == 125
    halves = conversation_rows({"a": half}, {}, preparation(form), tmp_path / "half")
    assert len(set(answers(form, halves))) == 50


@pytest.fixture
def model_folder(tmp_path: Path, root: Path) -> Path:
    """A tiny checkpoint as a segment leaves it, with the chat template on its tokenizer."""
    size = write_tokenizer(tmp_path / "tokenizer", ["What is 2 + 2? It is 4."])
    save_model(decoder(vocab_size=size, num_hidden_layers=2), tmp_path / "model", tmp_path / "tokenizer", 0)
    template = (root / "config" / "templates" / "smollm3-short.jinja").read_text()
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    return tmp_path / "model"


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "max_steps": 1, "use_cpu": True, "bf16": False,
        "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "gradient_checkpointing": False,
        "dataloader_pin_memory": False, "max_length": 128,
    }  # fmt: skip


def test_datasets_with_and_without_settings_can_be_mixed(tmp_path: Path, form: ChatFormat) -> None:
    plain = write_rows(tmp_path / "plain.jsonl", [{"messages": [USER, ASSISTANT]}] * 3)
    row = {
        "messages": [USER, ASSISTANT],
        "chat_template_kwargs": {"enable_thinking": False, "custom_instructions": None},
    }
    both = {"a": plain, "b": write_rows(tmp_path / "set.jsonl", [row] * 3)}
    rows = conversation_rows(both, {}, preparation(form), tmp_path)
    texts = [form.tokenizer.decode(row["input_ids"]) for row in rows.data]
    assert sum("/no_think" in text for text in texts) == 3 == sum("system\n/think" in text for text in texts)


def test_apo_zero_is_its_closed_form(tmp_path: Path, model_folder: Path) -> None:
    # D'Oosterlinck et al. 2024: 1 - sigmoid(beta * chosen log-ratio) + sigmoid(beta * rejected log-ratio).
    wrong = {"role": "assistant", "content": "It is 5, 6 or 7."}
    rows = [
        {"chosen": [USER, ASSISTANT], "rejected": [USER, wrong], "chat_template_kwargs": {"enable_thinking": False}}
    ]
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    place = write_rows(tmp_path / "a.jsonl", rows * 4)
    data = pair_rows({"a": place}, {}, preparation(ChatFormat(tokenizer), "apo"), tmp_path).data
    model, reference = (AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32) for _ in range(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    beta = 0.7
    arguments = DPOConfig(loss_type=["apo_zero"], beta=beta, **settings(tmp_path / "out"))
    trainer = Alignment(
        model=model, ref_model=reference, args=arguments, train_dataset=data, processing_class=tokenizer
    )
    trainer.total_rows = len(rows * 4)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = float(trainer.compute_loss(trainer.model, batch))

    def log_probability(scored: torch.nn.Module, answer: str) -> float:
        head = tokenizer.apply_chat_template([USER], tokenize=False, add_generation_prompt=True, enable_thinking=False)
        prompt = tokenizer(head)["input_ids"]
        ids = torch.tensor([prompt + tokenizer(f"{answer}<|im_end|>\n")["input_ids"]])
        with torch.no_grad():
            logs = scored(ids).logits[0, :-1].log_softmax(-1)
        picked = logs.gather(1, ids[0, 1:, None])[:, 0]
        return float(picked[len(prompt) - 1 :].sum())

    ratios = [log_probability(model, text) - log_probability(reference, text) for text in ("4.", "It is 5, 6 or 7.")]
    chosen, rejected = (torch.sigmoid(torch.tensor(beta * ratio)) for ratio in ratios)
    assert abs(ratios[0] - ratios[1]) > 0.01
    assert loss == pytest.approx(float(1 - chosen + rejected), abs=1e-4)


def write_model(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_merge_is_the_weighted_mean(tmp_path: Path) -> None:
    first = {"w": torch.randn(3, 4), "b": torch.tensor([1.0, 2.0])}
    second = {"w": torch.randn(3, 4), "b": torch.tensor([3.0, -2.0])}
    places = {"one": write_model(tmp_path / "1", **first), "two": write_model(tmp_path / "2", **second)}
    (tmp_path / "out").mkdir()
    merge_linear(places, {"one": 0.75, "two": 0.25}, tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(merged["b"], torch.tensor([1.5, 1.0]))
    assert torch.equal(merged["w"], 0.75 * first["w"] + 0.25 * second["w"])
    merge_linear({"one": places["one"]}, {"one": 1.0}, tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["w"], first["w"])


def test_a_merge_of_half_precision_sums_in_full(tmp_path: Path) -> None:
    values = [torch.tensor([256.0, 1.0], dtype=torch.bfloat16), torch.tensor([1.0, 256.0], dtype=torch.bfloat16)]
    places = {str(i): write_model(tmp_path / str(i), w=value) for i, value in enumerate(values)}
    (tmp_path / "out").mkdir()
    merge_linear(places, {"0": 0.5, "1": 0.5}, tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, torch.tensor([128.5, 128.5]).to(torch.bfloat16))


@pytest.mark.parametrize(
    "other", [{"w": torch.zeros(4, 3)}, {"v": torch.zeros(3, 4)}, {"w": torch.zeros(3, 4), "v": torch.zeros(1)}]
)
def test_other_architectures_are_refused(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    places = {"one": write_model(tmp_path / "1", w=torch.zeros(3, 4)), "two": write_model(tmp_path / "2", **other)}
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError) as caught:
        merge_linear(places, {"one": 0.5, "two": 0.5}, tmp_path / "out")
    assert caught.value.value == "two"
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_the_newest_whole_trainer_checkpoint_is_taken(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path) is None
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}" / WHOLE).write_text("{}")
    found = last_whole_checkpoint(tmp_path)
    assert found is not None and found.name == "checkpoint-10"
