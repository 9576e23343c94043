//! Pages about actions: the confirmation, the lines of one action, and the list of the latest.

use std::sync::Arc;

use relais_http::{RequestError, RequestHead, Status};
use relais_proto::{ErrorCode, Refusal, SlaveId};
use relais_web::page::{Frame, Html, Nonce};
use relais_web::wants_page;

use super::forms::form;
use super::kind::OperationKind;
use super::runs::{OperationRun, RUNS, RunState};
use crate::http::access::Viewer;
use crate::http::answer::Answer;
use crate::http::login_page::html_page;
use crate::http::request::Request;
use crate::http::site::HttpSite;

/// Seconds after which the page of a running action is loaded again.
const RELOAD: &str = "2";

/// Returns the page that asks whether a slave is to be drained.
///
/// Programs get an error that names the missing field.
pub(super) fn confirmation(head: &RequestHead, slave: SlaveId, viewer: &Viewer) -> Answer {
    if !wants_page(head) {
        let missing = RequestError::bad("to drain a slave the form needs the field confirm=yes");
        return Answer::rejected(Some(head), missing);
    }
    page(head, "Drain slave", viewer, |html| {
        html.markup("<p>Drain slave ").text(&slave.to_string());
        html.markup("? It gets no new sessions, and its sessions move to other slaves.</p>\n");
        form(html, OperationKind::Drain, Some(slave), viewer, |html| {
            html.markup("<input type=\"hidden\" name=\"confirm\" value=\"yes\">")
                .markup("<button class=\"danger\">Drain</button> ")
                .markup("<a href=\"/-/status\">Cancel</a>");
        });
    })
}

impl HttpSite {
    /// Answers a request for the list of the latest actions, or for the lines of one.
    pub(in crate::http) fn operation_page(
        &self,
        request: &Request,
        number: Option<u64>,
        viewer: &Viewer,
    ) -> Answer {
        let head = &request.head;
        if !viewer.may_operate {
            // The lines have paths of all users.
            let why = "actions are for accounts with the rights admin";
            return Answer::refused(head, &Refusal::new(ErrorCode::Denied, why));
        }
        let Some(number) = number else {
            return page(head, "Latest actions", viewer, |html| list(html, &self.runs.all()));
        };
        match self.runs.get(number) {
            Some(run) => run_page(head, &run, viewer),
            None => {
                let why = "this action is not kept any more";
                Answer::refused(head, &Refusal::new(ErrorCode::NotFound, why))
            }
        }
    }
}

fn list(html: &mut Html, runs: &[Arc<OperationRun>]) {
    html.markup("<ol>\n");
    for run in runs {
        let url = format!("{RUNS}/{}", run.number);
        html.markup("<li><a").attribute("href", &url).markup(">").text(&title(run));
        html.markup("</a> by ").text(&run.user).markup(": ");
        html.text(&outcome(&run.state())).markup("</li>\n");
    }
    html.markup("</ol>\n");
}

/// Returns the lines of an action, for people and as text.
fn run_page(head: &RequestHead, run: &OperationRun, viewer: &Viewer) -> Answer {
    let mut state = run.state();
    if state.is_cut {
        let name = run.kind.name();
        state.lines += &format!("more lines are not kept here; `ftpmaster {name}` prints all\n");
    }
    let outcome = outcome(&state);
    let answer = if wants_page(head) {
        page(head, &title(run), viewer, |html| {
            html.markup("<pre>").text(&state.lines).markup("</pre>\n<p role=\"status\">");
            html.text(&outcome).markup("</p>\n");
        })
    } else {
        let text = format!("{}{outcome}\n", state.lines);
        Answer::with_body(Status::OK, "text/plain; charset=utf-8", text)
    };
    if state.result.is_none() { answer.with("Refresh", RELOAD) } else { answer }
}

fn title(run: &OperationRun) -> String {
    let slave = run.slave.map(|slave| format!(" {slave}")).unwrap_or_default();
    format!("{}{slave}", run.kind.name())
}

fn outcome(state: &RunState) -> String {
    match &state.result {
        None => "running".to_owned(),
        Some(Ok(line)) => format!("done: {line}"),
        Some(Err(line)) => format!("failed: {line}"),
    }
}

/// Returns a page with a heading and a link to the status page.
fn page(
    head: &RequestHead,
    title: &str,
    viewer: &Viewer,
    content: impl FnOnce(&mut Html),
) -> Answer {
    html_page(head, Status::OK, |nonce: &Nonce| {
        let mut page = Html::default();
        let html = &mut page;
        let (user, csrf) = (&*viewer.user, viewer.csrf.as_deref());
        let frame = Frame { title, user, csrf, nonce, assets: &[], attributes: &[] };
        frame.begin(html);
        html.markup("<header>\n<h1>").text(title).markup("</h1>\n");
        frame.account(html, RUNS);
        html.markup("</header>\n<main>\n");
        content(html);
        html.markup("<p><a href=\"/-/status\">Cluster status</a></p>\n</main>\n");
        Frame::end(html);
        page.take()
    })
}
