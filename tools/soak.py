"""make soak SEEDS=n: n seeded connections in virtual time, and the spool's crashes in proportion;
once 200 messages of 50 MB through a link of 1 Mb/s.

The seeds of the TCP simulator are spread over its conditions and over all cores; every seed is a
new one (the first is drawn from the clock and printed), and a failing seed prints how to replay it.
"""
import os
import re
import subprocess
import sys
import time

from lab import BUILD

SIM = os.path.join(BUILD, "tests", "sim", "test_tcp_sim")
SPOOL = os.path.join(BUILD, "tests", "test_spool_crash")
SLOW = os.path.join(BUILD, "tests", "test_relay_slow")
SPOOL_SEEDS = 750  # of one run


def main():
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    with open(os.path.join(os.path.dirname(BUILD), "tests", "sim", "test_tcp_sim.c")) as f:
        conditions = len(re.findall(r"^CONDITION_TEST\(", f.read(), re.M))
    cores = os.cpu_count() or 1
    each = max(1, seeds // conditions // cores)
    first = int(time.time()) % 1000000 * 1000
    print("%d conditions x %d seeds x %d processes, the first seed is %d" %
          (conditions, each, cores, first), flush=True)
    began = time.monotonic()
    jobs = [subprocess.Popen([SIM], env=dict(os.environ, TCP_SIM_SEEDS=str(each),
                                             TCP_SIM_FIRST=str(first + i * each)),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for i in range(cores)]
    jobs.append(subprocess.Popen([SPOOL], env=dict(os.environ, SPOOL_SOAK=str(
        max(1, seeds // 20 // SPOOL_SEEDS))), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True))
    jobs.append(subprocess.Popen([SLOW], env=dict(os.environ, RELAY_SLOW_MESSAGES="200"),
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    passed = failed = 0
    for job in jobs:
        output, _ = job.communicate()
        good = len(re.findall(r"^\[       OK \]|^ok ", output, re.M))
        bad = len(re.findall(r"^\[  FAILED  \] \w+$|^not ok ", output, re.M))
        if job.returncode != 0:
            bad = max(bad, 1)
            print(output[-5000:])
        passed, failed = passed + good, failed + bad
    print("%.0f s" % (time.monotonic() - began))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
