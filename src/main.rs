//! The `vaultfs` command; as `mount.vaultfs` the helper of mount(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    vaultfs::cli::main(std::env::args_os())
}
