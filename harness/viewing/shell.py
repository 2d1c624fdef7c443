"""The viewer's page: one style, one script, both inside it and allowed by their digests; nothing from elsewhere."""

import base64
import hashlib
import html
from importlib.resources import files
from string import Template
from typing import Literal

PARTS = {  # where data and pictures come from, by how the page is shown
    "server": "connect-src 'self'; img-src 'self'",
    "script": "img-src 'self' file:",  # from a folder without a server, 'self' is not the folder to every browser
}


def shell(title: str, parts: Literal["server", "script"]) -> tuple[str, str]:
    """The page, and its policy; `parts`: whether data are asked of a server, or are scripts in files beside it.

    Only our script runs. In a folder it may load others ('strict-dynamic'), and does so for the data alone, whose
    names it makes itself.
    """
    assets = files("harness.viewing").joinpath("assets")
    common = files("reports").joinpath("pages/style.css").read_text(encoding="utf-8")
    style = common + assets.joinpath("viewer.css").read_text(encoding="utf-8")
    script = assets.joinpath("viewer.js").read_text(encoding="utf-8")
    more = " 'strict-dynamic'" if parts == "script" else ""
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'{more}; style-src '{_digest(style)}'; {PARTS[parts]}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = Template(assets.joinpath("viewer.html").read_text(encoding="utf-8")).substitute(
        policy=policy, title=html.escape(title), style=style, script=script, parts=parts
    )
    return page, policy


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
