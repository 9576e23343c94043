//! What the three programs share: logging on standard error, error texts, option values.
//!
//! Used by the programs' `main` and `args` files only. Libraries log through `log` and return
//! typed errors.

mod errors;
mod logging;
mod number;
mod output;
mod size;
mod terminal;

pub use errors::{error_text, without_os_numbers};
pub use logging::init as init_logging;
pub use number::number_in;
pub use output::{print, unless_closed};
pub use size::parse as parse_size;
pub use terminal::stops_on_hangup;
