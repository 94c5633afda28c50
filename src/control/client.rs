//! The client: each call runs on its caller's own thread, and starts none.

use std::future::Future;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use tonic::{Code, Response, Streaming};

use super::address::Address;
use super::link::{self, Channel, Link, REACH, Target};
use super::proto::health::health_client::HealthClient;
use super::proto::health::{HealthCheckRequest, health_check_response::ServingStatus};
use super::proto::v1::control_client::ControlClient;
use super::proto::v1::{
    Event, GetPodRequest, ListRequest, ListResponse, Pod, TerminateRequest, TerminateResponse, WatchRequest,
};
use super::words;
use crate::error::{Error, Result, Status};
use crate::lifecycle::State;
use crate::limit::Limit;
use crate::linux;

/// A list of some hundred thousand pods, each with a failure.
const MAX_ANSWER: usize = 64 << 20;
/// How long a wait that has reached its limit may take to say why.
const EXPLAIN: Duration = Duration::from_millis(200);

/// A connection to the control service of a process, perhaps this one. Each call blocks its thread until it is answered or
/// its limit is reached (`None`: none; zero: what an answer takes that waits for nothing). A server that is killed, stopped
/// or gone is noticed within seconds, whatever the limit. Any thread; not to be used in the child of a fork.
///
/// Every call answers these errors: UNREACHABLE, nobody listens there, it is no control service, or the connection was
/// lost; DENIED, another user's process, or TLS refuses one of the sides; TIMEOUT, the limit was reached; RESOURCES, no
/// descriptor is to be had, or the server has as many clients as it takes; FORKED. Each sentence names the address.
pub struct Client {
    runtime: Unblocking,
    link: Link,
    process: u32,
}

impl Client {
    /// Connects. The system's resolver, which is asked for a host that is a name, knows no limit but its own.
    ///
    /// # Errors
    /// As every call; INVALID_ARGUMENT: port 0, or files of the address that cannot be used.
    pub fn connect(address: &Address, limit: Option<Duration>) -> Result<Client> {
        Client::open(address, Limit::from_duration(limit))
    }

