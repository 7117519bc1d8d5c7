"""ViT: tokeniser, shared backbone, head.

B images, C channels, H x W pixels, N tokens, D features, K outputs.
"""

from __future__ import annotations

from types import MappingProxyType

from torch import Tensor, nn

from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.readout import dense_map
from isoform.core.tokens import Tokens
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.head import VitHead
from isoform.vision.vit.tokeniser import VitTokeniser

# (dim, depth, heads) of the usual sizes: Dosovitskiy et al. 2021, table 1; Ti and S from Touvron et al. 2021.
SIZES = {
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}

# tokeniser.rotary -> how the backbone may use the positions.
POSITIONS = MappingProxyType(
    {
        "none": ("none", "readd"),
        "axial": ("rotary", "rotary_half"),
        "dinov3": ("rotary_half", "rotary"),
        "learned": ("rotary_learned",),
    }
)


class ViT(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021), with the options of its descendants in the three tables."""

    def __init__(
        self,
        tokeniser: VitTokeniserConfig,
        backbone: BackboneConfig,
        head: VitHeadConfig,
    ) -> None:
        super().__init__()
        self.tokeniser = VitTokeniser(tokeniser, backbone)
        self.backbone = Backbone(backbone)
        self.head = VitHead(head, backbone, distilled=tokeniser.distill_token)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K]."""
        return self.head(self._read_states(images))

    def features(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D], the vector in front of the last linear layer."""
        return self.head.features(self._read_states(images))

    def tokens(self, images: Tensor) -> Tokens:
        """[B, C, H, W] -> Tokens [B, N, D] in front of the trunk."""
        return self.tokeniser(images)

    def states(self, images: Tensor) -> Tokens:
        """[B, C, H, W] -> Tokens [B, N, D] behind the trunk and its final norm."""
        return self.backbone(self.tokens(images))

    def _read_states(self, images: Tensor) -> Tokens:
        """`states`, where only those tokens that the head reads need be right."""
        return self.backbone(self.tokens(images), first=self.head.reads)

    def maps(self, images: Tensor, layers: list[int]) -> list[Tensor]:
        """Feature maps [B, D, h, w] after each of the given blocks, for dense prediction."""
        tokens = self.tokens(images)
        _, seen = self.backbone.tapped(tokens, layers)
        return [dense_map(tokens.with_x(x)) for x in seen]


def sized(size: str, **changes: object) -> BackboneConfig:
    """The backbone table of ViT-Ti, -S, -B, -L or -H, with changes. Raises ValueError for another size."""
    if size not in SIZES:
        raise ValueError(f"no ViT is of size {size!r}; there are {', '.join(SIZES)}")
    dim, depth, heads = SIZES[size]
    return BackboneConfig.model_validate({"dim": dim, "depth": depth, "heads": heads, **changes})


def build_vit(
    tokeniser: VitTokeniserConfig,
    backbone: BackboneConfig,
    head: VitHeadConfig,
    *,
    outputs: int | None = None,
) -> ViT:
    """A freshly initialised ViT; `outputs` overrides the head's number of classes or targets."""
    if outputs is not None:
        head = head.model_copy(update={"outputs": outputs})
    fitting = POSITIONS[tokeniser.rotary]
    if backbone.position not in fitting:
        raise ValueError(
            f"tokeniser.rotary = {tokeniser.rotary!r} needs backbone.position = {' or '.join(map(repr, fitting))}, "
            f"got {backbone.position!r}"
        )
    return ViT(tokeniser, backbone, head)
