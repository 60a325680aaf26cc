//! What the operator can do with one channel.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use comity_bridge::Channel;
use serde_json::json;

use super::Admin;
use super::fault::Fault;

/// Ends the loop breaker's pause.
pub(super) async fn resume(
    State(admin): State<Admin>,
    Path(channel): Path<String>,
) -> Result<Response, Fault> {
    let channel = known(&admin, &channel)?;
    let was_paused = admin.gate.resume(&channel);
    Ok(Json(json!({"channel": channel, "was_paused": was_paused})).into_response())
}

/// The channel of that name, if the configuration has it.
pub(super) fn known(admin: &Admin, name: &str) -> Result<Channel, Fault> {
    let channel: Channel = name
        .parse()
        .map_err(|error| Fault::wrong(format!("{error}")))?;
    match admin.board.channel(&channel) {
        Some(_) => Ok(channel),
        None => Err(Fault::unknown(format!("no room is shown in {channel}"))),
    }
}
