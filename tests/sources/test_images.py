"""Pictures from strangers: each is read as what it shows, or refused with a clause; none takes the run down."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import harness
from harness.contracts.images import (
    MAX_BYTES,
    Places,
    StoreImages,
    decode,
    opened,
    read_image,
    relative,
    resolve,
    size_of,
)
from harness.contracts.records import Box, Cropped, Image
from harness.store.digest import file_digest
from harness.store.store import Stage, Store
from harness.system.errors import UsageError

RED, BLUE = (200, 30, 40), (20, 60, 220)


def scene() -> Pillow.Image:
    """Red, with a blue upper left corner."""
    image = Pillow.new("RGB", (64, 32), RED)
    image.paste(BLUE, (0, 0, 32, 16))
    return image


def noise() -> Pillow.Image:
    return Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def saved(image: Pillow.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(width: int, height: int) -> bytes:
    """A small PNG that is large once decoded: every row is zeros."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif_of_screen(width: int, height: int) -> bytes:
    """A GIF with an enormous screen and a tiny frame."""
    data = bytearray(saved(scene(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) < 12


READABLE: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(scene(), "JPEG", quality=95),
    "png": lambda: saved(scene(), "PNG"),
    "bmp": lambda: saved(scene(), "BMP"),
    "webp": lambda: saved(scene(), "WEBP", lossless=True),
    "animated_gif": lambda: saved(scene(), "GIF", save_all=True, append_images=[Pillow.new("RGB", (64, 32))]),
    "animated_webp": lambda: saved(
        scene(), "WEBP", lossless=True, save_all=True, append_images=[Pillow.new("RGB", (64, 32))]
    ),
    "cmyk_jpeg": lambda: saved(scene().convert("CMYK"), "JPEG", quality=95),
    "rgba_png": lambda: saved(scene().convert("RGBA"), "PNG"),
    "palette_png": lambda: saved(
        scene().convert("P", palette=Pillow.Palette.ADAPTIVE), "PNG", transparency=b"\x80\xff"
    ),
    "junk_exif": lambda: saved(scene(), "JPEG", quality=95, exif=b"Exif\x00\x00" + b"\xff" * 40_000),
}


@pytest.mark.parametrize("name", READABLE)
def test_readable(name: str) -> None:
    image = decode(READABLE[name]())
    assert (image.mode, image.size) == ("RGB", (64, 32))
    assert near(image.getpixel((4, 4)), BLUE)
    assert near(image.getpixel((60, 28)), RED)


def turned() -> bytes:
    """A photo whose rows are to be read as columns."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return saved(scene(), "JPEG", quality=95, exif=exif)


def ramp() -> bytes:
    """16-bit grey from black to white."""
    tones = (np.arange(256, dtype=np.uint32) * 257).astype(np.uint16).reshape(16, 16)
    return saved(Pillow.fromarray(tones), "PNG")


def test_turned_upright_by_exif_where_asked_for() -> None:
    image = decode(turned(), upright=True)
    assert image.size == (32, 64)
    assert near(image.getpixel((28, 4)), BLUE)
    assert near(image.getpixel((4, 4)), RED)


def test_sixteen_bit_grey_keeps_its_tones_where_asked_for() -> None:
    image = decode(ramp(), upright=True)
    assert np.array_equal(np.asarray(image)[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("name", [*READABLE, "turned", "sixteen_bit"])
def test_read_as_llava_reads(name: str) -> None:
    """`Image.open(file).convert("RGB")`, to the bit."""
    data = {"turned": turned, "sixteen_bit": ramp, **READABLE}[name]()
    assert decode(data).tobytes() == Pillow.open(io.BytesIO(data)).convert("RGB").tobytes()


def cropped(folder: Path, data: bytes, box: Box, upright: bool = False) -> Cropped:
    (folder / "picture").write_bytes(data)
    return Cropped(str(folder / "picture"), file_digest(folder / "picture"), upright, box)


@pytest.mark.parametrize(
    ("box", "upright", "size", "colour"),
    [
        ((0.0, 0.0, 0.5, 0.5), False, (32, 16), BLUE),
        ((0.5, 0.25, 0.75, 1.0), False, (16, 24), RED),
        ((0.999, 0.999, 1.0, 1.0), False, (1, 1), RED),
        ((0.5, 0.0, 1.0, 0.5), True, (16, 32), BLUE),
    ],
    ids=["corner", "side", "one pixel", "turned first"],
)
def test_a_crop_is_that_part_of_what_is_read(
    tmp_path: Path, box: Box, upright: bool, size: tuple[int, int], colour: tuple[int, ...]
) -> None:
    image = cropped(tmp_path, turned() if upright else saved(scene(), "PNG"), box, upright)
    assert opened(image).size == size == size_of(image)[::-1]
    assert near(opened(image).getpixel((size[0] // 2, size[1] // 2)), colour)


def test_a_crop_is_another_picture_than_the_whole_and_than_other_crops(tmp_path: Path) -> None:
    one, other = (
        cropped(tmp_path, saved(scene(), "PNG"), (0.0, 0.0, 0.5, end), up) for end, up in ((0.5, False), (0.6, False))
    )
    turned_up = cropped(tmp_path, saved(scene(), "PNG"), (0.0, 0.0, 0.5, 0.5), True)
    whole = Image(one.path, one.sha256)
    assert len({image.key for image in (one, other, turned_up, whole)}) == 4
    assert all(image.key.startswith(one.sha256) for image in (one, other, turned_up))


def test_one_pixel() -> None:
    assert decode(saved(Pillow.new("RGB", (1, 1), RED), "PNG")).getpixel((0, 0)) == RED


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"This is no picture.\n" * 50, "not a JPEG, PNG, WebP, BMP or GIF"),
    "truncated_jpeg": (lambda: saved(noise(), "JPEG")[:-900], "cannot be decoded"),
    "truncated_png": (lambda: saved(noise(), "PNG")[:-900], "cannot be decoded"),
    "damaged_png": (lambda: flipped(saved(noise(), "PNG"), 3000), "cannot be decoded"),
    "bomb_png": (lambda: png_bomb(8000, 8000), "megapixels"),
    "bomb_png_pillow_warns_of": (lambda: png_bomb(11_900, 11_900), "megapixels"),
    "bomb_gif": (lambda: gif_of_screen(60_000, 60_000), "megapixels"),
    "long_png": (lambda: png_bomb(12_001, 1), "12000 pixels a side"),
    "tiff": (lambda: saved(scene(), "TIFF"), "not a JPEG"),
    "too_heavy": (lambda: saved(scene(), "PNG") + bytes(MAX_BYTES), "more than 32 MiB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    make, clause = REFUSED[name]
    path = tmp_path / "image.jpg"
    path.write_bytes(make())
    with pytest.raises(ValueError, match=clause) as raised:
        read_image(path)
    assert "\n" not in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ValueError, match=r"no such file|cannot be read"):
            read_image(path)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """The largest picture that is let through, and a bomb, in a process of their own."""
    (tmp_path / "large.png").write_bytes(png_bomb(10_000, 4_000))
    (tmp_path / "bomb.png").write_bytes(png_bomb(11_900, 11_900))
    code = (
        "import sys; from pathlib import Path; from harness.contracts.images import read_image\n"
        "from harness.system.profile import _host_peak_bytes\n"  # ru_maxrss would be the parent's where that was larger
        "assert read_image(Path(sys.argv[1])).size == (10000, 4000)\n"
        "try: read_image(Path(sys.argv[2]))\n"
        "except ValueError: print(_host_peak_bytes() // 1024)\n"
    )
    home = Path(harness.__file__).parents[1]
    command = [sys.executable, "-c", code, str(tmp_path / "large.png"), str(tmp_path / "bomb.png")]
    peak_kib = int(subprocess.run(command, cwd=home, capture_output=True, check=True, timeout=60).stdout)
    assert peak_kib < 512 * 1024


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(READABLE["png"]())
    digest = file_digest(path)
    assert read_image(path, digest).size == (64, 32)
    path.write_bytes(READABLE["jpeg"]())
    with pytest.raises(ValueError, match="has changed"):
        read_image(path, digest)


def test_images_of_a_stage(tmp_path: Path) -> None:
    """Paths are relative to the store, and right once the stage is renamed into its place; others are copied."""
    store = Store(tmp_path / "store")
    outside = tmp_path / "photo.png"
    outside.write_bytes(READABLE["png"]())
    data = Stage("data", {})
    store.run(data, lambda out: (out / "a.png").write_bytes(READABLE["png"]()) and None)
    items = Stage("items", {})
    made: dict[str, Image] = {}

    def body(out: Path) -> None:
        images = StoreImages(Places(store.root), out, store.path(items))
        (out / "own.png").write_bytes(READABLE["bmp"]())
        made["outside"] = images.at(outside)
        made["inside"] = images.at(store.path(data) / "a.png")
        made["own"] = images.at(out / "own.png")
        made["of"] = images.of(READABLE["webp"]())
        assert images.of(READABLE["webp"]()) == made["of"]
        with pytest.raises(UsageError, match=r"no image .*missing\.png"):
            images.at(tmp_path / "missing.png")

    store.run(items, body)
    assert made["outside"].path == f"{items.name}/images/{made['outside'].sha256}"
    assert made["inside"].path == f"{data.name}/a.png"
    assert made["inside"].sha256 == made["outside"].sha256
    assert made["of"].path == f"{items.name}/images/{made['of'].sha256}"
    for image in made.values():
        found = resolve(image, Places(store.root))
        assert file_digest(Path(found.path)) == image.sha256
        assert relative(found, Places(store.root)) == image
