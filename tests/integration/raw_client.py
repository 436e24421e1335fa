"""Sockets for harness.Raw: commands on standard input, JSON answers on standard output."""
import base64
import json
import select
import socket
import ssl
import sys


class Peer:
    def __init__(self, host, port, ca, name):
        self.sock = socket.create_connection((host, port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ca, self.name, self.data = ca, name, b""

    def tls(self, _):
        context = ssl.create_default_context(cafile=self.ca)
        self.sock = context.wrap_socket(self.sock, server_hostname=self.name)
        return self.sock.version()

    def send(self, data):
        self.sock.sendall(base64.b64decode(data))
        return True

    def line(self):
        while b"\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionError("closed by the peer; unread: %r" % self.data)
            self.data += more
        line, _, self.data = self.data.partition(b"\n")
        if not line.endswith(b"\r"):
            raise ConnectionError("a reply line without CR: %r" % line)
        return line[:-1].decode("latin-1")

    def reply(self, seconds):
        self.sock.settimeout(float(seconds))
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def readable(self, seconds):
        if self.data:
            return True
        return bool(select.select([self.sock], [], [], float(seconds))[0])

    def closed(self, seconds):
        self.sock.settimeout(float(seconds))
        if self.data:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


def main():
    host, port, ca, name = sys.argv[1:]
    peer = None
    for line in sys.stdin:
        verb, _, argument = line.rstrip("\n").partition(" ")
        try:
            peer = peer or Peer(host, int(port), ca, name)
            answer = {"value": getattr(peer, verb)(argument)}
        except (OSError, ConnectionError, ssl.SSLError) as e:
            answer = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(answer), flush=True)


main()
