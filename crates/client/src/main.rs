//! `ftpclient`: parses the command line, handles Ctrl-C, runs the library, and exits.

mod args;

use std::process::ExitCode;

use log::LevelFilter;
use relais_client::Interrupt;

/// Exit status after Ctrl-C, as in shells.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let args = args::Args::read();
    let logging = relais_cli::init_logging(LevelFilter::Warn);
    let config = match logging.map_err(anyhow::Error::msg).and_then(|()| args.into_config()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ftpclient: {}", relais_cli::error_text(&error));
            return ExitCode::from(2);
        }
    };
    let interrupt = Interrupt::default();
    let handler = interrupt.clone();
    if let Err(error) = ctrlc::set_handler(move || {
        if handler.raise() {
            std::process::exit(INTERRUPTED);
        }
    }) {
        eprintln!("ftpclient: cannot handle Ctrl-C: {error}");
        return ExitCode::from(1);
    }
    ExitCode::from(relais_client::run(config, interrupt))
}