    fn open(address: &Address, limit: Limit) -> Result<Client> {
        let target = Target::of(address)?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|why| Error::resources(format!("no connection to {address} is to be had: {why}")))?;
        let runtime = Unblocking(Some(runtime));
        let link = run(runtime.get(), limit, Link::open(target, address.clone()))?.ok_or_else(|| {
            let sentence = format!("{address} has not let this side in within the limit: nothing has been asked there");
            Error::new(Status::Timeout, sentence)
        })??;
        Ok(Client { runtime, link, process: std::process::id() })
    }

    /// With the link, and the runtime in which it is.
    #[cfg(any(test, fuzzing))]
    pub(super) fn on(runtime: Runtime, link: Link) -> Client {
        Client { runtime: Unblocking(Some(runtime)), link, process: std::process::id() }
    }

    /// Every pod and group of the process.
    ///
    /// # Errors
    /// As every call.
    pub fn list(&self, limit: Option<Duration>) -> Result<ListResponse> {
        self.list_until(Limit::from_duration(limit))
    }

    /// One pod, as it is now.
    ///
    /// # Errors
    /// As every call; NOT_FOUND; INVALID_ARGUMENT: an empty name.
    pub fn pod(&self, name: &str, limit: Option<Duration>) -> Result<Pod> {
        self.pod_until(name, Limit::from_duration(limit))
    }

    /// The state of a pod or a group.
    ///
    /// # Errors
    /// As [`Client::pod`].
    pub fn query(&self, name: &str, limit: Option<Duration>) -> Result<State> {
        self.query_until(name, Limit::from_duration(limit))
    }

    /// Asks a pod or a group for its end, and waits for that. `grace` can only shorten the one that the pod has. What it
    /// answers is how it ended; [`TerminateResponse::outcome`] judges it. When the limit is reached the pod has been asked, and
    /// ends nevertheless; of a process that hangs that cannot be known, and the sentence says so.
    ///
    /// # Errors
    /// As every call; NOT_FOUND; INVALID_ARGUMENT: an empty name.
    pub fn terminate(&self, name: &str, grace: Option<Duration>, limit: Option<Duration>) -> Result<TerminateResponse> {
        self.terminate_until(name, grace, Limit::from_duration(limit))
    }

    /// Whether a service (a pod's name, "" for all, "live") is healthy.
    ///
    /// # Errors
    /// As every call; NOT_FOUND.
    pub fn health(&self, service: &str, limit: Option<Duration>) -> Result<ServingStatus> {
        let mut health = HealthClient::with_origin(self.link.channel.clone(), self.link.origin.clone());
        let request = HealthCheckRequest { service: service.into() };
        let answer =
            self.ask(Limit::from_duration(limit), "the health check", async move { health.check(request).await })?;
        Ok(answer.status())
    }

    /// Follows the changes of state, of one pod or (with an empty name) of all: with `sequence` 0 the present states first,
    /// else the events from that number on.
    ///
    /// # Errors
    /// As every call; NOT_FOUND; INVALID_ARGUMENT: there is no such number yet.
    pub fn watch(&self, sequence: u64, name: &str, limit: Option<Duration>) -> Result<Events<'_>> {
        let mut control = self.control();
        let request = WatchRequest { sequence, name: name.into() };
        let limit = Limit::from_duration(limit);
        let stream = self.ask(limit, "the first event", async move { control.watch(request).await })?;
        Ok(Events { client: self, stream })
    }

    fn list_until(&self, limit: Limit) -> Result<ListResponse> {
        let mut control = self.control();
        // Only of a list the answer can be more than is taken here; else it is the request that is too large, or beyond.
        let call = async move { control.list(ListRequest {}).await.map_err(more_than_is_taken) };
        self.ask(limit, "the list", call)
    }

    fn pod_until(&self, name: &str, limit: Limit) -> Result<Pod> {
        let mut control = self.control();
        let request = GetPodRequest { name: name.into() };
        self.ask(limit, "the pod's state", async move { control.get_pod(request).await })
    }

    fn query_until(&self, name: &str, limit: Limit) -> Result<State> {
        let state = match self.pod_until(name, limit) {
            Ok(pod) => pod.state(),
            Err(error) if error.status == Status::NotFound => {
                let groups = self.list_until(limit)?.groups;
                groups.iter().find(|group| group.name == name).ok_or(error)?.state()
            }
            Err(error) => return Err(error),
        };
        words::state(state).ok_or_else(|| {
            Error::new(Status::Unsupported, format!("{} tells a state that is not known here", self.link.address))
        })
    }

    fn terminate_until(&self, name: &str, grace: Option<Duration>, limit: Limit) -> Result<TerminateResponse> {
        let mut control = self.control();
        let grace = grace.map(|g| prost_types::Duration {
            seconds: i64::try_from(g.as_secs()).unwrap_or(i64::MAX).min(words::MOST_SECONDS),
            nanos: g.subsec_nanos() as i32,
        });
        let request = TerminateRequest { name: name.into(), grace };
        let end = async move { control.terminate(request).await };
        let answer = if limit == Limit::Now {
            // Nothing to wait for but that the server has the request: it takes them in their order.
            let mut second = self.control();
            self.answer(Limit::Now, async move {
                let mut end = std::pin::pin!(end);
                tokio::select! {
                    biased;
                    answer = &mut end => Some(answer),
                    seen = second.list(ListRequest {}) => seen.err().map(Err),
                }
            })?
            .flatten()
        } else {
            self.answer(limit, end)?
        };
        match answer {
            Some(Ok(answer)) => Ok(answer.into_inner()),
            Some(Err(status)) => Err(self.link.meaning(status)),
            None => Err(Error::new(Status::Timeout, self.not_ended(name))),
        }
    }

    /// Why a wait for the end is in vain so far (L14).
    fn not_ended(&self, name: &str) -> String {
        let address = &self.link.address;
        let Ok(list) = self.list_until(Limit::from_duration(Some(EXPLAIN))) else {
            return format!(
                "{name:?} at {address} has not ended within the limit, and the process does not answer: whether it has heard \
                 the request for that end is not known"
            );
        };
        let asked = format!("{name:?} at {address} was asked for its end and has not ended within the limit");
        let pods = list.pods.iter().filter(|pod| pod.name == name || pod.group == name);
        let stories: Vec<String> = pods.filter(|pod| !words::is_final(pod.state())).map(words::story).collect();
        if stories.is_empty() { asked } else { format!("{asked}: {}", stories.join("; ")) }
    }

    fn control(&self) -> ControlClient<Channel> {
        ControlClient::with_origin(self.link.channel.clone(), self.link.origin.clone())
            .max_decoding_message_size(MAX_ANSWER)
    }

    fn ask<T: Send>(
        &self,
        limit: Limit,
        what: &str,
        call: impl Future<Output = std::result::Result<Response<T>, tonic::Status>> + Send,
    ) -> Result<T> {
        match self.answer(limit, call)? {
            Some(Ok(answer)) => Ok(answer.into_inner()),
            Some(Err(status)) => Err(self.link.meaning(status)),
            None => Err(Error::new(
                Status::Timeout,
                format!("{} has not answered with {what} within the limit", self.link.address),
            )),
        }
    }

    fn answer<T: Send>(&self, limit: Limit, call: impl Future<Output = T> + Send) -> Result<Option<T>> {
        if std::process::id() != self.process {
            let address = &self.link.address;
            let sentence = format!("the connection to {address} was made before a fork, in the parent: connect anew");
            return Err(Error::new(Status::Forked, sentence));
        }
        run(self.runtime.get(), limit, call)
    }
}

