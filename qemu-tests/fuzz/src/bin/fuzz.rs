//! One target under libFuzzer: that which `FUZZ_TARGET` names.
//!
//! `cargo xtask fuzz` builds and starts it; libFuzzer owns `main` and its arguments, which
//! is why the name comes in the environment.

#![no_main]

use fuzz_targets::Target;
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    fuzz_targets::target(&name).expect("a target of that name")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
