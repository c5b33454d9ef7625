"""nginx in front of a registry: a mirror with TLS."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.servers.certificates import Authority
from tests.servers.processes import free_port, running
from tests.tools import tool

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/{port}.pid; error_log stderr crit;
events {{}}
http {{
  access_log {folder}/{port}.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    {rules}
    location {prefix}/v2/ {{ proxy_pass http://{upstream}/v2/; }}
  }}
}}
"""


@contextlib.contextmanager
def tls_mirror(
    folder: Path, authority: Authority, upstream: str, *names: str, prefix: str = "", rules: str = ""
) -> Iterator[str]:
    """Run nginx before ``upstream`` (``host:port``); gives its ``127.0.0.1:port``.

    Its certificate is for ``names`` and 127.0.0.1.  ``rules`` are further lines of its server block, as
    ``location ~ /blobs/ { return 500; }``.
    """
    certificate, key = authority.issue(*names)
    port = free_port()
    text = _CONFIGURATION.format(
        folder=folder,
        port=port,
        certificate=certificate,
        key=key,
        rules=rules,
        prefix=prefix,
        upstream=upstream,
    )
    file = folder / f"{port}.conf"
    file.write_text(text)
    command = [*tool("nginx-server", "usr/sbin/nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file)]
    with running(command, port):
        yield f"127.0.0.1:{port}"


_GRPC = """
daemon off; master_process off; pid {folder}/{port}.pid; error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{ {rules} grpc_pass grpc://{upstream}; }}
  }}
}}
"""


@contextlib.contextmanager
def tls_grpc(
    folder: Path, authority: Authority, upstream: str, *names: str, rules: str = ""
) -> Iterator[str]:
    """Run nginx with TLS, for ``names`` too, before a server of gRPC; gives its ``127.0.0.1:port``."""
    certificate, key = authority.issue(*names)
    port = free_port()
    file = folder / f"{port}.conf"
    text = _GRPC.format(
        folder=folder, port=port, certificate=certificate, key=key, rules=rules, upstream=upstream
    )
    file.write_text(text)
    command = [*tool("nginx-server", "usr/sbin/nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file)]
    with running(command, port):
        yield f"127.0.0.1:{port}"
