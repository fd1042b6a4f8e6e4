#!/bin/sh
# Needs clang (from 14 on) and libbpf's headers (Debian: clang libbpf-dev linux-libc-dev). The objects are committed: only who
# changes a program has to build.
set -eu
cd "$(dirname "$0")"
for source in *.bpf.c; do
  "${CLANG:-clang-19}" -target bpf -mcpu=v3 -g -O2 -Wall -Werror -Wno-missing-declarations \
    -idirafter "/usr/include/$(uname -m)-linux-gnu" -fdebug-prefix-map="$PWD=." -fdebug-compilation-dir=. \
    -c "$source" -o "${source%.c}.o"
done
