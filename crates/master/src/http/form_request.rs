//! Forms: requests whose body is read, because they log in, log out or operate slaves.

use relais_http::{Form, RequestError};
use relais_net::LoginStep;
use relais_web::{check_origin, form_length};

use super::access::{PageAccess, Viewer};
use super::answer::Answer;
use super::connection::HttpConnection;
use super::login_page::LoginFormStep;
use super::operate::OperationKind;
use super::request::Request;
use super::route::FormKind;
use super::stage::{HttpStep, LoginPurpose, Stage};

impl HttpConnection {
    /// Has the body of a form read.
    pub(super) fn begin_form(&mut self, request: Request, kind: FormKind) -> HttpStep {
        // Also for the login: another site must not log a browser in as a user of its choice.
        let checked = check_origin(&request.head, request.client.encrypted);
        match checked.and_then(|()| form_length(&request.head)) {
            Ok(length) => {
                self.stage = Stage::Form { request: Box::new(request), kind, length };
                LoginStep::Reply(Vec::new())
            }
            Err(e) => self.send(&request, Answer::rejected(Some(&request.head), e)),
        }
    }

    /// Handles a form whose body has come.
    pub(super) fn handle_form(
        &mut self,
        mut request: Request,
        kind: FormKind,
        body: &[u8],
    ) -> HttpStep {
        // The body was read, so the connection can be kept.
        request.head.headers.remove("content-length");
        let text = std::str::from_utf8(body);
        let form = text.map_err(|_| RequestError::bad("the form is not UTF-8"));
        let form = match form.and_then(Form::parse) {
            Ok(form) => form,
            Err(e) => return self.send(&request, Answer::rejected(Some(&request.head), e)),
        };
        match kind {
            FormKind::Login => match self.site.begin_form_login(&request, &form) {
                LoginFormStep::Answer(answer) => self.send(&request, answer),
                LoginFormStep::Pending(pending, next) => {
                    self.verify(request, LoginPurpose::Login(next), pending)
                }
            },
            FormKind::Logout => {
                let answer = self.site.log_out(&request, &form);
                self.send(&request, answer)
            }
            FormKind::Operate(kind) => match self.site.page_access(&request) {
                PageAccess::Viewer(viewer) => self.operate(&request, kind, &form, &viewer),
                PageAccess::Refused(answer) => self.send(&request, answer),
                PageAccess::Pending(pending) => {
                    self.verify(request, LoginPurpose::Operation(kind, form), pending)
                }
            },
        }
    }

    /// Answers a form that operates slaves.
    pub(super) fn operate(
        &mut self,
        request: &Request,
        kind: OperationKind,
        form: &Form,
        viewer: &Viewer,
    ) -> HttpStep {
        let answer = self.site.operate(request, kind, form, viewer);
        let answer = answer.unwrap_or_else(|refusal| Answer::refused(&request.head, &refusal));
        self.send(request, answer)
    }
}
