"""A laboratory for demo and tests: two network namespaces joined by a veth pair.

The gateway's namespace holds the end that postern drives with net_af_packet and no kernel
address; clients and next hops live in the other one.  Everything is made below one temporary
directory and removed by close(), also after a failure.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
POSTERN = os.path.join(BUILD, "control", "postern")
POSTERNCTL = os.path.join(BUILD, "control", "cli", "posternctl")
CLIENT, HOST, TLS_NAME = "192.0.2.1", "192.0.2.10", "submit.example.net"
CLIENT6, HOST6 = "2001:db8::1", "2001:db8::10"
USER, PASSWORD = "alice", "wonderland-42"


def run(*args, **kwargs):
    """Runs a command to its end; an unexpected exit status is an error that shows its output."""
    kwargs.setdefault("timeout", 60)
    p = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, **kwargs)
    if p.returncode != 0:
        raise RuntimeError("%s: exit %d\n%s" % (" ".join(map(str, args)), p.returncode, p.stdout))
    return p.stdout


def merge(into, other):
    """The keys of other over those of into, maps merged, everything else replaced."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
    return into


class Lab:
    def __init__(self, workers=(1,), config=None, next_hop_port=2525, ip6=False):
        self.dir = tempfile.mkdtemp(prefix="postern-")
        os.chmod(self.dir, 0o755)
        tag = "%d-%d" % (os.getpid(), time.monotonic_ns() % 100000)
        self.gw_ns, self.client_ns = "postern-gw-" + tag, "postern-cl-" + tag
        self.children = []
        self.gateway = None
        self.ip6 = ip6
        self.log_path = self.path("postern.log")
        self.config_path = self.path("postern.yaml")
        self.socket = self.path("control.sock")
        self.spool = self.path("spool")
        self.ca = self.path("cert.pem")
        try:
            self._network()
            self._files(list(workers), config or {}, next_hop_port)
        except BaseException:
            self.close()
            raise

    def path(self, name):
        return os.path.join(self.dir, name)

    def _network(self):
        for ns in (self.gw_ns, self.client_ns):
            run("ip", "netns", "add", ns)
            # the gateway's end never has kernel addresses; the clients' has IPv6 where wanted
            off = 0 if self.ip6 and ns == self.client_ns else 1
            run("ip", "netns", "exec", ns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=%d" % off,
                "net.ipv6.conf.default.disable_ipv6=%d" % off)
        run("ip", "link", "add", "gw0", "netns", self.gw_ns, "type", "veth",
            "peer", "name", "cl0", "netns", self.client_ns)
        run("ip", "-n", self.client_ns, "address", "add", CLIENT + "/24", "dev", "cl0")
        if self.ip6:
            run("ip", "-n", self.client_ns, "address", "add", CLIENT6 + "/64", "dev", "cl0",
                "nodad")
        for ns, link in ((self.gw_ns, "gw0"), (self.client_ns, "cl0")):
            run("ip", "-n", ns, "link", "set", "lo", "up")
            run("ip", "-n", ns, "link", "set", link, "up")
            # Linux leaves checksums unfilled on veth; postern verifies every one
            run("ip", "netns", "exec", ns, "ethtool", "-K", link, "rx", "off", "tx", "off",
                "sg", "off", "tso", "off", "gso", "off", "gro", "off")

    def _files(self, workers, config, next_hop_port):
        os.mkdir(self.spool, 0o700)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=" + TLS_NAME, "-keyout", self.path("key.pem"),
            "-out", self.ca, "-addext", "subjectAltName=DNS:" + TLS_NAME)
        self.add_user(USER, PASSWORD)
        base = {
            "hostname": TLS_NAME,
            "dataplane": {
                "workers": workers, "idle": "adaptive", "memory": "128M",
                "ports": [{"device": "net_af_packet0,iface=gw0", "addresses": [HOST + "/24"],
                           "gateways": [CLIENT], "mtu": 1500}],
                "limits": {"sessions": 1000, "sessions_per_address": 1000, "syn_backlog": 1024},
            },
            "listeners": [{"name": "submissions", "port": 465, "tls": "implicit"},
                          {"name": "submission", "port": 587, "tls": "starttls"}],
            "tls": {"threads": 1, "certificates": [{"chain": self.ca, "key": self.path("key.pem")}]},
            "auth": {"users": self.path("users")},
            "submission": {"max_message_size": "50M"},
            "spool": {"directory": self.spool, "max_size": "2G"},
            "relay": {"pools": [{"name": "default", "connections": 8,
                                 "retry": {"first": "5s", "factor": 2, "max": "1m", "give_up": "1h"},
                                 "next_hops": [{"address": CLIENT, "name": "mta1.example.net",
                                                "port": next_hop_port, "protocol": "smtp",
                                                "tls": "opportunistic"}]}]},
            "control": {"socket": self.socket, "http": "127.0.0.1:9587", "log": {"level": "info"}},
        }
        if self.ip6:
            base["dataplane"]["ports"][0]["addresses"].append(HOST6 + "/64")
        self.config = merge(base, config)
        self.write_config()

    def write_config(self):
        with open(self.config_path, "w") as f:
            yaml.safe_dump(self.config, f, default_flow_style=None, sort_keys=False, width=100)

    def add_user(self, name, password):
        run(POSTERNCTL, "user", "add", name, "--file", self.path("users"), "--password-stdin",
            input=password + "\n")

    # -- processes ---------------------------------------------------------------------------
    def spawn(self, ns, *args, log=None, env=None):
        """Starts a process in a namespace; close() ends it."""
        out = open(log, "ab") if log else subprocess.DEVNULL
        p = subprocess.Popen(["ip", "netns", "exec", ns] + [str(a) for a in args],
                             stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                             env=dict(os.environ, **(env or {})), start_new_session=True)
        if log:
            out.close()
        self.children.append(p)
        return p

    def start(self, env=None, wait=20):
        """Starts the gateway and waits until it says that it is ready."""
        seen = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        self.gateway = self.spawn(self.gw_ns, POSTERN, "-c", self.config_path,
                                  log=self.log_path, env=env)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            with open(self.log_path) as f:
                f.seek(seen)
                text = f.read()
            if " ready: " in text:
                return self.gateway
            if self.gateway.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("postern did not start:\n" + self.log())

    def stop(self, wait=30):
        """SIGTERM; the exit status."""
        self.gateway.send_signal(signal.SIGTERM)
        return self.gateway.wait(wait)

    def kill(self):
        self.gateway.send_signal(signal.SIGKILL)
        self.gateway.wait(10)

    def start_sink(self, directory, port=2525, address=CLIENT):
        os.makedirs(directory, exist_ok=True)
        p = self.spawn(self.client_ns, sys.executable, os.path.join(ROOT, "tools", "sink.py"),
                       "--listen", "%s:%d" % (address, port), "--directory", directory,
                       log=self.path("sink.log"))
        self.wait_port(port)
        return p

    def wait_port(self, port, wait=20):
        """Until something listens on the client's address (asked of the kernel, not connected)."""
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if re.search(r"[:.]%d\s" % port, run("ip", "netns", "exec", self.client_ns, "ss",
                                                 "-Hltn")):
                return
            time.sleep(0.05)
        raise RuntimeError("nothing listens on port %d" % port)

    def client(self, *args, **kwargs):
        """Runs a command in the clients' namespace; its output."""
        return run("ip", "netns", "exec", self.client_ns, *args, **kwargs)

    def ctl(self, *args):
        return run(POSTERNCTL, "-s", self.socket, *args)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def close(self):
        for p in reversed(self.children):
            if p.poll() is None:
                p.terminate()
        for p in reversed(self.children):
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait(10)
        for ns in (self.gw_ns, self.client_ns):
            subprocess.run(["ip", "netns", "delete", ns], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
