"""Where one machine is found by others: "HOST:PORT", of which either may be left out."""

from urllib.parse import urlsplit


def endpoint(text: str) -> tuple[str, int]:
    """Host and port, "" and 0 for what is left out; ValueError, with the form, for other words."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        parts, host, port = None, "", 0
    if parts is None or parts.netloc != text or "@" in text or text.split() != [text][: bool(text)]:
        raise ValueError("give HOST, HOST:PORT or :PORT, e.g. node1:29500")
    return host, port


def words(given: object) -> str:
    """The words of an endpoint as they are; ValueError for anything else."""
    endpoint(str(given))
    return str(given)
