//! An event as the page, its stream and its JSON show it.

use log::Level;
use relais_proto::{FileTime, sanitize};
use relais_web::page::{Html, format};
use serde::Serialize;

use crate::events::Event;

/// An event as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct EventItem {
    /// As in RFC 3339, in UTC.
    pub time: String,
    pub level: &'static str,
    pub text: String,
}

impl EventItem {
    /// Makes the texts of an event.
    pub fn new(event: &Event) -> Self {
        let time = FileTime { seconds: event.seconds, nanos: 0 };
        let level = match event.level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info | Level::Debug | Level::Trace => "info",
        };
        let time = format::machine_time(time).unwrap_or_default();
        Self { time, level, text: sanitize(&event.text).into_owned() }
    }

    /// Writes the event as an item of a list; the script makes new items from an empty one.
    pub fn write(&self, html: &mut Html) {
        html.markup("<li").attribute("data-level", self.level).markup("><time");
        html.attribute("datetime", &self.time).markup(">").text(&self.time);
        html.markup("</time> <span>").text(&self.text).markup("</span></li>\n");
    }
}
