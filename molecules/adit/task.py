"""The two stages as the engine trains them: the autoencoder, then the denoiser in its latents.

B systems, T atoms of all of them, L latent features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.config.state import DataRecord
from isoform.core.domain import Figure, InitialWeights, MetricAccumulator, Prepared, Task
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError
from isoform.molecules.adit.collate import (
    Sample,
    as_told,
    collate,
    make_sample,
)
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.dataset import SystemsData
from isoform.molecules.adit.head import Decoded
from isoform.molecules.adit.judged import (
    Generated,
    Reconstructed,
    back_metrics,
    metrics_of,
    reconstruction_metrics,
)
from isoform.molecules.adit.losses import (
    denoising_losses,
    flow_loss,
    reconstruction_losses,
    total,
    weighted,
    weights_of,
)
from isoform.molecules.adit.model import Adit, Autoencoder, build_model, labels_of
from isoform.molecules.adit.prepare import other_data, prepare
from isoform.molecules.adit.sampler import Wanted, draw_noise, sample
from isoform.molecules.generation.score import Scores, score
from isoform.molecules.state import GenerativeState, MoleculesState
from isoform.molecules.systems.system import Records, System

GOLDEN = 0.6180339887  # steps by which times of an evaluation cover their range evenly
JUDGED_SEED = 0  # of the noise of every evaluation


class SystemsTask(Task):
    """What both stages have in common: the systems, their changes, and how an epoch is drawn."""

    items = "systems"
    config: AditApp

    def __init__(self, prepared: Prepared[AditApp, SystemsData]) -> None:
        self.config, self.data = prepared.config, prepared.data

    def sizes(self) -> dict[str, int]:
        """See Task.sizes."""
        return self.data.sizes()

    def build(self) -> nn.Module:
        """See Task.build."""
        return build_model(self.config)

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """Of an epoch's draw (data.epoch, data.shares) in training; of like sizes in evaluation. See Task.batches."""
        rows = self.data.rows[split]
        if rng is None:
            order = np.argsort(-self.data.systems.sizes[rows], kind="stable")
        elif self.config.data.epoch is None:
            order = rng.permutation(len(rows))
        else:
            order = self._draw(self.data.source[rows], self.config.data.epoch, rng)
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]

    def _draw(self, source: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
        """[total] numbers of training systems, each source's share of them; a source comes round before any repeats."""
        there, have = np.unique(source, return_counts=True)
        shares = (
            have if self.config.data.shares is None else np.array(self.config.data.shares)[there]
        )
        ends = np.round(np.cumsum(shares) / shares.sum() * total).astype(np.int64)
        drawn = []
        for number, wanted in zip(there, np.diff(ends, prepend=0), strict=True):
            own = np.flatnonzero(source == number)
            rounds = -(-int(wanted) // len(own))
            drawn.append(np.concatenate([rng.permutation(own) for _ in range(rounds)])[:wanted])
        return rng.permutation(np.concatenate(drawn))

    def sample_name(self, split: str, index: int) -> str:
        """The system's name."""
        return str(self.data.systems.names[int(self.data.rows[split][index])])

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Sample:
        """See Task.sample and collate.make_sample."""
        return make_sample(self.system(split, index), index, self.config.augment, rng)

    def collate(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """See collate.py."""
        return collate(samples)

    def digests(self, split: str) -> np.ndarray:
        """See Task.digests."""
        return self.data.digests(split)

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See Task.kept_split."""
        return self.data.kept_split()

    def initial_weights(self, source: str) -> InitialWeights:
        """What `isoform molecules import` reads."""
        from isoform.molecules.adit.pretrained import initial_weights

        return initial_weights(source, self.config)

    def inference_state(self) -> MoleculesState:
        """See Task.inference_state."""
        data = self.data
        record = DataRecord(
            origin=data.origin,
            licence=data.licence,
            sha256=data.sha256,
            sizes=data.sizes(),
            left_out=data.left_out,
        )
        return MoleculesState(data=record, generative=GenerativeState(counts=data.counts()))

    def card(self) -> dict[str, str]:
        """See Task.card."""
        return {"data": self.data.origin, "licence of the data": self.data.licence}

    def system(self, split: str, index: int) -> System:
        """A system of a split by its number there, as it was read."""
        return self.data.systems[int(self.data.rows[split][index])]


class AutoencoderTask(SystemsTask):
    """The first stage: atoms -> latents -> the same atoms."""

    trunk = ("tokeniser.", "encoder.", "decoder.", "compress.", "expand.", "head.")

    def adapt_weights(
        self, weights: Mapping[str, Tensor], model: nn.Module
    ) -> Mapping[str, Tensor]:
        """Of a model of both stages, the first."""
        own = {n: value for n, value in weights.items() if n.startswith("autoencoder.")}
        return {n.removeprefix("autoencoder."): value for n, value in own.items()} or weights

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See losses.py; noise of the posterior comes from torch's global generator."""
        told = as_told(batch)
        latent = self.config.model.latent
        noise = torch.randn(len(batch["numbers"]), latent, device=batch["numbers"].device)
        posterior, decoded = cast(Autoencoder, model)(told, noise)
        losses = weighted(reconstruction_losses(decoded, posterior, batch), batch, self.config.loss)
        return {"loss": total(losses), **{name: loss.mean() for name, loss in losses.items()}}

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The structures that come back by way of the posterior's mean, and the losses [T] or [B]; see judged.py."""
        posterior, decoded = cast(Autoencoder, model)(batch)
        losses = weighted(reconstruction_losses(decoded, posterior, batch), batch, self.config.loss)
        return self.as_outputs(decoded, losses, batch)

    @staticmethod
    def as_outputs(
        decoded: Decoded, losses: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What `predict` gives of what a decoder says."""
        return {
            **decoded.structures(batch["offsets"]),
            "periodic": batch["periodic"],
            **{f"loss_{name}": loss for name, loss in losses.items()},
        }

    def baselines(self) -> Sequence[Baseline]:
        """See baselines.py."""
        from isoform.molecules.adit.baselines import baselines

        return baselines(self)

    def accumulator(self, split: str) -> MetricAccumulator:
        """See judged.py."""
        return Reconstructed(self, split)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See judged.py; crystals are matched on test alone."""
        return reconstruction_metrics(outputs, match=split == "test")

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """How each system came back, as a table."""
        from isoform.molecules.adit.outputs import write_reconstructions

        return write_reconstructions(folder / f"{stem}.csv", outputs)

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See outputs.py."""
        from isoform.molecules.adit.outputs import reconstruction_figures

        return reconstruction_figures(outputs)


class DenoiserTask(SystemsTask):
    """The second stage: latents from noise, in an autoencoder that stays as it is."""

    trunk = ("autoencoder.",)

    def __init__(self, prepared: Prepared[AditApp, SystemsData]) -> None:
        super().__init__(prepared)
        order = np.random.default_rng(JUDGED_SEED).permutation(self.sizes().get("test", 0))
        self.scores: dict[str, Scores] = {}  # kind -> measures of the last pass over test
        self.asked = frozenset(order[: self.config.eval.samples].tolist())
        if self.config.train.init is None and "train" in self.data.rows:
            app = self.config.app
            raise UserError(
                f"{app} learns in the latents of a trained autoencoder: train {app}-vae first and name its run with "
                "--init"
            )

    def adapt_weights(
        self, weights: Mapping[str, Tensor], model: nn.Module
    ) -> Mapping[str, Tensor]:
        """A run of the first stage fills `autoencoder`; one of the second fills everything."""
        if any(name.startswith("autoencoder.") for name in weights):
            return weights
        return {f"autoencoder.{name}": value for name, value in weights.items()}

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Sample:
        """Of test systems eval.samples, drawn once, are to be generated anew."""
        found = super().sample(split, index, rng)
        return replace(found, generate=split == "test" and index in self.asked)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See losses.flow_loss; all that is drawn comes from torch's global generator."""
        adit = cast(Adit, model)
        losses = flow_loss(
            adit, adit.latents(batch), labels_of(batch), self.config.flow, evenly=self.even_passes
        )
        return {"loss": losses.mean()}

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"loss" [B]}, each at a time and from noise of its own, the same in every evaluation; see judged.py.

        Where batch["generate"] asks for any, beside it the structures (sampler.sample) that are generated with those
        sizes and labels, and, as "back_", what the autoencoder gives back of all systems.
        """
        adit, flow = cast(Adit, model), self.config.flow
        clean, labels = adit.latents(batch), labels_of(batch)
        assert clean.offsets is not None
        numbers = batch["index"].tolist()
        wanted = Wanted(numbers, clean.offsets.diff().tolist(), labels)
        noise = draw_noise(wanted, clean.x.shape[-1], JUDGED_SEED).to(clean.x)
        place = torch.tensor([(GOLDEN * (number + 1)) % 1 for number in numbers]).to(clean.x)
        t_B = flow.earliest + (flow.latest - flow.earliest) * place
        t_T1 = clean.per_token(t_B[:, None])
        noisy = clean.with_x((1 - t_T1) * noise + t_T1 * clean.x)
        loss = denoising_losses(adit(noisy, t_B, labels), clean, weights_of(t_B, flow))
        found = {"loss": loss}
        asked = batch["generate"].nonzero()[:, 0]
        if len(asked):
            rows = asked.tolist()
            chosen = Wanted(
                [numbers[row] for row in rows],
                [wanted.sizes[row] for row in rows],
                labels[asked],
            )
            found |= sample(adit, chosen, self.config.sampling, self.config.train.seed)
            back = adit.decode(clean).structures(clean.offsets)
            back |= {"periodic": batch["periodic"]}
            found |= {f"back_{name}": value for name, value in back.items()}
        return found

    def accumulator(self, split: str) -> MetricAccumulator:
        """See judged.py."""
        return Generated(self, split)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The mean loss, and on test the measures of what was generated, whose tables `scores` keeps."""
        found = {"loss": float(outputs["loss"].mean())}
        if len(outputs["truth"]):
            found |= back_metrics(outputs)
        if len(outputs["made"]):
            self.scores = self.judge(outputs)
            found |= metrics_of(self.scores)
        return found

    def judge(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Scores]:
        """Kind -> the measures of what was generated, of training data, and of shuffled atoms."""
        found = {}
        for kind in ("molecule", "crystal"):
            own = outputs["made"][outputs["kind"] == kind].tolist()
            if own:
                found[kind] = score(
                    Records(own),
                    kind,
                    self.data.systems_of("train", kind),
                    JUDGED_SEED,
                    smiles=self.data.smiles_of("train", kind),
                    rows=len(own),
                )
        return found

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """What was generated, as files that other programs open, and its measures."""
        from isoform.molecules.adit.outputs import write_generated

        return write_generated(folder, outputs, self.scores)

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See outputs.py."""
        from isoform.molecules.adit.outputs import generated_figures

        return generated_figures(self, cast(Adit, model), outputs)


def make_task(prepared: Prepared[AditApp, SystemsData]) -> SystemsTask:
    """The task of an app's stage."""
    first = prepared.config.model.part == "autoencoder"
    return AutoencoderTask(prepared) if first else DenoiserTask(prepared)


def task_from_run(config: AditApp, state: MoleculesState, data: Path | None) -> SystemsTask:
    """A finished run on its own data in the split that it keeps, or on all systems of a file, or a folder's test split.

    A run that keeps no split draws it anew.
    """
    if data is None:
        # What was trained is judged, whatever other splits a file that grew would make now.
        accepting = config.data.model_copy(update={"allow_leakage": True})
        prepared = prepare(config.model_copy(update={"data": accepting}))
        if state.kept is None:
            return make_task(prepared)
        return make_task(replace(prepared, data=prepared.data.in_split(state.kept)))
    settings = config.data.model_copy(
        update={
            "source": ("file",),
            "path": str(data),
            "shares": None,
            "epoch": None,
            "judged": None,
        }
    )
    return make_task(other_data(config.model_copy(update={"data": settings})))
