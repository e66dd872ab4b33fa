#!/bin/sh
# How the load of clients falls on 2 to 6 nodes: messages by gateway, their mean and spread, and the
# slots of the placement table. Writes scale.csv and scale.svg into the folder given, or this one.
# Needs logctl and logd in PATH or in target/release; every cluster is its own and is gone afterwards.
set -eu
out=${1:-.}
messages=${MESSAGES:-240}
here=$(cd "$(dirname "$0")/.." && pwd)
PATH=${CARGO_TARGET_DIR:-$here/target}/release:$PATH
work=$(mktemp -d)
export LOGCTL_HOME="$work/home" LOGCTL_QUIET=1 LOGCTL_OUTPUT=plain
unset LOGCTL_CONTEXT LOGCTL_VIA LOGCTL_SPREAD || true
trap 'logctl dev down --dir "$work/dev" --purge >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

mkdir -p "$out"
csv="$out/scale.csv"
echo "nodes,node,messages,mean,max_over_mean,slots,slots_max_over_mean" >"$csv"
for n in 2 3 4 5 6; do
    logctl dev up --nodes "$n" --fresh --dir "$work/dev" >/dev/null
    logctl --as dev --spread rr send --to admin --repeat "$messages" "a message" >/dev/null
    logctl --as dev chart distribution --csv >"$work/$n.csv"
    logctl dev down --dir "$work/dev" --purge >/dev/null
    awk -F, -v n="$n" '
        NR > 1 { name[NR] = $1; sent[NR] = $2; slots[NR] = $4; all += $2; total += $4
                 if ($2 > most) most = $2; if ($4 > widest) widest = $4; rows++ }
        END {
            for (i = 2; i <= rows + 1; i++)
                printf "%d,%s,%d,%.3f,%.4f,%d,%.4f\n", n, name[i], sent[i], all / rows,
                    most * rows / all, slots[i], widest * rows / total
        }' "$work/$n.csv" >>"$csv"
done
awk -F, 'NR > 1 && !seen[$1]++ { print $1 " nodes, mean of each," $4 }' "$csv" |
    sed 's/, mean of each,/: mean of each node,/' |
    logctl chart bars --title "Messages of $messages that each node takes" --svg "$out/scale.svg"
cat "$csv"
