"""Point-MAE's models: pretraining, classes of clouds, parts of points.

B clouds, N points, G patches of K points, V visible and M masked ones, C channels, D features, S shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.backbone import Backbone
from isoform.core.norms import apply_norm
from isoform.core.ops.decay import without_decay
from isoform.core.ops.linear import Linear
from isoform.core.readout import read
from isoform.core.tokens import Tokens
from isoform.pointcloud.config import PartConfig, PatchConfig, PointcloudApp
from isoform.pointcloud.ops import interpolate_three_nearest
from isoform.pointcloud.pointmae.head import BatchNorm, PointHead
from isoform.pointcloud.pointmae.patches import Patches, cut_into_patches
from isoform.pointcloud.pointmae.tokeniser import Place, PointTokeniser, rectified


class PointClassifier(nn.Module):
    """Tokeniser, backbone, head: Point-MAE's and Point-BERT's fine-tuned classifier."""

    def __init__(self, config: PointcloudApp) -> None:
        super().__init__()
        self.tokeniser = PointTokeniser(config.tokeniser, config.backbone.dim)
        self.backbone = Backbone(config.backbone, ordered=False)
        self.head = PointHead(config.head, config.backbone)

    def forward(self, points: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, classes]."""
        return self.head(self.states(points, lengths))

    def features(self, points: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, 2 D], what the head reads."""
        return self.head.features(self.states(points, lengths))

    def tokens(self, points: Tensor, lengths: Tensor | None = None) -> Tokens:
        """In front of the trunk."""
        return self.tokeniser(points, lengths)

    def states(self, points: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Behind the trunk and its final norm."""
        return self.backbone(self.tokens(points, lengths))


@dataclass
class Drawn:
    """What pretraining made of masked patches.

    visible  [B, V, D] states of the encoder          masked   [B, M, D] states of the decoder
    points   [B, M, K, 3] relative to their centres   target   [B, M, K, 3] the true ones
    """

    visible: Tensor
    masked: Tensor
    points: Tensor
    target: Tensor


