//! Names of files that are not complete yet, the same wherever the program writes: `.NAME.vaultfs-XXXXXXXX.partial`.

use super::{fill_random, hex};

/// Longest file name on Linux file systems.
pub const NAME_MAX: usize = 255;

/// A random name beside `name`, which is shortened where it would be too long; what a killed run leaves under it may be deleted.
///
/// # Errors
/// As `getrandom(2)` reports.
pub fn temporary_name(name: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut random = [0; 4];
    fill_random(&mut random)?;
    let tail = format!(".vaultfs-{}.partial", hex(&random));
    let room = NAME_MAX.saturating_sub(tail.len()).saturating_sub(1);
    let mut bytes = vec![b'.'];
    bytes.extend(name.iter().take(room));
    bytes.extend(tail.as_bytes());
    Ok(bytes)
}
