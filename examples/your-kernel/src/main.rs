//! The kernel on the host: its memory is a piece of this program's, and behind its unit's
//! registers is the hardware model, with a network card that does DMA.
//!
//! `cargo run --manifest-path examples/Cargo.toml -p your-kernel`

#[cfg(not(target_os = "none"))]
mod machine;

#[cfg(not(target_os = "none"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    machine::run()
}

// The library is what a machine without an operating system needs.
#[cfg(target_os = "none")]
compile_error!("build the library alone: cargo check --lib --target x86_64-unknown-none");
