"""The only legend of tensor axes.

    k        replicas: a trial's place in a pack
    n        examples of a batch
    c h w    channels, height, width of an image
    d        features
    classes  classes

Signatures are written for a pack: every layer carries the replica axis k in front, and a single net is a pack of one.
"""

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "k n c h w"]
RawImages = UInt8[Tensor, "n c h w"]
Labels = Int[Tensor, "k n"]
Logits = Float[Tensor, "k n classes"]
PerExample = Float[Tensor, "k n"]
Indices = Int[Tensor, "k n"]
