//! Compiles the programs to compare with.

fn main() -> anyhow::Result<()> {
    kernel_build::build("yardsticks", "bench-ebpf")
}
