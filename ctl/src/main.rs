//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    ctl::run(std::env::args_os())
}
