//! Sets up the log: levels from `RUST_LOG`, to standard error, a file or syslog; the only file that names env_logger.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use log::{Level, Record};
use parking_lot::Mutex;

/// Where log lines go.
#[derive(Debug)]
pub enum Destination {
    /// Standard error, for commands in the foreground.
    Stderr,
    /// A file, appended to.
    File(File),
    /// The system log, one datagram a line.
    Syslog(UnixDatagram),
    /// Nowhere.
    Nothing,
}

/// Where lines go now; held only while one line is written.
static DESTINATION: Mutex<Destination> = Mutex::new(Destination::Stderr);

const SYSLOG_SOCKET: &str = "/dev/log";

impl Destination {
    /// Opens a log file for appending and makes it where it is not there.
    ///
    /// # Errors
    /// As opening the file.
    pub fn file(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self::File)
    }

    /// The system log if there is one, else nothing.
    #[must_use]
    pub fn system() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG_SOCKET).map(|()| socket));
        socket.map_or(Self::Nothing, Self::Syslog)
    }
}

/// Levels where `RUST_LOG` says nothing: what went wrong, and when mounts came and went. An answer that the kernel no longer
/// waits for (a reader was killed) is an error to fuser and to nobody else.
const LEVELS: &str = "warn,vaultfs::mount=info,fuser::reply=off";

/// Starts logging to standard error; a second call changes nothing.
pub fn start() {
    let settings = env_logger::Env::default().default_filter_or(LEVELS);
    let started = env_logger::Builder::from_env(settings)
        .format(|out, record| out.write_all(line(&DESTINATION.lock(), record).as_bytes()))
        .target(env_logger::Target::Pipe(Box::new(Switch)))
        .try_init();
    // Fails only when a logger is there already, which is as good.
    drop(started);
}

/// Sends all further lines elsewhere.
pub fn redirect(to: Destination) {
    *DESTINATION.lock() = to;
}

/// Logs panics as errors, so that a background mount does not lose them.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// One log line in the manner of its destination; a line break in a message never makes a second line.
fn line(destination: &Destination, record: &Record<'_>) -> String {
    let message = record.args().to_string().replace('\n', " | ");
    match destination {
        // RFC 3164 with facility daemon (3); the system adds the time.
        Destination::Syslog(_) => format!(
            "<{}>vaultfs[{}]: {message}\n",
            24 + severity(record.level()),
            std::process::id()
        ),
        Destination::File(_) => format!(
            "{} {:5} {}: {message}\n",
            crate::clock::rfc3339(now()),
            record.level(),
            record.target()
        ),
        Destination::Stderr | Destination::Nothing => {
            format!("vaultfs: {}: {message}\n", record.level().as_str().to_ascii_lowercase())
        }
    }
}

fn now() -> i64 {
    use crate::clock::Clock;
    crate::clock::System.now()
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Writes to whatever the destination is at that moment; a line that cannot be written is lost.
struct Switch;

impl Write for Switch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *DESTINATION.lock() {
            Destination::Stderr => io::stderr().write_all(bytes)?,
            Destination::File(file) => file.write_all(bytes)?,
            Destination::Syslog(socket) => {
                socket.send(bytes.strip_suffix(b"\n").unwrap_or(bytes))?;
            }
            Destination::Nothing => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syslog_lines_carry_facility_and_severity_and_stay_one() {
        let (socket, _) = UnixDatagram::pair().unwrap();
        let args = format_args!("a\nb");
        let record = Record::builder().level(Level::Warn).args(args).build();
        let text = line(&Destination::Syslog(socket), &record);
        assert_eq!(text, format!("<28>vaultfs[{}]: a | b\n", std::process::id()));
    }
}
