//! Compiles the kernel side and puts the object where `probe` embeds it.

fn main() -> anyhow::Result<()> {
    kernel_build::build("probe-ebpf", "probe-ebpf")
}
