"""nginx with its DAV module: a remote cache of Bazel's HTTP protocol."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.servers.certificates import Authority
from tests.servers.processes import free_port, running
from tests.tools import tool

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/{port}.pid; error_log stderr crit;
events {{}}
http {{
  log_format short '$request_method $request_uri $status $bytes_sent';
  access_log {folder}/{port}.log short;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port}{tls};
    root {data};
    location / {{ dav_methods PUT; create_full_put_path on; {rules} }}
    location = /mark {{ auth_basic off; return 204; }}
  }}
}}
"""


@dataclass(frozen=True)
class DavServer:
    """A cache at ``host`` (``127.0.0.1:port``); its files lie in ``data``."""

    host: str
    data: Path
    log: Path
    scheme: str = "http"
    trust: Path | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def asked(self) -> list[tuple[str, str, int]]:
        """Method, path and status of the requests since the last call, in the order of their ends."""
        mark = requests.get(f"{self.url}/mark", timeout=60, verify=str(self.trust) if self.trust else True)
        assert mark.status_code == 204  # one thread writes the log: what ended before is in it
        text = self.log.read_text()
        self.log.write_text("")  # nginx appends
        rows = [line.split() for line in text.splitlines()]
        return [(method, path, int(status)) for method, path, status, _ in rows if path != "/mark"]

    def files(self, kind: str) -> list[Path]:
        """The files of ``ac`` or ``cas``."""
        return sorted(self.data.rglob(f"{kind}/*"))


@contextlib.contextmanager
def dav_server(folder: Path, rules: str = "", authority: Authority | None = None) -> Iterator[DavServer]:
    """Run nginx; ``rules`` are further lines of its location, such as ``auth_basic``."""
    port, data, tls = free_port(), folder / "data", ""
    data.mkdir(exist_ok=True)
    if authority:
        certificate, key = authority.issue()
        tls = f" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
    log, file = folder / f"{port}.log", folder / f"{port}.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, port=port, data=data, rules=rules, tls=tls))
    command = [*tool("nginx-server", "usr/sbin/nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file)]
    with running(command, port):
        yield DavServer(
            f"127.0.0.1:{port}",
            data,
            log,
            "https" if authority else "http",
            authority.file if authority else None,
        )
