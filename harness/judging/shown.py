"""Pictures for a judge that sees, in the three formats that every such server takes: PNG, JPEG, WebP."""

import base64
import io
from pathlib import Path

from PIL import ExifTags
from PIL import Image as Pillow

from harness.contracts.images import FORMATS, read_image
from harness.contracts.records import Image

SENT = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
MAX_SENT = 15 * 2**20  # servers take some 20 MB; a larger picture goes out as a JPEG of the best quality


def data_url(image: Image) -> str:
    """The picture as a data URL; ValueError where `read_image` has one.

    A plain RGB or grey picture in one of the three formats goes out as it came. Any other (an animation, a phone's MPO,
    BMP, GIF, a palette, 16 bits, CMYK, transparency, a rotation in the EXIF data) goes out as the PNG of what the model
    under test is shown.
    """
    picture = read_image(Path(image.path), image.sha256, image.upright)
    data = Path(image.path).read_bytes()
    kind = _plain(data) or "PNG"
    if not _plain(data):
        data = _encoded(picture, kind)
    if len(data) > MAX_SENT:
        kind = "JPEG"
        data = _encoded(picture, kind, quality=95, subsampling=0)
    return f"data:{SENT[kind]};base64,{base64.b64encode(data).decode()}"


def _plain(data: bytes) -> str:
    """The format of a picture that every reader takes for the same one picture; "" of any other."""
    with Pillow.open(io.BytesIO(data), formats=FORMATS) as opened:
        kind = opened.format or ""
        upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
        single = getattr(opened, "n_frames", 1) == 1 and "transparency" not in opened.info
        return kind if kind in SENT and opened.mode in ("RGB", "L") and upright and single else ""


def _encoded(picture: Pillow.Image, kind: str, **how: int) -> bytes:
    file, bare = io.BytesIO(), picture.copy()
    bare.info = {}  # a transparent colour, or the profile of a CMYK picture, would be written again
    bare.save(file, kind, **how)
    return file.getvalue()
