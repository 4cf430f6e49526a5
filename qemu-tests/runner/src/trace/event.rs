//! Lines of the `log` trace backend: the event's name, then its text.

/// Name and text of an event of the remapping unit. A line may begin with a process id and
/// a time (`123@1.5:name text`), as `-msg timestamp=on` makes it.
pub(super) fn parse(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    let line = match line.split_once(':') {
        Some((prefix, rest)) if is_stamp(prefix) => rest,
        _ => line,
    };
    let (name, text) = line.split_once(' ').unwrap_or((line, ""));
    name.starts_with("vtd_").then_some((name, text))
}

fn is_stamp(prefix: &str) -> bool {
    prefix.contains('@')
        && prefix
            .chars()
            .all(|c| c.is_ascii_digit() || c == '@' || c == '.')
}

/// The type in `invalidate desc type p-iotlb high 0x… low 0x…`.
pub(super) fn descriptor_kind(text: &str) -> Option<&str> {
    text.strip_prefix("invalidate desc type ")?
        .split(' ')
        .next()
}

/// The number that follows a word, in hexadecimal with `0x`, else in decimal.
pub(super) fn number_after(text: &str, word: &str) -> Option<u64> {
    let mut words = text
        .split_whitespace()
        .skip_while(|&candidate| candidate != word);
    let value = words.nth(1)?;
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// Requester id and page of `IOTLB page update sid 0x… iova 0x… slpte 0x… domain 0x…`: bits
/// 51:12 of the entry.
pub(super) fn translation(text: &str) -> Option<(u16, u64)> {
    let source = number_after(text, "sid")?.try_into().ok()?;
    Some((source, number_after(text, "slpte")? & 0x000f_ffff_ffff_f000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamped_and_plain_lines_give_the_same_event() {
        for line in [
            "vtd_inv_qi_tail write tail 3",
            "17@1700000000.25:vtd_inv_qi_tail write tail 3\r",
        ] {
            assert_eq!(parse(line), Some(("vtd_inv_qi_tail", "write tail 3")));
        }
        assert_eq!(parse("vtd_fsts_clear_ip "), Some(("vtd_fsts_clear_ip", "")));
        assert_eq!(parse("pci_cfg_write a"), None);
    }

    #[test]
    fn a_translation_tells_whose_request_went_where() {
        let text = "IOTLB page update sid 0x30 iova 0xffffeb2bd0524000 slpte 0x80000000006a9067 domain 0x2";
        assert_eq!(translation(text), Some((0x30, 0x6a_9000)));
        assert_eq!(translation("IOTLB page update sid 0x30"), None);
    }

    #[test]
    fn numbers_are_read_in_both_bases() {
        assert_eq!(
            number_after("sid 0x20 fault 6 addr 0x9000 write 0", "sid"),
            Some(0x20)
        );
        assert_eq!(
            number_after("sid 0x20 fault 6 addr 0x9000 write 0", "fault"),
            Some(6)
        );
        assert_eq!(number_after("sid 0x20", "addr"), None);
        assert_eq!(number_after("sid", "sid"), None);
    }
}
