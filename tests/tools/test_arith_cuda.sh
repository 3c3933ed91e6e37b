#!/bin/sh
# SPDX-License-Identifier: MIT
# --arith=cuda against what llm-compressor's own GPU kernels give (tests/data/cuda_goldens, made in Triton's interpreter):
# model.safetensors equal as a file. Where the two dialects differ at all, the CPU's file must be another one.
. "$(dirname "$0")/tap.sh"

# sum_of OPTION...: SHA-256 of the weights that qc-opt writes.
sum_of() {
    rm -rf "$work/checkpoint"
    run 0 "$QC_BIN/qc-opt" "$@" -o "$work/checkpoint" && sha256sum <"$work/checkpoint/model.safetensors" | cut -d' ' -f1
}

while read -r sum name; do
    case $name in
    grid.*) source=$QC_SOURCE_ROOT/tests/data/small_models/grid recipe=$QC_SOURCE_ROOT/tests/data/format_goldens/$name/recipe.in.yaml ;;
    *) source=$model recipe=$QC_SOURCE_ROOT/tests/data/cuda_goldens/$name.yaml ;;
    esac
    got_sum=$(sum_of --recipe="$recipe" --arith=cuda "$source")
    if [ "$got_sum" != "$sum" ]; then
        not_ok "$name" "another file: ${got_sum:-none}" "$(head -n 3 "$work/err")"
        continue
    fi
    case $name in
    *fp8_dynamic | *w8a8* | *w4a16_g32*)
        if [ "$(sum_of --recipe="$recipe" "$source")" = "$sum" ]; then
            not_ok "$name" "the CPU's dialect gives the same file, so this shows nothing"
            continue
        fi
        ;;
    esac
    ok "$name"
done <"$QC_SOURCE_ROOT/tests/data/cuda_goldens/sha256sums"
finish
