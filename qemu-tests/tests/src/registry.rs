//! How tests are found: by the runner in the ELF file, by this kernel in its memory, and by
//! nobody in a list kept by hand.

use crate::bench::Bench;
use crate::check::Outcome;

/// A test as this kernel finds it.
///
/// Aligned to its size, so that the records of a section lie beside each other.
#[repr(C, align(16))]
pub(crate) struct BootTest {
    name: &'static str,
    run: fn(&mut Bench) -> Outcome,
}

impl BootTest {
    /// For [`boot_test!`].
    pub(crate) const fn new(name: &'static str, run: fn(&mut Bench) -> Outcome) -> Self {
        Self { name, run }
    }

    /// The test of a name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        all().iter().find(|test| test.name == name)
    }

    /// Runs it.
    pub(crate) fn run(&self, bench: &mut Bench) -> Outcome {
        (self.run)(bench)
    }
}

fn all() -> &'static [BootTest] {
    unsafe extern "C" {
        static __boot_test_functions_start: [u8; 0];
        static __boot_test_functions_end: [u8; 0];
    }
    let start = (&raw const __boot_test_functions_start).cast::<BootTest>();
    let end = (&raw const __boot_test_functions_end).cast::<BootTest>();
    let count = end.addr().saturating_sub(start.addr()) / size_of::<BootTest>();
    // SAFETY: the linker script puts both symbols around the section that `boot_test!`
    // fills with `BootTest` values and nothing else.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// Registers a test: `boot_test!(name, key = "value", …);` above `fn name(bench: &mut Bench) ->
/// Outcome`.
///
/// | key | values | if left out |
/// |---|---|---|
/// | `modes` | of `legacy`, `second-stage`, `first-stage` | all |
/// | `qemu` | of `10.0.2`, `10.0`, `11.1` | `10.0 11.1` |
/// | `widths` | of `39`, `48`: address width of the unit | both |
/// | `caching` | of `off`, `on`: caching mode | both |
/// | `cpus` | numbers of CPUs | `1 2` |
/// | `unit` | more options of `-device intel-iommu`, or `none` for a machine without | |
/// | `cpu` | QEMU's CPU model | `max` |
/// | `clock` | `instructions`, `host` | `instructions` |
/// | `machine` | more arguments of QEMU; `@kernel` stands for the kernel's file | |
/// | `module` | `none`: no boot module | guest programs |
/// | `needs` | devices that QEMU must have | |
/// | `seconds` | time limit, real time | `20` |
/// | `matrix` | `once`: one machine is enough | the axes above |
/// | `exit` | exit status (`docs/wire.md`) | `ok` |
/// | `says` | part of the text of the `exit` line | |
/// | `provokes` | of `refused-dma`, `refused-at-once`, `foreign-interrupt`, `absent-interrupt`: what QEMU complains of is expected | nothing |
/// | `complains` | what QEMU must complain of, parts of lines, separated by `\|` | nothing |
/// | `append` | more words of the kernel's command line | |
/// | `dmar` | a canned DMAR, by its name in `runner/src/test/canned.rs` | the firmware's |
/// | `next` | `boot-tests`: the boot module holds this kernel as the next one | |
/// | `logs` | parts of log lines that must come in this order, separated by `\|` | |
/// | `shows`, `lacks` | events that QEMU's trace must hold, or must not | |
/// | `fails` | for tests of the runner: part of the problem that it must find | |
macro_rules! boot_test {
    ($name:ident $(, $key:ident = $value:literal)* $(,)?) => {
        const _: () = {
            $( $crate::registry::boot_test!(@known $key); )*
            const TEXT: &str = concat!(
                stringify!($name), "\n",
                $( stringify!($key), "=", $value, "\n", )*
                "\0",
            );
            #[used]
            #[unsafe(link_section = ".boot_tests")]
            static DESCRIPTOR: [u8; TEXT.len()] = match TEXT.as_bytes().first_chunk() {
                Some(bytes) => *bytes,
                None => [0; TEXT.len()],
            };
            #[used]
            #[unsafe(link_section = ".boot_test_functions")]
            static FUNCTION: $crate::registry::BootTest =
                $crate::registry::BootTest::new(stringify!($name), $name);
        };
    };
    (@known modes) => {};
    (@known qemu) => {};
    (@known widths) => {};
    (@known caching) => {};
    (@known cpus) => {};
    (@known unit) => {};
    (@known cpu) => {};
    (@known clock) => {};
    (@known machine) => {};
    (@known module) => {};
    (@known needs) => {};
    (@known seconds) => {};
    (@known matrix) => {};
    (@known exit) => {};
    (@known says) => {};
    (@known provokes) => {};
    (@known complains) => {};
    (@known fails) => {};
    (@known append) => {};
    (@known dmar) => {};
    (@known next) => {};
    (@known logs) => {};
    (@known shows) => {};
    (@known lacks) => {};
}
pub(crate) use boot_test;
