//! Answers that say why there is no answer.

use std::borrow::Cow;

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

/// Why a request is not answered, in a line.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    why: Cow<'static, str>,
}

impl Refusal {
    /// There is no such thing.
    pub const fn not_found(why: &'static str) -> Self {
        Self { status: StatusCode::NOT_FOUND, why: Cow::Borrowed(why) }
    }

    /// Not now.
    pub fn unavailable(why: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, why: why.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", self.why)).into_response()
    }
}
