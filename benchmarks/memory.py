"""Memory of real training steps on a CUDA GPU against the prediction of smolmake.hardware.memory.

    python benchmarks/memory.py            all cases, about a minute on an H200
    python benchmarks/memory.py --tiny     tiny shapes, also on a CPU, where nothing is measured: tries the script

Each case builds a model with random weights, does two steps of AdamW over two micro-batches of random tokens, and
prints, in GiB: states before a forward pass, what the forward pass up to the last layer leaves behind, the peak of the
second step, each as predicted and measured; the ratio measured/predicted of the peak; and the memory that the allocator
holds and that the GPU has in use. `transformers` rows run transformers'
SmolLM3ForCausalLM, of which the prediction knows nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from smolmake.hardware.gpus import GIB  # noqa: E402
from smolmake.hardware.memory import MemoryLayout, memory_use  # noqa: E402
from smolmake.model.config import ModelConfig  # noqa: E402
from smolmake.model.counts import Shape  # noqa: E402
from smolmake.model.decoder import Decoder, rope_table  # noqa: E402
from smolmake.planning.estimate import recipe_shape  # noqa: E402

TINY = Shape(
    vocab_size=1000, hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and a layout; of smolmake's decoder or of transformers' own."""

    model: str
    layout: MemoryLayout
    transformers: bool = False

    def __str__(self) -> str:
        layout = self.layout
        loss = f" chunks {layout.loss_chunks}" if layout.loss_chunks > 1 else ""
        how = " transformers" * self.transformers
        return f"{self.model} mb{layout.micro_batch} {layout.precision} {layout.checkpointing}{loss}{how}"


def cases(length: int) -> Iterator[Case]:
    """The most telling first, in case time is short."""
    for model, micro_batches in (("baseline-1b", (4, 1)), ("smollm3", (2, 1))):
        for micro_batch in micro_batches:
            yield Case(model, MemoryLayout(micro_batch=micro_batch, sequence_length=length, loss_chunks=1))
    large: dict[str, Any] = {"micro_batch": 4, "sequence_length": length}
    for model in ("smollm3", "baseline-1b"):
        yield Case(model, MemoryLayout(**large, checkpointing="full", loss_chunks=1))
        yield Case(model, MemoryLayout(**large, checkpointing="full"))
    yield Case("smollm3", MemoryLayout(**large, checkpointing="selective"))
    yield Case("smollm3", MemoryLayout(micro_batch=2, sequence_length=length))
    one = MemoryLayout(micro_batch=1, sequence_length=length, loss_chunks=1)
    yield Case("baseline-1b", dataclasses.replace(one, precision="fp32"))
    yield Case("smollm3", one, transformers=True)


class Step:
    """Training steps of a case. `before` and `after` are bytes allocated before and after the layers' forward pass."""

    def __init__(self, case: Case, shape: Shape, device: torch.device) -> None:
        self.case, self.layout, self.shape, self.device = case, case.layout, shape, device
        self.before = self.after = 0
        with device:
            self.model = transformers_model(shape) if case.transformers else decoder(shape, self.layout)
        self.trained = list(self.model.parameters())
        if self.layout.precision == "bf16":
            self._keep_master_copies()
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=True)

    def _keep_master_copies(self) -> None:
        """bf16 weights in the model; fp32 ones for the optimizer, whose gradients take up each bf16 one as it comes."""
        self.trained = [parameter.detach().clone().requires_grad_() for parameter in self.model.parameters()]
        self.model.bfloat16()
        for master, parameter in zip(self.trained, self.model.parameters(), strict=True):
            master.grad = torch.zeros_like(master)
            parameter.register_post_accumulate_grad_hook(into(master))

    def run(self) -> float:
        """One optimizer step over the micro-batches; the loss of the last."""
        loss = torch.zeros(())
        for _ in range(2):
            size = (self.layout.micro_batch, self.layout.sequence_length + 1)
            tokens = torch.randint(0, self.shape.vocab_size, size, device=self.device)
            self.before = allocated()
            loss = self._loss(tokens[:, :-1], tokens[:, 1:].contiguous())
            loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        if self.layout.precision == "bf16":
            with torch.no_grad():
                for master, parameter in zip(self.trained, self.model.parameters(), strict=True):
                    parameter.copy_(master)
                    master.grad.zero_()
        else:
            self.optimizer.zero_grad()
        return float(loss.detach())

    def _loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        if self.case.transformers:
            return self.model(input_ids=tokens, labels=labels, use_cache=False).loss
        x = self.model.model.embed_tokens(tokens)
        rotation = rope_table(self.model.config, torch.arange(tokens.shape[1], device=self.device))
        for block in self.model.model.layers:
            x = block(x, rotation, None)
        self.after = allocated()
        x, losses = self.model.model.norm(x).flatten(0, 1), []
        chunks = self.layout.loss_chunks
        for part, targets in zip(x.chunk(chunks), labels.flatten().chunk(chunks), strict=True):
            losses.append(
                checkpoint(self._head, part, targets, use_reentrant=False) if chunks > 1 else self._head(part, targets)
            )
        return torch.stack(losses).sum() / labels.numel()

    def _head(self, x: Tensor, labels: Tensor) -> Tensor:
        logits = self.model.lm_head(x).float()
        return nn.functional.cross_entropy(logits, labels, reduction="sum")


