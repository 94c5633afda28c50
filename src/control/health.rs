//! `grpc.health.v1.Health`: "" is SERVING while there are pods and every one is RUNNING, a pod's or group's name while it
//! is, and "live" while the library answers and has no thread that it could not end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::answers::{Answers, answers, contained};
use super::feed::Feed;
use super::names::{self, Called, Key};
use super::proto::health;
use super::proto::health::health_check_response::ServingStatus;
use super::proto::health::health_server;
use super::service::{LOOK, ends};
use crate::keeper;
use crate::lifecycle::State;
use crate::world::{World, lock};

/// The service that tells of the library itself.
const LIVE: &str = "live";
/// How long the keeper may take to answer: so many pauses, each twice the one before, a second in all. They are counted, since
/// a process that is kept from running for a second has kept the keeper from it, too.
const PAUSES: u32 = 10;

pub(super) struct Health {
    pub(super) feed: Arc<Feed>,
}

fn serving(yes: bool) -> ServingStatus {
    if yes { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> health::HealthCheckResponse {
    health::HealthCheckResponse { status: status as i32 }
}

/// Every pod is RUNNING, and there is one.
fn all_run(world: &World) -> bool {
    let mut pods = world.pods().filter(names::is_there).peekable();
    pods.peek().is_some() && pods.all(|pod| pod.life().state() == State::Running)
}

/// The library's own thread answers, and no pod's thread was let go.
async fn is_live(world: &World) -> bool {
    let abandoned = || world.pods().any(|pod| pod.life().state() == State::Abandoned);
    let Some(asked) = keeper::ask() else { return false };
    for nth in 0..PAUSES {
        if keeper::has_answered(asked) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1 << nth)).await;
    }
    keeper::has_answered(asked) && !abandoned()
}

impl Health {
    fn named(&self, name: &str) -> Option<ServingStatus> {
        let world = self.feed.world;
        let called = lock(&world.addressed).find(world, name)?;
        Some(serving(match called {
            Called::Pod(pod) => pod.life().state() == State::Running,
            Called::Group(group) => group.state() == State::Running,
        }))
    }

    /// `None`: there is no such service.
    async fn status(&self, service: &str) -> Option<ServingStatus> {
        match service {
            "" => Some(serving(all_run(self.feed.world))),
            LIVE => Some(serving(is_live(self.feed.world).await)),
            name => self.named(name),
        }
    }

    fn all(&self) -> HashMap<String, health::HealthCheckResponse> {
        let world = self.feed.world;
        let mut names = lock(&world.addressed);
        let (pods, groups) = names.renewed(world);
        let pods = pods.iter().map(|pod| (Key::Pod(pod.handle()), pod.life().state()));
        let groups = groups.iter().map(|group| (Key::Group(group.number()), group.state()));
        let named = pods.chain(groups).filter_map(|(key, state)| Some((names.get(key)?, state == State::Running)));
        let mut all: HashMap<_, _> = named.map(|(name, yes)| (name.to_string(), response(serving(yes)))).collect();
        all.insert(String::new(), response(serving(all_run(world))));
        all
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<health::HealthCheckRequest>,
    ) -> Result<Response<health::HealthCheckResponse>, Status> {
        let service = request.get_ref().service.as_str();
        match self.status(service).await {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found(format!("there is no pod or group {service:?}"))),
        }
    }

    async fn list(
        &self,
        _: Request<health::HealthListRequest>,
    ) -> Result<Response<health::HealthListResponse>, Status> {
        let mut statuses = contained(|| Ok(self.all()))?.into_inner();
        statuses.insert(LIVE.to_owned(), response(serving(is_live(self.feed.world).await)));
        Ok(Response::new(health::HealthListResponse { statuses }))
    }

    type WatchStream = Answers<health::HealthCheckResponse>;

    async fn watch(&self, request: Request<health::HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let this = Health { feed: self.feed.clone() };
        Ok(answers(async move |answers| {
            let mut told = None;
            loop {
                // Before the look, and before who hears of it takes his time: no change is missed, nor the last one.
                let (changed, over) = (this.feed.changed(), this.feed.is_over());
                let status = this.status(&service).await.unwrap_or(ServingStatus::ServiceUnknown);
                if told != Some(status) {
                    told = Some(status);
                    if answers.send(Ok(response(status))).await.is_err() {
                        return;
                    }
                }
                if over {
                    let _ = answers.send(Err(ends())).await;
                    return;
                }
                // That one is gone, or that the keeper is silent, is no event.
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(LOOK) => {}
                    () = answers.closed() => return,
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Builder;
    use tokio::task::yield_now;

    use super::health::HealthCheckRequest;
    use super::health_server::Health as _;
    use super::*;
    use crate::lifecycle::Event as Step;
    use crate::{BoxError, Context, Options, Pod, Procedure, Runtime};

    struct ByHand;

    impl Procedure for ByHand {
        fn run_forever(&self, _: Context) -> Result<(), BoxError> {
            Ok(())
        }
    }

    #[test]
    fn the_last_change_before_the_end_is_told_to_who_hears_slowly() {
        let runtime = Runtime::new("by-hand", |_| Ok(ByHand)).unwrap();
        let options = Options { name: Some("heard-slowly".into()), grace: None, ..Options::default() };
        let pod = Pod::new(&runtime, &options).unwrap();
        let pod = pod.here().unwrap();
        let feed = Arc::new(Feed::new(World::get().unwrap()).unwrap());
        Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let asked = Request::new(HealthCheckRequest { service: "heard-slowly".into() });
            let mut told = Health { feed: feed.clone() }.watch(asked).await.unwrap().into_inner();
            yield_now().await; // NOT_SERVING, which nobody takes
            pod.claim().unwrap();
            for step in [Step::Launch, Step::EnterInit, Step::InitOk] {
                pod.advance(step).unwrap();
            }
            feed.read();
            yield_now().await; // SERVING, for which there is no room
            for step in [Step::RunReturned { failed: false }, Step::End { failed: false, again: false }] {
                pod.advance(step).unwrap();
            }
            pod.settle();
            pod.advance(Step::Gone).unwrap();
            feed.end();
            for status in [ServingStatus::NotServing, ServingStatus::Serving, ServingStatus::NotServing] {
                assert_eq!(told.0.recv().await.unwrap().unwrap(), response(status));
            }
            assert_eq!(told.0.recv().await.unwrap().unwrap_err().code(), ends().code());
            assert!(told.0.recv().await.is_none());
        });
    }
}
