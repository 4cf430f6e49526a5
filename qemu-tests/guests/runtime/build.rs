//! Tells programs where the linker script is: they read `DEP_GUEST_RUNTIME_SCRIPT`.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/guest.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:script={script}");
}
