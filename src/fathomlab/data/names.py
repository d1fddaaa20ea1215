"""File names in the spelling of the publisher, whatever an operating system or a browser has done to them."""

import re

_COPY = re.compile(r"\s*(\(\d+\)|- copy)(?=\.|$)")
_IDX = re.compile(r"[ ._-]idx([13])[ ._-]ubyte")


def published_name(name: str) -> str:
    r"""Return the published spelling of a file name.

    Undoes upper case, `.idx3-ubyte` instead of `-idx3-ubyte`, copy suffixes such as ` (1)`, and Windows folders that
    became part of the name. The result is only a hint: contents decide what a file is.

    Example:
        >>> published_name("Train-Images.IDX3-ubyte (1).gz"), published_name(r"raw\test_batch - Copy.bin")
        ('train-images-idx3-ubyte.gz', 'test_batch.bin')
    """
    plain = name.rsplit("\\", 1)[-1].lower()
    while (shorter := _COPY.sub("", plain)) != plain:
        plain = shorter
    return _IDX.sub(r"-idx\1-ubyte", plain).strip()
