"""A proxy of gRPC that passes everything on as it is, and errs on request."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc


@dataclass
class GrpcProxy(grpc.GenericRpcHandler):
    """The proxy at ``host``; ``seen`` are the methods that were called, and the bytes of their requests.

    A method in ``breaks`` breaks off, as often as that says, before its last answer; one in ``cuts`` after
    its first one, each time with the next of those codes; one in ``changes`` has its answers changed, as
    bytes; one in ``holds`` gets no answer, one in ``floods`` empty ones without end.
    """

    upstream: str
    host: str = ""
    seen: list[tuple[str, int]] = field(default_factory=list)
    breaks: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    cuts: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)
    floods: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.upstream)
        self._ends = threading.Event()

    def end(self) -> None:
        self._ends.set()

    def called(self, method: str) -> int:
        return sum(name == method for name, _ in self.seen)

    def sent(self, method: str) -> int:
        """How many bytes of requests a method has got."""
        return sum(size for name, size in self.seen if name == method)

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        name = path.rpartition("/")[2]

        def forward(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            def noted() -> Iterator[bytes]:
                for request in requests:
                    self.seen.append((name, len(request)))
                    yield request

            if name in self.holds | self.floods:
                next(noted())
                while not self._ends.wait(0.01) and context.is_active():
                    if name in self.floods:
                        yield b""
                return
            call = self._channel.stream_stream(path)(noted())
            context.add_callback(call.cancel)
            change = self.changes.get(name, lambda data: data)
            late = int(name in self.breaks)  # whether to know the last answer before it is passed on
            waiting: list[bytes] = []
            try:
                for answer in call:
                    waiting.append(change(answer))
                    if len(waiting) > late:
                        yield waiting.pop(0)
                        if self.cuts.get(name):
                            context.abort(self.cuts[name].pop(0), "the proxy cuts the stream")
                if self.breaks.get(name):
                    self.breaks[name] -= 1
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the proxy breaks off")
                yield from waiting
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(forward)


@contextlib.contextmanager
def grpc_proxy(upstream: str) -> Iterator[GrpcProxy]:
    """Run a proxy before the server at ``upstream`` (``host:port``)."""
    proxy = GrpcProxy(upstream)
    server = grpc.server(ThreadPoolExecutor(16), handlers=[proxy])
    proxy.host = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield proxy
    finally:
        proxy.end()
        server.stop(None).wait()
