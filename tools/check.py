"""make check: runs every suite but those of make check-full, which are named on the command line;
prints each one's time beside its budget, and counts.

A suite is a list of commands that speak TAP.  A command that fails, crashes, runs out of time or
reports no test at all counts as a failure of its own.
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time

from lab import BUILD, ROOT

ASAN = os.path.join(ROOT, "build-asan")
ASAN_ENV = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1", "UBSAN_OPTIONS":
            "halt_on_error=1:print_stacktrace=1", "CMOCKA_MESSAGE_OUTPUT": "TAP"}
TAP = re.compile(r"^\s*(not ok|ok)\b\s*\d*\s*-?\s*(.*)$")


def unit_commands(build):
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", build], check=True,
                                      stdout=subprocess.PIPE, text=True).stdout)
    return [(t["name"], t["cmd"], t["timeout"], t["env"]) for t in tests]


def integration_commands(prefix="test_", timeout=240):
    directory = os.path.join(ROOT, "tests", "integration")
    return [(name[:-3], [sys.executable, os.path.join(directory, name)], timeout, {})
            for name in sorted(os.listdir(directory))
            if name.startswith(prefix) and name.endswith(".py")]


# name, commands, environment, processes at once, budget in seconds
def suites():
    yield "unit", unit_commands(BUILD), {"CMOCKA_MESSAGE_OUTPUT": "TAP"}, 2, 180
    yield "sanitizers", unit_commands(ASAN), ASAN_ENV, 2, 300
    yield "integration", integration_commands(), {}, 1, 420
    yield "demo", [("demo", [sys.executable, os.path.join(ROOT, "tools", "demo.py"), "--tap"],
                    120, {})], {}, 1, 60
    yield "scanners", integration_commands("scan_", 600), {}, 1, 180
    yield "backends", integration_commands("backend_servers", 240), {}, 1, 60
    yield "clients", integration_commands("client_", 600), {}, 1, 300


ONLY_WHEN_NAMED = {"scanners", "backends", "clients"}


def run(name, command, timeout, env):
    """Passed, failed, and what to show of a failure."""
    try:
        p = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout,
                           env=dict(os.environ, **env))
        output, status = p.stdout, p.returncode
    except subprocess.TimeoutExpired as e:
        output, status = (e.stdout or b"").decode("utf-8", "replace"), "over %d s" % timeout
    results = [m for m in map(TAP.match, output.splitlines()) if m]
    passed = sum(m.group(1) == "ok" for m in results)
    failed = len(results) - passed
    if status != 0 and failed == 0 or not results:
        failed += 1
    shown = ""
    if failed:
        shown = "---- %s: exit %s ----\n%s\n" % (name, status, output[-6000:])
    return passed, failed, shown


def main():
    chosen = sys.argv[1:]
    total_passed = total_failed = 0
    for suite, commands, env, at_once, budget in suites():
        if suite not in chosen and (chosen or suite in ONLY_WHEN_NAMED):
            continue
        began = time.monotonic()
        passed = failed = 0
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            jobs = [pool.submit(run, name, command, timeout, {**own, **env})
                    for name, command, timeout, own in commands]
            for job in jobs:
                p, f, shown = job.result()
                passed, failed = passed + p, failed + f
                print(shown, end="", flush=True)
        print("%-12s %4d passed %3d failed %6.1f s of %d s" %
              (suite, passed, failed, time.monotonic() - began, budget), flush=True)
        total_passed, total_failed = total_passed + passed, total_failed + failed
    print("%d passed, %d failed" % (total_passed, total_failed))
    return 1 if total_failed or not total_passed else 0


if __name__ == "__main__":
    sys.exit(main())
