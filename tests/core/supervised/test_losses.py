"""Losses by hand and bit for bit as the formulas they stand for; a missing target counts for nothing.

B samples, K targets or labels, C classes.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.supervised.losses import (
    CLASS_LOSSES,
    LABEL_LOSSES,
    accuracy,
    class_loss,
    class_shares,
    keeps_bound,
    label_loss,
    label_losses,
    mean_known,
)

NAN = math.nan
B, K, C = 13, 3, 7
OUTPUTS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.0]])
DIVISORS = ("weight", "count")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def targets_of(kind: str, columns: int = K) -> Tensor:
    target = draw(B, columns, seed=1)
    return (target > 0.3).float() if kind == "bce" else target


def some_classes() -> Tensor:
    return torch.randint(0, C, (B,), generator=torch.Generator().manual_seed(2))


def some_weights(*shape: int) -> Tensor:
    return draw(*shape, seed=3).exp()


def assert_same_bits(mine, theirs, *leaves: Tensor) -> None:
    """Equal values and equal gradients to the last bit, for functions of no arguments."""
    value, expected = mine(), theirs()
    assert torch.equal(value, expected), f"{value.item()!r} is not {expected.item()!r}"
    for got, wanted in zip(
        torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        assert torch.equal(got, wanted)


# --- what the loss of numbers and labels is, written out


ELEMENT = {
    "l1": lambda y, target: (y - target).abs(),
    "mse": lambda y, target: (y - target).square(),
    "huber": lambda y, target: F.smooth_l1_loss(y, target, reduction="none"),
    "bce": lambda y, target: F.binary_cross_entropy_with_logits(y, target, reduction="none"),
}


def masked_mean(kind: str, outputs: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    """Over all labels at once, divided by the sum of their weights."""
    known = ~targets.isnan()
    counts = known.to(outputs.dtype)
    if weight is not None:
        counts = counts * (weight if weight.dim() == 2 else weight[:, None])
    losses = ELEMENT[kind](outputs, torch.where(known, targets, 0))
    total = counts.sum()
    return (losses * counts).sum() / torch.where(total > 0, total, 1)


def mean_of_means(kind: str, outputs: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    """Of each sample's labels, times its weight, then over the samples."""
    losses = ELEMENT[kind](outputs, targets).mean(1)
    return (losses if weight is None else losses * weight).mean()


@pytest.mark.parametrize("kind", LABEL_LOSSES)
@pytest.mark.parametrize("weights", [None, (B,), (B, K)])
@pytest.mark.parametrize("missing", [False, True])
def test_label_loss_is_the_masked_mean_bit_for_bit(
    kind: str, weights: tuple | None, missing: bool
) -> None:
    outputs, target = draw(B, K).requires_grad_(), targets_of(kind)
    if missing:
        target[draw(B, K, seed=4) > 0.5] = NAN
    weight = None if weights is None else some_weights(*weights)
    assert_same_bits(
        lambda: label_loss(kind, outputs, target, weight),
        lambda: masked_mean(kind, outputs, target, weight),
        outputs,
    )


@pytest.mark.parametrize("kind", LABEL_LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 3, 11])
def test_divided_by_count_it_is_the_mean_of_samples_means_bit_for_bit(
    kind: str, weighted: bool, columns: int
) -> None:
    outputs, target = draw(B, columns).requires_grad_(), targets_of(kind, columns)
    weight = some_weights(B) if weighted else None
    assert_same_bits(
        lambda: label_loss(kind, outputs, target, weight, divide_by="count"),
        lambda: mean_of_means(kind, outputs, target, weight),
        outputs,
    )


