//! What every request passes before it is answered, and every answer after it.

use std::sync::Arc;

use axum::{
    Extension,
    body::HttpBody as _,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::web_config::{Protection, WebConfig};

/// `made_under` is what was in force when the connection was made.
pub(super) async fn protect(
    State(protection): State<Arc<Protection>>,
    Extension(made_under): Extension<Arc<WebConfig>>,
    request: Request,
    next: Next,
) -> Response {
    let config = protection.now();
    let has_body = !request.body().is_end_stream();
    let admitted = config.admits(request.headers().get(header::AUTHORIZATION)).await;
    let mut response = if !admitted {
        (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Basic realm=\"tcpwarden\"")],
            "user and password are needed (basic_auth_users of the web configuration)\n",
        )
            .into_response()
    } else if has_body {
        (StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n").into_response()
    } else {
        next.run(request).await
    };
    response.headers_mut().extend(config.headers.clone());
    // Strangers hold no connection, no body is waited for, and what was made under another configuration ends with it.
    if !admitted || has_body || !Arc::ptr_eq(&config, &made_under) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
