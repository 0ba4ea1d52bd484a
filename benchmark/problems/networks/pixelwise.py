"""Networks that give each pixel of a large image a class: torchvision's ResNet-50, dilated, under one of its heads."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50

CHANNELS = 2048
"""That the backbone hands to the head."""


class Dilated(nn.Module):
    """A ResNet-50 that keeps an eighth of the image's sides, and a head whose scores are enlarged to the image.

    Modules and names are those of torchvision's `deeplabv3_resnet50` and `fcn_resnet50` without the auxiliary head.

    width: channels of the first stage's 3x3 convolutions. head: of the backbone's CHANNELS.
    """

    left_out = ("aux_classifier.",)
    """Of weights that are brought along: torchvision's have the auxiliary head, too."""

    def __init__(self, width: int, head: nn.Module):
        super().__init__()
        whole = resnet50(width_per_group=width, replace_stride_with_dilation=[False, True, True])
        layers = [(name, layer) for name, layer in whole.named_children() if name not in ("avgpool", "fc")]
        self.backbone = nn.Sequential(OrderedDict(layers))
        self.classifier = head

    def forward(self, images: Tensor) -> Tensor:
        """images: (b, 3, height, width); returns logits (b, classes, height, width)."""
        scores = self.classifier(self.backbone(images))
        return functional.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=False)
