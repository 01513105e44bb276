#!/usr/bin/env bash
# Installs the Debian packages that the tests drive for real: a browser, Redis, PostgreSQL, a TURN server,
# network tools and a CJK font for screenshots. Says what it does; does nothing when all are there.
# With the argument "bench": what only benchmarks need, the relay that ours is compared with.
set -euo pipefail
packages=(chromium redis-server postgresql coturn nftables iproute2 fonts-noto-cjk)
if [ "${1:-}" = bench ]; then packages=(janus iproute2); fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "Debian packages for the tests: all there"
  exit 0
fi
echo "Installing Debian packages for the tests: ${missing[*]}"
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  echo "(root is needed for that: using sudo)"
  sudo=(sudo)
fi
# The servers are started by the tests themselves, on free ports: none may start on its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod +x "$policy"
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "Installed."
