//! Widens the kernel's read-ahead window of one mount, which FUSE itself caps at 128 KiB.

use super::mountinfo::Device;

/// Read-ahead window where nothing else is asked: eight requests of the largest size, so that several are under way at once.
pub(super) const DEFAULT_BYTES: u64 = 8 << 20;

/// Sets the window of the file system on `device`; files opened from now on use it.
///
/// # Errors
/// As writing to sysfs: only root may, and a container may have sysfs read-only.
pub(super) fn widen(device: Device, bytes: u64) -> std::io::Result<()> {
    std::fs::write(
        format!("/sys/class/bdi/{device}/read_ahead_kb"),
        (bytes >> 10).to_string(),
    )
}
