//! `ftpclient`: reads the command line, arranges for Ctrl-C, runs the library, ends with its status.

mod args;

use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;
use relais_client::Interrupt;

/// Status after Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let args = args::Args::parse();
    env_logger::Builder::new().filter_level(LevelFilter::Warn).parse_default_env().init();
    let config = match args.into_config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ftpclient: {error:#}");
            return ExitCode::from(2);
        }
    };
    let interrupt = Interrupt::new();
    let handler = interrupt.clone();
    if let Err(error) = ctrlc::set_handler(move || {
        if handler.raise() {
            std::process::exit(INTERRUPTED);
        }
    }) {
        eprintln!("ftpclient: Ctrl-C cannot be handled: {error}");
        return ExitCode::from(1);
    }
    ExitCode::from(relais_client::run(config, interrupt))
}
