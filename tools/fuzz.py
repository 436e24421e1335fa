"""make fuzz: every target of tests/fuzz for its share of SECONDS; a finding fails.

New inputs are kept in build-fuzz/corpus, what breaks a target in build-fuzz/findings.
"""
import os
import subprocess
import sys

from lab import ROOT

BUILD = os.path.join(ROOT, "build-fuzz")
SEEDS = os.path.join(ROOT, "tests", "fuzz", "corpus")
WORDS = os.path.join(ROOT, "tests", "fuzz", "dictionary")
SLACK = 120  # seconds that a target may overrun: the corpus is read first, a slow input is waited for
ENV = {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


def targets():
    folder = os.path.join(BUILD, "tests", "fuzz")
    return sorted(n[5:] for n in os.listdir(folder)
                  if n.startswith("fuzz_") and os.path.isfile(os.path.join(folder, n)))


def fuzz(name, seconds):
    """The exit status and the last lines of the log."""
    corpus = os.path.join(BUILD, "corpus", name)
    findings = os.path.join(BUILD, "findings", "")
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(findings, exist_ok=True)
    command = [os.path.join(BUILD, "tests", "fuzz", "fuzz_" + name), "-max_total_time=%d" % seconds,
               "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1",
               "-artifact_prefix=" + findings + name + "-", corpus, os.path.join(SEEDS, name)]
    words = os.path.join(WORDS, name + ".dict")
    if os.path.exists(words):
        command.insert(1, "-dict=" + words)
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace",
                           timeout=seconds + SLACK, env=dict(os.environ, **ENV))
    except subprocess.TimeoutExpired:
        return 1, "did not end in time"
    return p.returncode, "\n".join(p.stdout.splitlines()[-40:])


def executions(log):
    for line in log.splitlines():
        if line.startswith("stat::number_of_executed_units:"):
            return int(line.split()[1])
    return 0


def main():
    names = targets()
    seconds = max(2, int(sys.argv[1]) // max(1, len(names)))
    bad = len(names) == 0
    for name in names:
        status, log = fuzz(name, seconds)
        if status != 0:
            bad = True
            print("%-14s FINDING\n%s" % (name, log))
        else:
            print("%-14s %9d inputs in %d s" % (name, executions(log), seconds), flush=True)
    return 1 if bad else 0


sys.exit(main())
