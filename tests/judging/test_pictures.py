"""Pictures for a judge that sees go out as PNG, JPEG or WebP, whatever they came as, and show what the model sees."""

import base64
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake import llm, serving
from PIL import Image as Pillow

from harness.contracts.images import read_image
from harness.contracts.judge import Ask
from harness.contracts.records import Image, Unscored
from harness.judging import shown
from harness.judging.shown import data_url
from harness.store.digest import file_digest

SIGNATURES = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}
TURNED = Pillow.Exif()
TURNED[0x0112] = 6  # the camera was held upright


def scene(mode: str = "RGB") -> Pillow.Image:
    """Rows of growing redness, with a blue corner."""
    rows = np.zeros((24, 32, 3), dtype=np.uint8)
    rows[..., 0] = np.arange(24)[:, None] * 10
    rows[:8, :8] = (0, 0, 250)
    return Pillow.fromarray(rows).convert(mode)


def clear() -> Pillow.Image:
    """Transparent where it is blue."""
    image = scene("RGBA")
    image.putalpha(image.getchannel("B").point(lambda value: 255 - value))
    return image


def deep() -> Pillow.Image:
    """Grey of 16 bits."""
    return Pillow.fromarray((np.arange(24 * 32, dtype=np.uint16) * 80).reshape(24, 32))


def film(kind: str) -> bytes:
    return saved(scene(), kind, save_all=True, append_images=[scene().rotate(180)])


def saved(image: Pillow.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


PLAIN = {
    "JPEG": saved(scene(), "JPEG"), "grey JPEG": saved(scene("L"), "JPEG"), "PNG": saved(scene(), "PNG"),
    "WebP": saved(scene(), "WEBP", lossless=True),
}  # fmt: skip
ODD = {
    "a phone's MPO": film("MPO"), "BMP": saved(scene(), "BMP"), "GIF": saved(scene(), "GIF"),
    "animated GIF": film("GIF"), "animated PNG": film("PNG"), "animated WebP": film("WEBP"),
    "palette": saved(scene("P"), "PNG"), "one bit": saved(scene("1"), "PNG"), "16 bits": saved(deep(), "PNG"),
    "CMYK": saved(scene("CMYK"), "JPEG"), "grey with alpha": saved(scene("LA"), "PNG"),
    "transparent": saved(clear(), "PNG"), "transparent WebP": saved(clear(), "WEBP", lossless=True),
    "a transparent colour": saved(scene(), "PNG", transparency=(0, 0, 250)),
    "turned JPEG": saved(scene(), "JPEG", exif=TURNED), "turned PNG": saved(scene(), "PNG", exif=TURNED),
}  # fmt: skip


def stored(folder: Path, data: bytes, upright: bool = False, name: str = "picture.jpg") -> Image:
    """The picture in a file whose name says JPEG, whatever it is."""
    (folder / name).write_bytes(data)
    return Image(str(folder / name), file_digest(folder / name), upright)


def sent(url: str) -> tuple[str, bytes]:
    """Media type and bytes of a data URL."""
    head, _, coded = url.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(coded, validate=True)


def faithful(image: Image) -> bool:
    """Whether any server reads what goes out, and as the picture that the model under test is shown."""
    kind, data = sent(data_url(image))
    with Pillow.open(io.BytesIO(data)) as there:
        shows = np.asarray(there.convert("RGB"))
        single = there.mode in ("RGB", "L") and getattr(there, "n_frames", 1) == 1
        bare = "transparency" not in there.info and not there.getexif().get(0x0112)
        named = data.startswith(SIGNATURES[kind]) and f"image/{there.format}".lower() == kind
    return named and single and bare and np.array_equal(shows, read_image(Path(image.path), None, image.upright))


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
@pytest.mark.parametrize("upright", [False, True])
def test_every_server_reads_what_is_sent_as_what_the_model_is_shown(tmp_path: Path, name: str, upright: bool) -> None:
    data = (PLAIN | ODD)[name]
    image = stored(tmp_path, data, upright)
    assert faithful(image)
    assert (sent(data_url(image))[1] == data) == (name in PLAIN)  # a plain one goes out as it came


def test_sent_as_they_came_most_would_be_refused_or_another_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kind_alone(data: bytes) -> str:
        with Pillow.open(io.BytesIO(data)) as opened:
            return opened.format or ""

    monkeypatch.setattr(shown, "_plain", kind_alone)
    every = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "MPO")
    monkeypatch.setattr(shown, "SENT", {kind: f"image/{kind.lower()}" for kind in every})
    wrong = set(ODD)
    for name, data in ODD.items():
        with suppress(KeyError):  # of a type that servers do not take
            wrong -= {name} if faithful(stored(tmp_path, data)) else set()
    assert wrong == set(ODD)


def test_one_that_is_too_large_for_a_server_goes_out_as_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MAX_SENT", 500)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    kind, data = sent(data_url(stored(tmp_path, saved(Pillow.fromarray(noise), "PNG"))))
    assert kind == "image/jpeg" and data.startswith(SIGNATURES[kind])


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "empty file"), (b"II*\0" + bytes(40), "not a JPEG"), (PLAIN["JPEG"][:300], "decoded")]
)
def test_one_that_cannot_be_sent_leaves_its_question_open_and_unpaid(tmp_path: Path, data: bytes, said: str) -> None:
    image = stored(tmp_path, data)
    with serving(lambda body, times: "fine") as server:
        judge = llm(tmp_path / "journal", images=True)
        asks = [Ask("toy/1", "toy", image, "What is it?", {}, 16, True), Ask("toy/2", "toy", None, "And?", {}, 16)]
        judge.ask_all(asks)
        replies = [judge.reply(one) for one in asks]
    assert isinstance(replies[0], Unscored) and said in replies[0].reason and replies[1] == "fine"
    assert sum(server.asked.values()) == 1
