//! The page, embedded in the binary.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::answer::nothing_here;

/// What `npm run build` made. A checkout where it has not run yet still compiles.
#[derive(RustEmbed)]
#[folder = "src/console/web/dist"]
#[allow_missing = true]
struct Dist;

pub async fn index() -> Response {
    match Dist::get("index.html") {
        Some(_) => file("index.html").await,
        None => {
            let words = "The page was not built into this aerie: run `make setup` in the checkout, then build again.\n";
            (StatusCode::SERVICE_UNAVAILABLE, words).into_response()
        }
    }
}

pub async fn asset(Path(path): Path<String>) -> Response {
    file(&path).await
}

async fn file(path: &str) -> Response {
    let Some(file) = Dist::get(path) else {
        return nothing_here().await.into_response();
    };
    // The build puts a digest of the content into the names of assets; all else may change with the binary.
    let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let kind = file.metadata.mimetype().to_owned();
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep.to_owned())], file.data).into_response()
}
