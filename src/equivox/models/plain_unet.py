"""nnU-Net's plain U-Net, with the stages of the plan."""

from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from jaxtyping import Float
from torch import Tensor, nn

from equivox.models.norm import with_fast_instance_norm
from equivox.models.sides import require_sides, side_divisors
from equivox.options import Options


class PlainUNetOptions(Options):
    """What a user can choose of a `PlainUNet`; sizes come from the plan.

    Attributes:
        convolutions_per_stage: Convolutions of each stage of encoder and decoder.
        kernel_sizes: Kernel of each stage along the network's axes; None takes 3, but 1 along an axis that is not
            downsampled yet (thick slices), as nnU-Net's planner does.
        deep_supervision: Train a head at each resolution of the decoder, not the finest alone.
    """

    convolutions_per_stage: int = 2
    kernel_sizes: tuple[tuple[int, ...], ...] | None = None
    deep_supervision: bool = True


class PlainUNet(nn.Module):
    """nnU-Net's `PlainConvUNet` (from dynamic_network_architectures) with its published settings and initialisation.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes to predict, background included.
        features: Channels of each stage, finest first.
        strides: Downsampling of each stage along the network's axes, the first all ones.
        options: The user's choices.

    Attributes:
        bottleneck: Name of the module whose output are the deepest features, those of the encoder's last stage.
        last_decoder: Name of the module whose output the finest head makes its logits of.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        features: tuple[int, ...],
        strides: tuple[tuple[int, ...], ...],
        options: PlainUNetOptions,
    ) -> None:
        super().__init__()
        self.divisors = side_divisors(strides)
        self.bottleneck = f"network.encoder.stages.{len(strides) - 1}"
        self.last_decoder = f"network.decoder.stages.{len(strides) - 2}"
        self.deep_supervision = options.deep_supervision
        two_dimensional = len(strides[0]) == 2
        self.network: Any = PlainConvUNet(
            in_channels,
            len(strides),
            features,
            nn.Conv2d if two_dimensional else nn.Conv3d,
            options.kernel_sizes or kernel_sizes(strides),
            strides,
            options.convolutions_per_stage,
            num_classes,
            options.convolutions_per_stage,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d if two_dimensional else nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=options.deep_supervision,
        )
        self.network.apply(self.network.initialize)
        with_fast_instance_norm(self.network)
        if not options.deep_supervision:
            # Heads that would never get a gradient; the last one is the finest.
            self.network.decoder.seg_layers = self.network.decoder.seg_layers[-1:]

    def forward(self, image: Float[Tensor, "batch channels *spatial"]) -> tuple[Tensor, ...]:
        """Return the full-resolution logits, and in training those of the coarser stages, finest first.

        Args:
            image: Prepared patches.

        Returns:
            Tensors ``(batch, classes, *spatial)``, each next one downsampled by the strides.

        Raises:
            ValueError: If a side is not divisible by the product of the strides.
        """
        require_sides("plain_unet", image.shape[2:], self.divisors)
        supervised = self.deep_supervision and self.training
        self.network.decoder.deep_supervision = supervised
        outputs: Any = self.network(image)
        return tuple(outputs) if supervised else (outputs,)


def kernel_sizes(strides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Return the kernel of each stage: 1 along an axis while only other axes are downsampled, else 3.

    nnU-Net's planner works from the spacing: an axis whose voxels are more than twice as long as the shortest is
    neither downsampled nor convolved along. The strides tell the same; an axis that is never downsampled gets 3.

    Example:
        >>> kernel_sizes(((1, 1, 1), (1, 2, 2), (2, 2, 2)))
        ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    """
    stages = len(strides)
    kernels: list[tuple[int, ...]] = []
    for stage in range(stages):
        seen = strides[: stage + 2]
        kernels.append(
            tuple(
                3 if any(row[axis] > 1 for row in seen) or all(row[axis] == 1 for row in strides) else 1
                for axis in range(len(strides[0]))
            )
        )
    return tuple(kernels)