def test_smoothed_labels_with_positive_weights_bit_for_bit() -> None:
    outputs, target, positive = draw(B, K).requires_grad_(), targets_of("bce"), some_weights(K)
    smoothing = 0.1

    def expected() -> Tensor:
        soft = target * (1 - smoothing) + smoothing / 2
        return (
            F.binary_cross_entropy_with_logits(outputs, soft, pos_weight=positive, reduction="none")
            .mean(1)
            .mean()
        )

    assert_same_bits(
        lambda: label_loss(
            "bce",
            outputs,
            target,
            positive_weight_K=positive,
            smoothing=smoothing,
            divide_by="count",
        ),
        expected,
        outputs,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("by_sample", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_cross_entropy_as_torch_counts_it_bit_for_bit(
    smoothing, by_class, by_sample, mixed
) -> None:
    logits, target = draw(B, C).requires_grad_(), some_classes()
    if mixed:
        shares = class_shares(target, C)
        target = shares * 0.3 + shares.flip(0) * 0.7
    factor, weight = some_weights(C) if by_class else None, some_weights(B) if by_sample else None

    def expected() -> Tensor:
        losses = F.cross_entropy(
            logits, target, weight=factor, label_smoothing=smoothing, reduction="none"
        )
        return (losses if weight is None else losses * weight).mean()

    assert_same_bits(
        lambda: class_loss(
            "ce",
            logits,
            target,
            weight,
            class_weight_C=factor,
            smoothing=smoothing,
            divide_by="count",
        ),
        expected,
        logits,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("by_sample", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_each_class_against_the_rest_bit_for_bit(smoothing, by_class, by_sample, mixed) -> None:
    logits, target = draw(B, C).requires_grad_(), some_classes()
    shares = F.one_hot(target, C).float()
    if mixed:
        target = shares = shares * 0.3 + shares.flip(0) * 0.7
    factor, weight = some_weights(C) if by_class else None, some_weights(B) if by_sample else None

    def expected() -> Tensor:
        soft = shares * (1 - smoothing) + smoothing / C
        losses = F.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(1)
        losses = losses if factor is None else losses * (shares * factor).sum(1)
        return (losses if weight is None else losses * weight).mean()

    assert_same_bits(
        lambda: class_loss(
            "bce",
            logits,
            target,
            weight,
            class_weight_C=factor,
            smoothing=smoothing,
            divide_by="count",
        ),
        expected,
        logits,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_known_classes_bit_for_bit(smoothing: float, weighted: bool) -> None:
    logits, target, weight = (
        draw(B, C).requires_grad_(),
        some_classes(),
        some_weights(B) if weighted else None,
    )
    target[::5] = -1

    def expected() -> Tensor:
        losses = F.cross_entropy(
            logits, target.clamp(min=0), reduction="none", label_smoothing=smoothing
        )
        counts = (target >= 0).float()
        counts = counts if weight is None else counts * weight
        return (losses * counts).sum() / counts.sum()

    assert_same_bits(
        lambda: class_loss("ce", logits, target, weight, smoothing=smoothing), expected, logits
    )


# --- what missing targets and weights mean


@pytest.mark.parametrize(
    ("kind", "target", "want"),
    [
        ("l1", [[0.0, -2.0], [NAN, 1.0], [1.0, NAN]], (1 + 0 + 2 + 3) / 4),
        ("mse", [[0.0, -2.0], [NAN, 1.0], [1.0, NAN]], (1 + 0 + 4 + 9) / 4),
        ("huber", [[0.0, -2.5], [NAN, 1.0], [1.0, NAN]], (0.5 + 0.125 + 1.5 + 2.5) / 4),
        (
            "bce",
            [[1.0, NAN], [NAN, NAN], [NAN, 0.0]],
            (math.log(1 + math.exp(-1)) + math.log(2)) / 2,
        ),
    ],
)
@pytest.mark.parametrize("divide_by", DIVISORS)
def test_means_over_the_labels_that_are_there(
    kind: str, target: list, want: float, divide_by
) -> None:
    assert float(
        label_loss(kind, OUTPUTS, torch.tensor(target), divide_by=divide_by)
    ) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("divide_by", DIVISORS)
@pytest.mark.parametrize("kind", LABEL_LOSSES)
def test_a_missing_label_counts_for_nothing(kind: str, divide_by) -> None:
    target = torch.tensor([[0.25, NAN], [NAN, 0.75], [NAN, NAN]])
    out = OUTPUTS.clone().requires_grad_()
    label_loss(kind, out, target, divide_by=divide_by).backward()
    assert out.grad[target.isnan()].eq(0).all() and out.grad[~target.isnan()].ne(0).all()
    assert out.grad.isfinite().all()
    nothing = label_loss(kind, out, torch.full_like(target, NAN), divide_by=divide_by)
    assert nothing.item() == 0 and torch.autograd.grad(nothing, out)[0].eq(0).all()


@pytest.mark.parametrize("divide_by", DIVISORS)
@pytest.mark.parametrize("kind", CLASS_LOSSES)
@pytest.mark.parametrize("mixed", [False, True])
def test_samples_without_a_class_are_as_if_they_were_not_there(
    kind: str, mixed: bool, divide_by
) -> None:
    logits, target, weight = draw(B, C).requires_grad_(), some_classes(), some_weights(B)
    target[::5] = -1
    known = target >= 0
    given = class_shares(target, C) if mixed else target
    keywords = {"class_weight_C": some_weights(C), "smoothing": 0.1, "divide_by": divide_by}
    loss = class_loss(kind, logits, given, weight, **keywords)
    alone = class_loss(kind, logits[known], given[known], weight[known], **keywords)
    torch.testing.assert_close(loss, alone)
    gradient = torch.autograd.grad(loss, logits)[0]
    assert gradient[~known].eq(0).all() and gradient[known].ne(0).all()
    nothing = class_loss(kind, logits, torch.full_like(target, -1), divide_by=divide_by)
    assert nothing.item() == 0 and torch.autograd.grad(nothing, logits)[0].eq(0).all()


@pytest.mark.parametrize("divide_by", DIVISORS)
@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_shares_that_are_whole_are_classes(kind: str, divide_by) -> None:
    logits, target, weight = draw(B, C), some_classes(), some_weights(B)
    keywords = {"class_weight_C": some_weights(C), "smoothing": 0.1, "divide_by": divide_by}
    whole = class_loss(kind, logits, class_shares(target, C), weight, **keywords)
    torch.testing.assert_close(whole, class_loss(kind, logits, target, weight, **keywords))


def test_a_mixture_with_a_missing_class_is_missing() -> None:
    shares = class_shares(torch.tensor([2, -1, 0]), C)
    mixed = shares * 0.25 + shares[[1, 2, 0]] * 0.75
    assert mixed.isnan().any(1).tolist() == [True, True, False]
    logits = draw(3, C)
    torch.testing.assert_close(
        class_loss("ce", logits, mixed), class_loss("ce", logits[2:], mixed[2:])
    )


@pytest.mark.parametrize("divide_by", DIVISORS)
@pytest.mark.parametrize("shape", [(B,), (B, K)])
def test_weights_of_one_change_nothing(divide_by, shape) -> None:
    outputs, target = draw(B, K), targets_of("mse")
    target[draw(B, K, seed=4) > 0.5] = NAN
    plain = label_loss("mse", outputs, target, divide_by=divide_by)
    assert torch.equal(
        label_loss("mse", outputs, target, torch.ones(shape), divide_by=divide_by), plain
    )
    torch.testing.assert_close(plain, label_loss("mse", outputs, target, divide_by="weight"))
    doubled = label_loss("mse", outputs, target, torch.full(shape, 2.0), divide_by=divide_by)
    torch.testing.assert_close(doubled, plain * (2 if divide_by == "count" else 1))


@pytest.mark.parametrize("divide_by", DIVISORS)
def test_a_weight_of_nothing_leaves_a_sample_out(divide_by) -> None:
    outputs, target = draw(B, K), targets_of("mse")
    weight = torch.ones(B)
    weight[::2] = 0
    share = 1 if divide_by == "weight" else float(weight.mean())
    expected = label_loss("mse", outputs[1::2], target[1::2]) * share
    torch.testing.assert_close(
        label_loss("mse", outputs, target, weight, divide_by=divide_by), expected
    )


def test_weights_of_samples_by_hand() -> None:
    target = torch.tensor([[0.0, NAN], [0.5, 1.0], [NAN, NAN]])
    weight = torch.tensor([3.0, 1.0, 7.0])
    assert float(label_loss("l1", OUTPUTS, target, weight)) == pytest.approx((3 * 1 + 0 + 2) / 5)
    assert float(label_loss("l1", OUTPUTS, target, weight, divide_by="count")) == pytest.approx(
        (3 * 1 + 0 + 2) / 3
    )
    classes = torch.tensor([1, -1, 0])
    parts = F.cross_entropy(OUTPUTS, classes.clamp(min=0), reduction="none")
    assert float(class_loss("ce", OUTPUTS, classes, weight)) == pytest.approx(
        float((3 * parts[0] + 7 * parts[2]) / 10)
    )


def test_means_of_more_axes() -> None:
    losses, known = draw(5, 3, 2).abs(), draw(5, 3, 2, seed=1) > 0
    expected = losses[known].mean()
    for divide_by in DIVISORS:
        torch.testing.assert_close(mean_known(losses, known, divide_by=divide_by), expected)
        weight = some_weights(5)
        weighted = (losses * weight[:, None, None])[known].sum()
        total = (known * weight[:, None, None]).sum() if divide_by == "weight" else known.sum()
        torch.testing.assert_close(
            mean_known(losses, known, weight, divide_by=divide_by), weighted / total
        )
    assert torch.equal(mean_known(losses, None), losses.mean())


def test_accuracy_is_over_known_classes() -> None:
    logits = torch.eye(5)[:, :3]
    target = torch.tensor([0, 1, 0, -1, -1])
    assert float(accuracy(logits, target)) == pytest.approx(2 / 3)
    complete = torch.tensor([0, 2, 2, 0, 1])
    assert torch.equal(accuracy(logits, complete), (logits.argmax(1) == complete).float().mean())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no loss is called 'l3'; there are mse, l1, huber, bce"):
        label_losses("l3", OUTPUTS, OUTPUTS)
    with pytest.raises(ValueError, match=r"outputs \[3, 2\] and targets \[3\] differ"):
        label_loss("l1", OUTPUTS, torch.zeros(3))
    with pytest.raises(ValueError, match="no loss of classes is called 'mse'; there are ce, bce"):
        class_loss("mse", OUTPUTS, torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("kind", ["mse", "l1", "huber"])
@pytest.mark.parametrize("divide_by", DIVISORS)
def test_a_bound_costs_on_its_wrong_side_alone(kind: str, divide_by) -> None:
    """Rows: exact, ">1" kept and broken, "<1" kept and broken; a missing one is no bound, whatever its sign."""
    outputs = torch.tensor([[0.0], [3.0], [-2.0], [-2.0], [3.0], [5.0]], requires_grad=True)
    targets = torch.tensor([[1.0]] * 5 + [[NAN]])
    bound = torch.tensor([[0], [1], [1], [-1], [-1], [1]], dtype=torch.int8)
    each = label_losses(kind, outputs.detach()[:5], targets[:5])
    expected = (each * torch.tensor([[1.0], [0], [1], [0], [1]])).sum() / 5
    loss = label_loss(kind, outputs, targets, bound_BK=bound, divide_by=divide_by)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    loss.backward()
    assert outputs.grad is not None
    assert (outputs.grad[:, 0] != 0).tolist() == [True, False, True, False, True, False]


def test_exact_bounds_change_nothing_and_labels_have_none() -> None:
    outputs, targets = torch.randn(B, K), torch.randn(B, K)
    exact = torch.zeros(B, K, dtype=torch.int8)
    plain = label_loss("l1", outputs, targets)
    assert torch.equal(label_loss("l1", outputs, targets, bound_BK=exact), plain)
    assert not keeps_bound(outputs, targets, exact).any()
    with pytest.raises(ValueError, match="a bound is one of numbers"):
        label_loss("bce", outputs, targets.sigmoid(), bound_BK=exact)
