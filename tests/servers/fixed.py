"""A server that gives fixed answers by path, and keeps what it was asked: for lies no real server tells."""

import contextlib
import http.server
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from tests.images import Blobs
from tests.servers.processes import serving

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class Fixed:
    """``hook`` answers before ``answers`` do, where it gives something."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    forms: list[bytes] = field(default_factory=list)
    host: str = ""
    hook: Callable[[str, Mapping[str, str]], Answer | None] = lambda path, headers: None

    def serve(self, blobs: Blobs, image: Descriptor, name: str = "a/b") -> None:
        """Answer as a registry would for a repository, whose tag is 1."""
        for digest, data in blobs.data.items():
            self.answers[f"/v2/{name}/blobs/{digest}"] = (200, {}, data)
        manifest = (200, {"Content-Type": image.media_type}, blobs.data[image.digest])
        self.answers[f"/v2/{name}/manifests/{image.digest}"] = manifest
        self.answers[f"/v2/{name}/manifests/1"] = manifest

    def paths(self, part: str = "") -> list[str]:
        """The paths that were asked for and hold ``part``."""
        return [path for path, _ in self.asked if part in path]


@contextlib.contextmanager
def fixed_server() -> Iterator[Fixed]:
    fixed = Fixed()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def do_GET(self) -> None:
            fixed.asked.append((self.path, dict(self.headers)))
            plain = self.path.partition("?")[0]
            found = fixed.hook(self.path, self.headers)
            status, headers, body = found or fixed.answers.get(plain, (404, {}, b""))
            (self.send_response_only if "Date" in headers else self.send_response)(status)
            always = {"Content-Length": str(len(body)), "Connection": "close"}
            for name, value in {**always, **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            fixed.forms.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as server:
        fixed.host = f"127.0.0.1:{server.server_port}"
        yield fixed
