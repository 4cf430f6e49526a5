//! Addresses in the kernel's last words, as functions and source lines.

use std::path::Path;

use addr2line::Loader;

/// Where the kernel is linked (`linker.ld`); what lies lower is no code of its own.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// The word before the addresses of a backtrace.
const BACKTRACE: &str = "backtrace";

/// A line for each address of a text that lies in a function: `ADDRESS FUNCTION (FILE:LINE)`,
/// those of a recursion once. Nothing where the image cannot be read: the addresses stand in
/// the text anyway.
pub(crate) fn explain(root: &Path, image: &Path, text: &str) -> Vec<String> {
    let Ok(loader) = Loader::new(image) else {
        return Vec::new();
    };
    // What follows is where each function returns to, which is behind the call.
    let (at, returns) = text.split_once(BACKTRACE).unwrap_or((text, ""));
    let places = addresses(at)
        .map(|address| (address, address))
        .chain(addresses(returns).map(|address| (address, address - 1)))
        .filter_map(|(shown, inside)| {
            Some(format!("{shown:#x} {}", place(&loader, root, inside)?))
        });
    repeated_once(places)
}

fn place(loader: &Loader, root: &Path, address: u64) -> Option<String> {
    let frame = loader.find_frames(address).ok()?.next().ok()??;
    let function = frame.function?.demangle().ok()?.into_owned();
    let line = loader
        .find_location(address)
        .ok()
        .flatten()
        .and_then(|location| {
            let file = Path::new(location.file?);
            let file = file.strip_prefix(root).unwrap_or(file);
            Some(format!(" ({}:{})", file.display(), location.line?))
        });
    Some(function + &line.unwrap_or_default())
}

/// Equal neighbours become one line that tells how many there were.
fn repeated_once(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match counted.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => counted.push((line, 1)),
        }
    }
    counted
        .into_iter()
        .map(|(line, count)| match count {
            1 => line,
            _ => format!("{line}, {count} times"),
        })
        .collect()
}

fn addresses(text: &str) -> impl Iterator<Item = u64> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .filter(|&address| address >= IMAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_image_are_taken() {
        let text = "page fault at 0xffffffff80102172, address 0x10, rsp 0x7; backtrace 0xffffffff8010218c 0x10019e";
        let found: Vec<u64> = addresses(text).collect();
        assert_eq!(found, [0xffff_ffff_8010_2172, 0xffff_ffff_8010_218c]);
    }

    #[test]
    fn a_recursion_is_told_once() {
        let lines = ["a", "b", "b", "b", "a"].map(str::to_owned);
        assert_eq!(repeated_once(lines.into_iter()), ["a", "b, 3 times", "a"]);
    }

    #[test]
    fn an_image_that_is_not_there_explains_nothing() {
        let lines = explain(
            Path::new("/"),
            Path::new("/nonexistent"),
            "0xffffffff80102172",
        );
        assert_eq!(lines, [""; 0]);
    }
}
