"""U-Net++: a U-Net whose skip connections are themselves small decoders."""

from typing import Literal

from jaxtyping import Float
from monai.networks.blocks import UpSample
from monai.networks.layers import Pool
from monai.networks.nets.basic_unet import UpCat
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from torch import Tensor, nn

from equivox.models.norm import with_fast_instance_norm
from equivox.models.sides import require_sides, side_divisors
from equivox.options import Options

LEVELS = 5
"""Resolutions of MONAI's U-Net++."""


class UNetPlusPlusOptions(Options):
    """What a user can choose of a `UNetPlusPlus`; sizes come from the plan.

    Attributes:
        features: Channels of the five levels, finest first, then of the last block; None takes the plan's first five
            and ends with the first.
        deep_supervision: Train the heads of all four decoders, not the deepest alone.
        upsample: ``deconv`` learns the upsampling, ``nontrainable`` interpolates linearly.
        dropout: Share of activations dropped in training.
    """

    features: tuple[int, int, int, int, int, int] | None = None
    deep_supervision: bool = True
    upsample: Literal["deconv", "nontrainable"] = "deconv"
    dropout: float = 0.0


class UNetPlusPlus(nn.Module):
    """MONAI's `BasicUNetPlusPlus` with the plan's strides and one contract for its outputs.

    MONAI's network halves every axis four times, which leaves nothing of a thin patch: here each level pools and
    upsamples by the stride of the plan. A plan of fewer than five stages keeps its coarsest resolution for the rest;
    of a longer plan the first five are used.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes to predict, background included.
        features: Channels of the plan's stages, finest first.
        strides: Downsampling of each stage along the network's axes, the first all ones.
        options: The user's choices.

    Attributes:
        bottleneck: Name of the module whose output are the deepest features, those of the coarsest level.
        last_decoder: Name of the module whose output the deepest decoder's head makes its logits of.

    References:
        Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        features: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        options: UNetPlusPlusOptions,
    ) -> None:
        super().__init__()
        dimensions = len(strides[0])
        levels = [*strides[:LEVELS], *[(1,) * dimensions] * (LEVELS - len(strides))]
        widths = options.features or (*_extended(features), features[0])
        self.divisors = side_divisors(levels)
        self.bottleneck = f"network.conv_{LEVELS - 1}_0"
        self.last_decoder = f"network.upcat_0_{LEVELS - 1}"
        self.deep_supervision = options.deep_supervision
        self.network = BasicUNetPlusPlus(
            dimensions,
            in_channels,
            num_classes,
            features=widths,
            deep_supervision=options.deep_supervision,
            dropout=options.dropout,
            upsample=options.upsample,
        )
        self._set_strides(levels, widths, options.upsample)
        with_fast_instance_norm(self.network)
        if not options.deep_supervision:
            # These heads would never get a gradient.
            for head in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
                setattr(self.network, head, nn.Identity())

    def forward(self, image: Float[Tensor, "batch channels *spatial"]) -> tuple[Tensor, ...]:
        """Return the logits of the deepest decoder, and in training those of the three shallower ones, deepest first.

        Args:
            image: Prepared patches.

        Returns:
            Tensors ``(batch, classes, *spatial)``, all of full resolution.

        Raises:
            ValueError: If a side is not divisible by the product of the strides.
        """
        require_sides("unetpp", image.shape[2:], self.divisors)
        self.network.deep_supervision = self.deep_supervision and self.training
        outputs: list[Tensor] = self.network(image)
        return tuple(reversed(outputs))

    def _set_strides(self, levels: list[tuple[int, ...]], widths: tuple[int, ...], upsample: str) -> None:
        dimensions = len(levels[0])
        for module in self.network.modules():
            if isinstance(module, UpCat):
                # Sides always fit here, and a pad by nothing still copies.
                module.is_pad = False
        for level, stride in enumerate(levels[1:]):
            if stride == (2,) * dimensions:
                continue
            getattr(self.network, f"conv_{level + 1}_0").max_pooling = Pool[Pool.MAX, dimensions](kernel_size=stride)
            below = widths[level + 1]
            for decoder in range(1, LEVELS - level):
                getattr(self.network, f"upcat_{level}_{decoder}").upsample = UpSample(
                    dimensions, below, below // 2 if level else below, scale_factor=stride, mode=upsample
                )


def _extended(features: tuple[int, ...]) -> tuple[int, ...]:
    return (*features[:LEVELS], *features[-1:] * (LEVELS - len(features)))
