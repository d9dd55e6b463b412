//! Folder names as keys of tasks.

/// Keys have at most 128 bytes; what is longer than this is cut and numbered.
const ENCODED_BYTES_MAX: usize = 100;

/// The key for the folder `name`, number `index` among its siblings: unlike that of any sibling.
///
/// Letters, digits, dots and hyphens stand for themselves, `__` for an underscore, `_` and two hex digits for any other byte. A long
/// name is cut, and ends in `_-` and its number, which no other key contains.
pub(crate) fn of(name: &str, index: usize) -> String {
    let mut key = String::new();
    for byte in name.bytes() {
        if key.len() > ENCODED_BYTES_MAX {
            return format!("{key}_-{index}");
        }
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => key.push(byte.into()),
            b'_' => key.push_str("__"),
            _ => key.push_str(&format!("_{byte:02x}")),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn plain_names_stand_for_themselves() {
        assert_eq!(of("guest-sdk.v2", 0), "guest-sdk.v2");
        assert_eq!(of("a_b c", 0), "a__b_20c");
        assert_eq!(of("é", 0), "_c3_a9");
    }

    #[test]
    fn no_two_siblings_share_a_key_and_every_key_is_sound() {
        let long = "x".repeat(120);
        let underscores = "_".repeat(255);
        let names = ["a_b", "a__b", "a b", "a_20b", "_", "__", "_-1", "-1", &long, &format!("{long}y"), &underscores, &underscores[1..]];
        let keys: BTreeSet<String> = names.iter().enumerate().map(|(index, name)| of(name, index)).collect();
        assert_eq!(keys.len(), names.len());
        for key in keys {
            assert!((1..=128).contains(&key.len()), "{key}");
            assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{key}");
        }
    }
}
