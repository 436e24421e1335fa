#!/bin/bash
# Installs what building, demo and tests need: Debian packages, only those that are missing.
# With the word full: also what make check-full adds.
set -eu

packages="
    build-essential pkg-config meson ninja-build
    dpdk-dev libssl-dev libjemalloc-dev libfyaml-dev libmicrohttpd-dev libjansson-dev
    libargon2-dev libc-ares-dev libcmocka-dev
    clang-14 clang-format-14 libclang-rt-14-dev
    python3 python3-aiosmtpd python3-yaml
    iproute2 ethtool procps openssl swaks curl msmtp
    libnet-ssleay-perl libauthen-sasl-perl libio-socket-ssl-perl libio-socket-inet6-perl
"
[ "${1:-}" != full ] || packages="$packages sslscan testssl.sh mutt s-nail libsasl2-modules
    git-email libmailtools-perl libemail-valid-perl
    libdb5.3 libevent-2.1-7 libgnutls-dane0 libicu72 libidn12 libnsl2 libpcre2-8-0 libsasl2-2"
# where there is no npm yet
[ "${1:-}" != full ] || command -v npm >/dev/null || packages="$packages nodejs npm"
missing=""
for p in $packages; do
    status=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "these Debian packages are missing, and only root can install them:" >&2
    echo " $missing" >&2
    echo "run as root:  apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "the packages could not be installed; the whole log: $log" >&2
    exit 1
fi
rm -f "$log"
