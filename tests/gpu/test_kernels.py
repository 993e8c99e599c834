"""GPU kernels against plain attention and products in fp32, on the shapes of SmolLM3 and Llama-3.2-1B."""

import pytest
import torch
from torch import Tensor

from smolmake.model.attention import attend, document_mask, make_mask
from smolmake.model.kernels import cast_both, has_flash_attention, pack
from smolmake.model.linear import project, scale_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
flash = pytest.mark.skipif(not has_flash_attention(), reason="FlashAttention 4 is not installed")
LENGTH = 1024


def parts(heads: int, width: int) -> tuple[Tensor, list[Tensor]]:
    """Document numbers of two sequences, and queries, keys and values [2, LENGTH, heads, width] in bf16."""
    source = torch.Generator().manual_seed(0)
    documents = (torch.rand(2, LENGTH, generator=source) < 1 / 100).cumsum(1)
    shapes = [(2, LENGTH, count, width) for count in (heads, heads // 4, heads // 4)]
    return documents, [torch.randn(shape, generator=source).cuda().bfloat16() for shape in shapes]


def gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return list(torch.autograd.grad((out * weights).sum(), leaves))


def reference(documents: Tensor, leaves: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    exact = [leaf.double().requires_grad_() for leaf in leaves]
    mask = document_mask(documents).cuda()
    q, k, v = (part.transpose(1, 2) for part in exact)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    out = out.transpose(1, 2).flatten(2)
    return out, gradients(out, exact)


def close(found: Tensor, exact: Tensor) -> None:
    error = (found.double() - exact).norm() / exact.norm()
    assert error < 6e-3, f"relative error {error:.1e}"


@pytest.mark.parametrize(("heads", "width"), [(16, 128), (32, 64)])
@pytest.mark.parametrize("kernel", [pytest.param("flash", marks=flash), "blocks"])
def test_attention_within_documents(kernel: str, heads: int, width: int) -> None:
    documents, leaves = parts(heads, width)
    out, exact = reference(documents, leaves)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    mask = make_mask(pack(documents) if kernel == "flash" else documents.cuda(), True)
    if kernel == "flash":
        mask = type(mask)(mask.starts.cuda(), mask.longest)
    found = torch.compile(attend)(*leaves, mask)
    close(found, out)
    for mine, theirs in zip(gradients(found, leaves), exact, strict=True):
        close(mine, theirs)


SHAPES = [(4096, 2048, 11008), (16384, 2048, 3072), (1024, 11008, 2048), (2048, 2048, 512)]  # rows, inner, columns


@pytest.mark.skipif(torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9), reason="no float8")
@pytest.mark.parametrize(("rows", "inner", "columns"), SHAPES)
def test_float8_products_are_those_of_the_rounded_operands(rows: int, inner: int, columns: int) -> None:
    source = torch.Generator(device="cuda").manual_seed(0)
    x = torch.randn(rows, inner, device="cuda", generator=source).bfloat16().requires_grad_()
    weight = (torch.randn(columns, inner, device="cuda", generator=source) * 0.02).requires_grad_()
    out = torch.compile(project)(x, weight, True)
    dx, dw = gradients(out, [x, weight])
    assert dw.dtype == torch.float32

    def rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        scale = scale_of(tensor, dtype)
        both = [part.double() for part in cast_both(tensor.detach().bfloat16().contiguous(), scale, dtype)]
        assert torch.equal(both[0], both[1].t())
        return both[0] * scale.double()

    x8, w8 = rounded(x, torch.float8_e4m3fn), rounded(weight, torch.float8_e4m3fn)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    g8 = rounded(g, torch.float8_e5m2)
    products = {"out": (out, x8 @ w8.t(), 2e-2), "dx": (dx, g8 @ w8, 6e-3), "dw": (dw, g8.t() @ x8, 6e-3)}
    errors = {
        name: float((mine.double() - theirs).norm() / theirs.norm()) for name, (mine, theirs, _) in products.items()
    }
    assert all(errors[name] < bound for name, (*_, bound) in products.items()), errors
