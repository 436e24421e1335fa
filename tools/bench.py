"""make bench: the gateway beside the least that kernel sockets can do, recipe by recipe, in turns.

Each recipe runs several rounds; in a round every server is started afresh and takes the same load
from postern-bench.  What counts is work a CPU second of the server, as the median of the rounds'
ratios.  Of a kernel server the CPU time is what its threads used and what its core spent in
softirqs (receive steering is on, so that it pays for its own receiving); of the gateway it is the
worker's share of turns that found work, and what all its other threads used.

perf/RESULTS.md is written, and perf/results/ with the JSON of each run and one page of plots.
"""
import argparse
import glob
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

from lab import BUILD, CLIENT, HOST, PASSWORD, ROOT, TLS_NAME, USER, Lab, run

BENCH = os.path.join(BUILD, "perf", "bench", "postern-bench")
FLOOR = os.path.join(BUILD, "perf", "floor")
RESULTS = os.path.join(ROOT, "perf", "results")
SERVER_CORE, LOAD_CORE = (1, 0) if os.cpu_count() > 1 else (0, 0)
TICK = os.sysconf("SC_CLK_TCK")
MEMIF_HOST, MEMIF_LOAD = "198.51.100.10", "198.51.100.1"

# name, what a unit is, arguments of the load, needs a commit
RECIPES = [
    ("full handshakes", "handshakes", ["--mode", "handshake", "--sessions", "64"], False),
    ("resumed handshakes", "handshakes", ["--mode", "handshake", "--sessions", "64", "--resume", "1"],
     False),
    ("10 KB, 1 a session", "messages", ["--messages", "1", "--sessions", "64"], True),
    ("10 KB, 20 a session", "messages", ["--messages", "20", "--sessions", "64"], True),
    ("10 KB, sessions that stay", "messages", ["--messages", "0", "--sessions", "200"], True),
    ("1 MB", "messages", ["--messages", "0", "--sessions", "16", "--size", "1M"], True),
]


def threads_cpu(pid):
    """Seconds of CPU time by thread name."""
    used = {}
    for path in glob.glob("/proc/%d/task/*/stat" % pid):
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        name, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        used[name] = used.get(name, 0) + (int(rest[11]) + int(rest[12])) / TICK
    return used


def softirq_seconds(core):
    with open("/proc/stat") as f:
        for line in f:
            if line.startswith("cpu%d " % core):
                return int(line.split()[7]) / TICK
    raise RuntimeError("no such core")


def namespace_exec(ns, core, *args):
    return ["ip", "netns", "exec", ns, "taskset", "-c", str(core)] + [str(a) for a in args]


