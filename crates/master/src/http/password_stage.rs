//! Requests that wait for the verification of their password.

use relais_auth::{LoginResult, PendingLogin};
use relais_net::LoginStep;
use relais_proto::limits;

use super::answer::Answer;
use super::connection::HttpConnection;
use super::request::Request;
use super::stage::{HttpStep, LoginPurpose, Stage};

impl HttpConnection {
    /// Lets a request wait for the verification of its password.
    pub(super) fn verify(
        &mut self,
        request: Request,
        purpose: LoginPurpose,
        pending: PendingLogin,
    ) -> HttpStep {
        let (request, _login) = (Box::new(request), self.site.begin_login());
        self.stage = Stage::Password { request, purpose, pending, _login };
        LoginStep::Pending
    }

    /// Continues a request whose password was verified.
    pub(super) fn conclude(
        &mut self,
        request: Box<Request>,
        purpose: LoginPurpose,
        result: LoginResult,
    ) -> HttpStep {
        match purpose {
            LoginPurpose::Tree(path) => match self.site.conclude(&request, result) {
                Ok(user) => self.serve(request, path, user, None),
                Err(answer) => self.refuse_login(&request, answer),
            },
            LoginPurpose::Page(page) => match self.site.conclude_page(&request, result) {
                Ok(viewer) => self.serve_page(&request, page, &viewer),
                Err(answer) => self.refuse_login(&request, answer),
            },
            LoginPurpose::Login(next) => {
                match self.site.conclude_form_login(&request, &next, result) {
                    Ok(answer) => self.send(&request, answer),
                    Err(answer) => self.refuse_login(&request, answer),
                }
            }
            LoginPurpose::Operation(kind, form) => {
                match self.site.conclude_page(&request, result) {
                    Ok(viewer) => self.operate(&request, kind, &form, &viewer),
                    Err(answer) => self.refuse_login(&request, answer),
                }
            }
        }
    }

    fn refuse_login(&mut self, request: &Request, answer: Answer) -> HttpStep {
        self.failed += 1;
        self.send(request, answer.closing(self.failed >= limits::LOGIN_TRIES))
    }
}
