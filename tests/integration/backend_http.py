"""An HTTP back end for tests: users from a JSON file, which is read anew at each question.

    backend_http.py PORT FILE [CERTIFICATE KEY]

FILE: {"users": {NAME: {"password": ..., "answer": {...}}}, "status": null or a number,
"sleep": seconds, "body": null or a text}.  What it is asked goes to FILE.log, a line each, without
the password.
"""
import http.server
import json
import socketserver
import ssl
import sys
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["Content-Type"] == "application/json":
            asked = json.loads(body)
        else:
            asked = dict(urllib.parse.parse_qsl(body, strict_parsing=True))
        with open(sys.argv[2]) as f:
            state = json.load(f)
        password = asked.pop("password")
        with open(sys.argv[2] + ".log", "a") as f:
            f.write(json.dumps(dict(asked, token=self.headers["Authorization"])) + "\n")
        time.sleep(state.get("sleep") or 0)
        user = state["users"].get(asked["user"])
        status = state.get("status") or (
            200 if user is not None and user["password"] == password else 401)
        answer = (user or {}).get("answer", {}) if status == 200 else {}
        text = (state.get("body") or json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def main():
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
