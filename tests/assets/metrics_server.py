"""A real HTTP server that behaves as badly as a metrics address can.

``metrics_server.py``: prints its port, then serves until it is ended.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = b"# HELP a b\n# TYPE nv_inference_count counter\n" + b"".join(
    b'nv_inference_count{model="m%d",version="1"} %d\n' % (i, i) for i in range(3)
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.strip("/")
        if name == "good":
            self._start(length=len(GOOD))
            self.wfile.write(GOOD)
        elif name == "moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/metrics")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                self.wfile.write(b"X: y\r\n")
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self._start()
            self._endless(name)

    def _endless(self, name):
        try:
            while True:
                if name == "lines":
                    self.wfile.write(b"nv_other 1\n" * 1000)
                elif name == "endless":
                    self.wfile.write(b'nv_inference_count{model="' + b"x" * 65536)
                elif name == "garbage":
                    self.wfile.write(bytes(range(128, 256)) * 8 + b"\n")
                elif name == "trickle":
                    self.wfile.write(b"nv_inference_count 1\n")
                    self.wfile.flush()
                    time.sleep(0.05)
                else:
                    return
        except OSError:
            self.close_connection = True

    def _start(self, length=None):
        self.send_response(200)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *words):
        """Nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    sys.stdout.close()
    server.serve_forever()
