"""Names of tensor axes, and types of common tensors.

    k        replicas: slots of a pack
    n        examples of a batch
    c h w    channels, height, width of an image
    d        features
    classes  classes

Every layer has the replica axis k first. A single network is a pack of one.
"""

from jaxtyping import Float, Int, Shaped
from torch import Tensor

Images = Float[Tensor, "k n c h w"]
RawImages = Shaped[Tensor, "n c h w"]  # uint8, or float32 that is used as given
Labels = Int[Tensor, "k n"]
Logits = Float[Tensor, "k n classes"]
PerExample = Float[Tensor, "k n"]
Indices = Int[Tensor, "k n"]
