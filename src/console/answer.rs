//! How the console says no: one shape, for people and for programs.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// `{error, reason, remedy}`: a word for programs, why, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct No {
    pub status: StatusCode,
    pub error: &'static str,
    pub reason: String,
    pub remedy: Option<String>,
}

impl No {
    pub fn new(status: StatusCode, error: &'static str, reason: impl Into<String>) -> No {
        No { status, error, reason: reason.into(), remedy: None }
    }

    pub fn remedy(self, remedy: impl Into<String>) -> No {
        No { remedy: Some(remedy.into()), ..self }
    }

    /// A part of the station did not answer.
    pub fn broken(error: impl std::fmt::Display) -> No {
        No::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error.to_string())
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.error, "reason": self.reason, "remedy": self.remedy}));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// For addresses that lead nowhere.
pub async fn nothing_here() -> No {
    No::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address")
}

/// For a method that an address does not have.
pub async fn not_so() -> No {
    No::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this address does not take this method")
}
