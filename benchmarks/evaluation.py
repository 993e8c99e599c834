"""How fast a checkpoint is evaluated: the pipeline's engine beside the lm-evaluation-harness's own hf backend.

    python benchmarks/evaluation.py --device cuda --dtype bfloat16            Llama 3.2 1B's shape; minutes on an H200
    python benchmarks/evaluation.py                                           the toy's shape on a CPU
    python benchmarks/evaluation.py --job [--tree OTHER_CHECKOUT]            its evaluation job alone, start included

Weights are random and requests made up, with lengths as real tasks have them (evaluation_cases.py); nothing is fetched.
Both answer the same requests. The hf backend is tried with several batch sizes, also `auto`, and its best one counts;
one that runs out of memory is left out and named. A setting is not tried once --seconds are over, which is told too.
The tokens of both columns are those of the requests as the hf backend reads them, a request each: the engine's gain by
reading less is in its tokens/s. Each has answered them once before the clock starts, as a suite of thousands of items
warms a GPU's memory and kernels up; of generation, some. Answers are sampled, since a model with random weights never
stops by itself: one token in 128 ends an answer, and none is longer than 384.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples" / "toy")]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}  # before libraries read them

import lm_eval  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from evaluation_cases import ANSWER, CASES, LIMIT, SUITE, WORDS, WRITTEN, Case, projected, prompts, text  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig  # noqa: E402

from generators import arithmetic, chats, notebooks, world  # noqa: E402
from generators.tables import write_table  # noqa: E402
from smolmake.data.tokenizer import tokenizer_config, train_bpe  # noqa: E402
from smolmake.evaluate import harness_model  # noqa: E402
from smolmake.evaluate.endings import answer_text  # noqa: E402
from smolmake.evaluate.harness_model import HarnessModel  # noqa: E402
from smolmake.execution.job import job_file  # noqa: E402
from smolmake.execution.manifest import write_manifest  # noqa: E402
from smolmake.files import canonical_json, write_atomically  # noqa: E402
from smolmake.model.config import ModelConfig  # noqa: E402
from smolmake.model.conversion import save_tensors  # noqa: E402
from smolmake.model.decoder import Decoder  # noqa: E402
from smolmake.model.init import initialise  # noqa: E402
from smolmake.yaml_files import read_yaml  # noqa: E402

MODEL, LENGTH = ROOT / "config" / "models" / "llama-3.2-1b.yaml", 4096
TOY = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
       "num_key_value_heads": 2, "vocab_size": 2048}  # fmt: skip
LETTERS = {"until": ["\n\n", "Question:"], "do_sample": True, "temperature": 1.0, "top_k": 0, "max_gen_toks": LIMIT}
PUBLISHED = 1_000  # questions of each task in SmolLM3's ablations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--model", type=Path, help="a file of config/models; the default is Llama 3.2 1B, on a CPU the toy"
    )
    parser.add_argument("--scale", type=float, help="of the numbers of items; the default is 1, on a CPU 0.1")
    parser.add_argument("--batches", default="", help="batch sizes of the hf backend, such as 16,64,auto")
    parser.add_argument("--seconds", type=float, default=150.0, help="after which no more settings are tried")
    parser.add_argument("--json", type=Path, help="where the figures go, besides the screen")
    parser.add_argument("--job", action="store_true", help="only the toy's evaluation job")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout, whose evaluation job is timed")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(options.device), "dtype": options.dtype}
    logging.disable(logging.WARNING)
    if options.device == "cpu":
        torch.set_num_threads(1)  # as an evaluation's job on a CPU
    print(found["machine"])
    if not options.job:
        found |= compare(options)
    found["job"] = toy_job(options.tree.resolve())
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.processor() or platform.machine()}, "
    name += "" if device == "cuda" else "one thread"
    return f"{name}; torch {torch.__version__}, transformers {transformers.__version__}, lm_eval {lm_eval.__version__}"


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Both on all cases: prints the table, and gives its figures."""
    started, small = time.monotonic(), options.device == "cpu" and options.model is None
    scale = options.scale or (0.1 if options.device == "cpu" else 1.0)
    model, tokenizer = loaded(options.model or MODEL, options.device, getattr(torch, options.dtype), small)
    sizes = [each if each == "auto" else int(each) for each in options.batches.split(",") if each]
    sizes = sizes or ([16, 64, 256, "auto"] if options.device == "cuda" else [4, 16, 64])
    late = lambda: time.monotonic() - started > options.seconds  # noqa: E731
    parameters = sum(each.numel() for each in model.parameters())
    print(f"{parameters / 1e6:.0f}M parameters, {options.dtype}, attention {model.config._attn_implementation}\n")
    print(f"{'case':26} {'by':26} {'requests/s':>10} {'tokens/s':>10} {'ratio':>6} {'GiB':>6}  largest difference")
    rows = [row for case in CASES for row in likelihoods(case, scale, model, tokenizer, sizes, late)]
    batches = [256, 128] if options.device == "cuda" and not options.batches else [n for n in sizes if n != "auto"]
    written = answers(scale, model, tokenizer, batches, late)
    print(f"\n{time.monotonic() - started:.0f} s")
    return {"rows": rows + written, "suite": suite(rows, written)}


