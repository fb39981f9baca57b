#!/usr/bin/env bash
# glibc.sh NEWEST FILE...: the newest version of glibc that each program's symbols ask for; an error if that is newer than
# NEWEST (2.31 is Raspberry Pi OS bullseye's). Reads the ELF version tables by readelf, of any architecture.
set -euo pipefail
newest=$1
shift
status=0
for file in "$@"; do
    asked=$(readelf -V -W "$file" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1 || true)
    [ -n "$asked" ] || { echo "$file: names no version of glibc" >&2; exit 1; }
    if [ "$(printf '%s\n%s\n' "$asked" "$newest" | sort -V | tail -1)" = "$newest" ]; then
        echo "$file: glibc $asked or newer"
    else
        echo "$file: asks for glibc $asked, newer than $newest:" >&2
        readelf --dyn-syms -W "$file" | grep -F "@GLIBC_$asked" | awk '{ print "    " $8 }' >&2
        status=1
    fi
done
exit $status
