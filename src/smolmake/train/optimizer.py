"""AdamW, Muon and AdEMAMix with weight decay by parameter name, and their state as tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from smolmake.recipe.pretraining import Optimizer as Settings
from smolmake.train.parallel import distribute_like

NEVER_MUON = ("embed_tokens", "lm_head")  # tables, not maps between layers


class Optimizers:
    """One or more optimizers, each of other parameters of a model, used as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()


class AdEMAMix(torch.optim.Optimizer):
    """AdamW with a second, much slower mean of gradients (Pagliardini, Ablin and Grangier 2024).

    update = (m1 / (1 - beta1^t) + alpha_t m2) / (sqrt(v / (1 - beta2^t)) + eps); alpha and the slow mean's beta3 rise
    over the first `alpha_warmup_steps` steps, as in the paper's equations for their schedulers.
    """

    def __init__(self, groups: list[dict[str, Any]], settings: Settings) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self.settings = settings

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            for name in ("exp_avg", "exp_avg_slow", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter)
        state["step"] += 1
        step, settings = int(state["step"]), self.settings
        beta1, beta2 = settings.beta1, settings.beta2
        alpha, beta3 = slow_mean(step, beta1, settings.beta3, settings.alpha, settings.alpha_warmup_steps)
        fast = state["exp_avg"].lerp_(gradient, 1 - beta1)
        slow = state["exp_avg_slow"].lerp_(gradient, 1 - beta3)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (square / (1 - beta2**step)).sqrt_().add_(settings.eps)
        parameter.mul_(1 - rate * decay)
        parameter.addcdiv_(fast / (1 - beta1**step) + alpha * slow, denominator, value=-rate)


def slow_mean(step: int, beta1: float, beta3: float, alpha: float, warmup: int) -> tuple[float, float]:
    """AdEMAMix's alpha and beta3 at a step (from 1): alpha linear, beta3 linear in the mean's half-life."""
    if step >= warmup:
        return alpha, beta3
    done, low, high = step / warmup, math.log(beta1), math.log(beta3)
    return alpha * done, math.exp(low * high / ((1 - done) * high + done * low))


def make_optimizer(model: nn.Module, settings: Settings) -> Optimizers:
    """The optimizer over all parameters; those whose name holds one of `no_weight_decay` are not decayed."""
    named = list(model.named_parameters())
    if settings.name == "ademamix":
        return Optimizers(AdEMAMix(_groups(named, settings), settings))
    if settings.name == "muon":
        matrices = [(n, p) for n, p in named if p.dim() == 2 and not any(part in n for part in NEVER_MUON)]
        chosen = {n for n, _ in matrices}
        # Moonlight's scaling (Liu et al. 2025) makes updates as large as AdamW's, so one learning rate serves both.
        muon = torch.optim.Muon(
            _groups(matrices, settings), lr=0.0, momentum=settings.momentum, adjust_lr_fn="match_rms_adamw"
        )
        return Optimizers(muon, _adamw([(n, p) for n, p in named if n not in chosen], settings))
    return Optimizers(_adamw(named, settings))


def _adamw(named: list[tuple[str, nn.Parameter]], settings: Settings) -> torch.optim.AdamW:
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(_groups(named, settings), lr=0.0, betas=betas, eps=settings.eps, fused=True)


def _groups(named: list[tuple[str, nn.Parameter]], settings: Settings) -> list[dict[str, Any]]:
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in named:
        (plain if any(part in name for part in settings.no_weight_decay) else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def optimizer_tensors(model: nn.Module, optimizer: Optimizers) -> dict[str, Tensor]:
    """The state of every parameter as `exp_avg/NAME`, `exp_avg_sq/NAME`, `step/NAME`, ...; empty before step 1."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for part in optimizer.parts:
            for key, value in part.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.reshape(1) if value.dim() == 0 else value
    return tensors


def load_optimizer(model: nn.Module, optimizer: Optimizers, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, whole or cut as the parameters are; what it did not give is new."""
    owners: dict[Tensor, torch.optim.Optimizer] = {}
    for part in optimizer.parts:
        part.state.clear()
        owners |= {parameter: part for group in part.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        state = {key.removesuffix(f"/{name}"): value for key, value in tensors.items() if key.endswith(f"/{name}")}
        state.pop("model", None)
        if state:
            owners[parameter].state[parameter] = {
                key: value.reshape(()).to(parameter.device) if key == "step" else distribute_like(value, parameter)
                for key, value in state.items()
            }


def set_learning_rate(optimizer: Optimizers, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
