#!/bin/sh
# Measures this project on a GPU or TPU in less than ten minutes, the most valuable parts first:
#
#   OUT=measured PYTHON=.venv/bin/python sh benchmarks/device_run.sh
#   QUICK=--quick JAX_PLATFORMS=cpu OUT=/tmp/tried sh benchmarks/device_run.sh    # tiny sizes: does it run?
#
# $OUT/rows.jsonl gets a line after each measurement, and one for each part with its exit status and its time. A part
# that takes longer than its limit is ended (status 124), and the next one starts. A machine without a network needs
# the packages that `python -m benchmarks.device_packages` lists.
set -u
cd "$(dirname "$0")/.."
: "${OUT:?a folder for the results}" "${PYTHON:=python}" "${QUICK:=}" "${TOTAL:=580}"
mkdir -p "$OUT"
export XLA_PYTHON_CLIENT_PREALLOCATE=false JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$OUT/compiled}"
export PYTHONUNBUFFERED=1
START=$(date +%s)

part() {  # NAME, LIMIT in seconds, and the command's arguments
    NAME=$1 LIMIT=$2 BEGAN=$(date +%s)
    shift 2
    LEFT=$((START + TOTAL - BEGAN))
    [ "$LIMIT" -lt "$LEFT" ] || LIMIT=$LEFT
    STATUS=none
    if [ "$LIMIT" -ge 5 ]; then
        timeout -k 5 "$LIMIT" "$PYTHON" -m "$@" $QUICK --json >>"$OUT/rows.jsonl" 2>>"$OUT/$NAME.log"
        STATUS=$?
    fi
    echo "{\"part\": \"$NAME\", \"status\": \"$STATUS\", \"seconds\": $(($(date +%s) - BEGAN))}" | tee -a "$OUT/rows.jsonl"
}

with_flags() {  # FLAGS, and the arguments of `part`
    BEFORE=${XLA_FLAGS-} FLAGS=$1
    shift
    XLA_FLAGS="$BEFORE $FLAGS"
    export XLA_FLAGS
    part "$@"
    XLA_FLAGS=$BEFORE
}

part peak 40 benchmarks.timing
part step_16 150 benchmarks.device_parts --part step --images 16
part profile 60 benchmarks.device_parts --part profile --images 16
part prediction_8 80 benchmarks.device_parts --part prediction --images 8
part step_2 80 benchmarks.device_parts --part step --images 2
part torchvision 120 benchmarks.device_parts --part torchvision --images 16
part operations 60 benchmarks.device_parts --part operations --images 16
with_flags --xla_gpu_enable_latency_hiding_scheduler=true latency_hiding 60 benchmarks.device_parts --part step --images 2
with_flags --xla_gpu_triton_gemm_any=true triton 60 benchmarks.device_parts --part step --images 2
