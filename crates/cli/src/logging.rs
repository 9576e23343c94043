//! The log on standard error.

use log::LevelFilter;

use crate::without_os_numbers;

/// The variable that chooses what is logged.
const VARIABLE: &str = "RUST_LOG";
/// What the names of our log targets, and of the libraries' that log, begin with.
const TARGETS: [&str; 3] = ["relais_", "ftp", "rustls"];

/// Starts logging to standard error, at `level` unless `RUST_LOG` says otherwise.
///
/// The numbers of system errors are left out of the lines.
///
/// # Errors
/// A message for the user if `RUST_LOG` is invalid. Nothing is logged then.
pub fn init(level: LevelFilter) -> Result<(), String> {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    if let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let value = value.to_string_lossy();
        check(&value).map_err(|why| {
            format!(
                "{VARIABLE}={value} is invalid: {why}; use error, warn, info, debug, trace or \
                 off, or name a part of the program, such as relais_net=debug"
            )
        })?;
        builder.parse_filters(&value);
    }
    let line = env_logger::fmt::ConfigurableFormat::default();
    builder.format(move |out, record| {
        let args = record.args().to_string();
        let text = without_os_numbers(&args);
        let mut plain = log::Record::builder();
        plain.metadata(record.metadata().clone());
        line.format(out, &plain.args(format_args!("{text}")).build())
    });
    builder.init();
    Ok(())
}

/// Checks a list of filters. A word that is neither a level nor a log target is an error, since
/// it would turn off everything else.
fn check(filters: &str) -> Result<(), String> {
    env_filter::Builder::new().try_parse(filters).map_err(|_| {
        // The library's text is about its own parser.
        "it is not a list of levels, or of parts and levels".to_owned()
    })?;
    let list = filters.split('/').next().unwrap_or_default();
    for filter in list.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
        let target = filter.split('=').next().unwrap_or_default();
        if target.parse::<LevelFilter>().is_err()
            && !TARGETS.iter().any(|known| target.starts_with(known))
        {
            return Err(format!("{target:?} is neither a level nor a part of the program"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_filters_are_errors() {
        for good in
            ["", "debug", "INFO", "off", "warn,relais_net=trace", "relais_net::tls", "rustls=off/x"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["verbose", "relais_net=loud", "a=b=c", "debug,x", "info/a/b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
