//! A quick try.
use differential::{Campaign, bench::Emulator};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let recent = args[1] == "11";
    let emulator = Emulator {
        program: if recent { "target/qemu/trixie-backports/qemu-system-x86_64" } else { "target/qemu/trixie/qemu-system-x86_64" }.into(),
        version: if recent { "11.1.3" } else { "10.0.13" }.into(),
        scalable_option: if recent { "scalable-mode" } else { "x-scalable-mode" }.into(),
        first_option: if recent { "fsts" } else { "x-flts" }.into(),
        has_tester: recent,
        is_recent: recent,
    };
    let from: u64 = args[3].parse().unwrap();
    let to: u64 = args[4].parse().unwrap();
    let campaign = Campaign { emulator: &emulator, seed: args[2].parse().unwrap(), cases: from..to, jobs: 2, home: format!("/tmp/differential-{}", args[1]).into() };
    let start = std::time::Instant::now();
    let (tally, findings) = campaign.run(|_| ()).unwrap();
    for f in &findings { println!("{f}"); }
    println!("{tally:?}\n{} short {:?}", start.elapsed().as_secs_f32(), tally.shortfalls(!recent));
}
