"""A forge on the loopback: comments of a pull request, as GitHub and GitLab keep them, for whoever has the token."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "t0ken"


class Forge(ThreadingHTTPServer):
    """Comments by id; `log` has method and path of every request that was let in, `closed` lets nobody write."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: dict[int, str] = {7: "Nice work!"}
        self.log: list[str] = []
        self.closed = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Forge

    def handle_one(self) -> None:
        text = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        given = (self.headers.get("authorization") or self.headers.get("private-token") or "").split()
        if given[-1:] != [TOKEN]:
            return self.say(401, {"message": "Bad credentials"})
        if self.command != "GET" and self.server.closed:
            return self.say(403, {"message": "Resource not accessible by integration"})
        path = self.path.partition("?")[0]
        self.server.log.append(f"{self.command} {path}")
        comments = self.server.comments
        if self.command == "GET":
            return self.say(200, [{"id": id, "body": body} for id, body in comments.items()])
        formed = "urlencoded" in (self.headers.get("content-type") or "")
        body = parse_qs(text)["body"][0] if formed else json.loads(text)["body"]
        id = max(comments) + 1 if self.command == "POST" else int(path.rpartition("/")[2])
        comments[id] = body
        return self.say(201, {"id": id})

    do_GET = do_POST = do_PUT = do_PATCH = handle_one

    def say(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def forge() -> Iterator[Forge]:
    server = Forge()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# `gh api` as far as the action calls it, at the address in $API: as a program, for a PATH.
GH = """#!{python}
import json, os, re, sys, urllib.error, urllib.request
words = sys.argv[1:]
assert words.pop(0) == "api", words
given = {{word: words[at + 1] for at, word in enumerate(words) if word in ("-X", "--jq", "-F")}}
[path] = [word for word in words if word.startswith("repos/")]
headers = {{"Authorization": f"token {{os.environ['GH_TOKEN']}}", "Content-Type": "application/json"}}
name, _, file = given.get("-F", "").partition("=@")
body = json.dumps({{name: open(file, encoding="utf-8").read()}}).encode() if name else None
request = urllib.request.Request(f"{{os.environ['API']}}/{{path}}", body, headers, method=given.get("-X", "GET"))
try:
    found = json.load(urllib.request.urlopen(request))
except urllib.error.HTTPError as error:
    sys.exit(f"gh: {{error.code}}")
if "--jq" in given:
    [start] = re.findall(r'^\\.\\[\\] \\| select\\(\\.body \\| startswith\\("(.*)"\\)\\) \\| \\.id$', given["--jq"])
    print(*(one["id"] for one in found if one["body"].startswith(start)), sep="\\n")
"""
