#!/usr/bin/env bash
# Downloads what the tests run against, once, so that they do not wait for the network.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$HERE/kafka-local.sh" fetch
"$HERE/registry-local.sh" fetch
"$HERE/helm-local.sh" fetch
