#!/bin/bash
# Unpacks the mail and directory servers that check-full tests against into build/servers: as files
# only, so that none is installed, started or enabled on this machine.
set -eu
cd "$(dirname "$0")/.."
to=build/servers
[ -x $to/usr/sbin/slapd ] && [ -x $to/usr/sbin/dovecot ] && exit 0
rm -rf $to.part
mkdir -p $to.part
cd $to.part
apt-get -q download dovecot-core slapd >/dev/null
for package in *.deb; do
    dpkg-deb -x "$package" .
    rm "$package"
done
cd - >/dev/null
rm -rf $to
mv $to.part $to
