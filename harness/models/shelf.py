"""What a frozen vision tower makes of a picture: computed once per picture and tower, whoever asks, and kept.

The tower is frozen in every method, so its output is shared by all rows, rounds and stages of a comparison; what is
behind it learns, and is computed each time. A picture is seen by itself, so that its features do not depend
on which others were asked for, nor on who asked first.
"""

import hashlib
import json
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from harness.contracts.records import Image
from harness.store.contents import Stamp, stamp
from harness.store.store import failpoint


class Shelf:
    """Tensors made of pictures, by a picture's key: in memory up to `max_bytes`, and in `folder`.

    `kind` tells tensors of one picture apart (`tower_kind`). `made` counts how many had to be made, `flops` what that
    took, as `cost` has it. A file carries its own digest: one that is damaged or half written is made anew.
    """

    def __init__(
        self,
        make: Callable[[Image], Tensor],
        kind: str,
        max_bytes: int = 1 << 29,
        cost: Callable[[Image], int] = lambda image: 0,
    ) -> None:
        self.make, self.kind, self.max_bytes, self.cost = make, kind, max_bytes, cost
        self.folder: Path | None = None
        self.made = self.flops = 0
        self._bytes = 0
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._sound: dict[str, Stamp] = {}  # files that had their digest, as they were then

    def __call__(self, image: Image) -> Tensor:
        """The picture's tensor, on the CPU."""
        if image.key in self._kept:
            self._kept.move_to_end(image.key)
            return self._kept[image.key]
        found = self._read(image.key)
        if found is None:
            found = self.make(image)
            self.made += 1
            self.flops += self.cost(image)
            self._write(image.key, found)
        self._kept[image.key] = found
        self._bytes += found.nbytes
        while self._bytes > self.max_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return found

    def put(self, image: Image, whole: bool) -> None:
        """Make sure that the picture's tensor is there, and undamaged (`whole`), for whoever asks for it later."""
        there = self.folder is not None and (self.folder / f"{image.key}.{self.kind}").is_file()
        if whole or not there:
            self(image)

    def _read(self, name: str) -> Tensor | None:
        if self.folder is None:
            return None
        try:
            file = self.folder / f"{name}.{self.kind}"
            data, read = file.read_bytes(), stamp(file)
            told, body = data[:32], data[32:]
            if self._sound.get(name) != read and hashlib.sha256(body).digest() != told:
                return None
            self._sound[name] = read
            found: Tensor = load(body)["features"]
            return found
        except (FileNotFoundError, SafetensorError, KeyError):
            return None

    def _write(self, name: str, found: Tensor) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        body = save({"features": found.contiguous()})
        part = self.folder / f"{name}.{self.kind}.{uuid.uuid4().hex}"  # containers share a folder, and process ids
        try:
            part.write_bytes(hashlib.sha256(body).digest() + body)
        except OSError:
            part.unlink(missing_ok=True)  # a full disk is not made fuller
            raise
        failpoint("features.written")
        part.replace(self.folder / f"{name}.{self.kind}")


def tower_kind(model: nn.Module, settings: Mapping[str, Any] | None = None) -> str:
    """Names what a picture becomes by a tower: its dtype, a digest of its weights as they lie in memory, and what else
    it depends on (`settings`).

    A policy saved in bfloat16 has its base's tower rounded; loaded in float32 again it sees pictures otherwise.
    """
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() if settings else b"")
    for name, weight in sorted(model.state_dict().items()):
        total.update(f"{name}\0{tuple(weight.shape)}\0{weight.dtype}\n".encode())
        total.update(weight.reshape(-1).contiguous().cpu().view(torch.uint8).numpy().data)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return f"{dtype}-{total.hexdigest()[:16]}"