class Server:
    """Something that takes submissions; cpu() is the CPU time that it has used so far."""

    def load(self, name, arguments, seconds):
        out = os.path.join(RESULTS, "%s.%s.json" % (re.sub(r"\W+", "-", name), self.name))
        password = self.lab.path("password")
        with open(password, "w") as f:
            f.write(PASSWORD + "\n")
        args = [BENCH, "--quiet", "--user", USER, "--password-file", password, "--name", TLS_NAME,
                "--json", out, "--label", self.name, "--warmup", "1500ms", "--duration",
                "%gs" % seconds, "--cores", LOAD_CORE] + self.way() + arguments + [self.target()]
        p = subprocess.Popen(namespace_exec(self.lab.client_ns, LOAD_CORE, *args),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(1.6 + self.settle)
        cpu, began = self.cpu(), time.monotonic()
        time.sleep(seconds * 0.8)
        cpu, wall = self.cpu() - cpu, time.monotonic() - began
        text, _ = p.communicate(timeout=120)
        with open(out) as f:
            result = json.load(f)
        if p.returncode != 0 or result["failed_rate"] > 0:
            raise RuntimeError("%s, %s: exit %d\n%s" % (name, self.name, p.returncode, text))
        return {"rate": result["rate"], "cpu_share": cpu / wall,
                "per_cpu_s": result["rate"] * wall / cpu,
                "p99_ms": result["times"]["latency"]["p99_us"] / 1000, "file": out}


class Floor(Server):
    """perf/floor on veth: epoll and OpenSSL, with or without group commit."""
    settle = 0.3

    def __init__(self, durable):
        self.name = "floor"
        self.lab = Lab()
        gw = self.lab.gw_ns
        run("ip", "-n", gw, "address", "add", HOST + "/24", "dev", "gw0")
        for ns, link, core in ((gw, "gw0", SERVER_CORE), (self.lab.client_ns, "cl0", LOAD_CORE)):
            run("ip", "netns", "exec", ns, "sh", "-c",
                "echo %x >/sys/class/net/%s/queues/rx-0/rps_cpus" % (1 << core, link))
        args = [FLOOR, HOST, "465", "--tls", self.lab.ca, self.lab.path("key.pem")]
        if durable:
            args += ["--commit", self.lab.path("commit")]
        self.process = subprocess.Popen(namespace_exec(gw, SERVER_CORE, *args),
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("floor did not start")

    def way(self):
        return ["--via", "kernel"]

    def target(self):
        return "smtps://%s:465" % HOST

    def cpu(self):
        return sum(threads_cpu(self.process.pid).values()) + softirq_seconds(SERVER_CORE)

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.lab.close()


class Gateway(Server):
    """postern over memif; its next hop is down, so that it accepts and stores, or takes all."""
    settle = 0.3

    def __init__(self, relays=False):
        self.name = "postern"
        self.lab = Lab(workers=(SERVER_CORE,))
        self.socket = self.lab.path("memif.sock")
        c = self.lab.config
        c["dataplane"]["ports"].append({
            "device": "net_memif0,role=server,socket-abstract=no,rsize=11,socket=" + self.socket,
            "addresses": [MEMIF_HOST + "/24"], "mtu": 1500})
        c["dataplane"].update({"idle": "poll", "memory": "1G"})
        c["dataplane"]["limits"] = {"sessions": 20000, "sessions_per_address": 20000,
                                    "syn_backlog": 4096}
        c["tls"]["handshakes"] = {"per_network": "1000000/s"}
        c["spool"]["max_size"] = "8G"
        self.lab.write_config()
        self.sink = None
        if relays:
            self.sink = self.lab.spawn(self.lab.client_ns, "taskset", "-c", LOAD_CORE, FLOOR, CLIENT,
                                       "2525")
            self.lab.wait_port(2525)
        self.lab.start(wait=60)
        status = json.loads(self.lab.ctl("--json", "status"))
        self.pid = status["pid"]
        self.productive, self.worker, self.before = 0, 0, (0, 0)
        self.cpu()

    def way(self):
        return ["--via", "net_memif0,role=client,socket-abstract=no,rsize=11,socket=" + self.socket,
                "--address", MEMIF_LOAD + "/24", "--memory", "256M"]

    def target(self):
        return "smtps://%s:465" % MEMIF_HOST

    def cycles(self):
        """Of the worker's turns that found work, and of all."""
        out = run("ip", "netns", "exec", self.lab.gw_ns, "curl", "-s", "http://127.0.0.1:9587/metrics")
        found = dict(re.findall(r"^postern_worker_(productive|idle)_cycles_total\{\S*\} (\S+)", out, re.M))
        productive, idle = float(found["productive"]), float(found["idle"])
        return productive, productive + idle

    def cpu(self):
        """The worker polls all the time: of its thread's CPU time, the share of productive cycles."""
        used = threads_cpu(self.pid)
        others = sum(s for n, s in used.items() if not n.startswith("rte-worker"))
        productive, cycles = self.cycles()
        worker = sum(used.values()) - others
        self.productive += (worker - self.worker) * (productive - self.before[0]) / max(
            cycles - self.before[1], 1)
        self.worker, self.before = worker, (productive, cycles)
        return self.productive + others

    def close(self):
        self.lab.close()


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*: (.*)", f.read()).group(1)
    return "%s, %d cores, Linux %s, %s" % (model, os.cpu_count(), platform.release(),
                                           run("openssl", "version").strip())


def table(rows):
    out = ["| recipe | unit | postern a CPU s | floor a CPU s | ratio (median, each round) | "
           "p99 postern, floor |", "| --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        ratios = [a["per_cpu_s"] / b["per_cpu_s"] for a, b in zip(r["postern"], r["floor"])]
        out.append("| %s | %s | %.0f | %.0f | **%.2f** (%s) | %.1f ms, %.1f ms |" % (
            r["name"], r["unit"], statistics.median(x["per_cpu_s"] for x in r["postern"]),
            statistics.median(x["per_cpu_s"] for x in r["floor"]), statistics.median(ratios),
            ", ".join("%.2f" % x for x in ratios),
            statistics.median(x["p99_ms"] for x in r["postern"]),
            statistics.median(x["p99_ms"] for x in r["floor"])))
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("recipes", nargs="*")
    args = p.parse_args()
    os.makedirs(RESULTS, exist_ok=True)
    rows = []
    for name, unit, load, durable in RECIPES:
        if args.recipes and name not in args.recipes:
            continue
        row = {"name": name, "unit": unit, "postern": [], "floor": []}
        for turn in range(args.rounds):
            for make in ((lambda: Floor(durable)), Gateway)[::1 if turn % 2 else -1]:
                server = make()
                try:
                    got = server.load(name, load, args.seconds)
                finally:
                    server.close()
                row[server.name].append(got)
                print("%-28s %-8s %9.0f/s  %5.2f CPU  %9.0f a CPU second  p99 %8.2f ms" % (
                    name, server.name, got["rate"], got["cpu_share"], got["per_cpu_s"],
                    got["p99_ms"]), flush=True)
        rows.append(row)
    text = ["# Results of make bench", "", machine() + ".", "",
            "Work a CPU second of the server; %d rounds of %g s, the servers in turns. The gateway "
            "accepts and stores (its next hop is down) and syncs before each 250; the floor writes "
            "and syncs in groups as well. How CPU time is counted: `tools/bench.py`." % (
                args.rounds, args.seconds), ""] + table(rows)
    with open(os.path.join(ROOT, "perf", "RESULTS.md"), "w") as f:
        f.write("\n".join(text) + "\n")
    print("\n" + "\n".join(table(rows)))


if __name__ == "__main__":
    sys.exit(main())
