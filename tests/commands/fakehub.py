"""A hub on loopback with one dataset repository: what `huggingface_hub` asks of one, and nothing else."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

REPOSITORY, COMMIT = "lmms-lab/POPE", "c0ffee" + "0" * 34


@contextmanager
def hub(files: Mapping[str, bytes], spoilt: Mapping[str, bytes] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for; `spoilt` is given in place of files' content."""
    asked = list[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *told: Any) -> None:
            """Not on the screen."""

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            base = f"/api/datasets/{REPOSITORY}"
            if path in (base, f"{base}/revision/{COMMIT}"):
                self.say(json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": []}).encode())
            elif path.startswith(f"{base}/tree/{COMMIT}"):
                self.say(json.dumps([self.entry(*one) for one in files.items()]).encode())
            elif path.startswith(resolved := f"/datasets/{REPOSITORY}/resolve/{COMMIT}/"):
                name = path.removeprefix(resolved)
                self.say((spoilt or {}).get(name, files[name]), etag=git(files[name]))
            else:
                self.say(b"{}", status=404)

        def entry(self, name: str, data: bytes) -> dict[str, Any]:
            return {"type": "file", "path": name, "size": len(data), "oid": git(data)}

        def say(self, data: bytes, status: int = 200, etag: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", COMMIT)
            if etag:
                self.send_header("ETag", f'"{etag}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()


def git(data: bytes) -> str:
    """Git's digest of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
