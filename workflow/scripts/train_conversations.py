"""Mid-training or SFT through TRL. Usage: train_conversations.py JOB"""

import shutil

from smolmake.program import Job, run_step, stay_offline

stay_offline()  # before a library reads the environment

import torch
from trl import SFTConfig, SFTTrainer

from smolmake.data.tokenizer import TURN_END
from smolmake.posttrain.conversations import read_conversations
from smolmake.posttrain.training import common_settings, load_for_training, train_and_save


def compute(job: Job) -> None:
    torch.set_num_threads(job.run["threads_posttraining"])
    data = read_conversations(job.spec["data"], job.group("data"), job.spec["seed"])
    model, tokenizer = load_for_training(job.input("parent") / "checkpoint", job.spec["template"])
    settings = SFTConfig(
        assistant_only_loss=job.spec["loss"] == "assistant",
        eos_token=TURN_END,
        packing=job.spec["packing"] != "none",
        packing_strategy="bfd" if job.spec["packing"] == "none" else job.spec["packing"],
        **common_settings(job.spec, job.run, job.folder, len(data)),
    )
    trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
    facts = train_and_save(trainer, model, tokenizer, job.folder)
    job.finish(["checkpoint"], {**facts, "rows": len(data)})
    shutil.rmtree(job.folder / "recovery", ignore_errors=True)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
