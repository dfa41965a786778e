"""A small real HTTP server for the tests of services: answers as a server of models does.

``small_server.py PORT [--deaf] [--late SECONDS] [--shm PREFIX] [--child WORD]``
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM")
parser.add_argument("--late", type=float, default=0.0)
parser.add_argument("--shm", default="")
parser.add_argument("--child", default="")
arguments = parser.parse_args()

if arguments.deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
if arguments.shm:
    Path("/dev/shm", arguments.shm + "region").write_bytes(b"x" * 4096)
if arguments.child:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", arguments.child])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path in ("/v2/health/live", "/v2/health/ready", "/v2")
        self._answer(200 if known else 404, {"name": "small", "version": "0"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v2/repository/index":
            self._answer(200, [])
        elif self.path.endswith("/good/load"):
            self._answer(200, {})
        elif self.path.endswith("/slow/load"):
            time.sleep(60)
        elif self.path.endswith("/deadly/load"):
            print("model.cc:1] cannot read the weights", flush=True)
            os._exit(7)
        else:
            self._answer(400, {"error": "load failed for model: no such file"})

    def _answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


time.sleep(arguments.late)
server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
print("listening", flush=True)
server.serve_forever()
