"""Weight files from other people: nothing in them is executed, nothing crashes, the error is one of ours."""

import builtins
import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.errors import UserError
from fathomlab.store.weights import load_checked, load_tensors, save_tensors


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: object):
        """Keep the call."""
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        """What a pickle would run."""
        return self.call


def zipped(name: str, data: bytes) -> bytes:
    """A zip file of one member, as torch.save writes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
        archive.writestr("archive/version", b"3")
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    """The first format of torch: a tar file of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("pickle", "tensors", "storages", "sys_info"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def executable_files(canary: Path) -> dict[str, bytes]:
    """Files that create the canary if a loader executes them."""
    import torch

    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    system = Calls(os.system, touch)
    nested = io.BytesIO()
    torch.save({"weight": system}, nested)
    old = io.BytesIO()
    torch.save({"weight": system}, old, _use_new_zipfile_serialization=False)
    return {
        "a pickle of os.system": pickle.dumps(system, 2),
        "a pickle in text": f"cos\nsystem\n(S'{touch}'\ntR.".encode(),
        "a pickle of eval": pickle.dumps(Calls(builtins.eval, code)),
        "a pickle of exec in a dictionary": pickle.dumps({"weight": Calls(builtins.exec, code)}, 4),
        "a pickle in a pickle": pickle.dumps(Calls(pickle.loads, pickle.dumps(system))),
        "GLOBAL by other names": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c"
        + bytes([len(touch)])
        + touch.encode()
        + b"\x85R.",
        "SETITEM on no dictionary": b"\x80\x02cos\nsystem\n"
        + b"X"
        + struct.pack("<I", len(touch))
        + touch.encode()
        + b"\x85RK\x01K\x02s.",
        "torch.save": nested.getvalue(),
        "torch.save, older": old.getvalue(),
        "torch.save, oldest": tarred(pickle.dumps(system)),
        "torch.storage._load_from_bytes": pickle.dumps(Calls(torch.storage._load_from_bytes, nested.getvalue())),
        "a zip of a pickle": zipped("archive/data.pkl", pickle.dumps(system)),
    }


def tensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, and this length of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", (len(text) if length is None else length) & (2**64 - 1)) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """What a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DEEP = '{"a":' * 50_000 + "1" + "}" * 50_000
INVALID: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "a header of nothing": bytes(8),
    "text": b"<html>not found</html>",
    "a gzip bomb": gzip.compress(bytes(10**7)),
    "a zip bomb": zipped("archive/data/0", bytes(10**7)),
    "a zip that climbs": zipped("../../../../outside", b"x"),
    "a header longer than the file": tensors({"a": entry()}, bytes(8), 10**6),
    "a header of 2^63": tensors({"a": entry()}, bytes(8), 2**63),
    "a header below zero": tensors({"a": entry()}, bytes(8), -1),
    "a header of 200 MB": struct.pack("<Q", 200 * 2**20) + b"{}",
    "a header that is no JSON": tensors(b"{'a': 1}"),
    "a header that is a list": tensors([entry()], bytes(8)),
    "a header that is a number": tensors(b"1"),
    "a header that is null": tensors(b"null"),
    "a header that is no UTF-8": tensors(b'{"\xff": 1}'),
    "a header without end": tensors(DEEP.encode()),
    "offsets below zero": tensors({"a": entry(offsets=(-8, 0))}, bytes(8)),
    "offsets beyond the file": tensors({"a": entry(offsets=(0, 800), shape=(200,))}, bytes(8)),
    "offsets the wrong way round": tensors({"a": entry(offsets=(8, 0))}, bytes(8)),
    "offsets of 2^64": tensors({"a": entry(offsets=(0, 2**64))}, bytes(8)),
    "three offsets": tensors({"a": entry(offsets=(0, 4, 8))}, bytes(8)),
    "tensors that overlap": tensors({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "tensors that are one": tensors({"a": entry(), "b": entry()}, bytes(8)),
    "a gap": tensors({"a": entry(), "b": entry(offsets=(16, 24))}, bytes(24)),
    "bytes behind": tensors({"a": entry()}, bytes(16)),
    "bytes missing": tensors({"a": entry()}, bytes(7)),
    "a shape that does not fit": tensors({"a": entry(shape=(3,))}, bytes(8)),
    "a shape below zero": tensors({"a": entry(shape=(-2,))}, bytes(8)),
    "a shape of 2^63 x 2^63": tensors({"a": entry(shape=(2**63, 2**63))}, bytes(8)),
    "a shape of words": tensors({"a": entry(shape=("2",))}, bytes(8)),
    "another dtype": tensors({"a": entry("F31")}, bytes(8)),
    "a dtype that torch lacks": tensors({"a": entry("F4", (16,))}, bytes(8)),
    "a dtype that is a list": tensors({"a": entry(["F32"])}, bytes(8)),
    "no dtype": tensors({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "facts that are no text": tensors({"__metadata__": {"fathomlab": {"a": 1}}, "a": entry()}, bytes(8)),
    "facts that are a list": tensors({"__metadata__": ["x"], "a": entry()}, bytes(8)),
    "facts that are no JSON": tensors({"__metadata__": {"fathomlab": "{"}, "a": entry()}, bytes(8)),
    "facts without end": tensors({"__metadata__": {"fathomlab": DEEP}, "a": entry()}, bytes(8)),
}
UNREAD_BY_CHECKPOINTS = ("facts that are no JSON", "facts without end")  # they do not read this field
# Valid files in an unusual form: loaded or rejected, but nothing else.
UNUSUAL: dict[str, bytes] = {
    "a key twice": tensors(
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", bytes(8)
    ),
    "facts that are a JSON list": tensors({"__metadata__": {"fathomlab": "[1]"}, "a": entry()}, bytes(8)),
    "facts that are NaN": tensors({"__metadata__": {"fathomlab": "NaN"}, "a": entry()}, bytes(8)),
    "a name that climbs": tensors({"../../a": entry()}, bytes(8)),
    "half a surrogate pair": tensors(b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", bytes(8)),
    "no tensors": tensors({}),
    "ten thousand names": tensors({f"a{index}": entry(shape=(0,), offsets=(0, 0)) for index in range(10_000)}),
}


def check_rejected(path: Path, data: bytes) -> None:
    """One of our errors that names the file, in less than a second of CPU; no other file appears."""
    path.write_bytes(data)
    started = time.process_time()
    with pytest.raises(UserError, match=path.name):
        load_tensors(path)
    assert time.process_time() - started < 1
    assert list(path.parent.iterdir()) == [path]


def test_load_tensors_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Twelve files that run code in other loaders; one of them is shown to work."""
    import torch

    canary = tmp_path / "canary"
    files = executable_files(canary)
    assert len(files) == 12
    for name in ("load", "jit.load"):
        monkeypatch.setattr(f"torch.{name}", lambda *_, **__: pytest.fail("used an unsafe loader"))
    for data in files.values():
        check_rejected(tmp_path / "best.safetensors", data)
    monkeypatch.undo()
    torch.load(io.BytesIO(files["torch.save"]), weights_only=False)
    assert canary.exists()


def test_load_tensors_rejects_invalid_headers(tmp_path: Path):
    """Lengths, offsets, shapes, types, and depth."""
    for data in INVALID.values():
        check_rejected(tmp_path / "best.safetensors", data)


def test_load_checked_rejects_invalid_files_with_a_checksum(tmp_path: Path):
    """Anyone can write a valid checksum of an invalid payload, or of invalid metadata."""
    tail = b'{"epoch": 1}\n'
    contents = {name: tail + data for name, data in INVALID.items() if name not in UNREAD_BY_CHECKPOINTS}
    for text in ("1", "[1]", "{", "\xff", DEEP):
        contents[f"metadata {text[:9]}"] = text.encode("latin1") + b"\n" + tensors({"a": entry()}, bytes(8))
    path = tmp_path / "checkpoint.sealed"
    for name, rest in contents.items():
        path.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        with pytest.raises(UserError, match=path.name):
            load_checked(path)
        assert list(tmp_path.iterdir()) == [path], name


def test_load_tensors_returns_values_or_raises(tmp_path: Path):
    """Unusual files: names are labels, metadata is a dictionary."""
    path = tmp_path / "best.safetensors"
    for name, data in UNUSUAL.items():
        path.write_bytes(data)
        try:
            loaded, metadata = load_tensors(path)
        except UserError as error:
            assert path.name in str(error), name  # noqa: PT017
        else:
            assert isinstance(metadata, dict), name
            assert {type(tensor).__name__ for tensor in loaded.values()} <= {"Tensor"}, name
        assert list(tmp_path.iterdir()) == [path], name


@pytest.mark.parametrize("kind", ["missing", "folder", "dangling link", "link to itself"])
def test_load_tensors_names_a_missing_file(tmp_path: Path, kind: str):
    path = tmp_path / "best.safetensors"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to("nothing" if kind == "dangling link" else path.name)
    with pytest.raises(UserError, match=path.name):
        load_tensors(path)


def test_load_tensors_reads_saved_tensors(tmp_path: Path):
    """Rejecting everything would not pass."""
    import torch

    path = tmp_path / "best.safetensors"
    save_tensors(path, {"a": torch.tensor([1.0, float("nan")])}, {"epoch": 3})
    loaded, metadata = load_tensors(path)
    assert metadata == {"epoch": 3}
    assert loaded["a"][0] == 1.0
    assert loaded["a"][1].isnan()
