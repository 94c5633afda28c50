//! `podkeep health`: what a probe asks.

use super::screen;
use super::{ADDRESSES, Reach, failed};
use podkeep::control::proto::health::health_check_response::ServingStatus;
use serde_json::json;
use std::ffi::c_int;
use std::time::Duration;

/// A probe's patience: Kubernetes' own default.
const LIMIT: Duration = Duration::from_secs(1);

/// Ask whether pods are healthy, as a probe does
///
/// Without SERVICE: whether every pod is RUNNING. Without --timeout the answer must come within 1 s.
#[derive(clap::Args)]
#[command(after_help = format!("\
Exit codes:
  0  SERVING
  1  NOT_SERVING, or there is no answer
  2  wrong usage
{ADDRESSES}"))]
pub struct Health {
    #[command(flatten)]
    reach: Reach,

    /// A pod's name: whether it is RUNNING
    service: Option<String>,

    /// Whether the process itself is well: podkeep's thread that keeps the limits answers, and no pod is ABANDONED. For liveness
    /// probes: a pod that restarts is not ended from above
    #[arg(long, conflicts_with = "service")]
    live: bool,
}

pub fn health(options: Health) -> c_int {
    let service = if options.live { "live" } else { options.service.as_deref().unwrap_or_default() };
    let asked = options.reach.connect_within(Some(LIMIT));
    let status = match asked.and_then(|reached| reached.client.health(service, reached.left())) {
        Ok(status) => status,
        Err(error) => {
            failed(&error);
            return 1;
        }
    };
    let word = status.as_str_name();
    let text = if options.reach.json { json!({"service": service, "status": word}).to_string() } else { word.into() };
    // A probe whose output nobody reads has its answer in the exit code.
    screen::write(&format!("{text}\n"));
    c_int::from(status != ServingStatus::Serving)
}