class PointMae(nn.Module):
    """A masked autoencoder of patches: the encoder sees the visible ones, a decoder draws the others' points."""

    def __init__(self, config: PointcloudApp) -> None:
        super().__init__()
        dim = config.backbone.dim
        plain = config.tokeniser.model_copy(update={"class_token": False})
        self.tokeniser = PointTokeniser(plain, dim)
        self.backbone = Backbone(config.backbone, ordered=False)
        self.mask_token = without_decay(nn.Parameter(torch.zeros(1, 1, dim)))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder_place = Place(config.tokeniser.position_hidden, dim)
        self.decoder = Backbone(config.decoder, ordered=False)
        self.draw = Linear(dim, 3 * config.tokeniser.group_size)

    def forward(self, points: Tensor, mask_BG: Tensor) -> Drawn:
        """Clouds [B, N, C] and which of their patches are masked: bool [B, G], as many in every cloud."""
        return self.draw_masked(cut_into_patches(points, self.tokeniser.config), mask_BG)

    def draw_masked(self, patches: Patches, mask_BG: Tensor) -> Drawn:
        """The same from patches that were cut already. Raises ValueError where clouds have masks of unequal sizes."""
        hidden = mask_BG.sum(1)
        if len(hidden) and int(hidden.min()) != int(hidden.max()):
            raise ValueError(
                f"as many patches must be masked in every cloud, got {hidden.tolist()}"
            )
        # Masked patches first, in their order, then visible ones in theirs: the decoder answers for the first alone.
        order = mask_BG.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        covered, shown = order.split([int(hidden[0]), order.shape[1] - int(hidden[0])], 1)
        visible = self.backbone(self.tokeniser.embed(_taken(patches, shown)))
        place = self.decoder_place(patches.centres.gather(1, order[..., None].expand(-1, -1, 3)))
        blank = self.mask_token.expand(len(order), covered.shape[1], -1)
        tokens = Tokens(torch.cat([blank, visible.x], 1), pos=place)
        masked = self.decoder(tokens, first=covered.shape[1]).x
        drawn = self.draw(masked).unflatten(2, (-1, 3))
        return Drawn(visible.x, masked, drawn, _taken(patches, covered).points[..., :3])

    def tokens(self, points: Tensor, lengths: Tensor | None = None) -> Tokens:
        """All patches, in front of the trunk."""
        return self.tokeniser(points, lengths)

    def states(self, points: Tensor, lengths: Tensor | None = None) -> Tokens:
        """All patches, behind the encoder."""
        return self.backbone(self.tokens(points, lengths))

    def features(self, points: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, 2 D]: mean and largest value over the patches, for probes."""
        return read(self.states(points, lengths), "cat_mean_max")


def _taken(patches: Patches, index_BJ: Tensor) -> Patches:
    rows = torch.arange(len(index_BJ), device=index_BJ.device)[:, None]
    return Patches(patches.centres[rows, index_BJ], patches.points[rows, index_BJ])


class Propagation(nn.Module):
    """Features of centres carried to points: interpolated, the point's coordinates in front, then layers."""

    def __init__(self, width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        ends = (width, *widths)
        self.layers = nn.ModuleList(Linear(a, b) for a, b in zip(ends, widths, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in widths)

    def forward(self, points: Tensor, centres: Tensor, features: Tensor) -> Tensor:
        """[B, N, 3], [B, G, 3], [B, G, F] -> [B, N, last width]."""
        x = torch.cat([points, interpolate_three_nearest(points, centres, features)], 2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = rectified(norm, layer(x))
        return x


class PartSegmenter(nn.Module):
    """Point-MAE's part segmentation: states of three blocks, beside what the whole cloud and its class say."""

    reads_weights_of = ("first",)  # see core/inference/optimise.py

    def __init__(self, config: PointcloudApp) -> None:
        super().__init__()
        parts, dim = config.parts, config.backbone.dim
        self.blocks = list(parts.blocks)
        plain: PatchConfig = config.tokeniser.model_copy(update={"class_token": False})
        self.tokeniser = PointTokeniser(plain, dim)
        self.backbone = Backbone(config.backbone, ordered=False)
        width = dim * len(self.blocks)
        self.shape = _Shape(parts) if parts.shapes else None
        self.propagation = Propagation(width + 3, parts.propagation)
        whole = 2 * width + (parts.shape_dim if parts.shapes else 0)
        ends = (parts.propagation[-1] + whole, *config.head.widths)
        layers = [Linear(a, b) for a, b in zip(ends, config.head.widths, strict=False)]
        self.first = layers[0]
        self.hidden = nn.ModuleList(layers[1:])
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in config.head.widths)
        self.dropout = nn.Dropout(config.head.dropout)
        self.out = Linear(ends[-1], config.head.outputs)

    def levels(self, points: Tensor) -> tuple[Patches, Tensor]:
        """The patches, and [B, G, 3 D] what the read blocks say of them, each behind the final norm."""
        patches = cut_into_patches(points, self.tokeniser.config)
        tokens = self.tokeniser.embed(patches)
        _, seen = self.backbone.tapped(tokens, self.blocks)
        normed = [apply_norm(self.backbone.norm, x, tokens.valid) for x in seen]
        return patches, torch.cat(normed, 2)

    def forward(self, points: Tensor, shape_BS: Tensor | None = None) -> Tensor:
        """[B, N, C], and the clouds' classes as ones and zeros [B, S] -> logits [B, N, parts]."""
        patches, levels_BGF = self.levels(points)
        return self.judge(points, patches, levels_BGF, shape_BS)

    def judge(
        self, points: Tensor, patches: Patches, levels_BGF: Tensor, shape_BS: Tensor | None
    ) -> Tensor:
        """The same from `levels`."""
        x = self.propagation(points[..., :3], patches.centres, levels_BGF)
        whole = [levels_BGF.amax(1), levels_BGF.mean(1)]
        if self.shape is not None:
            if shape_BS is None:
                raise ValueError("this model reads each cloud's class beside its points")
            whole.append(self.shape(shape_BS))
        # What is the same for all points of a cloud is multiplied once.
        of_cloud = torch.cat(whole, 1)
        for_point, for_cloud = self.first.weight.split([x.shape[2], of_cloud.shape[1]], 1)
        once = F.linear(of_cloud, for_cloud, self.first.bias)
        x = F.linear(x, for_point) + once[:, None]
        x = self.dropout(rectified(self.norms[0], x))
        for layer, norm in zip(self.hidden, self.norms[1:], strict=True):
            x = rectified(norm, layer(x))
        return self.out(x)


class _Shape(nn.Module):
    """[B, S] -> [B, shape_dim]."""

    def __init__(self, parts: PartConfig) -> None:
        super().__init__()
        self.layer = Linear(parts.shapes, parts.shape_dim, bias=False)
        self.norm = BatchNorm(parts.shape_dim)

    def forward(self, shape_BS: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.layer(shape_BS)), 0.2)


def build_model(config: PointcloudApp) -> nn.Module:
    """The app's model, freshly initialised."""
    models = {"pretrain": PointMae, "classify": PointClassifier, "segment": PartSegmenter}
    return models[config.model.kind](config)
