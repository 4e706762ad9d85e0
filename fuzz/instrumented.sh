#!/bin/sh
# Cargo calls this in rustc's place for the crates of the workspace (RUSTC_WORKSPACE_WRAPPER), with rustc and its arguments. It adds the
# instrumentation that libFuzzer reads: counters of edges, a table of where they are, and both sides of comparisons. Build scripts
# and what they are linked with are programs of their own, without libFuzzer.
case " $* " in
*" --crate-name build_script_build "* | *" --crate-name kernel_build "*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
