"""Instance norm that is fast on a processor."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class InstanceNorm(nn.Module):
    """Instance norm with a learned scale and shift; the same numbers and names as `torch.nn.InstanceNorm2d`.

    On a processor it is computed as group norm with one channel a group, which is the same thing: torch's instance
    norm makes two copies of its input and knows no bfloat16 kernel there, and so took a third of a training step.

    Args:
        channels: Channels of the input.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(Tensor(channels).fill_(1.0))
        self.bias = nn.Parameter(Tensor(channels).fill_(0.0))

    def forward(self, features: Float[Tensor, "batch channels *spatial"]) -> Float[Tensor, "batch channels *spatial"]:
        """Return each channel of each sample with mean `bias` and standard deviation `weight`.

        Raises:
            ValueError: If a channel has a single voxel, whose standard deviation is 0, in training.
        """
        if features.shape[2:].numel() == 1 and self.training:
            msg = f"expected more than one voxel a channel, got shape {tuple(features.shape)}; use larger patches"
            raise ValueError(msg)
        if features.device.type == "cpu":
            return functional.group_norm(features, features.shape[1], self.weight, self.bias, self.eps)
        return functional.instance_norm(features, weight=self.weight, bias=self.bias, eps=self.eps)


def with_fast_instance_norm(network: nn.Module) -> nn.Module:
    """Put `InstanceNorm` in place of torch's affine instance norms, in place, and return the network.

    A norm that is held under several names, as in nnU-Net's blocks, stays one module.
    """
    replaced: dict[nn.Module, InstanceNorm] = {}
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if not isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d):
                continue
            if child.affine and not child.track_running_stats:
                if child not in replaced:
                    replaced[child] = InstanceNorm(child.num_features, eps=child.eps)
                parent._modules[name] = replaced[child]
    return network
