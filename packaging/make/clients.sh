#!/bin/sh
# Names the Debian packages of the clients that `make test-clients` needs and that are missing.
# With --list it prints all of them: clients.sh [--list]

set -u
# davfs2 is where the administrator's programs are.
PATH="$PATH:/usr/sbin"

packages='curl lftp tnftp ncftp wget wget2 aria2 prometheus rclone haproxy python3 python3-aioftp
    chromium chromium-driver litmus cadaver davfs2'
if [ "${1-}" = --list ]; then
    echo "$packages"
    exit 0
fi
missing=
for pair in curl:curl lftp:lftp tnftp:tnftp ncftpget:ncftp wget:wget wget2:wget2 aria2c:aria2 promtool:prometheus rclone:rclone \
    haproxy:haproxy chromium:chromium chromedriver:chromium-driver litmus:litmus cadaver:cadaver \
    mount.davfs:davfs2; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
/usr/bin/python3 -c 'import aioftp' 2>/dev/null || missing="$missing python3 python3-aioftp"
if [ -n "$missing" ]; then
    echo "make test-clients needs these Debian packages; install them with:" >&2
    echo "    apt-get install$missing" >&2
    exit 1
fi
