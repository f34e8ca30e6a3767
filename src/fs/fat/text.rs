//! Names: UTF-16 and code page 437 as UTF-8, and names that differ in case only as one. Shared by FAT and exFAT.

/// The upper half of code page 437, the code page that Linux assumes for 8.3 names.
const UPPER_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The character that a byte means in code page 437.
pub(crate) fn from_437(byte: u8) -> char {
    let upper = byte.checked_sub(0x80).map(usize::from);
    upper
        .and_then(|place| UPPER_437.chars().nth(place))
        .unwrap_or(char::from(byte & 0x7f))
}

/// The small letter of a character of code page 437, if the code page has it.
pub(crate) fn lower_437(letter: char) -> char {
    let lower = single(letter.to_lowercase(), letter);
    if lower.is_ascii() || UPPER_437.contains(lower) {
        lower
    } else {
        letter
    }
}

/// Decodes UTF-16 to UTF-8 in a way that no two names become one.
///
/// A surrogate without its other half has no form in UTF-8: it becomes `:` and four hexadecimal digits, `:d83d`, as Linux spells what it
/// cannot convert. A `:` itself, which no sound name holds, becomes `:003a`.
pub(crate) fn from_utf16(units: impl Iterator<Item = u16>) -> String {
    let mut name = String::new();
    let escape = |name: &mut String, unit: u16| {
        name.push(':');
        for shift in [12, 8, 4, 0] {
            name.extend(char::from_digit(u32::from(unit >> shift & 15), 16));
        }
    };
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(':') => escape(&mut name, 0x3a),
            Ok(letter) => name.push(letter),
            Err(lone) => escape(&mut name, lone.unpaired_surrogate()),
        }
    }
    name
}

/// The capital letter of a character, where it is one character: how FAT names are compared.
pub(crate) fn upper(letter: char) -> char {
    single(letter.to_uppercase(), letter)
}

fn single(mut letters: impl Iterator<Item = char>, otherwise: char) -> char {
    match (letters.next(), letters.next()) {
        (Some(letter), None) => letter,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_page_has_256_characters() {
        assert_eq!(UPPER_437.chars().count(), 128);
        assert_eq!((from_437(b'A'), from_437(0x80), from_437(0xe1)), ('A', 'Ç', 'ß'));
        assert_eq!(from_437(0xff), '\u{a0}');
    }

    #[test]
    fn letters_without_a_small_one_in_the_code_page_stay() {
        assert_eq!([lower_437('Ç'), lower_437('Σ'), lower_437('Γ')], ['ç', 'σ', 'Γ']);
    }

    #[test]
    fn unpaired_surrogates_and_colons_are_told_apart() {
        let text = |units: &[u16]| from_utf16(units.iter().copied());
        assert_eq!(text(&[0xd83d, 0xde00]), "😀");
        assert_eq!(text(&[0xd83d]), ":d83d");
        assert_eq!(text(&[0xde00, 0x41]), ":de00A");
        assert_eq!(text(&":d83d".encode_utf16().collect::<Vec<_>>()), ":003ad83d");
    }
}
