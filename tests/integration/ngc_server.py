"""NVIDIA's file store on this machine: a proxy that answers for ``api.ngc.nvidia.com`` itself, over real
TLS with a certificate of its own. NeMo's addresses are written into its classes, and this is the way
to its download that leaves NeMo as it is."""

from __future__ import annotations

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "api.ngc.nvidia.com"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for `HOST` and its key, valid for a day."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    words += ["-keyout", str(key), "-out", str(cert), "-subj", f"/CN={HOST}"]
    words += ["-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


class Ngc:
    """The server; a context manager. `files` are file name to content, `gets` the paths asked for."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        self.files = {f"{name}.nemo": content for name, content in files.items()}
        self.gets: list[str] = []
        self.certificate, key = certificate(folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environ(self) -> dict[str, str]:
        """What a client needs to ask this server instead of NVIDIA's."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"https_proxy": url, "SSL_CERT_FILE": str(self.certificate)}

    def __enter__(self) -> Ngc:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(ngc: Ngc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_CONNECT(self) -> None:
            if self.path != f"{HOST}:443":
                self.send_error(403)
                return
            self.wfile.write(b"HTTP/1.0 200 here\r\n\r\n")
            with ngc.tls.wrap_socket(self.connection, server_side=True) as secured:
                request = secured.recv(65536).decode("latin-1")
                path = request.split(" ", 2)[1]
                ngc.gets.append(path)
                content = ngc.files.get(path.rpartition("/")[2])
                status = "404 Not Found" if content is None else "200 OK"
                length = len(content or b"")
                head = f"HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n"
                secured.sendall(head.encode() + (content or b""))
            self.close_connection = True

    return Handler
