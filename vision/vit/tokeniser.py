"""Image -> tokens: patches, special tokens, positions.

B images, C channels, H x W pixels, h x w patches, N = prefix + h w tokens, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.norms import make_norm
from isoform.core.ops.decay import without_decay
from isoform.core.positions import sincos_2d
from isoform.core.tokens import Tokens
from isoform.vision.vit.config import VitTokeniserConfig
from isoform.vision.vit.parameter_count import pair_of
from isoform.vision.vit.resize import resize_position_table
from isoform.vision.vit.rotary import axial_angles, dinov3_angles


class VitTokeniser(nn.Module):
    """Patches by a strided convolution, then [class, distillation, registers] in front, then positions.

    Raises ValueError, naming the keys, for an image that the patches don't tile.
    """

    def __init__(self, config: VitTokeniserConfig, backbone: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        dim = backbone.dim
        self.class_token: Tensor | None
        self.distill_token: Tensor | None
        self.registers: Tensor | None
        self.head_dim = backbone.head_dim or dim // backbone.heads
        self.patch_size = pair_of(config.patch)
        self.grid = self.grid_of(*pair_of(config.image))
        self.prefix = config.class_token + config.distill_token + config.registers
        self.patch = nn.Conv2d(
            config.channels, dim, self.patch_size, self.patch_size, bias=config.patch_bias
        )
        self.patch_norm = make_norm(
            backbone.norm if config.patch_norm else "none", dim, backbone.eps, backbone.norm_bias
        )
        special = {
            "class_token": config.class_token,
            "distill_token": config.distill_token,
            "registers": config.registers,
        }
        for name, count in special.items():
            token = nn.Parameter(torch.zeros(1, int(count), dim)) if count else None
            self.register_parameter(name, token if token is None else without_decay(token))
        rows = self.grid[0] * self.grid[1]
        rows += self.prefix if config.position_prefix else 0
        self.position: Tensor | None = None
        if config.position == "learned":
            self.position = without_decay(nn.Parameter(torch.zeros(1, rows, dim)))
        elif config.position == "sincos":
            table = sincos_2d(
                self.grid,
                dim,
            )
            unplaced = table.new_zeros(rows - len(table), dim)
            del self.position
            self.register_buffer("position", torch.cat([unplaced, table])[None])
        self.norm = make_norm(
            backbone.norm if config.norm else "none", dim, backbone.eps, backbone.norm_bias
        )
        self.dropout = nn.Dropout(config.dropout)
        self.initialise()

    def initialise(self) -> None:
        """Normal of 0.02 for special tokens, of `position_std` for positions; the convolution's own for patches."""
        for token in (self.class_token, self.distill_token, self.registers):
            if token is not None:
                nn.init.normal_(
                    token,
                    std=0.02,
                )
        if isinstance(self.position, nn.Parameter):
            nn.init.normal_(
                self.position,
                std=self.config.position_std,
            )

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of patches in an image of that many pixels."""
        patch_height, patch_width = self.patch_size
        rows, columns = height // patch_height, width // patch_width
        covered = rows * patch_height, columns * patch_width
        if covered != (height, width) or 0 in (rows, columns):
            raise ValueError(
                f"an image of {height} x {width} pixels is not tiled by patches of {patch_height} x {patch_width}: "
                "change tokeniser.image or tokeniser.patch"
            )
        return rows, columns

    def forward(self, images: Tensor) -> Tokens:
        """[B, C, H, W] -> Tokens [B, N, D]; H and W may differ from the table's, which is then resized."""
        if images.shape[1] != self.config.channels:
            raise ValueError(
                f"the images have {images.shape[1]} channels and the model takes {self.config.channels}: "
                "set tokeniser.channels or convert the images"
            )
        grid = self.grid_of(*images.shape[-2:])
        x_BND = self.patch_norm(self.patch(images).flatten(2).transpose(1, 2))
        special = [
            token.expand(images.shape[0], -1, -1)
            for token in (self.class_token, self.distill_token, self.registers)
            if token is not None
        ]
        position = self.position_for(grid)
        if position is not None and not self.config.position_prefix:
            x_BND = x_BND + position
        if special:
            x_BND = torch.cat([*special, x_BND], dim=1)
        if position is not None and self.config.position_prefix:
            x_BND = x_BND + position
        tokens = Tokens(
            self.dropout(x_BND), pos=self.rotary_for(grid, x_BND), prefix=self.prefix, grid=grid
        )
        if self.training and self.config.patch_dropout:
            tokens = drop_patches(tokens, self.config.patch_dropout)
        return tokens.with_x(self.norm(tokens.x))

    def position_for(self, grid: tuple[int, int]) -> Tensor | None:
        """[1, rows, D] the position table on `grid`."""
        if self.position is None or grid == self.grid:
            return self.position
        prefix = self.prefix if self.config.position_prefix else 0
        return resize_position_table(
            self.position, self.grid, grid, prefix=prefix, mode=self.config.position_resize
        )

    def rotary_for(self, grid: tuple[int, int], like: Tensor) -> Tensor | None:
        """[1, N, angles] rotary angles ("learned": [1, N, 2] places); zeros, so no turn, for the special tokens."""
        c, angles = self.config, self.head_dim // 2
        match c.rotary:
            case "axial":
                table = axial_angles(
                    grid,
                    angles,
                    temperature=c.rotary_temperature,
                    trained_grid=c.rotary_grid,
                    offset=c.rotary_offset,
                    order=c.rotary_order,
                )
            case "dinov3":
                table = dinov3_angles(
                    grid, angles, temperature=c.rotary_temperature, offset=c.rotary_offset
                )
            case "learned":
                table = _places(grid)
                if c.rotary_order == "xy":
                    table = table.flip(1)
            case _:
                return None
        table = torch.cat([table.new_zeros(self.prefix, table.shape[1]), table])
        return table[None].to(like)


def _places(grid: tuple[int, int]) -> Tensor:
    """float32 [h w, 2] the row and column of every patch."""
    rows = torch.arange(grid[0], dtype=torch.float32)
    columns = torch.arange(grid[1], dtype=torch.float32)
    return torch.cartesian_prod(rows, columns)


def drop_patches(tokens: Tokens, rate: float) -> Tokens:
    """A random 1 - rate of each sample's body tokens, in raster order, behind all its prefix tokens."""
    batch, n, _ = tokens.x.shape
    body = n - tokens.prefix
    keep = max(1, int(body * (1 - rate)))
    device = tokens.x.device
    shuffled = torch.rand(batch, body, device=device).argsort(1)
    chosen = shuffled[:, :keep].sort(1).values + tokens.prefix
    prefix = torch.arange(tokens.prefix, device=device).expand(batch, -1)
    kept = tokens.gather(torch.cat([prefix, chosen], dim=1))
    kept.prefix = tokens.prefix
    return kept
