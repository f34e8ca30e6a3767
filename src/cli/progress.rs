//! Progress on a terminal: bytes, rate and time left. The one file that names indicatif.

use super::output::{printable, say};
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
        let known = Some(total).filter(|total| *total > 0);
        let bar = ProgressBar::with_draw_target(known, ProgressDrawTarget::stderr());
        bar.set_style(style(total));
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

    fn fail(&self, message: &str) {
        let failure = || say(&format!("error: {}", printable(message)));
        match self.current() {
            Some(bar) => bar.suspend(failure),
            None => failure(),
        }
    }

    fn count(&self, text: &str) {
        if let Some(bar) = self.current() {
            bar.set_message(text.to_owned());
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

const KNOWN: &str = "{prefix}  {wide_bar} {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left";
const UNKNOWN: &str = "{prefix}  {spinner} {bytes}  {msg}  {binary_bytes_per_sec}";

/// The form of the bar; indicatif's own if the template were ever wrong.
fn style(total: u64) -> ProgressStyle {
    let template = if total == 0 { UNKNOWN } else { KNOWN };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
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
    fn fail(&self, message: &str) {
        say(&format!("error: {}", printable(message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [KNOWN, UNKNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
