"""A hub of one model on this machine, as much of it as `snapshot_download` asks for."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from huggingface_hub import constants


def answers(folder, repo, commit):
    """The hub's answers by path: the list of a commit's files, and each of them."""
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    listed = [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for name, content in sorted(contents.items())
    ]
    files = {f"/{repo}/resolve/{commit}/{name}": content for name, content in contents.items()}
    return files | {f"/api/models/{repo}/tree/{commit}": json.dumps(listed).encode()}


@contextmanager
def serving(folder, repo, commit, monkeypatch):
    """The hub of transformers and this project is a server on this machine while the block runs."""
    found = answers(folder, repo, commit)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = found.get(urlsplit(self.path).path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("ETag", f'"{hashlib.sha1(content or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, format, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", endpoint)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield
    server.shutdown()
    server.server_close()