def loaded(place: Path, device: str, dtype: torch.dtype, small: bool) -> tuple[Any, Any]:
    """A model with random weights, and a tokenizer to which each made-up word is a token."""
    shape = TOY if small else read_yaml(place)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    vocabulary = shape.get("vocab_size", 128_256)
    config = LlamaConfig(
        **{name: shape[name] for name in names}, vocab_size=vocabulary, max_position_embeddings=LENGTH,
        tie_word_embeddings=True, pad_token_id=0, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    model.generation_config.eos_token_id = list(range(0, vocabulary, ANSWER))
    with tempfile.TemporaryDirectory() as folder:
        train_bpe([text(seed, 400) for seed in range(20)], 400).save(f"{folder}/tokenizer.json")
        Path(folder, "tokenizer_config.json").write_text(json.dumps(tokenizer_config(LENGTH)))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer(f" {WORDS[0]} {WORDS[1]}")["input_ids"]) != 2:
        raise SystemExit("error: a made-up word is more than one token")
    return model, tokenizer


def timed(device: str, answer: Callable[[], Any]) -> tuple[float, Any, float]:
    """Seconds that an answer takes, the answer, and the peak of the GPU's memory in GiB."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    begun = time.perf_counter()
    found = answer()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    return seconds, found, torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0


def likelihoods(
    case: Case, scale: float, model: Any, tokenizer: Any, sizes: list[Any], late: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Rows of a case: of the engine, and of the hf backend at its best batch size."""
    requests, device = case.requests(scale), model.device.type
    tokens = sum(len(ids) for ids in tokenizer(["".join(each.args) for each in requests])["input_ids"])
    engine = HarnessModel(model, tokenizer)
    engine.loglikelihood(requests, disable_tqdm=True)
    seconds, mine, memory = timed(device, lambda: engine.loglikelihood(requests, disable_tqdm=True))
    best, theirs, peak, notes = float("inf"), mine, 0.0, list[str]()
    for size in sizes:
        if late() and best < float("inf"):
            notes.append(f"{size}: no time")
            continue
        other = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, max_batch_size=512)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # where it tells the batch sizes that it tries
                other.loglikelihood(requests, disable_tqdm=True)
                took, found, used = timed(device, lambda other=other: other.loglikelihood(requests, disable_tqdm=True))
        except torch.OutOfMemoryError:
            notes.append(f"{size}: out of memory")
            continue
        notes.append(f"{size}: {took:.1f} s")
        if took < best:
            best, theirs, peak = took, found, used
    furthest = max(abs(one[0] - other[0]) for one, other in zip(mine, theirs, strict=True))
    about = {
        "case": case.name,
        "requests": len(requests),
        "tokens": tokens,
        "target": case.target,
        "difference": furthest,
    }
    return [
        shown(about | {"by": "engine", "seconds": seconds, "gib": memory, "ratio": best / seconds}),
        shown(about | {"by": f"hf ({', '.join(notes)})", "seconds": best, "gib": peak, "ratio": 1.0}),
    ]


