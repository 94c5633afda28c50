//! `podkeep.v1.Control`: what is asked of pods from outside.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::answers::{Answers, answers, contained};
use super::feed::{Feed, Reader};
use super::names::{Called, Key};
use super::proto::v1;
use super::proto::v1::control_server::Control;
use super::view;
use crate::cancel;
use crate::linux::{NEVER, Nanos};
use crate::world::lock;

/// How often one who watches a single pod looks whether it is gone: that is no event.
pub(super) const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Pods {
    pub(super) feed: Arc<Feed>,
}

/// The service ends before what was asked for has come.
pub(super) fn ends() -> Status {
    Status::unavailable("the control service ends")
}

impl Pods {
    fn find(&self, name: &str) -> Result<Called, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("name is empty: give a pod's or a group's"));
        }
        let world = self.feed.world;
        let found = lock(&world.addressed).find(world, name);
        found.ok_or_else(|| Status::not_found(format!("there is no pod or group {name:?}")))
    }

    fn all(&self) -> v1::ListResponse {
        let world = self.feed.world;
        let mut names = lock(&world.addressed);
        let (pods, groups) = names.renewed(world);
        v1::ListResponse {
            pods: pods.iter().map(|pod| view::pod(pod, &names, false)).collect(),
            groups: groups.iter().map(|group| view::group(group, &names)).collect(),
        }
    }

    fn one(&self, name: &str) -> Result<v1::Pod, Status> {
        match self.find(name)? {
            Called::Pod(pod) => {
                let (world, group) = (self.feed.world, pod.cell().group.load(Acquire));
                let mut names = lock(&world.addressed);
                if group != 0 && names.get(Key::Group(group)).is_none() {
                    names.renewed(world);
                }
                Ok(view::pod(&pod, &names, true))
            }
            Called::Group(_) => Err(Status::not_found(format!("{name:?} is a group: List tells of groups"))),
        }
    }

    /// Asks for the end; what it will be known by.
    fn stop(&self, request: &v1::TerminateRequest) -> Result<Called, Status> {
        let grace = request.grace.as_ref().map(nanos).transpose()?;
        let called = self.find(&request.name)?;
        match &called {
            Called::Pod(pod) => cancel::terminate(pod, grace),
            Called::Group(group) => group.terminate(grace).map_err(refusal)?,
        }
        Ok(called)
    }

    fn reader(&self, request: &v1::WatchRequest) -> Result<Reader, Status> {
        let pod = match request.name.as_str() {
            "" => None,
            name => match self.find(name)? {
                Called::Pod(pod) => Some(pod.handle()),
                Called::Group(_) => return Err(Status::not_found(format!("{name:?} is a group: watch its members"))),
            },
        };
        let next = lock(&self.feed.world.hub).sequence() + 1;
        if request.sequence > next {
            let asked = request.sequence;
            return Err(Status::out_of_range(format!("sequence is {asked}: the next event has {next}")));
        }
        Ok(Reader::new(&self.feed, pod, request.sequence))
    }
}

/// A status of podkeep's own, told in gRPC's words.
fn refusal(error: crate::Error) -> Status {
    use crate::Status::*;
    let code = match error.status {
        InvalidArgument => Code::InvalidArgument,
        InvalidState => Code::FailedPrecondition,
        Resources => Code::ResourceExhausted,
        NotFound => Code::NotFound,
        _ => Code::Internal,
    };
    Status::new(code, error.sentence)
}

/// tonic, too, heeds the limit that a caller tells, and calls it a cancel: this is to come before.
const EARLIER: Duration = Duration::from_millis(5);

/// How long the caller waits: at most eight digits and a unit.
fn limit(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = digits.parse::<u64>().ok().filter(|_| digits.len() <= 8)?;
    let limit = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(limit.saturating_sub(EARLIER))
}

fn nanos(span: &prost_types::Duration) -> Result<Nanos, Status> {
    let wrong =
        || Status::invalid_argument(format!("grace is {} s and {} ns: give 0 or more", span.seconds, span.nanos));
    let seconds = u64::try_from(span.seconds).map_err(|_| wrong())?;
    let nanos = u64::try_from(span.nanos).ok().filter(|&nanos| nanos < 1_000_000_000).ok_or_else(wrong)?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos).min(NEVER - 1))
}

impl Called {
    fn end(&self) -> Option<v1::TerminateResponse> {
        let (state, failure) = match self {
            // In this order: the failure is there before the state that tells of it.
            Called::Pod(pod) => (view::end(pod.life().state())?, pod.failure()),
            Called::Group(group) => (view::end(group.state())?, group.failure()),
        };
        Some(v1::TerminateResponse { state: view::state(state), failures: view::failures(failure, true) })
    }
}

#[tonic::async_trait]
impl Control for Pods {
    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        contained(|| Ok(self.all()))
    }

    async fn get_pod(&self, request: Request<v1::GetPodRequest>) -> Result<Response<v1::Pod>, Status> {
        contained(|| self.one(&request.get_ref().name))
    }

    async fn terminate(
        &self,
        request: Request<v1::TerminateRequest>,
    ) -> Result<Response<v1::TerminateResponse>, Status> {
        let called = contained(|| self.stop(request.get_ref()))?.into_inner();
        let ended = async {
            loop {
                if let Some(end) = called.end() {
                    return Ok(Response::new(end));
                }
                if self.feed.is_over() {
                    return Err(ends());
                }
                self.feed.changed().await;
            }
        };
        match limit(request.metadata()) {
            None => ended.await,
            Some(limit) => tokio::time::timeout(limit, ended)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the pod has been asked, and has not ended yet"))),
        }
    }

    type WatchStream = Answers<v1::Event>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut reader = contained(|| self.reader(request.get_ref()))?.into_inner();
        let feed = self.feed.clone();
        Ok(answers(async move |answers| {
            loop {
                let past = reader.is_past();
                while let Some(event) = reader.next() {
                    if answers.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                if feed.is_over() {
                    let _ = answers.send(Err(ends())).await;
                    return;
                }
                if past {
                    return;
                }
                tokio::select! {
                    () = feed.changed() => {}
                    () = tokio::time::sleep(LOOK), if reader.is_of_one() => {}
                    () = answers.closed() => return,
                }
            }
        }))
    }
}
