//! Does nothing itself: `cli` turns arguments into an exit code.

fn main() -> std::process::ExitCode {
    mmha::cli::main()
}
