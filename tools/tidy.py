"""make tidy: clang-format, include directions, sizes of files and functions."""
import os
import re
import subprocess
import sys

from lab import ROOT

FILE_LINES, FUNCTION_LINES = 600, 60

# folder -> what its files may include besides their own folder and base
MAY_INCLUDE = {
    "base": [],
    "dataplane/tcp": [],
    "dataplane/core": [],
    "dataplane/net": ["dataplane/core"],
    "tls": ["dataplane/tcp/stream.h"],
    "tls/signer": ["tls/signer_wire.h", "tls/signer.h", "tls/tls.h"],
    "smtp/spool": [],
    "smtp/auth": [],
    "smtp": ["tls/conn.h", "tls/tls.h", "dataplane/tcp/stream.h", "smtp/spool", "smtp/auth"],
    "smtp/relay": ["tls/conn.h", "tls/tls.h", "dataplane/tcp/stream.h", "smtp/spool"],
    "control/cli": ["control", "smtp/auth", "smtp/spool", "tls/ticket_file.h"],
    "control": ["dataplane", "tls", "smtp", "control"],
}
# system headers that only these folders may use
FOREIGN = {
    r"<rte_": ["dataplane/core", "dataplane/net"],
    r"<openssl/": ["tls", "tls/signer", "smtp/auth"],
    r"<libfyaml": ["control"],
    r"<microhttpd": ["control"],
    r"<jansson": ["control", "control/cli", "smtp/auth"],
    r"<argon2": ["smtp/auth"],
    r"<ldap": ["smtp/auth"],
    r"<curl/": ["smtp/auth"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"][^>"]+[>"])')
FUNCTION_START = re.compile(r"^[a-zA-Z_].*[^;]\s*$")


def sources():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"], cwd=ROOT,
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    return [n for n in out.splitlines() if os.path.exists(os.path.join(ROOT, n))]


def folder_of(name):
    return os.path.dirname(name)


def include_faults(name, lines):
    folder = folder_of(name)
    if folder not in MAY_INCLUDE:
        return
    for number, line in enumerate(lines, 1):
        m = INCLUDE.match(line)
        if not m:
            continue
        what = m.group(1)
        for pattern, allowed in FOREIGN.items():
            if re.match(pattern, what) and folder not in allowed:
                yield "%s:%d: %s belongs to %s" % (name, number, what, ", ".join(allowed))
        if what[0] != '"':
            continue
        target = what.strip('"')
        if not os.path.exists(os.path.join(ROOT, target)):
            yield "%s:%d: %s is not written from the root of the tree" % (name, number, what)
            continue
        near = [folder, "base"] + MAY_INCLUDE[folder]
        if folder_of(target) in near or target in near:
            continue
        if any(target.startswith(n + "/") for n in near if folder == "control"):
            continue
        yield "%s:%d: %s may not include %s" % (name, number, folder, what)


def size_faults(name, lines):
    if len(lines) > FILE_LINES:
        yield "%s: %d lines, %d are allowed" % (name, len(lines), FILE_LINES)
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{") and number > 1:
            start = number
        elif line.startswith("}") and start:
            if not line.startswith("};") and number - start - 1 > FUNCTION_LINES:
                yield "%s:%d: function of %d lines, %d are allowed" % (
                    name, start, number - start - 1, FUNCTION_LINES)
            start = None


def header_faults(name, lines):
    if not name.startswith("tests/") and lines and not lines[0].startswith("/*"):
        yield "%s:1: the first line does not say what the file is" % name


def format_faults(names):
    p = subprocess.run(["clang-format-14", "--dry-run", "--Werror"] + names, cwd=ROOT,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = set()
    for line in p.stdout.splitlines():
        m = re.match(r"^(\S+?):(\d+):", line)
        if m and m.group(1) not in seen:
            seen.add(m.group(1))
            yield "%s:%s: not formatted; run clang-format-14 -i %s" % (
                m.group(1), m.group(2), m.group(1))


def main():
    names = sources()
    faults = list(format_faults(names))
    for name in names:
        with open(os.path.join(ROOT, name), errors="replace") as f:
            lines = f.read().splitlines()
        for check in (include_faults, size_faults, header_faults):
            faults.extend(check(name, lines))
    for fault in faults:
        print(fault)
    print("tidy: %d files, %d faults" % (len(names), len(faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
