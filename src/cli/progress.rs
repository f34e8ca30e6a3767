//! Progress on a terminal: bytes, rate and time left. The one file that names indicatif.

use super::output::say;
use crate::monitor::Monitor;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::time::Duration;

/// Shows the current phase as a bar on standard error; one phase at a time.
#[derive(Debug, Default)]
pub(super) struct Bar {
    /// The bar of the running phase; held only to swap or clone the handle.
    current: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn current(&self) -> Option<ProgressBar> {
        self.current.lock().clone()
    }
}

impl Monitor for Bar {
    fn begin(&self, phase: &str, total: u64) {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        bar.set_style(style());
        bar.set_prefix(phase.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Some(old) = self.current.lock().replace(bar) {
            old.finish();
        }
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.current() {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.current.lock().take() {
            bar.finish();
        }
    }

    fn warn(&self, message: &str) {
        let warning = || say(&format!("warning: {message}"));
        match self.current() {
            Some(bar) => bar.suspend(warning),
            None => warning(),
        }
    }
}

impl Drop for Bar {
    /// Leaves the last line as it stands, so that an error message starts on a line of its own.
    fn drop(&mut self) {
        if let Some(bar) = self.current.lock().take() {
            bar.abandon();
        }
    }
}

/// The form of the bar; indicatif's own if the template were ever wrong.
fn style() -> ProgressStyle {
    const TEMPLATE: &str = "{prefix}  {wide_bar} {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left";
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows warnings and no progress: for scripts and for `--quiet`.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct WarningsOnly;

impl Monitor for WarningsOnly {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
    fn warn(&self, message: &str) {
        say(&format!("warning: {message}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        assert!(
            ProgressStyle::with_template(
                "{prefix}  {wide_bar} {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left"
            )
            .is_ok()
        );
    }
}
