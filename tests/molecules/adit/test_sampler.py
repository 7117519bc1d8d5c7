from __future__ import annotations

import pytest
import torch
from torch import Tensor

from checks import assert_close_named
from isoform.core.errors import UserError
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import SamplingConfig
from isoform.molecules.adit.sampler import (
    SizeCounts,
    Wanted,
    draw_noise,
    sample,
    sample_latents,
)

from .structures import LATENT, app, born

WANTED = Wanted(
    numbers=[3, 8, 1, 5],
    sizes=[7, 2, 5, 11],
    labels_BC=torch.tensor([[1, 4], [2, 0], [2, 0], [1, 0]]),
)
SAMPLING = SamplingConfig(steps=6, guidance=1.5)


def part(wanted: Wanted, rows: list[int]) -> Wanted:
    return Wanted(
        [wanted.numbers[row] for row in rows],
        [wanted.sizes[row] for row in rows],
        wanted.labels_BC[rows],
    )


def item(structures: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    start, end = structures["offsets"][row : row + 2].tolist()
    atoms = {n: structures[n][start:end] for n in ("numbers", "positions", "fractional")}
    return {**atoms, **{n: structures[n][row] for n in ("lengths", "angles", "periodic")}}


@pytest.mark.parametrize("solver", ["euler", "multistep"])
def test_an_item_is_a_function_of_seed_and_number_whatever_its_batch(solver: str) -> None:
    model, config = born(app(), std=0.2), SAMPLING.model_copy(update={"solver": solver})
    together = sample(model, WANTED, config, seed=17)
    for rows in ([2], [2, 0], [3, 1, 2]):
        found = sample(model, part(WANTED, rows), config, seed=17)
        place = rows.index(2)
        # Angstrom; degrees are of radians
        assert_close_named(
            item(found, place),
            item(together, 2),
            atol={**dict.fromkeys(item(found, place), 1e-4), "angles": 2e-3},
        )
    other = sample(model, WANTED, config, seed=18)
    assert (other["positions"] - together["positions"]).abs().max() > 1e-2
    assert together["periodic"].tolist() == [True, False, False, True]


def test_noise_is_centred_over_an_items_own_atoms_and_officially_over_padding() -> None:
    own = draw_noise(WANTED, LATENT, 17).split(WANTED.sizes)
    assert max(float(noise.mean(0).abs().max()) for noise in own) < 1e-6
    official = draw_noise(WANTED, LATENT, 17, official_padding=True).split(WANTED.sizes)
    shifts = [(a - b) for a, b in zip(own, official, strict=True)]
    assert all((shift - shift[:1]).abs().max() < 1e-6 for shift in shifts)
    assert shifts[1].abs().max() > 1e-2  # padded from 2 to 11 atoms
    assert shifts[3].abs().max() == 0  # the largest
    alone = draw_noise(part(WANTED, [1]), LATENT, 17, official_padding=True)
    assert (alone - official[1]).abs().max() > 1e-2  # which is why the switch is off


def test_guidance_of_1_or_none_asks_the_network_once() -> None:
    model = born(app("denoiser"))
    calls: list[bool] = []
    model.register_forward_hook(lambda m, given, out: calls.append(bool(given[2].any())))
    start = Tokens(draw_noise(WANTED, LATENT, 17), offsets=WANTED.offsets)
    results = []
    for guidance, expected in ((None, 6), (1.0, 6), (2.5, 12)):
        calls.clear()
        config = SAMPLING.model_copy(update={"guidance": guidance})
        results.append(sample_latents(model, start, WANTED.labels_BC, config).x)
        assert len(calls) == expected and sum(calls) == 6
    assert torch.equal(results[0], results[1])
    assert (results[2] - results[0]).abs().max() > 1e-3


def test_self_condition_hands_each_prediction_on() -> None:
    model = born(app("denoiser"))
    given: list[bool] = []
    model.register_forward_hook(lambda m, args, out: given.append(args[3] is not None))
    start = Tokens(draw_noise(WANTED, LATENT, 17), offsets=WANTED.offsets)
    for on in (True, False):
        given.clear()
        config = SAMPLING.model_copy(update={"guidance": None, "self_condition": on})
        sample_latents(model, start, WANTED.labels_BC, config)
        assert given == [False] + [on] * 5


def test_sizes_are_drawn_as_training_had_them() -> None:
    counts = SizeCounts.of({"molecule": [9, 18, 18, 18], "crystal": []})
    drawn = [counts.draw("molecule", 3, number) for number in range(2000)]
    assert set(drawn) == {9, 18} and abs(drawn.count(9) / 2000 - 0.25) < 0.04
    assert drawn == [counts.draw("molecule", 3, number) for number in range(2000)]
    with pytest.raises(UserError, match="trained on no crystal: it has learned molecule"):
        counts.draw("crystal", 3, 0)
    narrow = [counts.draw("molecule", 3, number, range(10, 30)) for number in range(20)]
    assert set(narrow) == {18}
    unknown = [counts.draw("crystal", 3, number, range(5, 8)) for number in range(300)]
    assert set(unknown) == {5, 6, 7} and abs(unknown.count(5) / 300 - 1 / 3) < 0.1
