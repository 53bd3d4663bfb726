#!/usr/bin/env bash
# Where the time of the process goes, as text: runs the benchmark's job (20,000 accounts, a catch-up and 2,000 events a second) with perf at
# its side and writes benches/results/profile.txt. To be read beside a run of `make bench`: under perf everything is a little slower.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
bin=${1:?"usage: profile.sh DIRECTORY-OF-RELEASE-BINARIES"}
command -v perf > /dev/null || { echo "profile: perf is missing; install it (Debian: apt-get install linux-perf)" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The benchmark starts this in place of the binary: perf watches the process that it becomes, the first (the catch-up) from its start, the third (at a
# fixed rate, once it has caught up: it takes less than half a core for two seconds) for twelve seconds.
cat > "$scratch/bellwether" << EOF
#!/usr/bin/env bash
watch() { perf record --quiet --freq 499 --call-graph dwarf,16384 --pid \$\$ --output "$scratch/\$1.data" "\${@:2}" 2> "$scratch/perf.log"; }
ticks() { awk '{ print \$14 + \$15 }' /proc/\$\$/stat; }
caught_up() {
  local before quiet=0
  sleep 3
  while (( quiet < 2 )); do
    before=\$(ticks); sleep 1
    if (( \$(ticks) - before < $(getconf CLK_TCK) / 2 )); then quiet=\$((quiet + 1)); else quiet=0; fi
  done
}
if [ "\$1" = run ]; then
  echo >> "$scratch/starts"
  case \$(wc -l < "$scratch/starts") in
    1) watch catch-up & sleep 0.5 ;;
    3) { caught_up; watch paced -- sleep 12; } & ;;
  esac
fi
exec "$bin/bellwether" "\$@"
EOF
chmod +x "$scratch/bellwether"
"$bin/bench" --bellwether "$scratch/bellwether" --accounts 20000 --repeats 1 --rates 2000 --seconds 30 \
  --work "$scratch/work" --json "$scratch/bench.json" > "$scratch/bench.log" 2>&1 || { cat "$scratch/bench.log" >&2; exit 1; }

report() {
  printf '\n## %s\n\n' "$1"
  printf '%%, with what it calls | %%, alone | function\n'
  perf report --input "$scratch/$2.data" --no-inline --children --call-graph none --sort symbol 2> /dev/null \
    | sed -n 's/^ *\([0-9.]*\)% *\([0-9.]*\)% *\[\(.\)\] /\1 | \2 | \3 /p' \
    | sed -E 's/ +(- +-)? *$//; s/(.{150}).*/\1…/' | sed -n "1,$3p"
  printf '\n%% | thread\n'
  perf report --input "$scratch/$2.data" --no-inline --no-children --call-graph none --sort comm 2> /dev/null \
    | sed -n 's/^ *\([0-9.]*\)% *\(.*[^ ]\) *$/\1 | \2/p' | sed -n 1,8p
}
{
  echo "# Where the time of the process goes: $(nproc) cores, perf at 499 Hz, call stacks from DWARF (. is user space, k the kernel)"
  report "Catch-up of 2,000,000 events of 20,000 accounts" catch-up 70
  report "2,000 events a second" paced 60
} > "$here/results/profile.txt"
echo "profile: $here/results/profile.txt"
