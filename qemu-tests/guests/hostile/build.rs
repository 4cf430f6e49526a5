//! Links the program as a guest's image.

fn main() {
    if let Ok(script) = std::env::var("DEP_GUEST_RUNTIME_SCRIPT") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
}
