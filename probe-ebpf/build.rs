//! Rebuilds the programs when the linker changes, which cargo knows nothing of.

fn main() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(linker) =
        std::env::split_paths(&path).map(|dir| dir.join("bpf-linker")).find(|file| file.is_file())
    {
        println!("cargo:rerun-if-changed={}", linker.display());
    }
}
