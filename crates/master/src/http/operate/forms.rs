//! The buttons that operate slaves. They work without a script.

use relais_proto::{SlaveId, SlaveState};
use relais_web::page::Html;

use super::kind::OperationKind;
use super::runs::RUNS;
use crate::http::access::Viewer;

/// Writes the buttons of a slave; nothing if the viewer may not operate it.
pub(in crate::http) fn slave_actions(
    html: &mut Html,
    slave: SlaveId,
    state: SlaveState,
    viewer: &Viewer,
) {
    if !viewer.may_operate {
        return;
    }
    if state != SlaveState::Draining {
        form(html, OperationKind::Drain, Some(slave), viewer, |html| {
            html.markup("<button class=\"danger\">Drain…</button>");
        });
    }
    if state != SlaveState::InService {
        form(html, OperationKind::Ready, Some(slave), viewer, |html| {
            html.markup("<button>Make ready</button>");
        });
    }
}

/// Writes the buttons of the whole cluster, or what a viewer needs to have them.
pub(in crate::http) fn cluster_actions(html: &mut Html, viewer: &Viewer) {
    if viewer.may_operate {
        html.markup("<div class=\"tools\">");
        form(html, OperationKind::Scrub, None, viewer, |html| {
            html.markup("<button>Verify all contents</button>");
        });
        form(html, OperationKind::Diff, None, viewer, |html| {
            html.markup("<button>Compare all trees</button>");
        });
        html.markup("<a").attribute("href", RUNS).markup(">Latest actions</a></div>\n");
    } else if viewer.has_accounts {
        html.markup("<p class=\"quiet\">To drain or verify slaves here, ")
            .markup("<a href=\"/-/login?next=%2F-%2Fstatus\">log in</a> with an account that has ")
            .markup("the rights <code>admin</code>.</p>\n");
    } else {
        html.markup(
            "<p class=\"quiet\">To drain or verify slaves, use <code>ftpmaster drain</code>",
        )
        .markup(", <code>ready</code>, <code>scrub</code> and <code>diff</code>. On this page ")
        .markup("it needs an account: <code>ftpmaster user add NAME --rights admin</code>.")
        .markup("</p>\n");
    }
}

/// Writes a form with its hidden fields; `content` writes what the user sees.
pub(super) fn form(
    html: &mut Html,
    kind: OperationKind,
    slave: Option<SlaveId>,
    viewer: &Viewer,
    content: impl FnOnce(&mut Html),
) {
    let action = format!("/-/status/{}", kind.name());
    html.markup("<form method=\"post\"").attribute("action", &action).markup(">");
    let slave = slave.map(|slave| slave.to_string());
    for (name, value) in [("slave", slave.as_deref()), ("csrf", viewer.csrf.as_deref())] {
        if let Some(value) = value {
            html.markup("<input type=\"hidden\"").attribute("name", name);
            html.attribute("value", value).markup(">");
        }
    }
    content(html);
    html.markup("</form>");
}