def into(master: Tensor) -> Callable[[Tensor], None]:
    """A hook that adds a parameter's gradient to its master copy's and drops it."""

    def add(parameter: Tensor) -> None:
        master.grad.add_(parameter.grad)
        parameter.grad = None

    return add


def decoder(shape: Shape, layout: MemoryLayout) -> Decoder:
    """smolmake's decoder, its blocks under checkpointing as the layout says."""
    sizes = {name: value for name, value in dataclasses.asdict(shape).items() if name in ModelConfig.model_fields}
    rest = {"no_rope_layer_interval": 4, "rms_norm_eps": 1e-6, "initializer_range": 0.02, "rope_theta": 5e4}
    model = Decoder(ModelConfig(**sizes, **rest, max_position_embeddings=layout.sequence_length))
    model.set_activation_checkpointing(layout.checkpointing)
    return model


def transformers_model(shape: Shape) -> Any:
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    sizes = dataclasses.asdict(shape)
    del sizes["head_dim"], sizes["qk_norm"]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return SmolLM3ForCausalLM(SmolLM3Config(**sizes, **special, attn_implementation="sdpa")).train()


def allocated() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def measure(case: Case, shape: Shape, device: torch.device) -> str:
    """A row of the table."""
    expected = memory_use(shape, case.layout)
    at_loss = expected.moments["at the loss"]
    states = sum(at_loss.values()) - at_loss["activations"] - at_loss["logits"]
    predicted = [states, at_loss["activations"], expected.total]
    measured = [0, 0, 0, 0, 0]
    step: Step | None = None
    try:
        step = Step(case, shape, device)
        step.run()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step.run()
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info()
            peaks = [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), total - free]
            measured = [step.before, max(0, step.after - step.before), *peaks]
    except torch.OutOfMemoryError as error:
        return f"{case!s:<44} out of memory: {str(error)[:60]}"
    finally:
        del step
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    columns = "".join(f"{p / GIB:>9.2f}{m / GIB:>8.2f}" for p, m in zip(predicted, measured, strict=False))
    held = "".join(f"{size / GIB:>9.2f}" for size in measured[3:])
    return f"{case!s:<44}{columns}{measured[2] / predicted[2]:>8.3f}{held}  {expected.peak_moment}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, also on a CPU")
    parser.add_argument("--length", type=int, default=4096, help="tokens a sequence")
    parser.add_argument("--seconds", type=float, default=300, help="start no case after this many")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.tiny:
        sys.exit("error: no CUDA GPU here; --tiny tries the script without one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, nothing measured"
    print(f"{name}, torch {torch.__version__}; GiB, predicted and measured; T = {arguments.length}")
    print(f"{'':<44}{'states':>17}{'after layers':>17}{'peak of step':>17}{'ratio':>8}{'reserved':>9}{'in use':>9}")
    started = time.monotonic()
    for case in itertools.takewhile(lambda _: time.monotonic() - started < arguments.seconds, cases(arguments.length)):
        shape = TINY if arguments.tiny else recipe_shape(case.model, ROOT)
        print(measure(case, shape, device), f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
