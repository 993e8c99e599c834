"""Signal, noise and what follows from them, against published numbers and by hand."""

import json
from pathlib import Path

import pytest

from smolmake.evaluate.worth import ScoreHistory, advise, noise, order_kept, signal, spearman


def test_published_noise_is_reproduced(root: Path) -> None:
    """OLMo's ladder: the relative standard deviation of the last ten evaluations of a 1B model, task by task."""
    tasks = json.loads((root / "tests" / "data" / "olmo_ladder_variance.json").read_text())["tasks"]
    for task, found in tasks.items():
        for measure, published in found["published"].items():
            assert noise(found[measure]) == pytest.approx(published, rel=2e-3), (task, measure)
    assert len(tasks) == 9


def test_by_hand() -> None:
    assert signal([1.0, 2.0, 3.0]) == 1.0 and noise([1.0, 3.0]) == 0.5
    assert spearman([1, 2, 3], [5, 5, 5]) == 0 and spearman([1, 2, 3], [3, 2, 1]) == -1
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert order_kept([1, 2, 3], [2, 1, 3]) == pytest.approx(2 / 3) and order_kept([1, 1], [2, 3]) == 0.5


def test_a_score_is_read_where_it_tells_something() -> None:
    good = advise(ScoreHistory([0.25, 0.3, 0.35, 0.4, 0.41, 0.42, 0.43, 0.44], error=0.01, chance=0.25))
    flat = advise(ScoreHistory([0.25, 0.26, 0.24, 0.25, 0.26, 0.24], error=0.01, chance=0.25))
    loss = advise(ScoreHistory([2.0, 1.5, 1.2, 1.11, 1.1, 1.09, 1.08, 1.07], error=0.01, higher_is_better=False))
    assert good is not None and good.read and loss is not None and loss.read and loss.monotonicity == 1
    assert flat is not None and flat.reasons[:2] == ["not above chance", "does not improve steadily"]
    assert advise(ScoreHistory([0.1] * 4, error=0.1)) is None