fn more_than_is_taken(status: tonic::Status) -> tonic::Status {
    match status.code() {
        Code::OutOfRange => tonic::Status::resource_exhausted(status.message()),
        _ => status,
    }
}

/// The changes of state, in their order; see [`Client::watch`].
pub struct Events<'c> {
    client: &'c Client,
    stream: Streaming<Event>,
}

impl Events<'_> {
    /// The next one. `None`: the one pod that is watched is gone, or the service ends, as it says itself.
    ///
    /// # Errors
    /// As every call: UNREACHABLE when the connection is lost, as when the process is killed or exits without a word. After
    /// TIMEOUT it may be called again.
    pub fn next(&mut self, limit: Option<Duration>) -> Result<Option<Event>> {
        let Events { client, stream } = self;
        match client.answer(Limit::from_duration(limit), stream.message())? {
            Some(Ok(event)) => Ok(event),
            Some(Err(status)) if link::is_told(&status) && status.code() == Code::Unavailable => Ok(None),
            Some(Err(status)) => Err(client.link.meaning(status)),
            None => Err(Error::new(
                Status::Timeout,
                format!("{} has told of no change within the limit", client.link.address),
            )),
        }
    }
}

/// A runtime may not be dropped, as it may not be waited in, on a thread of another one, unless it waits for nothing.
struct Unblocking(Option<Runtime>);

impl Unblocking {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Unblocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// `None`: the limit was reached.
fn run<T: Send>(runtime: &Runtime, limit: Limit, work: impl Future<Output = T> + Send) -> Result<Option<T>> {
    let left = match limit {
        Limit::Now => Some(REACH),
        _ => linux::until(limit.deadline()),
    };
    let work = async {
        match left {
            None => Some(work.await),
            Some(left) => timeout(left, work).await.ok(),
        }
    };
    if Handle::try_current().is_err() {
        return Ok(runtime.block_on(work));
    }
    // The caller is a task of another runtime (a Rust program with tokio), in which none may be waited for: it blocks all the
    // same, beside a thread.
    std::thread::scope(|scope| {
        let beside = std::thread::Builder::new()
            .spawn_scoped(scope, || runtime.block_on(work))
            .map_err(|why| Error::resources(format!("no thread is to be had: {why}")))?;
        Ok(beside.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// TERMINATE by address. OK: it has ended without a failure. FAILED: with one, which the sentence tells whole. TIMEOUT: the
/// limit was reached, or its thread was let go (ABANDONED).
pub(crate) fn terminate(address: &str, name: &str, limit: Limit) -> Result<()> {
    let client = Client::open(&Address::parse(address)?, limit)?;
    client.terminate_until(name, None, limit)?.outcome(name)
}

/// The state of a pod or a group, by address.
pub(crate) fn query(address: &str, name: &str, limit: Limit) -> Result<State> {
    Client::open(&Address::parse(address)?, limit)?.query_until(name, limit)
}
