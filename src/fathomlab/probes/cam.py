"""Class activation maps: where a convolutional network sees evidence for a class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from annotated_types import Interval

from fathomlab.probes.columns import Column, Measured

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Cam:
    """Class activation maps of training images that are fixed per seed (Zhou et al., 2016, arXiv 1512.04150).

    The network must end with global average pooling and one linear layer with weights w and bias b. The map of class c at a
    position is sum_k w[c, k] f_k(position) over the channels f_k before the pooling. Its mean over the positions, plus b[c], is
    the logit of c. Measured with running statistics, as in evaluation.

    Attributes:
        examples: Number of images.
    """

    examples: Annotated[int, Interval(ge=1, le=64)] = 6

    title: ClassVar[str] = "Class activation maps"
    note: ClassVar[str] = (
        "Where each network sees evidence for the predicted class, and for the true class if it is another (Zhou et al., 2016)."
    )
    columns: ClassVar[dict[str, Column]] = {
        "image": Column("Position in the training set", axis="entry"),
        "label": Column("Class", axis="entry"),
        "predicted": Column("Predicted class", axis="entry"),
        "probability": Column("Probability of the predicted class", axis="entry"),
        "predicted_map": Column("Evidence for the predicted class", axis="cell", figure="maps"),
        "label_map": Column("Evidence for the class", axis="cell", figure="maps"),
    }
    needs_maps: ClassVar[bool] = True
    test_options: ClassVar[dict[str, object]] = {"examples": 3}

    def measure(self, snapshot: "Snapshot") -> Measured:
        """Measure n images with maps of h x w positions.

        Returns:
            `image`, `label`, `predicted`, `probability`: float64 (k, n), named by `entries`, which are 1 to n.
            `predicted_map`, `label_map`: float64 (k, n * h * w), named by `cells`, which are `entry/row/column`, from 0.
        """
        import torch

        index = snapshot.probe_images(min(self.examples, snapshot.training_images))
        labels = snapshot.labels(index)
        features, weight, bias = (tensor.double() for tensor in snapshot.pooled_maps(index))
        maps = torch.einsum("kcf,knfhw->knchw", weight, features)
        logits = maps.mean((3, 4)) + bias.unsqueeze(1)
        probability, predicted = logits.softmax(2).max(2)
        replicas, images = torch.arange(len(index))[:, None], torch.arange(index.shape[1])
        _, _, _, height, width = maps.shape
        entries = [str(number) for number in range(1, 1 + index.shape[1])]
        return {
            "entries": entries,
            "cells": [f"{name}/{row}/{column}" for name in entries for row in range(height) for column in range(width)],
            "image": index.double(),
            "label": labels.double(),
            "predicted": predicted.double(),
            "probability": probability,
            "predicted_map": maps[replicas, images, predicted].flatten(1),
            "label_map": maps[replicas, images, labels].flatten(1),
        }
