//! Names the linker scripts of the image: those of the kernel.

fn main() {
    let bare_metal = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    if bare_metal {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../linker.ld");
        println!("cargo:rerun-if-changed={script}");
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
}