class Counting(HFLM):  # type: ignore[misc]
    """The hf backend, with a count of the tokens that it wrote."""

    tokens = 0

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        output = super()._model_generate(context, max_length, stop, **settings)
        for row in output[:, context.shape[1] :].tolist():
            self.tokens += next((number for number, token in enumerate(row, 1) if token % ANSWER == 0), len(row))
        return output


def answers(
    scale: float, model: Any, tokenizer: Any, sizes: list[Any], late: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Rows of generation; both write as many tokens in the mean, and are compared by tokens a second."""
    asked, device, length = prompts(max(16, int(512 * scale)), LETTERS), model.device.type, [0]

    def counted(answer: Any, noted: Any) -> str:
        length[0] += len(answer.tokens)
        return answer_text(answer, noted)

    harness_model.answer_text = counted
    engine = HarnessModel(model, tokenizer)
    engine.generate_until(asked[:4], disable_tqdm=True)
    length[0] = 0
    seconds, _, memory = timed(device, lambda: engine.generate_until(asked, disable_tqdm=True))
    best, tokens, peak, notes = float("inf"), 1, 0.0, list[str]()
    for size in sizes:
        if late() and best < float("inf"):
            notes.append(f"{size}: no time")
            continue
        other = Counting(pretrained=model, tokenizer=tokenizer, batch_size=size)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                took, _, used = timed(device, lambda other=other: other.generate_until(asked, disable_tqdm=True))
        except torch.OutOfMemoryError:
            notes.append(f"{size}: out of memory")
            continue
        notes.append(f"{size}: {took:.1f} s")
        if took / other.tokens < best / tokens:
            best, tokens, peak = took, other.tokens, used
    about = {"case": "generation", "requests": len(asked), "target": 3.0, "difference": None}
    ratio = (length[0] / seconds) / (tokens / best)
    return [
        shown(about | {"by": "engine", "tokens": length[0], "seconds": seconds, "gib": memory, "ratio": ratio}),
        shown(about | {"by": f"hf ({', '.join(notes)})", "tokens": tokens, "seconds": best, "gib": peak, "ratio": 1.0}),
    ]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    rates = f"{row['requests'] / row['seconds']:10,.0f} {row['tokens'] / row['seconds']:10,.0f}"
    target = f" (target {row['target']:g})" if row["by"] == "engine" and row["target"] else ""
    far = "" if row["difference"] is None or row["by"] != "engine" else f"{row['difference']:.1e}"
    memory = f"{row['gib']:6.1f}" if row["gib"] else "     -"
    print(f"{row['case']:26} {row['by'][:26]:26} {rates} {row['ratio']:6.2f} {memory}  {far}{target}", flush=True)
    if len(row["by"]) > 26:
        print(f"{'':26}   {row['by'][26:]}", flush=True)
    return row


def suite(rows: list[dict[str, Any]], written: list[dict[str, Any]]) -> dict[str, Any]:
    """The base ablations' suite by measured speed and real sizes, for the engine and the hf backend."""
    found = {}
    print(f"\nbase ablations, projected: {', '.join(SUITE)}; {', '.join(WRITTEN)}")
    for engine in (True, False):
        cloze, answered = (
            next(row for row in part if (row["by"] == "engine") == engine)
            for part in ([row for row in rows if row["case"] == CASES[0].name], written)
        )
        speed, writing = cloze["tokens"] / cloze["seconds"], answered["tokens"] / answered["seconds"]

        def seconds(items: int, choices: int, question: int, choice: int, speed: float = speed) -> float:
            return items * choices * (question + choice) / speed

        whole, part = (sum(projected(seconds, first).values()) for first in (None, PUBLISHED))
        texts = sum(items * answer / writing for items, _, answer in WRITTEN.values())
        name = "engine" if engine else "hf backend"
        found[name] = {"all questions": whole, f"the first {PUBLISHED}": part, "written": texts}
        print(f"  {name:10} all questions {whole + texts:6.0f} s, {PUBLISHED:,} of each {part + texts:6.0f} s")
    return found


def toy_job(tree: Path) -> dict[str, Any]:
    """Seconds of the toy's evaluation job, from the start of its process to its end, with an untrained model."""
    with tempfile.TemporaryDirectory() as scratch:
        job = lay_out(Path(scratch))
        took = []
        for _ in range(2):
            begun = time.perf_counter()
            subprocess.run(
                [sys.executable, tree / "workflow" / "scripts" / "evaluation.py", job], cwd=scratch, check=True,
                env={**os.environ, "PYTHONPATH": str(tree / "src"), "CUDA_VISIBLE_DEVICES": ""}, capture_output=True,
            )  # fmt: skip
            took.append(time.perf_counter() - begun)
            Path(scratch, "results", "evaluation", "toy", "manifest.json").unlink()
    print(f"\nthe toy's evaluation job, start included: {', '.join(f'{each:.1f}' for each in took)} s", flush=True)
    return {"seconds": took}


def lay_out(place: Path) -> Path:
    """A tree with the toy's tasks, their questions and a checkpoint; returns the job's file."""
    data = {"facts": world.tasks(0), **arithmetic.tasks(0), **notebooks.tasks(0), "chat": chats.chat_tasks(0),
            "preferences": chats.preference_tasks(0)}  # fmt: skip
    for name, rows in data.items():
        write_table(place / "questions" / f"{name}.jsonl", rows)
    shutil.copytree(ROOT / "examples" / "toy" / "tasks", place / "tasks")
    folder = place / "results" / "segment" / "main"
    (place / "tokenizer").mkdir()
    texts = [json.dumps(row, ensure_ascii=False) for rows in data.values() for row in rows]
    train_bpe(texts, TOY["vocab_size"]).save(str(place / "tokenizer" / "tokenizer.json"))
    (place / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(1024)))
    model = Decoder(
        ModelConfig(**TOY, no_rope_layer_interval=4, rms_norm_eps=1e-6, initializer_range=0.08, rope_theta=10_000.0,
                    tie_word_embeddings=True, max_position_embeddings=1024)
    )  # fmt: skip
    initialise(model, 0)
    save_tensors(model.config, model.state_dict(), folder / "checkpoint", place / "tokenizer", 0)
    step = {"kind": "segment", "name": "main", "id": "0"}
    write_manifest(folder, step, {}, sorted((folder / "checkpoint").iterdir()), {"tokens_total": 1}, time.time())
    spec = {
        "tasks": {"folder": "tasks", "content": "", "data": {"path": "questions", "format": "auto", "content": ""}},
        "limit": 80, "prompts": ["def __init__(self", "17 + 5 ="], "chat_prompts": ["What is 12 + 7?"],
        "template": (ROOT / "config" / "templates" / "smollm3-short.jinja").read_text(), "heldout_tokens": None,
    }  # fmt: skip
    job = {"kind": "evaluation", "name": "toy", "id": "0", "folder": "results/evaluation/toy", "spec": spec,
           "inputs": {"checkpoint": "results/segment/main/manifest.json"}, "run": {"device": "cpu"}}  # fmt: skip
    write_atomically(place / job_file("evaluation/toy-0"), canonical_json(job))
    return job_file("evaluation/toy-0")


if __name__ == "__main__":
    main()
