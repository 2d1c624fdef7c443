"""The key of judge and writer: read from the environment, and taken out of everything that anybody writes down."""

import base64
import os

KEY = "OPENAI_API_KEY"
SECRET_LENGTH = 12  # shorter keys are placeholders for servers that want none


def key() -> str:
    """The key in the environment, or ""."""
    return os.environ.get(KEY, "").strip()


def redact(text: str) -> str:
    """The text without the key, plain or in base64, and without lone surrogates, which no file can hold."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if len(key()) >= SECRET_LENGTH:
        for secret in (key(), base64.b64encode(key().encode()).decode()):
            text = text.replace(secret, "***")
    return text
