# SPDX-License-Identifier: Apache-2.0
"""A server on this machine that serves one file and breaks in chosen ways.

  with serve(b'content', breaks=[3, 5]) as server:
    fetch(server.url)              # two answers end after 3 and 5 bytes
  server.requests                  # their Range headers, '' for none
"""

import contextlib
import http.server
import pathlib
import threading
import time


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers GET as `server` says."""

  protocol_version = 'HTTP/1.1'

  def do_GET(self):  # noqa: N802, the name is given
    server = self.server
    with server.lock:
      asked = self.headers.get('Range', '')
      server.requests.append(asked)
      status = server.statuses.pop(0) if server.statuses else 200
      cut = server.breaks.pop(0) if server.breaks else None
    if server.redirect and not self.path.startswith('/moved'):
      return self._head(302, {'Location': server.redirect})
    if status != 200:
      return self._head(status, {})
    time.sleep(server.pause)
    self._send(asked, cut)

  def _send(self, asked, cut):
    server, content = self.server, self.server.content
    start, end = 0, len(content)
    headers = {'ETag': server.etag} if server.etag else {}
    if asked and server.ranges:
      start = int(asked.removeprefix('bytes=').removesuffix('-'))
      if start >= len(content):
        return self._head(416, {**headers,
                                'Content-Range': f'bytes */{len(content)}'})
      end = min(len(content), start + (server.longest or len(content)))
      headers['Content-Range'] = f'bytes {start}-{end - 1}/{len(content)}'
    body = content[start:end]
    length = len(body) + server.overstated
    self._head(206 if start else 200, headers, length)
    self.wfile.write(body if cut is None else body[:cut])
    # The connection ends here, whatever the header has promised.
    self.close_connection = True

  def _head(self, status, headers, length=0):
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(length))
    self.end_headers()

  def log_message(self, *unused):
    """Keeps the output of the tests clean."""


@contextlib.contextmanager
def serve(content, *, breaks=(), statuses=(), ranges=True, etag='"1"',
          overstated=0, longest=0, redirect='', pause=0.0):
  """Serves `content` at `server.url` and at `/moved`.

  Args:
    content: bytes; `server.content` may be changed later.
    breaks: after how many bytes the first answers end.
    statuses: of the first answers; 200 for a file.
    ranges: whether the server can start in the middle.
    etag: version of the content, '' for none.
    overstated: how many bytes more than there are the header promises.
    longest: answer to a request for a range, bytes; 0: any.
    redirect: address of all answers but those below `/moved`.
    pause: seconds before each file.
  """
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
  server.daemon_threads = True
  server.content, server.breaks, server.ranges = content, list(breaks), ranges
  server.statuses, server.etag, server.redirect = list(statuses), etag, redirect
  server.overstated, server.longest = overstated, longest
  server.pause, server.requests = pause, []
  server.lock = threading.Lock()
  server.url = f'http://127.0.0.1:{server.server_port}/dir/vit.npz'
  thread = threading.Thread(
      target=server.serve_forever, kwargs={'poll_interval': 0.01})
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def cached(cache):
  """Kinds of files in a cache of downloads, locks aside."""
  return sorted(path.name.partition('-')[2] for path in
                pathlib.Path(cache).iterdir() if path.suffix != '.lock')
